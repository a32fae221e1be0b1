//! What the forge writes, the decoders read: every layer of a forged disk, and the pool's bytes at their places.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tierlift_forge::{AbsentTier, Fixture, ForgeOptions, Forged, Mirror, Raid, TierKeys, forge_disks};
use tierlift_ondisk::lvm_area::{AreaHeader, ring_stretches};
use tierlift_ondisk::lvm_crc::lvm_crc;
use tierlift_ondisk::lvm_label::Label;
use tierlift_ondisk::md::{Role, Superblock, place_1_0};
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::{drbd, gpt, mbr};

fn read(path: &Path, sector: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    File::open(path).unwrap().read_exact_at(&mut buffer, sector * 512).unwrap();
    buffer
}

fn forge(name: &str, options: &ForgeOptions) -> (tempfile::TempDir, Fixture, Forged) {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::named(name).unwrap();
    let forged = forge_disks(&fixture, options, dir.path()).unwrap();
    (dir, fixture, forged)
}

fn partitions(disk: &Path) -> Vec<gpt::Entry> {
    let header = gpt::Header::decode(&read(disk, 1, 512)).unwrap();
    header.decode_entries(&read(disk, header.entries_lba, header.entries_bytes())).unwrap()
}

/// The committed text of partition 3.
fn text(disk: &Path) -> String {
    let start = partitions(disk)[2].first;
    let area = AreaHeader::decode(&read(disk, start + 8, 512)).unwrap();
    let at = area.committed.unwrap();
    assert!(area.checksum_ok);
    let mut bytes = Vec::new();
    for (offset, length) in ring_stretches(area.size, at.offset, at.size).unwrap() {
        assert_eq!(offset.0 % 512, 0);
        bytes.extend(read(disk, start + 8 + offset.0 / 512, length.0 as usize));
    }
    assert_eq!(lvm_crc(&bytes), at.checksum);
    assert_eq!(bytes.pop(), Some(0));
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_disk_has_qnaps_partitions_and_both_tables() {
    let (_dir, _, forged) = forge("F1-plain-ext4", &ForgeOptions::default());
    let disk = &forged.disks[0];
    let starts: Vec<u64> = partitions(disk).iter().map(|entry| entry.first).collect();
    assert_eq!(starts[..3], [40, 1_060_296, 2_120_584]);
    assert_eq!(starts.len(), 5);
    let last = fs::metadata(disk).unwrap().len() / 512 - 1;
    let backup = gpt::Header::decode(&read(disk, last, 512)).unwrap();
    assert_eq!((backup.own_lba, backup.other_lba), (last, 1));
    assert_eq!(
        backup.decode_entries(&read(disk, backup.entries_lba, backup.entries_bytes())).unwrap(),
        partitions(disk)
    );
    assert_eq!(mbr::decode(&read(disk, 0, 512)).unwrap()[0].kind, mbr::PROTECTIVE);
}

#[test]
fn every_partition_is_a_member_of_its_mirror() {
    let options = ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() };
    let (_dir, _, forged) = forge("F1-plain-ext4", &options);
    let disk = &forged.disks[0];
    let mut names = Vec::new();
    for part in partitions(disk) {
        let place = place_1_0(Sectors(part.last - part.first + 1)).unwrap();
        let block = Superblock::decode(&read(disk, part.first + place.0, 4096)).unwrap();
        assert!(block.checksum_ok && block.super_offset == place && block.role() == Role::Active(0));
        assert!(read(disk, part.first + place.0 - 8, 4096).iter().all(|byte| *byte == 0xff));
        names.push((block.name, block.raid_disks));
    }
    let expected = [("9", 24), ("256", 2), ("1", 2), ("13", 24), ("322", 2)];
    assert_eq!(names, expected.map(|(name, disks)| (name.to_owned(), disks)));
}

#[test]
fn the_pools_bytes_lie_where_the_forge_says() {
    let options = ForgeOptions { array_per_tier: true, split: true, drbd: true, compact: true, ..Default::default() };
    let (dir, fixture, forged) = forge("F3-3tiers", &options);
    let loose = fixture.unpack(&dir.path().join("loose")).unwrap();
    for (volume, image) in
        [("tp1_tmeta", "tmeta.img"), ("tp1_tierdata_0", "tierdata_0.img"), ("tp1_tierdata_2", "tierdata_2.img")]
    {
        let placed = forged.placed.iter().find(|placed| placed.name == volume).unwrap();
        assert_eq!(placed.pieces.len(), 2, "{volume} is split");
        let bytes: Vec<u8> = placed
            .pieces
            .iter()
            .flat_map(|piece| read(&forged.disks[piece.array], piece.disk_sector, piece.sectors as usize * 512))
            .collect();
        assert!(bytes == fs::read(&loose[image]).unwrap(), "{volume} differs from {image}");
    }
}

#[test]
fn labels_texts_and_drbd_tails_are_sound() {
    let options = ForgeOptions { array_per_tier: true, drbd: true, wrap: true, compact: true, ..Default::default() };
    let (_dir, _, forged) = forge("F3-3tiers", &options);
    let first = text(&forged.disks[0]);
    for disk in &forged.disks {
        let part = &partitions(disk)[2];
        let label = Label::decode(&read(disk, part.first + 1, 512)).unwrap();
        assert!(label.checksum_ok && first.contains(&label.id));
        let place = place_1_0(Sectors(part.last - part.first + 1)).unwrap();
        let md = Superblock::decode(&read(disk, part.first + place.0, 4096)).unwrap();
        let tail = drbd::Tail::decode(&read(disk, part.first + drbd::place(md.size).unwrap().0, 4096)).unwrap();
        assert_eq!(tail.data_size.0 * 512, label.device_size.0);
        assert_eq!(text(disk), first);
        let area = AreaHeader::decode(&read(disk, part.first + 8, 512)).unwrap();
        let at = area.committed.unwrap();
        assert!(at.offset.0 + at.size.0 > area.size.0, "the text wraps");
    }
}

#[test]
fn each_spelling_of_the_tiers_is_written() {
    for (tier_keys, sign) in [
        (TierKeys::Pool, "pool1 = \"tp1_tierdata_1\""),
        (TierKeys::List, "tiers = [\"tp1_tierdata_0\""),
        (TierKeys::Numbered, "tier2 = \"tp1_tierdata_2\""),
        (TierKeys::Section, "tier0 {\npool = \"tp1_tierdata_0\""),
    ] {
        let (_dir, _, forged) =
            forge("F6a-data-full", &ForgeOptions { tier_keys, compact: true, ..Default::default() });
        assert!(text(&forged.disks[0]).contains(sign), "{tier_keys:?}");
    }
    let options = ForgeOptions { tier_keys: TierKeys::None, mode_keys: false, compact: true, ..Default::default() };
    let (_dir, _, forged) = forge("F6a-data-full", &options);
    let text = text(&forged.disks[0]);
    assert!(!text.contains("tierdata_0\"") && !text.contains("enable_map") && text.contains("tp1_tierdata_0 {"));
}

#[test]
fn absent_tiers_take_extents_only_as_placeholders() {
    let lies = |absent_tier| {
        let (_dir, _, forged) =
            forge("F6a-data-full", &ForgeOptions { absent_tier, compact: true, ..ForgeOptions::default() });
        forged.placed.iter().any(|placed| placed.name == "tp1_tierdata_0")
    };
    assert!(!lies(AbsentTier::Zero) && lies(AbsentTier::Placeholder));
}

#[test]
fn a_plain_pool_and_a_thick_volume_are_called_so() {
    let options = ForgeOptions { compact: true, ..ForgeOptions::default() };
    let (_dir, _, forged) = forge("F5-v2-4k", &options);
    let plain = text(&forged.disks[0]);
    assert!(plain.contains("type = \"thin-pool\"") && plain.contains("pool = \"tp1_tdata\""));
    let (_dir, _, forged) = forge("F4-thick-clone", &options);
    assert!(text(&forged.disks[0]).contains("type = \"thick\""));
}

#[test]
fn the_same_seed_makes_the_same_disk() {
    let options = ForgeOptions { compact: true, ..ForgeOptions::default() };
    let disk = || {
        let (_dir, _, forged) = forge("F6a-data-full", &options);
        fs::read(&forged.disks[0]).unwrap()
    };
    assert!(disk() == disk());
}

/// Every sector of the array is on some member, and every row's members sum up to nothing.
#[test]
fn parity_is_the_sum_of_all_data() {
    for layout in 0..4 {
        let options =
            ForgeOptions { raid: Some(Raid { layout, ..Raid::new(5, 3) }), compact: true, ..ForgeOptions::default() };
        let (_dir, _, forged) = forge("F6a-data-full", &options);
        let array = &forged.arrays[0];
        let component = array.sectors / 2;
        for sector in (0..component).step_by(1024) {
            let mut sum = vec![0u8; 1024 * 512];
            for disk in &array.disks {
                let bytes = read(&forged.disks[*disk], array.partition.0 + sector, sum.len());
                sum.iter_mut().zip(bytes).for_each(|(to, from)| *to ^= from);
            }
            assert!(sum.iter().all(|byte| *byte == 0), "layout {layout}, sector {sector}");
        }
    }
}
