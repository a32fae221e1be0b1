//! The power fails in the middle of the work: no source has changed by a byte, and the next run reads all there is.

mod common;

use common::{Whole, sparse};
use std::path::Path;
use std::process::Command;
use tierlift_forge::{ForgeOptions, Raid};
use tierlift_tests::{Image, Settings, fingerprint};

/// Starts the work in the background, switches the machine off as soon as `moment` (a condition of the shell) is there, looks at
/// the sources, and reads every volume in a new machine.
fn cut(work: &str, moment: &str) {
    let raid = Some(Raid { chunk: 128, ..Raid::new(5, 3) });
    let whole =
        Whole::forge("F1-plain-ext4", &ForgeOptions { raid, drbd: true, compact: true, ..ForgeOptions::default() });
    // Not shut down in order, so that a kernel that may write would begin to repair parity at once.
    for disk in 0..3 {
        tierlift_forge::mishaps::change_superblock(&whole.forged, disk, |block| block.resync_offset = 0).unwrap();
    }
    let before: Vec<String> = whole.forged.disks.iter().map(|disk| fingerprint(disk).unwrap()).collect();
    let scratch = sparse(&whole.folder().join("scratch.img"), 64 << 20);
    let target = sparse(&whole.folder().join("target.img"), 256 << 20);
    assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&target).status().unwrap().success());
    let image = Image::from_environment().unwrap();
    let mut machine = whole.attach(Settings::new(&image)).writable(&scratch).writable(&target).boot().unwrap();
    let started = format!("({work}) > /tmp/work.log 2>&1 &");
    machine.shell(&started).unwrap().success().unwrap();
    let wait = format!(
        "for i in $(seq 3000); do if {moment}; then exit 0; fi; sleep 0.05; done; cat /tmp/work.log; dmsetup ls; exit 1"
    );
    let waited = machine.shell(&wait).unwrap();
    assert_eq!(waited.code, 0, "the moment never came: {}", waited.stdout);
    // No goodbye: the process of the machine is killed.
    drop(machine);
    let after = |disk: &Path| fingerprint(disk).unwrap();
    for (disk, before) in whole.forged.disks.iter().zip(before) {
        assert_eq!(after(disk), before, "{} was changed", disk.display());
    }
    let mut machine = whole.attach(Settings::new(&image)).boot().unwrap();
    whole.assert_every_volume(&mut machine);
    machine.finish().unwrap();
}

#[test]
fn while_overlays_and_arrays_are_made() {
    cut("tierlift activate vg1/lv1 --scratch /dev/vdd", "dmsetup ls | grep -q .");
}

#[test]
fn while_an_array_runs_that_was_not_shut_down() {
    cut("tierlift activate vg1/lv1 --scratch /dev/vdd", "grep -q raid5 /proc/mdstat");
}

#[test]
fn while_files_are_copied() {
    let work = "tierlift activate vg1/lv1 --scratch /dev/vdd && tierlift copy vg1/lv1 /dev/vde";
    cut(work, "grep -q ^/dev/vde /proc/mounts");
}
