//! Each genuine healthy pool, from a whole QNAP disk to the bytes of every thin device: what the patched kernel reads is
//! what QNAP's kernel read.

mod common;

use common::Whole;
use tierlift_forge::ForgeOptions;
use tierlift_tests::{Image, Settings};

/// Activates every volume of the pool on forged disks and compares each with the manifest.
fn every_thin_device(name: &str, options: &ForgeOptions) {
    let whole = Whole::forge(name, options);
    let mut machine = whole.attach(Settings::new(&Image::from_environment().unwrap())).boot().unwrap();
    whole.assert_every_volume(&mut machine);
    machine.finish().unwrap();
}

macro_rules! pools {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            every_thin_device($name, &ForgeOptions::default());
        })*
    };
}

pools! {
    bypass: "F1-plain-ext4",
    snapshots: "F2-snaps",
    three_tiers: "F3-3tiers",
    thick_and_cloned: "F4-thick-clone",
    zeroed_blocks: "F4c-zeroflag",
    version_2_with_small_blocks: "F5-v2-4k",
    data_full: "F6a-data-full",
    crashed: "F7-crash-1",
    crashed_with_tiers: "F7-tier-crash-1",
}
