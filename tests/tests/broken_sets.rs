//! Sets of disks that are broken in one way or another, through to the hash of the volume.

mod common;

use common::Whole;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tierlift_forge::{ForgeOptions, Mirror, Raid, add_system};
use tierlift_ondisk::md::{FEATURE_BAD_BLOCKS, Role, Superblock, place_1_0};
use tierlift_ondisk::units::Sectors;
use tierlift_tests::{Image, Machine, Settings};

fn five(disks: usize) -> Whole {
    let raid = Some(Raid { chunk: 256, ..Raid::new(5, disks) });
    Whole::forge("F1-plain-ext4", &ForgeOptions { raid, compact: true, ..ForgeOptions::default() })
}

fn writable(disk: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(disk).unwrap()
}

/// Changes the superblock of the data member on disk number `disk`, with a right checksum.
fn edit(whole: &Whole, disk: usize, change: impl FnOnce(&mut Superblock)) {
    let (start, length) = whole.forged.arrays[0].partition;
    let at = (start + place_1_0(Sectors(length)).unwrap().0) * 512;
    let file = writable(&whole.forged.disks[disk]);
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, at).unwrap();
    let mut block = Superblock::decode(&bytes).unwrap();
    change(&mut block);
    file.write_all_at(&block.encode(), at).unwrap();
}

/// Overwrites bytes of a member's data with what is not true any more.
fn spoil(whole: &Whole, disk: usize, from: u64, length: u64) {
    let start = whole.forged.arrays[0].partition.0 * 512;
    writable(&whole.forged.disks[disk]).write_all_at(&vec![0x5a; length as usize], start + from).unwrap();
}

/// Boots with all disks but `missing`, checks what the scan says, and compares every volume.
fn all_is_read(whole: &Whole, missing: &[usize], said: &[&str]) {
    let here = whole.forged.disks.iter().enumerate().filter(|(number, _)| !missing.contains(number));
    let settings = Settings::new(&Image::from_environment().unwrap());
    let mut machine = here.fold(settings, |settings, (_, disk)| settings.source(disk)).boot().unwrap();
    assert_said(&mut machine, said);
    whole.assert_every_volume(&mut machine);
    machine.finish().unwrap();
}

fn assert_said(machine: &mut Machine, said: &[&str]) {
    let scan = machine.run(&["scan"]).unwrap().stdout;
    for words in said {
        assert!(scan.contains(words), "\"{words}\" is not in:\n{scan}");
    }
}

#[test]
fn partition_tables_wiped_at_the_start() {
    let whole = five(3);
    for disk in &whole.forged.disks {
        writable(disk).write_all_at(&[0; 34 * 512], 0).unwrap();
    }
    all_is_read(&whole, &[], &["gpt (backup)"]);
}

#[test]
fn an_image_that_lost_its_tail() {
    let whole = five(3);
    let (start, length) = whole.forged.arrays[0].partition;
    writable(&whole.forged.disks[1]).set_len((start + length / 2) * 512).unwrap();
    all_is_read(&whole, &[], &["2 of 3"]);
}

/// The superblock of a member that lived on without the others' changes says so, and so do theirs.
#[test]
fn a_stale_member_is_left_out() {
    let whole = five(4);
    edit(&whole, 2, |block| (block.events, block.updated) = (block.events - 400, block.updated - 90_000));
    for disk in [0, 1, 3] {
        edit(&whole, disk, |block| block.roles[2] = Role::Faulty);
    }
    spoil(&whole, 2, 8 << 20, 16 << 20);
    all_is_read(&whole, &[], &["stale"]);
}

/// QNAP's md stops counting: the counters are equal, and only times and tables of roles tell.
#[test]
fn a_stale_member_with_an_equal_counter_is_left_out() {
    let whole = five(3);
    for disk in [1, 2] {
        edit(&whole, disk, |block| (block.roles[0], block.updated) = (Role::Faulty, block.updated + 86_400));
    }
    spoil(&whole, 0, 0, 24 << 20);
    all_is_read(&whole, &[], &["stale"]);
}

#[test]
fn a_member_in_rescue_mode_where_another_is_gone() {
    let whole = five(3);
    for disk in [0, 1] {
        edit(&whole, disk, |block| (block.roles[1], block.roles[2]) = (Role::Rescue(1), Role::Faulty));
    }
    all_is_read(&whole, &[2], &["rescue"]);
}

#[test]
fn qnaps_private_word_and_a_wrong_name() {
    let whole = five(3);
    for disk in 0..3 {
        edit(&whole, disk, |block| (block.qnap_feature, block.name) = (1, "NAS:1".into()));
    }
    all_is_read(&whole, &[], &["private feature word"]);
}

/// What the log of bad blocks names holds no valid data, and is read from the others.
#[test]
fn a_member_with_a_log_of_bad_blocks() {
    let whole = five(3);
    let (start, length) = whole.forged.arrays[0].partition;
    let at = (start + place_1_0(Sectors(length)).unwrap().0 - 8) * 512;
    let mut log = vec![0xff; 4096];
    for (entry, number) in log.chunks_mut(8).zip(0..100u64) {
        let sector = (9 << 11) + number * 64;
        entry.copy_from_slice(&(sector << 10 | 16).to_le_bytes());
        spoil(&whole, 1, sector * 512, 8192);
    }
    writable(&whole.forged.disks[1]).write_all_at(&log, at).unwrap();
    edit(&whole, 1, |block| block.features |= FEATURE_BAD_BLOCKS);
    all_is_read(&whole, &[], &["bad-block log"]);
}

/// Halves of a mirror that ran on without each other are never mixed.
#[test]
fn two_halves_of_a_mirror_that_parted() {
    let options = ForgeOptions { mirror: Mirror::Both, compact: true, ..ForgeOptions::default() };
    let whole = Whole::forge("F1-plain-ext4", &options);
    edit(&whole, 0, |block| (block.roles[1], block.updated) = (Role::Faulty, block.updated + 100_000));
    edit(&whole, 1, |block| (block.roles[0], block.events) = (Role::Faulty, block.events + 50));
    spoil(&whole, 1, 16 << 20, 16 << 20);
    all_is_read(&whole, &[], &["ran on"]);
}

/// Two NAS whose groups and arrays have the same names: told apart by their ids.
#[test]
fn disks_of_two_machines() {
    let first = five(3);
    let raid = Some(Raid { chunk: 256, ..Raid::new(5, 3) });
    let seed = ForgeOptions { raid, compact: true, seed: "another".into(), ..ForgeOptions::default() };
    let second = Whole::forge("F6a-data-full", &seed);
    let settings = second.attach(first.attach(Settings::new(&Image::from_environment().unwrap())));
    let mut machine = settings.boot().unwrap();
    let scan = machine.run(&["scan", "--json"]).unwrap().stdout;
    let scan: serde_json::Value = serde_json::from_str(&scan).unwrap();
    let groups: Vec<&str> =
        scan["volume_groups"].as_array().unwrap().iter().map(|group| group["id"].as_str().unwrap()).collect();
    assert_eq!(groups.len(), 2);
    let unclear = machine.run(&["activate", "vg1/lv1"]).unwrap();
    assert!(unclear.code != 0 && groups.iter().all(|id| unclear.stderr.contains(id)), "{}", unclear.stderr);
    // Which of the two ids is whose is not for the test to know: the hash tells.
    let truths = [&first, &second].map(|whole| whole.fixture.truth[&1].sha256.clone());
    let mut found = Vec::new();
    for id in groups {
        machine.run(&["activate", &format!("{id}/lv1")]).unwrap().success().unwrap();
        let hash = machine.shell("sha256sum < /dev/mapper/vg1-lv1").unwrap().success().unwrap();
        found.push(hash[..64].to_owned());
        machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
    }
    found.sort();
    let mut expected = truths.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    machine.finish().unwrap();
}

/// LVM's label and all its texts are gone; what the NAS keeps on its system partition describes the group.
#[test]
fn the_systems_backup_of_lvms_text() {
    let options = ForgeOptions { mirror: Mirror::Both, compact: true, ..ForgeOptions::default() };
    let whole = Whole::forge("F1-plain-ext4", &options);
    add_system(&whole.forged).unwrap();
    let start = whole.forged.arrays[0].partition.0 * 512;
    for disk in &whole.forged.disks {
        writable(disk).write_all_at(&[0; 2048], start).unwrap();
        writable(disk).write_all_at(&vec![0; (1 << 20) - 4608], start + 4608).unwrap();
    }
    all_is_read(&whole, &[], &["backup", "TS-X53"]);
}
