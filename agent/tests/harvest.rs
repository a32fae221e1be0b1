//! What the system partition tells when LVM's own text is gone: whole disks, as bytes alone.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use tierlift_forge::{Fixture, ForgeOptions, Forged, Mirror, add_system, forge_disks};

fn forged(folder: &std::path::Path) -> Forged {
    let options = ForgeOptions { mirror: Mirror::Both, compact: true, ..ForgeOptions::default() };
    let forged = forge_disks(&Fixture::named("F1-plain-ext4").unwrap(), &options, folder).unwrap();
    add_system(&forged).unwrap();
    forged
}

fn scan(disks: &[PathBuf]) -> (String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_tierlift")).arg("scan").args(disks).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[test]
fn the_backup_stands_in_where_label_and_texts_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let forged = forged(folder.path());
    let (sound, code) = scan(&forged.disks);
    assert!(code == 0 && sound.contains("TS-X53"), "{code}: {sound}");
    let start = forged.arrays[0].partition.0 * 512;
    for disk in &forged.disks {
        // The label and the whole ring, but not the head of the area.
        let file = OpenOptions::new().write(true).open(disk).unwrap();
        file.write_all_at(&[0; 2048], start).unwrap();
        file.write_all_at(&vec![0; (1 << 20) - 4608], start + 4608).unwrap();
    }
    let (damaged, code) = scan(&forged.disks);
    assert!(damaged.contains("lv1: volume") && damaged.contains("60 of 256 chunks"), "{damaged}");
    assert!(damaged.contains("backup") && code == 2, "{code}: {damaged}");
}

#[test]
fn a_saved_key_is_named_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (said, _) = scan(&forged(folder.path()).disks);
    assert!(said.contains("4f3c2b1a.key") && !said.contains("not a real key"), "{said}");
}
