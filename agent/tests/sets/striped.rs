//! Arrays of several members: RAID 0, 5, 6, 10 and linear; whole, degraded, stale, mixed up.

use crate::row::{Disks::Nas, ROW, Row};
use tierlift_forge::mishaps::{
    Departure, bad_blocks, break_checksum, change_superblock, clone_disk, leave, make_older, rebuilding, rescue,
    reshape, rewrite_0_90, set_time, wipe_superblock,
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "raid0 of two",
        disks: Nas(0, 2),
        members: "uu",
        says: &["(raid0, ", "all 2 members are here"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "raid0 of two, one missing",
        disks: Nas(0, 2),
        mishap: |set| Ok(set.drop(1)),
        exit: 4,
        members: "s-",
        says: &["the member of role 1 of this raid0 of 2: too few members are left to read it"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "linear of two",
        disks: Nas(-1, 2),
        members: "uu",
        says: &["(linear, ", "all 2 members are here"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "linear of two, the first missing",
        disks: Nas(-1, 2),
        mishap: |set| Ok(set.drop(0)),
        exit: 4,
        members: "-s",
        says: &["the member of role 0 of this linear of 2: too few members are left to read it"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid5 of four",
        disks: Nas(5, 4),
        members: "uuuu",
        says: &["(raid5, ", "all 4 members are here"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one missing",
        disks: Nas(5, 4),
        mishap: |set| Ok(set.drop(2)),
        exit: 2,
        members: "uu-u",
        says: &["it lacks the member of role 2, and is read without"],
        ..ROW
    },
    Row {
        name: "raid5 of four, two missing",
        disks: Nas(5, 4),
        mishap: |set| {
            set.drop(0);
            Ok(set.drop(3))
        },
        exit: 4,
        members: "-ss-",
        says: &[
            "the members of roles 0 and 3 of this raid5 of 4: too few members are left to read it",
            "Attach the missing disks",
        ],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid5 of four, one stale",
        disks: Nas(5, 4),
        mishap: |set| leave(&set.forged, 1, Departure::Told),
        exit: 2,
        members: "usuu",
        says: &["stale: another member ran on without it", "it lacks the member of role 1"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one stale under a frozen event counter",
        disks: Nas(5, 4),
        mishap: |set| leave(&set.forged, 0, Departure::FrozenEvents),
        exit: 2,
        members: "suuu",
        says: &["stale: another member ran on without it", "it lacks the member of role 0"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one stale whose superblock lies",
        disks: Nas(5, 4),
        mishap: |set| leave(&set.forged, 2, Departure::Untold),
        exit: 2,
        members: "uusu",
        says: &["role 2", "parity"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one stale and another missing",
        disks: Nas(5, 4),
        mishap: |set| {
            leave(&set.forged, 1, Departure::Told)?;
            Ok(set.drop(2))
        },
        exit: 4,
        members: "ss-s",
        says: &["1 more of its members are here but stopped before the others", "mixing them in would damage files"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid5 of four, one still being rebuilt",
        disks: Nas(5, 4),
        mishap: |set| rebuilding(&set.forged, 3, 4096),
        exit: 2,
        members: "uuus",
        says: &["incomplete: rebuilt only up to sector 4096", "it lacks the member of role 3"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one still being rebuilt and another missing",
        disks: Nas(5, 4),
        mishap: |set| {
            rebuilding(&set.forged, 3, 4096)?;
            Ok(set.drop(0))
        },
        exit: 2,
        members: "-uuu",
        says: &["incomplete: rebuilt only up to sector 4096", "only their superblocks say"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid5 of four, one in QNAP's rescue role and one missing",
        disks: Nas(5, 4),
        mishap: |set| {
            rescue(&set.forged, 1)?;
            Ok(set.drop(3))
        },
        exit: 2,
        members: "uuu-",
        says: &["role 1, failed but kept by QNAP's rescue mode", "expect read errors"],
        ..ROW
    },
    Row {
        name: "raid5 of four under a reshape to five",
        disks: Nas(5, 4),
        mishap: |set| reshape(&set.forged, 0),
        exit: 4,
        members: "ssss",
        says: &["a reshape (to raid5, +1 members) is under way", "do not let any other machine go on"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid5 of four, one with bad blocks",
        disks: Nas(5, 4),
        mishap: |set| bad_blocks(&set.forged, 0, &[(2048, 64)]),
        exit: 2,
        members: "uuuu",
        says: &["its bad-block log names 64 sectors in 1 places"],
        ..ROW
    },
    Row {
        name: "raid5 of four, not shut down and one missing",
        disks: Nas(5, 4),
        mishap: |set| {
            for disk in 0..4 {
                change_superblock(&set.forged, disk, |block| block.resync_offset = 0)?;
            }
            Ok(set.drop(1))
        },
        exit: 2,
        members: "u-uu",
        says: &["it was not shut down in order either: what was being written at that moment may be wrong"],
        ..ROW
    },
    Row {
        name: "raid5 of three of a legacy firmware: superblocks 0.90",
        disks: Nas(5, 3),
        mishap: |set| rewrite_0_90(&set.forged, 0),
        members: "uuu",
        says: &["array 0 (raid5", "all 3 members are here"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one superblock wiped",
        disks: Nas(5, 4),
        mishap: |set| wipe_superblock(&set.forged, 2),
        exit: 2,
        members: "uu-u",
        says: &["it lacks the member of role 2"],
        ..ROW
    },
    Row {
        name: "raid5 of four, the superblock of role 0 wiped",
        disks: Nas(5, 4),
        mishap: |set| wipe_superblock(&set.forged, 0),
        exit: 2,
        members: "-uuu",
        says: &[
            "it lacks the member of role 0",
            "pv0 on array 1",
            "and its md superblock is lost. It is not read alone",
        ],
        ..ROW
    },
    Row {
        name: "raid5 of four, all superblocks wiped",
        disks: Nas(5, 4),
        mishap: |set| (0..4).try_for_each(|disk| wipe_superblock(&set.forged, disk)),
        exit: 4,
        members: "",
        says: &["it is one of several members of an array, and its md superblock is lost. It is not read alone"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid5 of four, one superblock's checksum wrong",
        disks: Nas(5, 4),
        mishap: |set| {
            make_older(&set.forged, 3)?;
            break_checksum(&set.forged, 3)
        },
        exit: 2,
        members: "uuus",
        says: &["superblock checksum wrong; left out", "it lacks the member of role 3"],
        ..ROW
    },
    Row {
        name: "raid5 of four, one missing and a foreign disk of its role",
        disks: Nas(5, 4),
        mishap: |set| {
            set.drop(2);
            let other = set.other_nas(5, 4).disks[2].clone();
            Ok(set.paths.push(other))
        },
        exit: 2,
        members: "--s- uu-u",
        says: &["it lacks the member of role 2", "the members of roles 0, 1 and 3 of this raid5 of 4"],
        ..ROW
    },
    Row {
        name: "raid5 of four and an older clone of a member",
        disks: Nas(5, 4),
        mishap: |set| {
            set.paths[1] = clone_disk(&set.forged.disks[1], &set.dir.join("clone.img"))?;
            set.paths.push(set.forged.disks[1].clone());
            make_older(&set.forged, 1)?;
            set_time(&set.forged, 1, -86_400)
        },
        exit: 0,
        members: "uuuu+",
        says: &["older copy of a member that is also here"],
        ..ROW
    },
    Row {
        name: "raid6 of five",
        disks: Nas(6, 5),
        members: "uuuuu",
        says: &["(raid6, ", "all 5 members are here"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "raid6 of five, two missing",
        disks: Nas(6, 5),
        mishap: |set| {
            set.drop(1);
            Ok(set.drop(2))
        },
        exit: 2,
        members: "u--uu",
        says: &["it lacks the members of roles 1 and 2, and is read without"],
        ..ROW
    },
    Row {
        name: "raid6 of five, three missing",
        disks: Nas(6, 5),
        mishap: |set| {
            set.drop(0);
            set.drop(1);
            Ok(set.drop(4))
        },
        exit: 4,
        members: "--ss-",
        says: &["the members of roles 0, 1 and 4 of this raid6 of 5: too few members"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "raid6 of five, one stale and one missing",
        disks: Nas(6, 5),
        mishap: |set| {
            leave(&set.forged, 4, Departure::Told)?;
            Ok(set.drop(0))
        },
        exit: 2,
        members: "-uuus",
        says: &["it lacks the members of roles 0 and 4", "stale: another member ran on without it"],
        ..ROW
    },
    Row {
        name: "raid10 of four",
        disks: Nas(10, 4),
        members: "uuuu",
        says: &["(raid10, ", "all 4 members are here"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "raid10 of four, one of each pair missing",
        disks: Nas(10, 4),
        mishap: |set| {
            set.drop(0);
            Ok(set.drop(3))
        },
        exit: 2,
        members: "-uu-",
        says: &["it lacks the members of roles 0 and 3, and is read without"],
        ..ROW
    },
    Row {
        name: "raid10 of four, a whole pair missing",
        disks: Nas(10, 4),
        mishap: |set| {
            set.drop(2);
            Ok(set.drop(3))
        },
        exit: 4,
        members: "ss--",
        says: &["the members of roles 2 and 3 of this raid10 of 4: too few members"],
        whole_pools: 0,
        ..ROW
    },
];
