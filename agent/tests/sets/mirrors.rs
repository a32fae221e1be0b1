//! Single disks and mirrors: md metadata 1.0 of level 1, whole, halved, aged and parted.

use crate::row::{Disks::Nas, ROW, Row};
use tierlift_forge::mishaps::{
    Departure, bad_blocks, break_checksum, clone_disk, feature_word, leave, make_older, part, rebuilding, rescue,
    reshape, rewrite_0_90, set_time, wipe_superblock, with_superblock_in_front,
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "single disk, an array of one slot",
        disks: Nas(1, 1),
        members: "u",
        says: &["(raid1, ", "1 of 1 members here): usable", "QNAP's own system mirrors (9, 13, 256, 322)"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "mirror, both halves",
        disks: Nas(1, 2),
        members: "uu",
        says: &["2 of 2 members here): usable"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "mirror, one half",
        disks: Nas(1, 2),
        mishap: |set| Ok(set.drop(0)),
        members: "-u",
        says: &["1 of 2 current members are here; one is enough to read"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "mirror, one half stale",
        disks: Nas(1, 2),
        mishap: |set| leave(&set.forged, 0, Departure::Told),
        exit: 2,
        members: "su",
        says: &["stale: another member ran on without it", "a stale half of this mirror is left out"],
        ..ROW
    },
    Row {
        name: "mirror, one half stale under QNAP's frozen event counter",
        disks: Nas(1, 2),
        mishap: |set| leave(&set.forged, 1, Departure::FrozenEvents),
        exit: 2,
        members: "us",
        says: &["stale: another member ran on without it"],
        ..ROW
    },
    Row {
        name: "mirror, halves that ran on without each other",
        disks: Nas(1, 2),
        mishap: |set| part(&set.forged, 0, 1),
        exit: 2,
        members: "su",
        says: &["two halves of this mirror ran on without each other", "scan the other disk alone"],
        ..ROW
    },
    Row {
        name: "mirror, the rescued half alone",
        disks: Nas(1, 2),
        mishap: |set| {
            rescue(&set.forged, 0)?;
            Ok(set.drop(1))
        },
        members: "u-",
        says: &["role 0, failed but kept by QNAP's rescue mode", "expect read errors"],
        ..ROW
    },
    Row {
        name: "single disk with QNAP's flex bit",
        disks: Nas(1, 1),
        mishap: |set| feature_word(&set.forged, 0, 1),
        exit: 2,
        members: "u",
        says: &["QNAP's private feature word is 0x1"],
        ..ROW
    },
    Row {
        name: "single disk with an unknown bit in QNAP's feature word",
        disks: Nas(1, 1),
        mishap: |set| feature_word(&set.forged, 0, 6),
        exit: 4,
        members: "s",
        says: &["QNAP's feature word has bits nobody has explained; please report this", "0x6"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "mirror, one half with bad blocks",
        disks: Nas(1, 2),
        mishap: |set| {
            make_older(&set.forged, 0)?;
            bad_blocks(&set.forged, 0, &[(0, 512), (4096, 8)])
        },
        exit: 2,
        members: "uu",
        says: &["its bad-block log names 520 sectors in 2 places: there this member holds no valid data"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "mirror, one half still being rebuilt",
        disks: Nas(1, 2),
        mishap: |set| rebuilding(&set.forged, 1, 8192),
        exit: 0,
        members: "us",
        says: &["incomplete: rebuilt only up to sector 8192"],
        ..ROW
    },
    Row {
        name: "mirror, the half that was being rebuilt alone",
        disks: Nas(1, 2),
        mishap: |set| {
            rebuilding(&set.forged, 1, 8192)?;
            Ok(set.drop(0))
        },
        exit: 4,
        members: "-u",
        says: &["incomplete: rebuilt only up to sector 8192"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "mirror under a reshape",
        disks: Nas(1, 2),
        mishap: |set| reshape(&set.forged, 0),
        exit: 4,
        members: "ss",
        says: &["a reshape (to raid1, +1 members) is under way and stands at array sector 65536"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "mirror, one superblock's checksum wrong",
        disks: Nas(1, 2),
        mishap: |set| {
            make_older(&set.forged, 0)?;
            break_checksum(&set.forged, 0)
        },
        exit: 2,
        members: "su",
        says: &["superblock checksum wrong; left out, because there are better members"],
        ..ROW
    },
    Row {
        name: "single disk, its superblock's checksum wrong",
        disks: Nas(1, 1),
        mishap: |set| break_checksum(&set.forged, 0),
        exit: 2,
        members: "u",
        says: &["the superblock's checksum is wrong; it is trusted only when nothing better exists"],
        ..ROW
    },
    Row {
        name: "single disk, its superblock wiped",
        disks: Nas(1, 1),
        mishap: |set| wipe_superblock(&set.forged, 0),
        members: "",
        says: &["LVM physical volume", "directly on"],
        ..ROW
    },
    Row {
        name: "mirror, one superblock wiped",
        disks: Nas(1, 2),
        mishap: |set| wipe_superblock(&set.forged, 1),
        exit: 2,
        members: "u-",
        says: &["pv0 on array 1", "begins like physical volume", "a member of that array that lost its superblock"],
        ..ROW
    },
    Row {
        name: "mirror of a legacy firmware: superblocks 0.90",
        disks: Nas(1, 2),
        mishap: |set| rewrite_0_90(&set.forged, 0),
        members: "uu",
        says: &["array 0 (raid1", "2 of 2 members here): usable"],
        ..ROW
    },
    Row {
        name: "half a mirror somebody rebuilt, superblock 1.1",
        disks: Nas(1, 2),
        mishap: |set| {
            set.paths = vec![with_superblock_in_front(&set.forged, 1, 0, &set.dir.join("sdb3.img"))?];
            Ok(())
        },
        exit: 2,
        members: "-u",
        says: &["superblock version 1.1 (QNAP writes 1.0)"],
        ..ROW
    },
    Row {
        name: "half a mirror somebody rebuilt, superblock 1.2",
        disks: Nas(1, 2),
        mishap: |set| {
            set.paths = vec![with_superblock_in_front(&set.forged, 0, 8, &set.dir.join("sdb3.img"))?];
            Ok(())
        },
        exit: 2,
        members: "u-",
        says: &["superblock version 1.2 (QNAP writes 1.0)"],
        ..ROW
    },
    Row {
        name: "mirror half and an older clone of it",
        disks: Nas(1, 2),
        mishap: |set| {
            set.drop(1);
            set.paths.push(clone_disk(&set.forged.disks[0], &set.dir.join("clone.img"))?);
            make_older(&set.forged, 0)?;
            set_time(&set.forged, 0, -86_400)
        },
        members: "u-+",
        says: &["older copy of a member that is also here"],
        ..ROW
    },
    Row {
        name: "the same disk given twice",
        disks: Nas(1, 1),
        mishap: |set| Ok(set.paths.push(set.forged.disks[0].clone())),
        members: "u",
        says: &["1 of 1 members here): usable"],
        never: &["What is wrong"],
        ..ROW
    },
];
