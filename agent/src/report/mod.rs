//! What was found, done and lost, as text.

mod html;
mod shares;

pub use html::html;

use crate::case::{Activation, Case, Copied, RepairedPool};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the report tells besides the case: the state of the machine now.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Machine {
    /// How full the overlays are.
    pub overlays: Vec<String>,
    /// Messages of the kernel that mean it is in trouble; `None` when they could not be read.
    pub kernel_trouble: Option<Vec<String>>,
    /// Requests each disk failed since the start, at least; `None` when that could not be read.
    pub disk_errors: Option<BTreeMap<String, u64>>,
}

/// The whole case as text.
pub fn text(case: &Case, machine: &Machine) -> String {
    let mut out = String::new();
    heading(&mut out, "What was found");
    match &case.inventory {
        Some(found) => {
            list(&mut out, "", found.disks.iter().chain(&found.arrays).chain(&found.volumes));
            list(&mut out, "note: ", found.notes.iter());
        }
        None => line(&mut out, "nothing was looked at yet; begin with `tierlift scan`, then `tierlift activate`"),
    }
    heading(&mut out, "How the disks are");
    health(&mut out, machine);
    heading(&mut out, "What was repaired");
    case.repairs.iter().for_each(|repair| repaired(&mut out, repair));
    if case.repairs.is_empty() {
        line(&mut out, "no pool");
    }
    heading(&mut out, "The chunks of each volume");
    chunks(&mut out, case);
    heading(&mut out, "What was made readable");
    case.activations.iter().for_each(|activation| self::activation(&mut out, activation));
    for mount in &case.mounts {
        let state = if mount.active { "" } else { " (unmounted since)" };
        line(&mut out, &format!("{} mounted read-only on {}{state}", mount.target, mount.directory.display()));
        list(&mut out, "  note: ", mount.notes.iter());
    }
    list(&mut out, "", machine.overlays.iter());
    heading(&mut out, "What was recovered");
    case.copies.iter().for_each(|copy| recovered(&mut out, copy));
    if case.copies.is_empty() {
        line(&mut out, "nothing was copied yet; `tierlift copy VG/LV TARGET` does");
    }
    heading(&mut out, "What was lost");
    losses(&mut out, case);
    heading(&mut out, "The sources");
    line(
        &mut out,
        "No source disk was written to: sources are opened for reading only and set read-only, and every device is",
    );
    line(&mut out, "built over a copy-on-write overlay.");
    heading(&mut out, "The kernel");
    match &machine.kernel_trouble {
        None => line(&mut out, "its log could not be read"),
        Some(lines) if lines.is_empty() => line(&mut out, "no oops, no warning, no hung task since it started"),
        Some(lines) => {
            line(
                &mut out,
                "WARNING: the kernel was in trouble. Results since then may be incomplete; restart the appliance and",
            );
            line(&mut out, "run the same commands again. It said:");
            list(&mut out, "  ", lines.iter());
        }
    }
    heading(&mut out, "What was done, in order");
    line(
        &mut out,
        "Every program that was run, with what it said: commands.log beside the case (commands-1.log and so on on a target).",
    );
    case.events.iter().for_each(|event| line(&mut out, &format!("{} {}", moment(event.time), event.what)));
    out
}

fn health(out: &mut String, machine: &Machine) {
    match &machine.disk_errors {
        None => line(out, "whether a disk failed to answer could not be read"),
        Some(errors) if errors.is_empty() => line(out, "no disk failed to answer since the start"),
        Some(errors) => {
            for (disk, count) in errors {
                line(
                    out,
                    &format!(
                        "/dev/{disk}: at least {count} requests FAILED since the start: the disk is ill, or was pulled out"
                    ),
                );
            }
            line(out, "Image such a disk with ddrescue before it gets worse, and go on with the image.");
        }
    }
}

fn repaired(out: &mut String, repair: &RepairedPool) {
    let state = if repair.whole { "nothing was lost" } else { "with losses" };
    line(out, &format!("pool {}: new metadata made, {state}; the original metadata are untouched", repair.pool));
    list(out, "  ", repair.salvage.iter().chain(&repair.volumes));
}

/// From the beginning of each volume to its end.
fn chunks(out: &mut String, case: &Case) {
    if case.chunk_maps.is_empty() {
        return line(out, "no pool was looked through yet");
    }
    line(out, "# mapping there, ! lost (reads as errors), . never written");
    for map in &case.chunk_maps {
        line(out, &map.told());
        let signs: Vec<char> = map.drawn().chars().collect();
        signs.chunks(60).for_each(|signs| line(out, &format!("  {}", signs.iter().collect::<String>())));
    }
}

fn activation(out: &mut String, activation: &Activation) {
    let state = if activation.active { "" } else { " (taken away since)" };
    line(out, &format!("{} as /dev/mapper/{}{state}", activation.target, activation.device));
    list(out, "  pool ", activation.pool.iter());
    list(out, "  mode: ", activation.mode.iter());
    list(out, "  because: ", activation.evidence.iter());
    list(out, "  warning: ", activation.warnings.iter());
    for (name, table) in &activation.devices {
        list(out, &format!("  {name}: "), table.iter());
    }
}

fn recovered(out: &mut String, copy: &Copied) {
    let counts = &copy.counts;
    line(out, &format!("{} to {}", copy.source, copy.target));
    let files = counts.copied.saturating_add(counts.identical);
    let size = tierlift_ondisk::units::Bytes(counts.recovered_bytes()).human();
    line(
        out,
        &format!(
            "  {files} files ({size}), each read back and compared; {} directories, {} links",
            counts.directories, counts.symlinks
        ),
    );
    if counts.special > 0 {
        line(out, &format!("  {} sockets, pipes or devices were left out", counts.special));
    }
    list(out, "  ", counts.differences().iter());
    line(out, &format!("  {}", shares::shares(counts)));
    if copy.milliseconds > 0 {
        let seconds = |milliseconds: u64| milliseconds.div_ceil(1000);
        let (all, back) = (seconds(copy.milliseconds), seconds(copy.verifying_milliseconds));
        line(out, &format!("  it took {all} s, {back} s of them for verifying"));
    }
    line(out, &format!("  every file with its SHA-256: {}", copy.manifest));
}

fn losses(out: &mut String, case: &Case) {
    let before = out.len();
    case.failures
        .iter()
        .for_each(|failure| line(out, &format!("{} was NOT recovered: {}", failure.volume, failure.why)));
    for copy in case.copies.iter().filter(|copy| copy.counts.damaged > 0 || copy.counts.failed > 0) {
        let counts = &copy.counts;
        let text = format!(
            "{}: {} damaged ({} bytes lost), {} not copied",
            copy.source, counts.damaged, counts.lost_bytes, counts.failed
        );
        line(out, &text);
        list(out, "  ", copy.losses.iter());
        let all = counts.damaged.saturating_add(counts.failed);
        if all > copy.losses.len() as u64 {
            line(out, "  ... all of them are in the manifest");
        }
    }
    if out.len() == before {
        line(
            out,
            if case.copies.is_empty() { "nothing is known yet" } else { "nothing: every file found was copied whole" },
        );
    }
}

fn heading(out: &mut String, text: &str) {
    let gap = if out.is_empty() { "" } else { "\n" };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{gap}== {text} ==");
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}");
}

fn list<'a>(out: &mut String, before: &str, lines: impl Iterator<Item = &'a String>) {
    for text in lines {
        line(out, &format!("{before}{text}"));
    }
}

/// Time of day in UTC: a case rarely lasts longer, and the clock of an appliance is seldom right anyway.
fn moment(time: u64) -> String {
    let (hours, minutes, seconds) = (time / 3600 % 24, time / 60 % 60, time % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Counts, Found};

    #[test]
    fn an_empty_case_says_where_to_begin() {
        let text = text(&Case::default(), &Machine::default());
        assert!(text.contains("tierlift scan") && text.contains("nothing was copied yet"), "{text}");
    }

    #[test]
    fn losses_and_trouble_are_told() {
        let counts = Counts { copied: 2, damaged: 1, lost_bytes: 4096, ..Counts::default() };
        let copy = Copied {
            source: "vg1/lv1".into(),
            counts,
            losses: vec!["photo.jpg: 4096 of 9000 bytes cannot be read".into()],
            ..Copied::default()
        };
        let case = Case {
            copies: vec![copy],
            inventory: Some(Found { disks: vec!["/dev/vda: 1.0 GiB".into()], ..Found::default() }),
            ..Case::default()
        };
        let machine = Machine {
            kernel_trouble: Some(vec!["BUG: bad".into()]),
            disk_errors: Some([("vdb".into(), 7)].into()),
            ..Machine::default()
        };
        let text = text(&case, &machine);
        for part in [
            "/dev/vdb: at least 7 requests FAILED",
            "/dev/vda: 1.0 GiB",
            "photo.jpg: 4096 of 9000",
            "1 damaged (4096 bytes",
            "WARNING: the kernel",
            "BUG: bad",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn what_is_another_on_the_target_is_told() {
        let counts = Counts { names_changed: 12, attributes_dropped: 3, owners_dropped: 3, ..Counts::default() };
        let case = Case { copies: vec![Copied { counts, ..Copied::default() }], ..Case::default() };
        for page in [text(&case, &Machine::default()), html(&case, &Machine::default())] {
            for part in ["12 names were changed", "not kept on the target: owners of 3 files and folders"] {
                assert!(page.contains(part), "{part} is missing in {page}");
            }
        }
    }

    #[test]
    fn a_volume_that_failed_is_a_loss() {
        let mut case = Case { copies: vec![Copied::default()], ..Case::default() };
        case.failed("vg1/lv2", "wrong password");
        let text = text(&case, &Machine::default());
        assert!(
            text.contains("vg1/lv2 was NOT recovered: wrong password") && !text.contains("nothing: every file"),
            "{text}"
        );
    }

    #[test]
    fn a_whole_recovery_lost_nothing() {
        let case = Case { copies: vec![Copied::default()], ..Case::default() };
        let text = text(&case, &Machine { kernel_trouble: Some(vec![]), ..Machine::default() });
        assert!(text.contains("nothing: every file found was copied whole") && text.contains("no oops"), "{text}");
    }
}
