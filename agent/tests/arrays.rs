//! Arrays of every level on bytes alone: forged around genuine pools, with every member that may be missing missing, read
//! to the last byte.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use tierlift::discover::inventory;
use tierlift::inventory::{Array, Inventory, LogicalVolumeKind, PvPlace};
use tierlift::volume;
use tierlift_forge::{Fixture, ForgeOptions, Forged, Raid, forge_disks};
use tierlift_ondisk::field::hex;
use tierlift_ondisk::md::{Role, Superblock, place_1_0};
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Pool, ThinReader};

struct Scene {
    _dir: tempfile::TempDir,
    fixture: Fixture,
    forged: Forged,
}

fn scene(name: &str, raid: Raid) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::named(name).unwrap();
    let options = ForgeOptions { raid: Some(raid), compact: true, drbd: true, ..ForgeOptions::default() };
    let forged = forge_disks(&fixture, &options, dir.path()).unwrap();
    Scene { _dir: dir, fixture, forged }
}

fn notes(found: &Inventory) -> String {
    let arrays = found.arrays.iter().flat_map(|array| array.notes.clone());
    found.notes.iter().cloned().chain(arrays).collect::<Vec<_>>().join("\n")
}

impl Scene {
    fn without(&self, missing: &[usize]) -> Vec<PathBuf> {
        let array = &self.forged.arrays[0];
        let roles = array.disks.iter().enumerate().filter(|(role, _)| !missing.contains(role));
        roles.map(|(_, disk)| self.forged.disks[*disk].clone()).collect()
    }

    fn data<'a>(&self, found: &'a Inventory) -> (usize, &'a Array) {
        let mut arrays = found.arrays.iter().enumerate().filter(|(_, array)| !array.system);
        let only = arrays.next().unwrap();
        assert!(arrays.next().is_none());
        only
    }

    /// The array reads as the forge meant it.
    fn check(&self, missing: &[usize]) -> Inventory {
        let found = inventory(&self.without(missing)).unwrap();
        let (index, array) = self.data(&found);
        assert!(array.assembly.is_some(), "{}: {}", array.level, notes(&found));
        let truth = &self.forged.arrays[0];
        assert_eq!(array.size, Sectors(truth.sectors));
        let view = volume::open_extents(&found, &PvPlace::Array(index)).unwrap();
        let image = File::open(&truth.image).unwrap();
        let length = image.metadata().unwrap().len();
        let (mut mine, mut true_bytes) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut at = 0;
        while at < length {
            let count = (length - at).min(1 << 20) as usize;
            view.read_at(Bytes(at), &mut mine[..count]).unwrap();
            image.read_exact_at(&mut true_bytes[..count], at).unwrap();
            assert!(mine[..count] == true_bytes[..count], "{} without {missing:?}: bytes from {at} on", array.level);
            at += count as u64;
        }
        found
    }

    /// Changes the superblock of the member in a role.
    fn change(&self, role: usize, change: impl FnOnce(&mut Superblock)) {
        let array = &self.forged.arrays[0];
        let place = place_1_0(Sectors(array.partition.1)).unwrap().0 + array.partition.0;
        let disk = &self.forged.disks[array.disks[role]];
        let file = OpenOptions::new().read(true).write(true).open(disk).unwrap();
        let mut bytes = vec![0; 4096];
        file.read_exact_at(&mut bytes, place * 512).unwrap();
        let mut block = Superblock::decode(&bytes).unwrap();
        change(&mut block);
        file.write_all_at(&block.encode(), place * 512).unwrap();
    }
}

/// SHA-256 of a thin device, read through the pool on the array.
fn device_hash(found: &Inventory, device: u64, sectors: u64) -> String {
    let (_, listed) = volume::find(found, "vg1/tp1").unwrap();
    let LogicalVolumeKind::Pool(parts) = &listed.kind else { panic!("{:?}", listed.kind) };
    let opened = Pool::open(volume::view(found, 0, &parts.metadata).unwrap()).unwrap();
    let tiers =
        (0..).zip(&parts.tiers).map(|(tier, name)| (tier, volume::view(found, 0, name.as_deref().unwrap()).unwrap()));
    let size = Some(Bytes(sectors * 512));
    let mode = opened.stat().mode.mode;
    let reader = ThinReader::new(&opened, tiers.collect(), DeviceId(device), mode, size).unwrap();
    let (mut hasher, mut block, mut offset) = (Sha256::new(), vec![0; 1 << 20], 0);
    while offset < reader.size().0 {
        let count = (reader.size().0 - offset).min(block.len() as u64) as usize;
        reader.read_at(Bytes(offset), &mut block[..count]).unwrap();
        hasher.update(&block[..count]);
        offset += count as u64;
    }
    hex(&hasher.finalize())
}

#[test]
fn every_level_reads_as_it_was_written_whoever_may_be_missing() {
    let chunk = |chunk, raid| Raid { chunk, ..raid };
    let layout = |layout, raid| Raid { layout, ..raid };
    for (raid, missing) in [
        (Raid::new(-1, 3), vec![vec![]]),
        (Raid::new(0, 3), vec![vec![]]),
        (Raid::new(1, 2), vec![vec![], vec![0], vec![1]]),
        (Raid::new(4, 3), vec![vec![], vec![0], vec![2]]),
        (chunk(128, Raid::new(5, 3)), vec![vec![], vec![0], vec![1], vec![2]]),
        (Raid::new(5, 4), vec![vec![0], vec![3]]),
        (layout(1, Raid::new(5, 4)), vec![vec![], vec![1]]),
        (Raid::new(6, 4), vec![vec![], vec![0, 1], vec![1, 3]]),
        (chunk(128, layout(0, Raid::new(6, 5))), vec![vec![2], vec![0, 4]]),
        (Raid::new(10, 4), vec![vec![], vec![0, 3]]),
        (Raid::new(10, 3), vec![vec![1]]),
    ] {
        let scene = scene("F1-plain-ext4", raid);
        for missing in missing {
            let found = scene.check(&missing);
            for (device, truth) in &scene.fixture.truth {
                assert_eq!(device_hash(&found, *device, truth.sectors), truth.sha256, "{raid:?} without {missing:?}");
            }
        }
    }
}

#[test]
fn no_sound_set_is_refused() {
    for name in Fixture::HEALTHY {
        let six = scene(name, Raid { chunk: 128, ..Raid::new(6, 5) });
        let five = scene(name, Raid { chunk: 128, ..Raid::new(5, 4) });
        for (scene, missing) in [(&six, vec![1, 2]), (&six, vec![4]), (&six, vec![]), (&five, vec![1]), (&five, vec![])]
        {
            let found = inventory(&scene.without(&missing)).unwrap();
            let (_, array) = scene.data(&found);
            assert!(array.assembly.is_some(), "{name} without {missing:?}: {}", notes(&found));
            let (device, truth) = scene.fixture.truth.iter().next().unwrap();
            assert_eq!(device_hash(&found, *device, truth.sectors), truth.sha256, "{name} without {missing:?}");
        }
    }
}

#[test]
fn too_few_members_are_told_with_their_roles() {
    let scene = scene("F1-plain-ext4", Raid::new(5, 4));
    let found = inventory(&scene.without(&[1, 3])).unwrap();
    let (_, array) = scene.data(&found);
    assert!(array.assembly.is_none() && array.usable_member.is_none());
    assert!(notes(&found).contains("the members of roles 1 and 3"), "{}", notes(&found));
    let output =
        Command::new(env!("CARGO_BIN_EXE_tierlift")).arg("scan").args(scene.without(&[1, 3])).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NOT usable") && text.contains("too few members"), "{text}");
}

#[test]
fn a_member_that_failed_when_the_array_stopped_is_used() {
    let scene = scene("F2-snaps", Raid { chunk: 128, ..Raid::new(5, 4) });
    // Role 3 left long ago, role 1 was the one too many.
    scene.change(3, |block| (block.events, block.updated) = (block.events - 900, block.updated - 90_000));
    scene.change(1, |block| {
        block.roles[3] = Role::Faulty;
        (block.events, block.updated) = (block.events - 3, block.updated - 4);
    });
    for role in [0, 2] {
        scene.change(role, |block| (block.roles[3], block.roles[1]) = (Role::Faulty, Role::Faulty));
    }
    let found = scene.check(&[]);
    let (_, array) = scene.data(&found);
    assert_eq!(
        array.assembly.as_ref().unwrap().roles.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, true, true, false]
    );
    assert!(notes(&found).contains("failed when the array stopped"), "{}", notes(&found));
    // Without it the one that left long ago is no substitute.
    let found = inventory(&scene.without(&[1])).unwrap();
    assert!(scene.data(&found).1.assembly.is_none());
}

#[test]
fn a_reshape_is_told_with_its_position_and_refused() {
    let scene = scene("F1-plain-ext4", Raid::new(5, 3));
    for role in 0..3 {
        scene.change(role, |block| (block.features, block.reshape_position) = (4, 123_456));
    }
    let found = inventory(&scene.without(&[])).unwrap();
    assert!(scene.data(&found).1.assembly.is_none());
    assert!(notes(&found).contains("array sector 123456"), "{}", notes(&found));
}
