//! `tierlift scan` as a user runs it: text, JSON, exit codes, on forged disks and on everything that is no disk.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tierlift_forge::{Fixture, ForgeOptions, Mirror, TierKeys, forge_disks};

fn scan(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierlift")).arg("scan").args(arguments).output().unwrap()
}

fn json(arguments: &[&Path]) -> (i32, serde_json::Value) {
    let mut all = vec![Path::new("--json")];
    all.extend(arguments);
    let output = scan(&all);
    let value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), value)
}

fn out(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn forge(dir: &Path, name: &str, options: ForgeOptions) -> Vec<PathBuf> {
    let fixture = Fixture::named(name).unwrap();
    forge_disks(&fixture, &ForgeOptions { compact: true, ..options }, dir).unwrap().disks
}

#[test]
fn a_sound_disk_is_told_from_partitions_to_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let disks =
        forge(dir.path(), "F2-snaps", ForgeOptions { mirror: Mirror::Half, drbd: true, ..ForgeOptions::default() });
    let (code, text, errors) = out(&scan(&[&disks[0]]));
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    for expected in [
        "partition table: gpt",
        "md member of array 1 (raid1, role 0)",
        "array 1 (raid1, 153.5 MiB, 1 of 2 members here): usable",
        "a DRBD tail at its end",
        "QNAP's own system mirrors (9, 13, 256, 322): not needed for the data",
        "tp1: pool (tier-thin-pool), 128.0 MiB",
        "metadata version 4, 8192-byte blocks; 155 of 256 chunks of 512.0 KiB used, 9 devices: healthy",
        "mode: bypass (all data lie on tier 2",
        "lv3: volume, 64.0 MiB, device 3 of pool tp1, snapshot of lv1",
        "lv544: QNAP's reserve, no user data",
        "tierlift activate vg1/lv1, then tierlift mount vg1/lv1",
        "tierlift pool read --meta ",
        " --device 1 --sectors 131072 --output lv1.img",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    assert!(!text.contains("What is wrong"), "{text}");
}

#[test]
fn json_has_the_same_facts() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F3-3tiers", ForgeOptions { tier_keys: TierKeys::None, ..ForgeOptions::default() });
    let (code, value) = json(&[&disks[0]]);
    assert_eq!((code, &value["schema"], &value["exit_code"]), (0, &"tierlift.scan/1".into(), &0.into()));
    assert_eq!(value["disks"][0]["partitions"].as_array().unwrap().len(), 5);
    assert_eq!(value["pools"][0]["stat"]["version"], 4);
    assert_eq!(value["pools"][0]["stat"]["mode"], "tier_map");
    assert_eq!(value["wrong"].as_array().unwrap().len(), 0);
}

#[test]
fn devices_without_a_volume_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::named("F6a-data-full").unwrap();
    fixture.truth.remove(&2);
    let options = ForgeOptions { compact: true, ..ForgeOptions::default() };
    let disks = forge_disks(&fixture, &options, dir.path()).unwrap().disks;
    let (code, text, _) = out(&scan(&[&disks[0]]));
    assert_eq!(code, 0);
    assert!(text.contains("unnamed thin device 2: known only to the pool"), "{text}");
}

#[test]
fn damage_is_told_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F8-F2-rand20", ForgeOptions::default());
    let (code, text, _) = out(&scan(&[&disks[0]]));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("What is wrong") && text.contains("pool vg1/tp1: device 4"), "{text}");
}

#[test]
fn a_missing_tier_is_told_with_what_it_means() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F3-3tiers", ForgeOptions { array_per_tier: true, ..ForgeOptions::default() });
    let (code, text, _) = out(&scan(&[&disks[0], &disks[2]]));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("tier 0: 64.0 MiB of 64.0 MiB of tp1_tierdata_0 are missing"), "{text}");
    assert!(text.contains("was not found: attach its disks"), "{text}");
    assert_eq!(scan(&[&disks[0], &disks[1], &disks[2]]).status.code(), Some(0));
}

#[test]
fn a_pool_that_cannot_be_opened_is_exit_code_4() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F8-F3-sbzero", ForgeOptions::default());
    let (code, _, errors) = out(&scan(&[&disks[0]]));
    assert_eq!(code, 4);
    assert!(errors.contains("a pool was found, but it cannot be opened"), "{errors}");
    let (code, value) = json(&[&disks[0]]);
    assert_eq!((code, &value["exit_code"]), (4, &4.into()));
}

#[test]
fn what_is_no_disk_gets_one_clear_error_each() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let noise: Vec<u8> = (0u32..1 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    for (path, code, message) in [
        (dir.path().join("gone"), 8, "cannot be opened"),
        (dir.path().to_owned(), 8, "is a directory"),
        (file("empty", b""), 4, "nothing of a QNAP storage pool was found"),
        (file("short", b"EFI PART"), 4, "nothing of a QNAP storage pool was found"),
        (file("noise", &noise), 4, "nothing of a QNAP storage pool was found"),
    ] {
        let (found, text, errors) = out(&scan(&[&path]));
        assert_eq!(found, code, "{}: {text}{errors}", path.display());
        assert!(errors.contains(message) && errors.lines().count() == 1, "{errors}");
    }
    assert_eq!(scan(&[Path::new("--no-such-option")]).status.code(), Some(16));
}

#[test]
fn a_disk_that_cannot_be_opened_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F6a-data-full", ForgeOptions::default());
    let gone = dir.path().join("gone");
    let (code, text, _) = out(&scan(&[&gone, &disks[0]]));
    assert_eq!(code, 2 | 8, "{text}");
    assert!(text.contains("cannot be opened") && text.contains("tp1: pool"), "{text}");
}

#[test]
fn an_image_cut_short_is_told_with_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F6a-data-full", ForgeOptions::default());
    let length = fs::metadata(&disks[0]).unwrap().len();
    fs::OpenOptions::new().write(true).open(&disks[0]).unwrap().set_len(length.div_ceil(2)).unwrap();
    let (code, text, _) = out(&scan(&[&disks[0]]));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("the image is cut short") && text.contains("of tp1_tierdata_2 are missing"), "{text}");
}

#[test]
fn sources_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let disks = forge(dir.path(), "F6a-data-full", ForgeOptions::default());
    let before = (fs::read(&disks[0]).unwrap(), fs::metadata(&disks[0]).unwrap().modified().unwrap());
    scan(&[&disks[0]]);
    let after = (fs::read(&disks[0]).unwrap(), fs::metadata(&disks[0]).unwrap().modified().unwrap());
    assert!(before == after);
}
