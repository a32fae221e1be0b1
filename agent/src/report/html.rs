//! The report as one self-contained HTML file: the text, and a bar for what each copy recovered and lost.

use super::shares::shares;
use super::{Machine, text};
use crate::case::{Case, ChunkMap, ChunkState, Copied};
use std::fmt::Write;
use tierlift_ondisk::units::Bytes;

/// The page.
pub fn html(case: &Case, machine: &Machine) -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tierlift: report</title>\n<style>\n\
         body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\n\
         .bar{display:flex;height:1.5em;border:1px solid #444}.good{background:#3a7}.bad{background:#c33}.not{background:#999}.unused{background:#fff}\n\
         pre{background:#f4f4f4;padding:1em;white-space:pre-wrap;overflow-wrap:anywhere}.key{width:1em;border:1px solid #444}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left}\n\
         </style></head><body>\n<h1>Recovery report</h1>\n",
    );
    if case.copies.is_empty() {
        out += "<p>Nothing was copied yet.</p>\n";
    }
    case.copies.iter().for_each(|copy| self::copy(&mut out, copy));
    case.chunk_maps.iter().for_each(|map| chunks(&mut out, map));
    out += "<h2>Everything that was found and done</h2>\n<pre>";
    out += &escaped(&text(case, machine));
    out += "</pre>\n</body></html>\n";
    out
}

fn copy(out: &mut String, copy: &Copied) {
    let counts = &copy.counts;
    let whole = counts.copied.saturating_add(counts.identical);
    let parts = [
        ("good", whole, "whole, read back and compared"),
        ("bad", counts.damaged, "damaged: parts could not be read"),
        ("not", counts.failed, "not copied"),
    ];
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<h2>{}</h2>\n<div class=\"bar\">", escaped(&copy.source));
    for (class, count, _) in parts.iter().filter(|(_, count, _)| *count > 0) {
        let _ = writeln!(out, "<div class=\"{class}\" style=\"flex:{count}\"></div>");
    }
    out.push_str("</div>\n<table>\n");
    for (class, count, meaning) in parts {
        let _ = writeln!(out, "<tr><td class=\"key {class}\"></td><td>{count}</td><td>files {meaning}</td></tr>");
    }
    for (bytes, meaning) in [(counts.recovered_bytes(), "recovered"), (counts.lost_bytes, "lost")] {
        let human = Bytes(bytes).human();
        let _ = writeln!(out, "<tr><td></td><td>{human}</td><td>{meaning} ({bytes} bytes)</td></tr>");
    }
    let _ = writeln!(out, "</table>\n<p>{}</p>", shares(counts));
    for told in counts.differences() {
        let _ = writeln!(out, "<p>{}</p>", escaped(&told));
    }
    if !copy.losses.is_empty() {
        out.push_str("<ul>\n");
        copy.losses.iter().for_each(|loss| {
            let _ = writeln!(out, "<li>{}</li>", escaped(loss));
        });
        out.push_str("</ul>\n");
    }
}

/// A volume from its beginning to its end; stretches of one state are one block.
fn chunks(out: &mut String, map: &ChunkMap) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<h2>Chunks of {}</h2>\n<div class=\"bar\">", escaped(&map.volume));
    for stretch in map.cells.chunk_by(|one, next| one == next) {
        let (class, meaning) = match stretch.first() {
            Some(ChunkState::Whole) => ("good", "whole"),
            Some(ChunkState::Lost) => ("bad", "lost"),
            _ => ("unused", "never written"),
        };
        let _ = writeln!(out, "<div class=\"{class}\" title=\"{meaning}\" style=\"flex:{}\"></div>", stretch.len());
    }
    let key = "green: whole, red: lost, white: never written";
    let _ = writeln!(out, "</div>\n<p>{} ({key})</p>", escaped(&map.told()));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Counts;

    #[test]
    fn the_bar_of_a_volume_shows_what_is_lost() {
        let mut map = ChunkMap::new("vg1/<lv>".into());
        let size = Bytes(1200);
        map.add(ChunkState::Whole, Bytes(0)..Bytes(600), size, Bytes(10));
        map.add(ChunkState::Lost, Bytes(600)..Bytes(610), size, Bytes(10));
        let page = html(&Case { chunk_maps: vec![map], ..Case::default() }, &Machine::default());
        for part in [
            "Chunks of vg1/&lt;lv&gt;",
            "whole\" style=\"flex:60",
            "lost\" style=\"flex:1\"",
            "written\" style=\"flex:59",
        ] {
            assert!(page.contains(part), "{part} is missing in {page}");
        }
    }

    #[test]
    fn names_from_disks_are_no_markup() {
        let counts = Counts {
            copied: 999,
            damaged: 1,
            lost_bytes: 4096,
            bytes: 1 << 30,
            symlinks_dropped: 2,
            ..Counts::default()
        };
        let losses = vec!["<script>alert(1)</script>: 4096 of 9000 bytes cannot be read".into()];
        let copy = Copied { source: "vg1/lv<1>".into(), counts, losses, ..Copied::default() };
        let page = html(&Case { copies: vec![copy], ..Case::default() }, &Machine::default());
        assert!(
            !page.contains("<script>") && page.contains("&lt;script&gt;") && page.contains("vg1/lv&lt;1&gt;"),
            "{page}"
        );
        assert!(page.contains("less than 0.01 % of all bytes, 0.10 % of all files"), "{page}");
        let recovered = (1_u64 << 30) - 4096;
        assert!(page.contains(&format!("recovered ({recovered} bytes)")), "{page}");
        assert!(page.contains("<p>not kept on the target: 2 symbolic links"), "{page}");
    }
}
