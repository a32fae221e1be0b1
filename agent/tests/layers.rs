//! From whole disks down to volumes, in userland: forged disks around genuine pools, sound and damaged.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift::discover::inventory;
use tierlift::inventory::{Inventory, LogicalVolumeKind, PoolVolume};
use tierlift::volume::{self, DiskTarget};
use tierlift_forge::{AbsentTier, Fixture, ForgeOptions, Forged, Mirror, TierKeys, forge_disks};
use tierlift_ondisk::field::hex;
use tierlift_ondisk::md::{Role, Superblock, place_1_0};
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Pool, ThinReader};

struct Scene {
    dir: tempfile::TempDir,
    fixture: Fixture,
    forged: Forged,
}

fn compact() -> ForgeOptions {
    ForgeOptions { compact: true, ..ForgeOptions::default() }
}

fn scene(name: &str, options: &ForgeOptions) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::named(name).unwrap();
    let forged = forge_disks(&fixture, options, &dir.path().join("disks")).unwrap();
    Scene { dir, fixture, forged }
}

impl Scene {
    fn inventory(&self) -> Inventory {
        inventory(&self.forged.disks).unwrap()
    }

    fn write(&self, disk: usize, sector: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.forged.disks[disk]).unwrap();
        file.write_all_at(bytes, sector * 512).unwrap();
    }

    fn read(&self, disk: usize, sector: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        fs::File::open(&self.forged.disks[disk]).unwrap().read_exact_at(&mut bytes, sector * 512).unwrap();
        bytes
    }

    fn cut(&self, disk: usize, sectors: u64) {
        OpenOptions::new().write(true).open(&self.forged.disks[disk]).unwrap().set_len(sectors * 512).unwrap();
    }

    /// Start and length of partition 3.
    fn data_partition(&self, disk: usize) -> (u64, u64) {
        let found = inventory(&self.forged.disks[disk..=disk]).unwrap();
        let partition = &found.disks[0].partitions[2];
        (partition.start.0, partition.length.0)
    }

    /// Changes the superblock of partition 3.
    fn change_member(&self, disk: usize, change: impl FnOnce(&mut Superblock)) {
        let (start, length) = self.data_partition(disk);
        let sector = start + place_1_0(Sectors(length)).unwrap().0;
        let mut block = Superblock::decode(&self.read(disk, sector, 4096)).unwrap();
        change(&mut block);
        self.write(disk, sector, &block.encode());
    }

    /// The parts of the pool read through the views equal the genuine images.
    fn check_parts(&self, found: &Inventory) {
        let loose = self.fixture.unpack(&self.dir.path().join("loose")).unwrap();
        let pool = pool(found);
        let parts = [(pool.metadata.clone(), "tmeta.img".to_owned())].into_iter();
        let tiers = pool
            .tiers
            .iter()
            .enumerate()
            .map(|(number, tier)| (tier.clone().unwrap(), format!("tierdata_{number}.img")));
        for (part, image) in parts.chain(tiers) {
            let view = volume::view(found, 0, &part).unwrap();
            let mut bytes = vec![0; view.size().0 as usize];
            view.read_at(Bytes(0), &mut bytes).unwrap();
            assert!(bytes == fs::read(&loose[&image]).unwrap(), "{part} differs from {image}");
        }
    }
}

fn pool(found: &Inventory) -> PoolVolume {
    let (_, volume) = volume::find(found, "vg1/tp1").unwrap();
    match &volume.kind {
        LogicalVolumeKind::Pool(pool) => pool.clone(),
        other => panic!("{other:?}"),
    }
}

fn all_notes(found: &Inventory) -> String {
    let arrays = found.arrays.iter().flat_map(|array| array.notes.clone());
    let groups = found.volume_groups.iter().flat_map(|group| group.notes.clone());
    found.notes.iter().cloned().chain(arrays).chain(groups).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_qnap_disk_is_read_down_to_its_volumes() {
    let scene = scene("F1-plain-ext4", &ForgeOptions::default());
    let found = scene.inventory();
    assert_eq!((found.disks[0].table.as_str(), found.disks[0].partitions.len()), ("gpt", 5));
    assert_eq!(found.disks[0].partitions[2].content, "md member of array 1 (raid1, role 0)");
    assert_eq!(found.disks[0].partitions[0].content, "md member of array 9 (raid1, role 0, QNAP system mirror)");
    let names: Vec<(&str, bool)> = found.arrays.iter().map(|array| (array.name.as_str(), array.system)).collect();
    assert_eq!(names, [("1", false), ("9", true), ("13", true), ("256", true), ("322", true)]);
    assert_eq!((found.volume_groups.len(), found.volume_groups[0].seqno), (1, 278));
    assert_eq!(found.notes, Vec::<String>::new());
    assert_eq!(found.volume_groups[0].notes, Vec::<String>::new());
    scene.check_parts(&found);
    let (_, volume) = volume::find(&found, "lv1").unwrap();
    assert_eq!(volume.size, Sectors(scene.forged.volumes[0].sectors));
}

#[test]
fn every_shape_of_a_group_gives_the_genuine_images() {
    let shapes = [
        ("F3-3tiers", ForgeOptions { array_per_tier: true, split: true, drbd: true, wrap: true, ..compact() }),
        ("F3-3tiers", ForgeOptions { tier_keys: TierKeys::None, mode_keys: false, ..compact() }),
        ("F3-3tiers", ForgeOptions { extent_sectors: 64, pe_start: 3072, split: true, ..compact() }),
        ("F4-thick-clone", ForgeOptions { absent_tier: AbsentTier::Placeholder, mirror: Mirror::Both, ..compact() }),
        ("F6a-data-full", ForgeOptions { tier_keys: TierKeys::Section, mirror: Mirror::Half, ..compact() }),
        ("F6a-data-full", ForgeOptions { tier_keys: TierKeys::List, drbd: true, ..compact() }),
        ("F5-v2-4k", compact()),
    ];
    for (name, options) in shapes {
        let scene = scene(name, &options);
        let found = scene.inventory();
        assert!(found.notes.is_empty() && found.volume_groups[0].notes.is_empty(), "{name}: {}", all_notes(&found));
        scene.check_parts(&found);
        let table = scene.fixture.pool_table().unwrap();
        let pool = pool(&found);
        assert_eq!(
            (pool.enable_map, pool.bypass),
            (Some(table.enable_map), Some(!table.bypass_off)),
            "{name} {options:?}"
        );
        assert_eq!(pool.chunk_size, Some(Sectors(table.chunk_size)));
    }
}

/// SHA-256 of a thin device, read through every layer from the whole disk on.
fn device_hash(found: &Inventory, device: u64, sectors: u64) -> String {
    let parts = pool(found);
    let opened = Pool::open(volume::view(found, 0, &parts.metadata).unwrap()).unwrap();
    let tiers = (0u8..)
        .zip(&parts.tiers)
        .map(|(number, tier)| (number, volume::view(found, 0, tier.as_deref().unwrap()).unwrap()));
    let size = Some(Bytes(sectors * 512));
    let reader = ThinReader::new(&opened, tiers.collect(), DeviceId(device), opened.stat().mode.mode, size).unwrap();
    let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 20]);
    let mut offset = 0;
    while offset < reader.size().0 {
        let count = (reader.size().0 - offset).min(block.len() as u64) as usize;
        reader.read_at(Bytes(offset), &mut block[..count]).unwrap();
        hasher.update(&block[..count]);
        offset += count as u64;
    }
    hex(&hasher.finalize())
}

#[test]
fn every_device_of_every_healthy_pool_has_its_true_hash() {
    for name in Fixture::HEALTHY {
        let scene = scene(name, &ForgeOptions { array_per_tier: true, split: true, drbd: true, ..compact() });
        let found = scene.inventory();
        for volume in &scene.forged.volumes {
            let truth = &scene.fixture.truth[&volume.device];
            let (_, listed) = volume::find(&found, &volume.name).unwrap();
            assert_eq!(listed.size, Sectors(truth.sectors));
            assert_eq!(
                device_hash(&found, volume.device, truth.sectors),
                truth.sha256,
                "{name} device {}",
                volume.device
            );
        }
    }
}

#[test]
fn places_on_disks_are_where_the_forge_put_them() {
    let scene =
        scene("F3-3tiers", &ForgeOptions { array_per_tier: true, split: true, mirror: Mirror::Both, ..compact() });
    let found = scene.inventory();
    for placed in &scene.forged.placed {
        let pieces = volume::stretches_on_disks(&found, 0, &placed.name).unwrap();
        assert_eq!(pieces.len(), placed.pieces.len(), "{}", placed.name);
        for ((length, target), piece) in pieces.iter().zip(&placed.pieces) {
            let DiskTarget::Place(place) = target else { panic!("{target:?}") };
            assert_eq!((length.0, place.sector.0), (piece.sectors, piece.partition_sector));
            assert_eq!(place.partition.disk / 2, piece.array);
            assert_eq!(place.partition.start.0 + place.sector.0, piece.disk_sector);
            let member = &found.arrays[place.array.unwrap()];
            assert_eq!(member.members[member.usable_member.unwrap()].place, place.partition);
        }
    }
}

#[test]
fn the_backup_table_serves_when_the_first_is_gone() {
    let scene = scene("F6a-data-full", &compact());
    scene.write(0, 0, &[0; 34 * 512]);
    let found = scene.inventory();
    assert_eq!(found.disks[0].table, "gpt (backup)");
    assert!(all_notes(&found).contains("its copy at the end is used"));
    scene.check_parts(&found);
}

#[test]
fn an_image_cut_short_still_gives_what_it_holds() {
    let scene = scene("F6a-data-full", &compact());
    let (start, length) = scene.data_partition(0);
    scene.cut(0, start + length - 40);
    let found = scene.inventory();
    let notes = all_notes(&found);
    assert!(notes.contains("cut short") && notes.contains("partition 3 ends"), "{notes}");
    assert!(found.disks[0].partitions[2].content.starts_with("LVM physical volume"), "its superblock is lost");
    scene.check_parts(&found);
    let tiers = scene.forged.placed.iter().find(|placed| placed.name == "tp1_tierdata_2").unwrap();
    scene.cut(0, tiers.pieces[0].disk_sector + 8);
    let view = volume::view(&scene.inventory(), 0, "tp1_tierdata_2").unwrap();
    assert!(view.read_at(Bytes(0), &mut [0; 4096]).is_ok());
    assert!(view.read_at(Bytes(4096), &mut [0; 512]).is_err(), "what is cut off is an error, never zeros");
}

#[test]
fn partitions_arrays_and_padded_images_come_alone_too() {
    let scene = scene("F6a-data-full", &compact());
    let (start, length) = scene.data_partition(0);
    let partition = scene.read(0, start, length as usize * 512);
    let image = scene.dir.path().join("p3.img");
    let mut padded = partition.clone();
    padded.resize(partition.len() + 70_000, 0);
    let flat = &partition[..partition.len() - (264 + 16) * 512];
    for (bytes, content) in [
        (&partition[..], "md member of array 1 (raid1, role 0)"),
        (&padded[..], "md member of array 1 (raid1, role 0)"),
        (flat, "LVM physical volume"),
    ] {
        fs::write(&image, bytes).unwrap();
        let found = inventory(std::slice::from_ref(&image)).unwrap();
        assert_eq!(found.disks[0].table, "none");
        assert!(found.disks[0].content.as_deref().unwrap().starts_with(content), "{:?}", found.disks[0].content);
        assert_eq!(all_notes(&found).contains("longer than the partition was"), bytes.len() == padded.len());
        scene.check_parts(&found);
    }
}

#[test]
fn a_stale_half_is_never_read() {
    let scene = scene("F6a-data-full", &ForgeOptions { mirror: Mirror::Both, ..compact() });
    // The first disk dropped out; the second went on without it, with QNAP's frozen event counter.
    scene.change_member(1, |block| {
        block.updated += 86_400;
        block.roles = vec![Role::Faulty, Role::Active(1)];
    });
    scene.write(0, scene.data_partition(0).0 + 8, &[0; 512]);
    let found = scene.inventory();
    let array = &found.arrays[0];
    let used = &array.members[array.usable_member.unwrap()];
    assert_eq!((array.members.len(), used.place.disk), (2, 1));
    assert!(array.members[0].verdict.starts_with("stale: another member ran on without it"));
    assert!(all_notes(&found).contains("a stale half of this mirror is left out"));
    scene.check_parts(&found);
}

#[test]
fn the_newest_text_wins_and_disagreement_is_told() {
    let scene = scene("F3-3tiers", &ForgeOptions { array_per_tier: true, ..compact() });
    // The first disk missed the last change of the group: its area commits to the copy before.
    let area = scene.data_partition(0).0 + 8;
    let mut header = tierlift_ondisk::lvm_area::AreaHeader::decode(&scene.read(0, area, 512)).unwrap();
    let older = scene.read(0, area + 1, 16 << 10);
    let size = older.iter().position(|byte| *byte == 0).unwrap() + 1;
    let checksum = tierlift_ondisk::lvm_crc::lvm_crc(&older[..size]);
    let location =
        tierlift_ondisk::lvm_area::Location { offset: Bytes(512), size: Bytes(size as u64), checksum, flags: 0 };
    header.committed = Some(location);
    scene.write(0, area, &header.encode());
    let found = scene.inventory();
    assert_eq!((found.volume_groups.len(), found.volume_groups[0].seqno), (1, 278));
    assert!(all_notes(&found).contains("physical volumes disagree"), "{}", all_notes(&found));
    scene.check_parts(&found);
}

#[test]
fn one_broken_text_or_label_is_replaced_by_a_better() {
    let scene = scene("F3-3tiers", &ForgeOptions { array_per_tier: true, ..compact() });
    let start = scene.data_partition(0).0;
    scene.write(0, start + 9, &[b'#'; 20 << 10]);
    let mut label = scene.read(0, start + 1, 512);
    label[300] ^= 1;
    scene.write(0, start + 1, &label);
    let found = scene.inventory();
    let notes = all_notes(&found);
    assert!(notes.contains("the label is damaged") && notes.contains("metadata area at byte 4096"), "{notes}");
    scene.check_parts(&found);
}

#[test]
fn a_missing_disk_is_named_and_its_part_is_an_error() {
    let scene = scene("F3-3tiers", &ForgeOptions { array_per_tier: true, ..compact() });
    let found = inventory(&scene.forged.disks[..2]).unwrap();
    assert!(
        all_notes(&found).contains("last seen as /dev/md3) was not found: attach its disks"),
        "{}",
        all_notes(&found)
    );
    let view = volume::view(&found, 0, "tp1_tierdata_1").unwrap();
    assert!(view.read_at(Bytes(0), &mut [0; 512]).is_err());
    assert!(volume::view(&found, 0, "tp1_tierdata_0").unwrap().read_at(Bytes(0), &mut [0; 512]).is_ok());
}

#[test]
fn wrong_files_are_told_and_stop_nothing() {
    let scene = scene("F6a-data-full", &compact());
    let odd = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = scene.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let noise: Vec<u8> = (0u32..1 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut paths = vec![odd("empty", b""), odd("noise", &noise), scene.dir.path().to_owned(), "/no/such/disk".into()];
    paths.push(scene.forged.disks[0].clone());
    paths.push(scene.forged.disks[0].clone());
    let found = inventory(&paths).unwrap();
    let content = |disk: usize| found.disks[disk].content.clone().unwrap();
    assert!(content(0).starts_with("empty") && content(1) == "nothing known", "{} {}", content(0), content(1));
    assert!(content(2).contains("is a directory") && content(3).contains("cannot be opened"));
    assert_eq!(found.disks.len(), 5);
    scene.check_parts(&found);
    assert!(inventory(&[Path::new("/no/such/disk").into()]).is_err());
    assert!(inventory(&[]).is_err());
}

/// Bytes that are not random but look so.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn any_damage_to_any_structure_is_survived() {
    let scene =
        scene("F6a-data-full", &ForgeOptions { array_per_tier: true, drbd: true, mirror: Mirror::Both, ..compact() });
    let (start, length) = scene.data_partition(0);
    let md = start + place_1_0(Sectors(length)).unwrap().0;
    let last = fs::metadata(&scene.forged.disks[0]).unwrap().len() / 512 - 1;
    // Table and its copy, md superblock, DRBD and bad-block log, label, area header, text.
    let places = [0, 1, 2, last - 32, last, md, md - 8, start, start + 1, start + 8, start + 9, start + 12, start + 18];
    for seed in 0..260u64 {
        let disk = (seed % 2) as usize;
        let sector = places[seed as usize % places.len()];
        let sound = scene.read(disk, sector, 512);
        let mut broken = sound.clone();
        let random = noise(seed * 77 + 3, 512);
        match seed % 3 {
            0 => broken.copy_from_slice(&random),
            1 => random.chunks(3).take(4).for_each(|r| broken[usize::from(r[0]) * 2 + usize::from(r[1] & 1)] = r[2]),
            _ => random.chunks(2).take(2).for_each(|r| broken[usize::from(r[0]) * 2] ^= 1 << (r[1] & 7)),
        }
        scene.write(disk, sector, &broken);
        let found = scene.inventory();
        for (index, group) in found.volume_groups.iter().enumerate() {
            for volume in &group.logical_volumes {
                if let Ok(view) = volume::view(&found, index, &volume.name) {
                    let _ = view.read_at(Bytes(0), &mut [0; 512]);
                }
            }
        }
        // The other disk has everything: one broken sector never takes anything away.
        assert!(volume::view(&found, 0, "tp1_tmeta").is_ok(), "seed {seed}");
        assert_eq!(found.volume_groups.len(), 1, "seed {seed}: {}", all_notes(&found));
        scene.write(disk, sector, &sound);
    }
}
