//! What the times of mappings tell: a snapshot that nobody wrote to holds nothing younger than itself.

use super::orphan::Orphan;
use crate::block_map::BlockMap;
use crate::blocks::Blocks;
use crate::walk::{Item, ValueSize, walk};
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{DeviceDetails, Family, MappingValue, NO_ORIGIN};
use tierlift_ondisk::units::MetaBlock;

/// Leaves read.
const MOST_LEAVES: usize = 4_000_000;

/// The youngest entry of each orphan, and when each snapshot was made.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    youngest: BlockMap<u32>,
    made: BTreeMap<u64, u32>,
}

impl Ages {
    /// Reads the orphans. `unchanged` tells devices whose trees stayed the same through all of the history that is left: for
    /// pools that do not record origins these are taken for snapshots.
    pub(crate) fn new(
        blocks: &Blocks,
        family: Family,
        orphans: &[Orphan],
        records: &BTreeMap<u64, DeviceDetails>,
        unchanged: &dyn Fn(u64) -> bool,
    ) -> Self {
        let is_snapshot = |(device, record): &(&u64, &DeviceDetails)| {
            record.origin.is_none_or(|origin| origin != NO_ORIGIN) && unchanged(**device)
        };
        let made = records.iter().filter(is_snapshot).map(|(device, record)| (*device, record.creation_time)).collect();
        let mut ages = Self { youngest: BlockMap::default(), made };
        let mut leaves = 0_usize;
        for orphan in orphans {
            let mut youngest = 0;
            let done = walk(blocks, orphan.child.block, ValueSize::EIGHT, |item| {
                let Item::Leaf(node) = item else { return Ok(()) };
                leaves = leaves.saturating_add(1);
                let times = node.entries_u64().map(|(_, value)| MappingValue::decode(value, family).time);
                youngest = times.max().unwrap_or(0).max(youngest);
                if leaves > MOST_LEAVES { Err(()) } else { Ok(()) }
            });
            if done.is_ok() {
                ages.youngest.insert(orphan.child.block, youngest);
            }
        }
        ages
    }

    /// Whether there is any snapshot to tell something of.
    pub(crate) fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Whether the orphan may be part of the device, when that is a snapshot that nobody wrote to.
    pub(crate) fn allows(&self, orphan: MetaBlock, device: u64) -> bool {
        match (self.made.get(&device), self.youngest.get(&orphan)) {
            (Some(made), Some(youngest)) => youngest < made,
            _ => true,
        }
    }
}
