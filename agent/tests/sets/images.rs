//! What images of disks look like: tables wiped, tails lost, padding, parts of disks.

use crate::row::{Disks, Disks::Nas, ROW, Row};
use tierlift_forge::mishaps::{
    add_padding, as_mbr, cut_at, cut_short, partition_alone, wipe, wipe_backup_gpt, wipe_both_gpts, wipe_primary_gpt,
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "partitions at QNAP's own sectors",
        disks: Disks::RealNas(1, 1),
        members: "u",
        says: &["from sector 2120584: md member of array 1"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "primary partition table wiped",
        disks: Nas(1, 1),
        mishap: |set| wipe_primary_gpt(&set.paths[0]),
        exit: 2,
        members: "u",
        says: &["the partition table at the start is damaged; its copy at the end is used"],
        ..ROW
    },
    Row {
        name: "backup partition table wiped",
        disks: Nas(1, 1),
        mishap: |set| wipe_backup_gpt(&set.paths[0]),
        exit: 2,
        members: "u",
        says: &["the copy of the partition table at the end is damaged"],
        ..ROW
    },
    Row {
        name: "both partition tables wiped",
        disks: Disks::RealNas(1, 1),
        mishap: |set| wipe_both_gpts(&set.paths[0]),
        exit: 2,
        members: "u",
        says: &["partition table: lost", "5 of its partitions were found again"],
        ..ROW
    },
    Row {
        name: "both partition tables of one raid5 member wiped",
        disks: Nas(5, 3),
        mishap: |set| wipe_both_gpts(&set.paths[1]),
        exit: 2,
        members: "uuu",
        says: &["partition table: lost", "5 of its partitions were found again"],
        ..ROW
    },
    Row {
        name: "MBR of four partitions, old firmware",
        disks: Nas(1, 1),
        mishap: |set| as_mbr(&set.paths[0]),
        members: "u",
        says: &["partition table: mbr", "QNAP's own system mirrors (9, 13, 256)"],
        ..ROW
    },
    Row {
        name: "image of the data partition alone",
        disks: Nas(1, 1),
        mishap: |set| {
            set.paths = vec![partition_alone(&set.forged, 0, &set.dir.join("sda3.img"))?];
            Ok(())
        },
        members: "u",
        says: &["partition table: none", "md member of array 1 (raid1, role 0)"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "images of three raid5 data partitions",
        disks: Nas(5, 3),
        mishap: |set| {
            let image = |disk: usize| partition_alone(&set.forged, disk, &set.dir.join(format!("sd{disk}3.img")));
            set.paths = (0..3).map(image).collect::<Result<_, _>>()?;
            Ok(())
        },
        members: "uuu",
        says: &["partition table: none", "all 3 members are here"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "image of the data partition with padding behind it",
        disks: Nas(1, 1),
        mishap: |set| {
            set.paths = vec![partition_alone(&set.forged, 0, &set.dir.join("sda3.img"))?];
            add_padding(&set.paths[0], 300 << 10)
        },
        exit: 2,
        members: "u",
        says: &["sectors before its place: the image is longer than the partition was; the true length is used"],
        ..ROW
    },
    Row {
        name: "whole disk with padding behind it",
        disks: Nas(1, 1),
        mishap: |set| add_padding(&set.paths[0], 1 << 20),
        exit: 2,
        members: "u",
        says: &["the copy of the partition table at the end is damaged; the one at the start is used"],
        ..ROW
    },
    Row {
        name: "flattened image of a single disk's array",
        disks: Nas(1, 1),
        mishap: |set| Ok(set.paths = vec![set.forged.arrays[0].image.clone()]),
        members: "",
        says: &["LVM physical volume", "directly on"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "flattened image of a raid5 with a DRBD tail",
        disks: Disks::Drbd(5, 4),
        mishap: |set| Ok(set.paths = vec![set.forged.arrays[0].image.clone()]),
        members: "",
        says: &["LVM physical volume", "directly on"],
        ..ROW
    },
    Row {
        name: "image cut short behind the data partition",
        disks: Nas(1, 1),
        mishap: |set| cut_short(&set.paths[0], 4 << 20),
        exit: 2,
        members: "u",
        says: &["the image is cut short", "partition 5 ends"],
        ..ROW
    },
    Row {
        name: "image cut short: the superblock is lost",
        disks: Nas(1, 1),
        mishap: |set| {
            let (start, length) = set.forged.arrays[0].partition;
            cut_at(&set.paths[0], (start + length - 100) * 512)
        },
        exit: 2,
        members: "",
        says: &["the image is cut short", "partition 3 ends 50.0 KiB beyond", "LVM physical volume"],
        ..ROW
    },
    Row {
        name: "one of three raid5 images cut short: its superblock is lost",
        disks: Nas(5, 3),
        mishap: |set| {
            let (start, length) = set.forged.arrays[0].partition;
            cut_at(&set.paths[1], (start + length - 100) * 512)
        },
        exit: 2,
        members: "u-u",
        says: &["the image is cut short", "it lacks the member of role 1"],
        ..ROW
    },
    Row {
        name: "image cut in the middle of the data",
        disks: Nas(1, 1),
        mishap: |set| {
            let (start, length) = set.forged.arrays[0].partition;
            cut_at(&set.paths[0], (start + length / 2) * 512)
        },
        exit: 2,
        members: "",
        says: &["the image is cut short", "are missing"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "image of which only the partition table exists",
        disks: Nas(1, 1),
        mishap: |set| cut_at(&set.paths[0], 34 * 512),
        exit: 4,
        members: "",
        says: &["the image is cut short", "nothing usable was found"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "image cut short in front of the data partition",
        disks: Nas(1, 1),
        mishap: |set| cut_at(&set.paths[0], set.forged.arrays[0].partition.0 * 512),
        exit: 4,
        members: "",
        says: &["lies beyond the end of what is here", "only system partitions of a QNAP were found"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "data partition wiped, system partitions left",
        disks: Nas(1, 1),
        mishap: |set| {
            let (start, length) = set.forged.arrays[0].partition;
            wipe(&set.paths[0], start * 512, length * 512)
        },
        exit: 4,
        members: "",
        says: &["only system partitions of a QNAP were found; where is the data partition"],
        whole_pools: 0,
        ..ROW
    },
];
