//! Disks that are no QNAP's, or no disks at all: named for what they are, and left alone.

use crate::row::{Disks::Nas, ROW, Row, Set};
use tierlift_forge::Dice;
use tierlift_forge::mishaps::{put, put_from_end, wipe};
use tierlift_ondisk::mbr;
use tierlift_ondisk::md::{Legacy, Role, Superblock, place_0_90};
use tierlift_ondisk::md_legacy::LegacyDisk;
use tierlift_ondisk::units::Sectors;

const NONE: Row = Row { exit: 4, whole_pools: 0, ..ROW };
const NOTHING: &str = "nothing of a QNAP storage pool was found";
/// Bytes of the disks made here.
const SIZE: usize = 4 << 20;
const NTFS: (usize, &[u8]) = (3, b"NTFS    ");
const EXT: (usize, &[u8]) = (1080, &[0x53, 0xef]);
const FAT32: (usize, &[u8]) = (82, b"FAT32   ");

/// A disk of zeros with these bytes in it.
fn disk(marks: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (at, mark) in marks {
        bytes[*at..at + mark.len()].copy_from_slice(mark);
    }
    bytes
}

fn add_disk(set: &mut Set, marks: &[(usize, &[u8])]) -> anyhow::Result<()> {
    set.add_file("sdx.img", &disk(marks));
    Ok(())
}

/// A disk with an MBR: partitions of a MiB each with these bytes in them.
fn partitioned(kinds: &[u8], marks: &[(usize, &[u8])]) -> Vec<u8> {
    let entries: Vec<mbr::Entry> = (1u32..)
        .zip(kinds)
        .map(|(number, kind)| mbr::Entry { number, kind: *kind, start: number * 2048 - 1024, length: 2048 })
        .collect();
    let mut bytes = disk(&[(0, &mbr::encode(&entries))]);
    for (index, (at, mark)) in marks.iter().enumerate() {
        let start = (1024 + index * 2048) * 512 + at;
        bytes[start..start + mark.len()].copy_from_slice(mark);
    }
    bytes
}

fn noise() -> Vec<u8> {
    let mut dice = Dice::new(4);
    (0..SIZE / 8).flat_map(|_| dice.roll().to_le_bytes()).collect()
}

/// Two system partitions under md 0.90, and a data partition under md 1.2 named after its host.
fn synology() -> Vec<u8> {
    let mut bytes = partitioned(&[0xfd, 0xfd, 0xfd], &[EXT, (4086, b"SWAPSPACE2")]);
    for minor in [0, 1] {
        let this_disk = LegacyDisk { state: 6, ..LegacyDisk::default() };
        let legacy = Legacy {
            version: 90,
            array_uuid: [7 + minor as u8; 16],
            level: 1,
            size: 896,
            nr_disks: 1,
            raid_disks: 12,
            minor,
            updated: 1_650_000_000,
            state: 1,
            events: 99,
            disks: vec![this_disk],
            this_disk,
            ..Legacy::default()
        };
        let at = (1024 + minor as usize * 2048 + place_0_90(Sectors(2048)).unwrap().0 as usize) * 512;
        bytes[at..at + 4096].copy_from_slice(&legacy.encode());
    }
    let block = Superblock {
        array_uuid: [9; 16],
        name: "DiskStation:2".into(),
        level: 1,
        size: Sectors(1920),
        raid_disks: 1,
        data_offset: Sectors(128),
        data_size: Sectors(1920),
        super_offset: Sectors(8),
        device_uuid: [3; 16],
        updated: 1_650_000_000,
        events: 12,
        resync_offset: u64::MAX,
        roles: vec![Role::Active(0)],
        ..Superblock::default()
    };
    let start = (1024 + 2 * 2048) * 512;
    bytes[start + 4096..start + 8192].copy_from_slice(&block.encode());
    let data = start + 128 * 512 + 65_600;
    bytes[data..data + 8].copy_from_slice(b"_BHRfS_M");
    bytes
}

/// A QNAP disk whose data partition holds this instead.
fn data_partition(set: &mut Set, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
    let (start, length) = set.forged.arrays[0].partition;
    wipe(&set.paths[0], start * 512, length * 512)?;
    put(&set.paths[0], start * 512 + at, bytes)
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "empty file",
        mishap: |set| Ok(drop(set.add_file("empty.img", b""))),
        says: &[NOTHING, "empty: nothing to recover here; was the copy finished?"],
        ..NONE
    },
    Row { name: "disk of zeros", mishap: |set| add_disk(set, &[]), says: &[NOTHING, "zeros (at its start)"], ..NONE },
    Row {
        name: "disk of random bytes",
        mishap: |set| Ok(drop(set.add_file("noise.img", &noise()))),
        says: &[NOTHING, "nothing known"],
        ..NONE
    },
    Row {
        name: "Synology disk",
        mishap: |set| Ok(drop(set.add_file("synology.img", &synology()))),
        exit: 2,
        members: "u----------- u----------- u",
        says: &[
            "DiskStation:2",
            "superblock version 1.2 (QNAP writes 1.0)",
            "another maker's NAS",
            "Btrfs file system",
        ],
        ..NONE
    },
    Row {
        name: "leftover of a RAID controller with DDF",
        mishap: |set| {
            let path = set.add_file("ddf.img", &noise());
            put_from_end(&path, 1, &[0xde, 0x11, 0xde, 0x11])
        },
        says: &[
            NOTHING,
            "metadata of a RAID controller with DDF metadata (Dell PERC, LSI, Adaptec, HP and others) at its end",
        ],
        ..NONE
    },
    Row {
        name: "leftover of Intel's firmware RAID",
        mishap: |set| {
            let path = set.add_file("imsm.img", &partitioned(&[7], &[NTFS]));
            put_from_end(&path, 2, b"Intel Raid ISM Cfg Sig. 1.3.00")
        },
        says: &[NOTHING, "metadata of Intel's firmware RAID", "NTFS file system"],
        ..NONE
    },
    Row {
        name: "leftover of an LSI MegaRAID controller",
        mishap: |set| {
            let path = set.add_file("lsi.img", &disk(&[]));
            put_from_end(&path, 1, b"$XIDE$")
        },
        says: &[NOTHING, "metadata of an LSI MegaRAID controller"],
        ..NONE
    },
    Row {
        name: "leftover of an Adaptec HostRAID controller",
        mishap: |set| {
            let path = set.add_file("adaptec.img", &disk(&[]));
            put_from_end(&path, 1, &[&[0; 256][..], b"DPTM"].concat())
        },
        says: &[NOTHING, "metadata of an Adaptec HostRAID controller"],
        ..NONE
    },
    Row {
        name: "QNAP disk that was in a machine with Intel's firmware RAID before",
        disks: Nas(1, 1),
        mishap: |set| {
            // Behind the copy of the partition table there is room only where a disk was grown; here a MiB.
            tierlift_forge::mishaps::add_padding(&set.paths[0], 1 << 20)?;
            put_from_end(&set.paths[0], 2, b"Intel Raid ISM Cfg Sig. 1.3.00")
        },
        exit: 2,
        members: "u",
        says: &["metadata of Intel's firmware RAID", "a leftover, unless", "md member of array 1"],
        whole_pools: 1,
        ..ROW
    },
    Row {
        name: "QuTS hero disk",
        disks: Nas(1, 1),
        mishap: |set| data_partition(set, 131_072 + 5 * 1024, &0x00ba_b10c_u64.to_le_bytes()),
        says: &["ZFS: QuTS hero", "the data of this NAS are in a ZFS pool (QuTS hero)"],
        never: &["where is the data partition"],
        ..NONE
    },
    Row {
        name: "QuTS hero disk of the other byte order",
        disks: Nas(1, 1),
        mishap: |set| data_partition(set, 131_072, &0x00ba_b10c_u64.to_be_bytes()),
        says: &["ZFS: QuTS hero", "the data of this NAS are in a ZFS pool (QuTS hero)"],
        ..NONE
    },
    Row { name: "plain ext4 disk", mishap: |set| add_disk(set, &[EXT]), says: &[NOTHING, "ext file system"], ..NONE },
    Row {
        name: "plain NTFS disk",
        mishap: |set| add_disk(set, &[NTFS, (510, &[0x55, 0xaa])]),
        says: &[NOTHING, "NTFS file system (Windows)"],
        ..NONE
    },
    Row {
        name: "plain exFAT disk",
        mishap: |set| add_disk(set, &[(3, b"EXFAT   "), (510, &[0x55, 0xaa])]),
        says: &[NOTHING, "exFAT file system"],
        ..NONE
    },
    Row {
        name: "plain XFS disk",
        mishap: |set| add_disk(set, &[(0, b"XFSB")]),
        says: &[NOTHING, "XFS file system"],
        ..NONE
    },
    Row {
        name: "plain Btrfs disk",
        mishap: |set| add_disk(set, &[(65_600, b"_BHRfS_M")]),
        says: &[NOTHING, "Btrfs file system"],
        ..NONE
    },
    Row { name: "swap disk", mishap: |set| add_disk(set, &[(4086, b"SWAPSPACE2")]), says: &[NOTHING, "swap"], ..NONE },
    Row {
        name: "Windows system disk",
        mishap: |set| {
            Ok(drop(set.add_file("windows.img", &partitioned(&[7, 7, 0x0c], &[NTFS, (3, b"-FVE-FS-"), FAT32]))))
        },
        says: &[NOTHING, "partition table: mbr", "NTFS file system (Windows)", "BitLocker", "FAT32 file system"],
        ..NONE
    },
    Row {
        name: "Linux system disk with GRUB",
        mishap: |set| {
            let path = set.add_file("linux.img", &partitioned(&[0x83, 0x82], &[EXT, (4086, b"SWAPSPACE2")]));
            put(&path, 0x180, b"GRUB \0Geom\0")
        },
        says: &[NOTHING, "boots with GRUB", "ext file system", "swap"],
        ..NONE
    },
    Row {
        name: "boot medium",
        mishap: |set| add_disk(set, &[(32_769, b"CD001"), (0x180, b"GRUB ")]),
        says: &[NOTHING, "ISO 9660 image", "this appliance's own", "boots with GRUB"],
        ..NONE
    },
    Row {
        name: "a QNAP disk among strangers",
        disks: Nas(1, 1),
        mishap: |set| {
            set.add_file("noise.img", &noise());
            set.add_file("zeros.img", &disk(&[]));
            set.add_file("ntfs.img", &partitioned(&[7], &[NTFS]));
            Ok(())
        },
        members: "u",
        says: &["nothing known", "zeros (at its start)", "NTFS file system", "lv1: volume"],
        never: &["What is wrong"],
        ..ROW
    },
];
