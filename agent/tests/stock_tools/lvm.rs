//! LVM's own pvck against `tierlift lvm`. pvs and vgs take block devices only; pvck reads the same structures from a file, checks
//! the same checksums, and prints all it finds.

use super::{Said, forge, run};
use std::path::Path;
use tierlift::discover::{Found, Wishes, look};
use tierlift::inventory::PvPlace;
use tierlift_forge::{ForgeOptions, mishaps};
use tierlift_ondisk::lvm_area::AreaHeader;
use tierlift_ondisk::lvm_label::Label;

/// A classic group (stock thin pool) and QNAP's own kind; with and without DRBD; texts that run over the end of the ring.
fn groups() -> [(&'static str, ForgeOptions); 4] {
    let compact = ForgeOptions { compact: true, ..ForgeOptions::default() };
    [
        ("F5-v2-4k", compact.clone()),
        ("F5-v2-4k", ForgeOptions { wrap: true, ..compact.clone() }),
        ("F3-3tiers", ForgeOptions { drbd: true, ..compact.clone() }),
        ("F2-snaps", ForgeOptions { split: true, ..compact }),
    ]
}

fn found(disk: &Path) -> Found {
    look(&[disk.to_owned()], &Wishes { every_text: true, ..Wishes::default() }).unwrap()
}

#[test]
fn pvck_agrees_on_headers() {
    for (name, options) in groups() {
        let (_dir, forged) = forge(name, &options);
        let array = &forged.arrays[0].image;
        let said = run("pvck", &["--dump", "headers"], array);
        assert!(said.success, "{}", said.text);
        let lower = said.text.to_lowercase();
        assert!(!lower.contains("incorrect") && !lower.contains("bad ") && !lower.contains("error"), "{}", said.text);
        let bytes = std::fs::read(array).unwrap();
        let label = Label::decode(&bytes[512..1024]).unwrap();
        let area = AreaHeader::decode(&bytes[4096..4608]).unwrap();
        assert!(label.checksum_ok && area.checksum_ok);
        let committed = area.committed.unwrap();
        for (key, value) in [
            ("label_header.sector", label.sector.to_string()),
            ("pv_header.pv_uuid", label.id.replace('-', "")),
            ("pv_header.device_size", label.device_size.to_string()),
            ("pv_header.disk_locn[0].offset", label.data_areas[0].offset.to_string()),
            ("pv_header.disk_locn[2].offset", label.metadata_areas[0].offset.to_string()),
            ("pv_header.disk_locn[2].size", label.metadata_areas[0].size.to_string()),
            ("pv_header_extension.version", label.extension.to_string()),
            ("mda_header_1.start", area.start.to_string()),
            ("mda_header_1.size", area.size.to_string()),
            ("mda_header_1.raw_locn[0].offset", committed.offset.to_string()),
            ("mda_header_1.raw_locn[0].size", committed.size.to_string()),
            ("mda_header_1.raw_locn[0].checksum", format!("{:#x}", committed.checksum)),
        ] {
            assert_eq!(said.value(key, " "), Some(value.as_str()), "{key} in {}", said.text);
        }
    }
}

/// The text in force is the same to the last byte, and the same group and physical volume come out of it.
#[test]
fn pvck_agrees_on_the_text_in_force() {
    for (name, options) in groups() {
        let (_dir, forged) = forge(name, &options);
        let said = run("pvck", &["--dump", "metadata"], &forged.arrays[0].image);
        assert!(said.success, "{}", said.text);
        let (head, text) = said.text.split_once("---\n").unwrap();
        let text = text.split("\n  ---").next().unwrap();
        let found = found(&forged.disks[0]);
        let group = &found.inventory.volume_groups[0];
        let numbers = format!("vgname {} seqno {}", group.name, group.seqno);
        assert!(head.contains(&numbers), "{head}");
        let generation = found.generations.iter().find(|one| one.seqno == group.seqno).unwrap();
        let ours = String::from_utf8(generation.text.to_vec()).unwrap();
        let end: &[char] = &['\0', '\n'];
        assert_eq!(text.trim_end_matches(end), ours.trim_end_matches(end));
        let volume = &group.physical_volumes[0];
        assert!(text.contains(&format!("id = \"{}\"", group.id)) && text.contains(&format!("id = \"{}\"", volume.id)));
        assert!(text.contains(&format!("pe_start = {}\npe_count = {}\n", volume.pe_start, volume.pe_count)));
        assert_eq!(volume.place, Some(PvPlace::Array(0)));
    }
}

/// Sequence numbers and lengths of all texts in a ring, oldest first.
fn texts(said: &Said) -> Vec<(u64, usize)> {
    let lines = said.text.lines().filter(|line| line.trim_start().starts_with("metadata at "));
    let mut all: Vec<(u64, usize)> = lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let behind = |word: &str| words[words.iter().position(|found| *found == word).unwrap() + 1];
            (behind("seqno").parse().unwrap(), behind("length").parse().unwrap())
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn pvck_finds_the_same_texts_in_the_ring() {
    for (name, options) in groups() {
        let (_dir, forged) = forge(name, &options);
        for what in ["metadata_all", "metadata_search"] {
            let said = run("pvck", &["--dump", what], &forged.arrays[0].image);
            let mut ours: Vec<(u64, usize)> =
                found(&forged.disks[0]).generations.iter().map(|one| (one.seqno, one.text.len())).collect();
            ours.sort_unstable();
            assert_eq!(texts(&said), ours, "{what} {}", said.text);
        }
    }
}

/// Where the header of the area is gone, both find the texts by what they look like.
#[test]
fn pvck_and_we_find_texts_without_a_header() {
    let (_dir, forged) = forge("F5-v2-4k", &ForgeOptions { compact: true, ..ForgeOptions::default() });
    let start = forged.arrays[0].partition.0 * 512;
    mishaps::wipe(&forged.disks[0], start + 4096, 512).unwrap();
    mishaps::wipe(&forged.arrays[0].image, 4096, 512).unwrap();
    let said = run("pvck", &["--dump", "metadata_search"], &forged.arrays[0].image);
    let mut ours: Vec<(u64, usize)> =
        found(&forged.disks[0]).generations.iter().map(|one| (one.seqno, one.text.len())).collect();
    ours.sort_unstable();
    assert_eq!(texts(&said).len(), 2, "{}", said.text);
    assert_eq!(texts(&said), ours, "{}", said.text);
}
