//! Arrays of several disks: decided by the agent, assembled by the kernel's md over overlays, read to the last hash.

mod common;

use common::{Whole, sparse};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tierlift_forge::{ForgeOptions, Raid};
use tierlift_tests::{Image, Settings};

/// Forges a pool on an array, leaves out the disks in the roles `missing`, and compares every volume.
fn every_volume(name: &str, raid: Raid, missing: &[usize]) {
    let options = ForgeOptions { raid: Some(raid), drbd: true, compact: true, ..ForgeOptions::default() };
    let whole = Whole::forge(name, &options);
    let here = whole.forged.disks.iter().enumerate().filter(|(role, _)| !missing.contains(role));
    let settings =
        here.fold(Settings::new(&Image::from_environment().unwrap()), |settings, (_, disk)| settings.source(disk));
    let mut machine = settings.boot().unwrap();
    whole.assert_every_volume(&mut machine);
    let arrays = machine.shell("cat /proc/mdstat").unwrap().success().unwrap();
    assert!(!arrays.contains("md100"), "left after deactivate: {arrays}");
    machine.finish().unwrap();
}

#[test]
fn raid_5_whole() {
    every_volume("F1-plain-ext4", Raid::new(5, 4), &[]);
}

#[test]
fn raid_5_without_a_member() {
    every_volume("F2-snaps", Raid { chunk: 128, ..Raid::new(5, 3) }, &[1]);
}

#[test]
fn raid_6_without_two_members() {
    every_volume("F3-3tiers", Raid::new(6, 5), &[0, 3]);
}

/// Asymmetric parity: the syndrome weighs the members in another order than the data are in.
#[test]
fn raid_6_asymmetric_without_two_members() {
    every_volume("F1-plain-ext4", Raid { layout: 1, ..Raid::new(6, 5) }, &[1, 2]);
}

#[test]
fn raid_10_without_half_of_it() {
    every_volume("F1-plain-ext4", Raid::new(10, 4), &[0, 3]);
}

#[test]
fn stripes_without_redundancy() {
    every_volume("F1-plain-ext4", Raid::new(0, 3), &[]);
}

#[test]
fn disks_in_a_row() {
    every_volume("F1-plain-ext4", Raid::new(-1, 2), &[]);
}

fn is_blank(disk: &Path, at: u64) -> bool {
    let mut block = vec![0; 4096];
    File::open(disk).unwrap().read_exact_at(&mut block, at).unwrap();
    block.iter().all(|byte| *byte == 0)
}

/// What ddrescue could not read of one member is read from the others; the map comes as a disk of its own.
#[test]
fn unread_sectors_of_one_member_are_read_from_the_others() {
    let options = ForgeOptions { raid: Some(Raid::new(5, 3)), compact: true, ..ForgeOptions::default() };
    let whole = Whole::forge("F1-plain-ext4", &options);
    let disk = &whole.forged.disks[1];
    let size = std::fs::metadata(disk).unwrap().len();
    let (start, sectors) = whole.forged.arrays[0].partition;
    // A long part in the middle, and many short ones: more than the log of bad blocks of a member can hold.
    // One long part and many short ones, more than the log of bad blocks of a member can hold; all where the other disks have
    // data too, which tells whose map it is.
    let others = |at: u64| [0, 2].iter().all(|other| !is_blank(&whole.forged.disks[*other], at));
    let blocks: Vec<u64> = (0..sectors / 8).map(|block| start * 512 + block * 4096).collect();
    let used: Vec<u64> = blocks.into_iter().filter(|at| !is_blank(disk, *at) && others(*at)).collect();
    let mut parts = vec![(used[0], 256 << 10)];
    parts.extend(used.iter().filter(|at| **at > used[0] + (1 << 20)).step_by(2).take(700).map(|at| (*at, 4096)));
    assert!(parts.len() > 600, "{}", parts.len());
    let mut map = String::from("# Mapfile. Created by GNU ddrescue version 1.27\n0 + 1\n");
    let (mut at, file) = (0, OpenOptions::new().write(true).open(disk).unwrap());
    for (from, length) in parts {
        map += &format!("{at} {} +\n{from} {length} -\n", from - at);
        file.write_all_at(&vec![0; length as usize], from).unwrap();
        at = from + length;
    }
    map += &format!("{at} {} +\n", size - at);
    let path = sparse(&whole.folder().join("map"), (map.len() as u64).next_multiple_of(512));
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(map.as_bytes(), 0).unwrap();
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap()));
    let mut machine = settings.source(&path).boot().unwrap();
    let scan = machine.run(&["scan"]).unwrap();
    assert!(scan.stdout.contains("a map of ddrescue, of /dev/vdb\n"), "{}", scan.stdout);
    whole.assert_every_volume(&mut machine);
    machine.finish().unwrap();
}
