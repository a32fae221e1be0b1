//! mdadm against the inventory, member by member.

use super::{Said, run, small};
use std::path::{Path, PathBuf};
use tierlift::discover::inventory;
use tierlift::inventory::{Array, Assembly, Member};
use tierlift_forge::{Forged, Raid, mishaps};

/// Level, members, chunk in sectors, layout, mdadm's names for them.
const SHAPES: [(Raid, &str, &str); 14] = [
    (shape(-1, 2, 0, 0), "linear", ""),
    (shape(0, 3, 1024, 0), "raid0", ""),
    (shape(0, 2, 128, 0), "raid0", ""),
    (shape(1, 2, 0, 0), "raid1", ""),
    (shape(4, 3, 1024, 0), "raid4", ""),
    (shape(5, 4, 1024, 2), "raid5", "left-symmetric"),
    (shape(5, 3, 128, 0), "raid5", "left-asymmetric"),
    (shape(5, 3, 128, 1), "raid5", "right-asymmetric"),
    (shape(5, 5, 8, 3), "raid5", "right-symmetric"),
    (shape(6, 5, 1024, 2), "raid6", "left-symmetric"),
    (shape(6, 4, 128, 1), "raid6", "right-asymmetric"),
    (shape(10, 4, 1024, 0x102), "raid10", "near=2"),
    (shape(10, 3, 128, 0x102), "raid10", "near=2"),
    (shape(10, 6, 128, 0x103), "raid10", "near=3"),
];

const fn shape(level: i32, disks: usize, chunk: u64, layout: u32) -> Raid {
    Raid { level, disks, chunk, layout }
}

#[test]
fn mdadm_agrees_on_version_1_0() {
    for (raid, level, layout) in SHAPES {
        let (dir, forged) = small(raid);
        let members = alone(&forged, dir.path());
        let array = array_of(&members);
        for (role, path) in members.iter().enumerate() {
            let said = run("mdadm", &["--examine"], path);
            newer(&said, &array, role, "1.0");
            common(&said, &array, raid, (level, layout));
            let place = said.value("Super Offset", " : ").unwrap();
            let length = std::fs::metadata(path).unwrap().len() / 512;
            let ours = tierlift_ondisk::md::place_1_0(tierlift_ondisk::units::Sectors(length)).unwrap();
            assert_eq!(place, format!("{ours} sectors"), "{}", said.text);
            exported(path, &array, role, level);
        }
    }
}

#[test]
fn mdadm_agrees_on_superblocks_in_front() {
    for (raid, level, layout) in SHAPES.into_iter().filter(|(raid, ..)| raid.level > 1) {
        for (version, sector) in [("1.1", 0), ("1.2", 8)] {
            let (dir, forged) = small(raid);
            let disks = forged.arrays[0].disks.iter();
            let members: Vec<PathBuf> = disks
                .map(|disk| {
                    let path = dir.path().join(format!("front{disk}.img"));
                    mishaps::with_superblock_in_front(&forged, *disk, sector, &path).unwrap()
                })
                .collect();
            let array = array_of(&members);
            for (role, path) in members.iter().enumerate() {
                let said = run("mdadm", &["--examine"], path);
                newer(&said, &array, role, version);
                common(&said, &array, raid, (level, layout));
                let offset = format!("{} sectors", member(&array, role).data_offset);
                assert_eq!(said.value("Data Offset", " : "), Some(offset.as_str()), "{}", said.text);
            }
        }
    }
}

#[test]
fn mdadm_agrees_on_version_0_90() {
    // Near copies came after it.
    for (raid, level, layout) in SHAPES.into_iter().filter(|(raid, ..)| raid.level != 10) {
        let (dir, forged) = small(raid);
        mishaps::rewrite_0_90(&forged, 0).unwrap();
        let members = alone(&forged, dir.path());
        let array = array_of(&members);
        for (role, path) in members.iter().enumerate() {
            let said = run("mdadm", &["--examine"], path);
            assert_eq!(said.value("Version", " : "), Some("0.90.00"), "{}", said.text);
            // Behind it there may be a remark.
            let uuid = said.value("UUID", " : ").and_then(|uuid| uuid.split(' ').next());
            assert_eq!(uuid, Some(array.uuid.as_str()), "{}", said.text);
            let this = said.text.lines().find(|line| line.starts_with("this")).unwrap();
            let words: Vec<&str> = this.split_whitespace().collect();
            assert_eq!((words[1], words[4]), (role.to_string().as_str(), role.to_string().as_str()), "{}", said.text);
            assert_eq!(member(&array, role).role, Some(role as u32));
            common(&said, &array, raid, (level, layout));
        }
    }
}

/// QNAP's rescue role, a stale member, a member being rebuilt: what mdadm says of each is what we read.
#[test]
fn mdadm_agrees_on_members_with_a_history() {
    let (dir, forged) = small(Raid::new(6, 5));
    mishaps::leave(&forged, 1, mishaps::Departure::Told).unwrap();
    mishaps::rebuilding(&forged, 2, 4096).unwrap();
    mishaps::bad_blocks(&forged, 3, &[(2048, 8), (4096, 16)]).unwrap();
    let members = alone(&forged, dir.path());
    let array = array_of(&members);
    for (role, path) in members.iter().enumerate() {
        let said = run("mdadm", &["--examine"], path);
        let ours = member(&array, role);
        assert_eq!(said.value("Events", " : "), Some(ours.events.to_string().as_str()), "{}", said.text);
        assert!(said.value("Checksum", " : ").unwrap().ends_with("- correct"), "{}", said.text);
        let recovery = said.value("Recovery Offset", " : ").map(str::to_owned);
        let rebuilt = ours.rebuilt_to.map(|end| format!("{end} sectors"));
        assert_eq!(recovery, rebuilt, "{}", said.text);
        let log = said.value("Bad Block Log", " : ").unwrap();
        assert_eq!(log.contains("bad blocks present"), !ours.bad_blocks.is_empty(), "{}", said.text);
        let state = said.value("Array State", " : ").unwrap();
        assert_eq!(state.chars().nth(1), Some(if role == 1 { 'A' } else { '.' }), "{}", said.text);
    }
    assert!(member(&array, 1).verdict.contains("stale"), "{}", member(&array, 1).verdict);
    let listed = run("mdadm", &["--examine-badblocks"], &members[3]);
    for (range, line) in member(&array, 3).bad_blocks.iter().zip(["2048 for 8", "4096 for 16"]) {
        assert!(listed.text.contains(line), "{}", listed.text);
        assert_eq!(format!("{} for {}", range.start, range.length), line);
    }
}

/// A wrong checksum is told by both.
#[test]
fn mdadm_and_we_see_a_wrong_checksum() {
    let (dir, forged) = small(Raid::new(5, 3));
    mishaps::break_checksum(&forged, 1).unwrap();
    let members = alone(&forged, dir.path());
    let said = run("mdadm", &["--examine"], &members[1]);
    assert!(said.value("Checksum", " : ").is_some_and(|sum| sum.contains("expected")), "{}", said.text);
    assert!(array_of(&members).notes.iter().any(|note| note.contains("checksum is wrong")));
}

fn newer(said: &Said, array: &Array, role: usize, version: &str) {
    let ours = member(array, role);
    assert_eq!(said.value("Version", " : "), Some(version), "{}", said.text);
    assert_eq!(said.value("Array UUID", " : "), Some(array.uuid.as_str()), "{}", said.text);
    assert_eq!(said.value("Name", " : "), Some(array.name.as_str()), "{}", said.text);
    assert_eq!(said.value("Device Role", " : "), Some(format!("Active device {role}").as_str()), "{}", said.text);
    assert_eq!(ours.role, Some(role as u32));
    let available = said.value("Avail Dev Size", " : ").and_then(|size| size.split(' ').next());
    assert_eq!(available, Some(ours.data_size.to_string().as_str()), "{}", said.text);
}

/// What all versions have.
fn common(said: &Said, array: &Array, raid: Raid, (level, layout): (&str, &str)) {
    let assembly = array.assembly.as_ref().unwrap_or_else(|| panic!("not assembled: {:?}", array.notes));
    assert_eq!(said.value("Raid Level", " : "), Some(level), "{}", said.text);
    assert_eq!(array.level, level);
    assert_eq!(said.value("Raid Devices", " : "), Some(array.raid_disks.to_string().as_str()));
    assert!(said.value("Checksum", " : ").unwrap().ends_with("- correct"), "{}", said.text);
    assert_eq!(said.value("Events", " : "), Some(array.members[0].events.to_string().as_str()), "{}", said.text);
    assert_eq!(said.value("State", " : "), Some("clean"), "{}", said.text);
    assert_eq!(said.value("Layout", " : ").unwrap_or_default(), layout, "{}", said.text);
    assert_eq!((assembly.level, assembly.layout), (raid.level, raid.layout.max(default_layout(assembly))));
    if raid.chunk > 0 {
        let chunk = format!("{}K", assembly.chunk.0 / 2);
        assert_eq!(said.value("Chunk Size", " : "), Some(chunk.as_str()), "{}", said.text);
    }
    if let Some(size) = said.value("Array Size", " : ").and_then(|size| size.split(' ').next()) {
        assert_eq!(size, (array.size.0 / 2).to_string(), "{}", said.text);
    } else {
        assert!(raid.level <= 0, "{}", said.text);
    }
}

/// RAID 0 without a recorded order is read in today's.
fn default_layout(assembly: &Assembly) -> u32 {
    if assembly.level == 0 { assembly.layout } else { 0 }
}

fn exported(path: &Path, array: &Array, role: usize, level: &str) {
    let said = run("mdadm", &["--examine", "--export"], path);
    let ours = member(array, role);
    for (key, value) in [
        ("MD_LEVEL", level.to_owned()),
        ("MD_DEVICES", array.raid_disks.to_string()),
        ("MD_UUID", array.uuid.clone()),
        ("MD_UPDATE_TIME", ours.update_time.to_string()),
        ("MD_EVENTS", ours.events.to_string()),
    ] {
        assert_eq!(said.value(key, "="), Some(value.as_str()), "{}", said.text);
    }
}

/// The data partition of each disk as a file of its own.
fn alone(forged: &Forged, folder: &Path) -> Vec<PathBuf> {
    let disks = forged.arrays[0].disks.iter();
    disks
        .map(|disk| mishaps::partition_alone(forged, *disk, &folder.join(format!("member{disk}.img"))).unwrap())
        .collect()
}

fn array_of(members: &[PathBuf]) -> Array {
    let found = inventory(members).unwrap();
    assert_eq!(found.arrays.len(), 1, "{:?}", found.notes);
    found.arrays[0].clone()
}

/// The member in the file of this number.
fn member(array: &Array, file: usize) -> &Member {
    array.members.iter().find(|member| member.place.disk == file).unwrap()
}
