//! What is wrong, taken together, and what that means for the user.

use super::next_steps;
use super::pools::{self, PoolReport};
use crate::commands::Outcome;
use crate::inventory::{Inventory, LogicalVolume, LogicalVolumeKind};

/// The first number of the volumes in which QNAP keeps back 1 % of each RAID group.
const RESERVE_FIRST: u32 = 544;
/// Behind this no reserve volume was seen.
const RESERVE_END: u32 = 800;

/// The store of an SSD cache: no volume, and never to be mounted.
const CACHE_STORE: &str = "lv256";

/// The conclusions of a scan.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) wrong: Vec<String>,
    pub(super) next_steps: Vec<String>,
    pub(super) outcome: Outcome,
    /// Set when there is nothing to recover from: what was found instead, and what to do.
    pub(super) nothing_usable: Option<String>,
}

/// Draws the conclusions.
pub(super) fn of(inventory: &Inventory, pools: &[PoolReport], unopened: bool) -> Findings {
    let wrong = wrong(inventory, pools);
    let nothing_usable = (!anything_usable(inventory, pools)).then(|| nothing(inventory, pools));
    let damage = match (&nothing_usable, wrong.is_empty()) {
        (Some(_), _) => Outcome::UNUSABLE,
        (None, false) => Outcome::DAMAGE,
        (None, true) => Outcome::CLEAN,
    };
    let outcome = if unopened { damage.and(Outcome::FAILED) } else { damage };
    Findings { next_steps: next_steps::of(inventory, pools), wrong, outcome, nothing_usable }
}

fn wrong(inventory: &Inventory, pools: &[PoolReport]) -> Vec<String> {
    let mut wrong = inventory.notes.clone();
    for array in &inventory.arrays {
        wrong.extend(array.notes.iter().map(|note| format!("array {}: {note}", array.name)));
    }
    for group in &inventory.volume_groups {
        wrong.extend(group.notes.iter().map(|note| format!("{}: {note}", group.name)));
    }
    for report in pools {
        let group = inventory.volume_groups.get(report.group).map(|group| group.name.as_str()).unwrap_or_default();
        wrong.extend(report.wrong.iter().map(|line| format!("pool {group}/{}: {line}", report.pool)));
    }
    wrong
}

fn anything_usable(inventory: &Inventory, pools: &[PoolReport]) -> bool {
    let unnamed = pools.iter().any(|report| !report.unnamed.is_empty());
    let groups = inventory.volume_groups.iter().enumerate();
    let mut volumes = groups.flat_map(|(index, group)| group.logical_volumes.iter().map(move |volume| (index, volume)));
    unnamed || volumes.any(|(index, volume)| is_usable(inventory, pools, index, volume))
}

/// A volume a user would want that can be read at least in part.
fn is_usable(inventory: &Inventory, pools: &[PoolReport], index: usize, volume: &LogicalVolume) -> bool {
    match &volume.kind {
        LogicalVolumeKind::Mapped(_) => {
            let readable = pools::lost_of_all(inventory, index, &volume.name).is_ok_and(|(lost, all)| lost < all);
            volume.visible && !is_internal(&volume.name) && readable
        }
        LogicalVolumeKind::Thin { pool, device, .. } => pools.iter().any(|report| {
            report.group == index
                && report.pool == *pool
                && report.stat.as_ref().is_some_and(|stat| stat.devices.iter().any(|known| known.id == *device))
        }),
        LogicalVolumeKind::Pool(_) | LogicalVolumeKind::Opaque(_) => false,
    }
}

/// A volume of QNAP's own that never holds files: the store of an SSD cache, or a reserve.
pub(in crate::commands) fn is_internal(name: &str) -> bool {
    is_reserve(name) || name == CACHE_STORE
}

/// `lv544` and its like: 1 % of the space, kept back by the firmware, of no known content.
pub(super) fn is_reserve(name: &str) -> bool {
    let number = name.strip_prefix("lv").and_then(|number| number.parse::<u32>().ok());
    number.is_some_and(|number| (RESERVE_FIRST..RESERVE_END).contains(&number))
}

fn has_zfs(inventory: &Inventory) -> bool {
    let mut partitions = inventory.disks.iter().flat_map(|disk| &disk.partitions);
    partitions.any(|partition| partition.content.starts_with("ZFS"))
}

fn nothing(inventory: &Inventory, pools: &[PoolReport]) -> String {
    if let Some(error) = pools.iter().find_map(|report| report.error.as_ref()) {
        return format!("a pool was found, but it cannot be opened: {error}");
    }
    if !inventory.volume_groups.is_empty() {
        return "volume groups were found, but no volume of them can be read; see above what is missing".into();
    }
    if inventory.arrays.iter().any(|array| !array.system) {
        return "data arrays were found, but nothing on them this version can use; see above why".into();
    }
    if has_zfs(inventory) {
        return "the data of this NAS are in a ZFS pool (QuTS hero), which this version does not read; try a read-only import with \
                OpenZFS (QNAP's ZFS is a variant and may be refused), or a QNAP that runs QuTS hero"
            .into();
    }
    if !inventory.arrays.is_empty() {
        return "only system partitions of a QNAP were found; where is the data partition (the third)? Attach the disks of the \
                storage pool, or copy the whole disk"
            .into();
    }
    if let Some(note) = inventory.notes.first() {
        return format!("nothing usable was found; {note}");
    }
    "nothing of a QNAP storage pool was found; name whole disks or full images of them (or of the third partition, or of the \
     md array)"
        .into()
}
