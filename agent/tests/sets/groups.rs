//! What lies on arrays: DRBD, tiers, several NAS at once, volumes without a pool, encryption, SSD caches.

use crate::row::{Disks, Disks::Nas, ROW, Row, Set};
use std::path::Path;
use tierlift_forge::{ForgeOptions, Forged, Mirror, forge_bare, forge_cache, forge_static};

type Forge = fn(&Path, &ForgeOptions, &Path) -> anyhow::Result<Forged>;

/// Makes the disks of a NAS around these bytes.
fn around(set: &mut Set, forge: Forge, mark: (usize, &[u8])) -> anyhow::Result<()> {
    let mut bytes = vec![0; 8 << 20];
    bytes[mark.0..mark.0 + mark.1.len()].copy_from_slice(mark.1);
    let content = set.dir.join("content");
    std::fs::write(&content, &bytes)?;
    let options =
        ForgeOptions { compact: true, mirror: Mirror::Both, seed: "around".into(), ..ForgeOptions::default() };
    let forged = forge(&content, &options, &set.dir.join("around"))?;
    set.paths.extend(forged.disks);
    Ok(())
}

/// The head of a dm-cache superblock with these flags.
fn dm_cache(flags: u32) -> Vec<u8> {
    let mut block = vec![0; 64];
    block[4..8].copy_from_slice(&flags.to_le_bytes());
    block[32..40].copy_from_slice(&0x0018_c403_u64.to_le_bytes());
    block
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "single disk with a DRBD tail",
        disks: Disks::Drbd(1, 1),
        members: "u",
        says: &["a DRBD tail at its end (newer QTS); it does not move the data and is ignored"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "raid5 with a DRBD tail, one missing",
        disks: Disks::Drbd(5, 3),
        mishap: |set| Ok(set.drop(0)),
        exit: 2,
        members: "-uu",
        says: &["a DRBD tail at its end", "it lacks the member of role 0"],
        ..ROW
    },
    Row {
        name: "two NAS with groups and arrays of the same names",
        disks: Nas(1, 2),
        mishap: |set| {
            let other = set.other_nas(1, 2).disks;
            Ok(set.paths.extend(other))
        },
        exit: 0,
        members: "uu uu",
        says: &["Volume group vg1 (id "],
        whole_pools: 2,
        ..ROW
    },
    Row {
        name: "one half of a mirror of each of two NAS",
        disks: Nas(1, 2),
        mishap: |set| {
            set.drop(1);
            let other = set.other_nas(1, 2).disks[1].clone();
            Ok(set.paths.push(other))
        },
        exit: 0,
        members: "-u u-",
        says: &["Volume group vg1 (id "],
        whole_pools: 2,
        ..ROW
    },
    Row {
        name: "three tiers on three arrays",
        disks: Disks::Tiers,
        members: "u u u",
        says: &["tp1: pool (tier-thin-pool)", "mode: tier map"],
        never: &["What is wrong"],
        ..ROW
    },
    Row {
        name: "three tiers on three arrays, one tier missing",
        disks: Disks::Tiers,
        mishap: |set| Ok(set.drop(1)),
        exit: 2,
        members: "u u",
        says: &["was not found: attach its disks", "are missing"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "static volume",
        mishap: |set| around(set, forge_static, (1080, &[0x53, 0xef])),
        members: "uu",
        says: &["Volume group vg288", "lv1: plain volume", "lv544: QNAP's reserve", "tierlift activate vg288/lv1"],
        never: &["What is wrong"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "legacy volume: ext4 directly on the array",
        mishap: |set| around(set, forge_bare, (1080, &[0x53, 0xef])),
        members: "uu",
        says: &["ext file system", "md1/volume"],
        never: &["What is wrong"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "LUKS directly on the array",
        mishap: |set| around(set, forge_bare, (0, b"LUKS\xba\xbe")),
        members: "uu",
        says: &["LUKS encrypted volume", "md1/volume"],
        never: &["What is wrong"],
        whole_pools: 0,
        ..ROW
    },
    Row {
        name: "SSD cache that was in use when it stopped",
        disks: Nas(1, 1),
        mishap: |set| around(set, forge_cache, (0, &dm_cache(0))),
        exit: 2,
        members: "u uu",
        says: &["vg256 is an SSD cache that was in use when it stopped", "lv1: volume"],
        never: &["activate vg256"],
        ..ROW
    },
    Row {
        name: "SSD cache that was shut down in order",
        disks: Nas(1, 1),
        mishap: |set| around(set, forge_cache, (0, &dm_cache(1))),
        exit: 2,
        members: "u uu",
        says: &["vg256 is an SSD cache that was closed in order", "lv1: volume"],
        never: &["activate vg256"],
        ..ROW
    },
    Row {
        name: "SSD cache of QTS 4, which says nothing",
        disks: Nas(1, 1),
        mishap: |set| around(set, forge_cache, (0, b"flashcache keeps nothing here")),
        exit: 2,
        members: "u uu",
        says: &["vg256 is an SSD cache that does not say whether it holds writes the disks do not have"],
        never: &["activate vg256"],
        ..ROW
    },
];
