//! Members without superblocks: what is proposed is the truth, or nothing is. Disks are forged around genuine pools, lose every
//! superblock, and come in any order.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use tierlift::discover::{GivenArray, Proposal, Wishes, look};
use tierlift::inventory::{Inventory, PvPlace};
use tierlift::volume::choice::Choices;
use tierlift::volume::open_extents;
use tierlift_forge::{Dice, Fixture, ForgeOptions, Forged, Raid, forge_disks, mishaps};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

struct Scene {
    _dir: tempfile::TempDir,
    forged: Forged,
    raid: Raid,
}

fn scene(name: &str, raid: Raid) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let options = ForgeOptions { raid: Some(raid), compact: true, drbd: true, ..ForgeOptions::default() };
    let forged = forge_disks(&Fixture::named(name).unwrap(), &options, dir.path()).unwrap();
    (0..raid.disks).for_each(|disk| mishaps::wipe_superblock(&forged, disk).unwrap());
    Scene { _dir: dir, forged, raid }
}

impl Scene {
    /// The array as it was made, without the members of these roles.
    fn truth(&self, missing: &[usize]) -> String {
        let name = |role: usize| (!missing.contains(&role)).then(|| self.forged.disks[role].display().to_string());
        let members = (0..self.raid.disks).map(name).collect();
        let (level, layout) = (self.raid.level, self.raid.layout);
        GivenArray { level, chunk: Sectors(self.raid.chunk), layout, members }.to_string()
    }

    fn shuffled(&self, missing: &[usize], dice: &mut Dice) -> Vec<PathBuf> {
        let here = (0..self.raid.disks).filter(|role| !missing.contains(role));
        let mut disks: Vec<PathBuf> = here.map(|role| self.forged.disks[role].clone()).collect();
        for last in (1..disks.len()).rev() {
            disks.swap(last, dice.below(last as u64 + 1) as usize);
        }
        disks
    }
}

fn propose(disks: &[PathBuf]) -> Vec<Proposal> {
    look(disks, &Wishes { propose: true, ..Wishes::default() }).unwrap().proposals
}

fn raid(level: i32, disks: usize, kib: u64) -> Raid {
    Raid { chunk: kib * 2, ..Raid::new(level, disks) }
}

#[test]
fn what_is_proposed_is_the_truth() {
    let mut dice = Dice::new(20_261_123);
    let pools = ["F2-snaps", "F3-3tiers", "F1-plain-ext4", "F5-v2-4k"];
    let shapes = [
        raid(5, 4, 64),
        raid(5, 4, 512),
        raid(5, 3, 64),
        raid(5, 6, 128),
        Raid { layout: 0, ..raid(5, 4, 64) },
        raid(6, 4, 64),
        raid(6, 5, 512),
        raid(6, 6, 64),
        raid(0, 2, 64),
        raid(0, 3, 16),
        raid(0, 4, 512),
    ];
    let (mut table, mut wrong) = (BTreeMap::<String, BTreeMap<&str, usize>>::new(), Vec::new());
    for shape in shapes {
        for name in pools {
            let scene = scene(name, shape);
            let parities = if shape.level == 0 { 0 } else { shape.level as usize - 4 };
            let mut missing = Vec::new();
            for _ in 0..=parities {
                let found = propose(&scene.shuffled(&missing, &mut dice));
                let outcome = match found.as_slice() {
                    [Proposal { array: Some(array), .. }] if *array == scene.truth(&missing) => "right",
                    [Proposal { array: None, evidence, .. }] if evidence[0].contains("not enough evidence") => "none",
                    _ => "WRONG",
                };
                let what =
                    format!("raid{} of {}, {} KiB, layout {}", shape.level, shape.disks, shape.chunk / 2, shape.layout);
                let key = format!("{what}, {} missing", missing.len());
                *table.entry(key.clone()).or_default().entry(outcome).or_default() += 1;
                if outcome != "right" {
                    println!("{outcome} {name} {key}: truth {}: {found:#?}", scene.truth(&missing));
                }
                if outcome == "WRONG" {
                    wrong.push(format!("{name}, {key}: {}: {found:#?}", scene.truth(&missing)));
                }
                let left: Vec<usize> = (0..shape.disks).filter(|role| !missing.contains(role)).collect();
                missing.push(left[dice.below(left.len() as u64) as usize]);
            }
        }
    }
    table.iter().for_each(|(what, outcomes)| println!("{what}: {outcomes:?}"));
    let trials: usize = table.values().flat_map(BTreeMap::values).sum();
    assert!(trials >= 40, "{trials} trials");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn with_array(disks: &[PathBuf], array: &str) -> Inventory {
    let texts = Choices { arrays: vec![array.parse().unwrap()], ..Choices::default() };
    look(disks, &Wishes { texts, ..Wishes::default() }).unwrap().inventory
}

/// What is proposed, given back as `--array`, reads as the array did, byte for byte.
#[test]
fn a_proposal_that_is_confirmed_is_read() {
    for missing in [None, Some(2)] {
        let scene = scene("F2-snaps", raid(5, 4, 64));
        let missing: Vec<usize> = missing.into_iter().collect();
        let disks = scene.shuffled(&missing, &mut Dice::new(5));
        let array = propose(&disks).remove(0).array.unwrap();
        let found = with_array(&disks, &array);
        let notes = found.arrays.iter().find(|array| !array.system).map(|array| array.notes.join("; ")).unwrap();
        assert!(notes.contains("as you chose") && !notes.contains("speak against"), "{notes}");
        let index = found.arrays.iter().position(|array| array.assembly.is_some()).unwrap();
        let view = open_extents(&found, &PvPlace::Array(index)).unwrap();
        let truth = std::fs::read(&scene.forged.arrays[0].image).unwrap();
        assert!(view.size().0 >= truth.len() as u64);
        let mut bytes = vec![0; truth.len()];
        view.read_at(Bytes(0), &mut bytes).unwrap();
        assert!(bytes == truth);
        assert_eq!(found.volume_groups[0].name, "vg1");
    }
}

/// Superblocks of two of four members are left: they tell all but where the others belong.
#[test]
fn members_without_superblocks_join_those_that_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let shape = raid(5, 4, 64);
    let options = ForgeOptions { raid: Some(shape), compact: true, ..ForgeOptions::default() };
    let forged = forge_disks(&Fixture::named("F2-snaps").unwrap(), &options, dir.path()).unwrap();
    [0, 2].iter().for_each(|disk| mishaps::wipe_superblock(&forged, *disk).unwrap());
    let scene = Scene { _dir: dir, forged, raid: shape };
    let found = propose(&scene.shuffled(&[], &mut Dice::new(7)));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].array.as_deref(), Some(scene.truth(&[]).as_str()), "{found:#?}");
}

/// What the user says is read, whatever speaks against it; and what speaks against it is said.
#[test]
fn the_users_word_stands_and_is_told() {
    let scene = scene("F2-snaps", raid(5, 4, 64));
    let mut wrong: GivenArray = scene.truth(&[]).parse().unwrap();
    wrong.members.swap(1, 2);
    let found = with_array(&scene.forged.disks, &wrong.to_string());
    let array = found.arrays.iter().find(|array| !array.system).unwrap();
    let notes = array.notes.join("; ");
    assert!(array.assembly.is_some(), "{notes}");
    assert!(notes.contains("as you chose") && notes.contains("samples speak against your choice"), "{notes}");
}

#[test]
fn an_array_of_disks_that_are_not_here_is_refused() {
    let scene = scene("F2-snaps", raid(5, 3, 64));
    for array in ["5:64:-:nowhere.img,missing,also-not.img".to_owned(), {
        let disk = scene.forged.disks[0].display();
        format!("5:64:-:{disk},{disk},missing")
    }] {
        let texts = Choices { arrays: vec![array.parse().unwrap()], ..Choices::default() };
        assert!(look(&scene.forged.disks, &Wishes { texts, ..Wishes::default() }).is_err(), "{array}");
    }
}

fn tierlift(arguments: &[&str], disks: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierlift")).args(arguments).args(disks).output().unwrap()
}

/// The verb: every scan tells of such members, and the proposal is there for people and for programs.
#[test]
fn a_scan_tells_of_members_without_superblocks() {
    for (shape, words) in [(raid(5, 4, 64), "one RAID 5"), (raid(6, 5, 64), "one RAID 6"), (raid(1, 2, 0), "a mirror")]
    {
        let scene = scene("F2-snaps", shape);
        let disks = scene.shuffled(&[], &mut Dice::new(9));
        let said = String::from_utf8(tierlift(&["scan"], &disks).stdout).unwrap();
        assert!(said.contains(words) && said.contains("--propose-arrays"), "{said}");
        let said = String::from_utf8(tierlift(&["scan", "--propose-arrays"], &disks).stdout).unwrap();
        let json = tierlift(&["scan", "--propose-arrays", "--json"], &disks).stdout;
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let array = json["proposals"][0]["array"].as_str().unwrap();
        assert!(said.contains(&format!("--array {array}")), "{said}");
        if shape.level > 1 {
            assert_eq!(array, scene.truth(&[]));
        }
    }
    let wrong = tierlift(&["scan", "--array", "5:63:-:a,b,c"], &[]);
    assert_eq!(wrong.status.code(), Some(16));
}

/// Whole arrays, empty disks and strangers are no reason to propose anything.
#[test]
fn nothing_is_proposed_where_nothing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let options = ForgeOptions { raid: Some(raid(5, 3, 64)), compact: true, ..ForgeOptions::default() };
    let forged = forge_disks(&Fixture::named("F2-snaps").unwrap(), &options, dir.path()).unwrap();
    let mut disks = forged.disks.clone();
    assert!(propose(&disks).is_empty());
    for number in 0..2 {
        let empty = dir.path().join(format!("empty{number}.img"));
        std::fs::File::create(&empty).unwrap().set_len(64 << 20).unwrap();
        disks.push(empty);
    }
    assert!(propose(&disks).is_empty());
    let found = look(&disks, &Wishes::default()).unwrap().inventory;
    assert!(!found.notes.join("; ").contains("--propose-arrays"), "{:?}", found.notes);
}
