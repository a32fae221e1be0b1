//! The slots of the ring: what they hold, and whether anything else uses them.
//!
//! A kernel computes the slots from the length of the device, but only those of the length at which the pool was made are
//! reserved in the space map. After the metadata grew, the new slots may be handed out to trees, and the next copies
//! overwrite them.

use super::forest::Forest;
use super::kind::Kind;
use super::spread::Spread;
use super::structure::Structure;
use crate::pool::Pool;
use std::ops::Range;
use tierlift_ondisk::thin::flags;
use tierlift_ondisk::thin::ring::{SLOTS, decode_slot};
use tierlift_ondisk::units::MetaBlock;

/// The blocks of the ring's slots; `None` when the pool keeps no copies.
pub(super) fn slots(pool: &Pool) -> Option<Range<u64>> {
    if !pool.superblock().has(flags::SUPERBLOCK_BACKUP) {
        return None;
    }
    let blocks = pool.blocks();
    let range = |end: u64| end.saturating_sub(SLOTS).max(1)..end;
    let newest = pool.ring().newest().map(|(block, _)| block.0);
    // An image may have something after the end of the device.
    let ends = [blocks.present(), blocks.count()];
    let end = ends.into_iter().find(|end| newest.is_some_and(|block| range(*end).contains(&block)));
    Some(range(end.unwrap_or(blocks.present())))
}

/// Checks what the slots hold, and that no tree uses them. All pointers must have been counted.
pub(super) fn check(forest: &mut Forest<'_>, slots: &Range<u64>) {
    let (mut foreign, mut used) = (Spread::default(), Spread::default());
    let mut buffer = Vec::new();
    for block in slots.clone() {
        let in_use = forest.refs.get(block) > 0;
        let read = forest.blocks.read_raw(MetaBlock(block), &mut buffer).is_ok();
        if in_use {
            used.add(block);
        } else if !read || decode_slot(&buffer, MetaBlock(block)).is_none() {
            foreign.add(block);
        }
    }
    let first = |spread: Spread| MetaBlock(spread.first);
    if let Some(slots) = foreign.some() {
        forest.findings.add(Structure::Ring, first(slots), Kind::ForeignSlots { slots });
    }
    if let Some(slots) = used.some() {
        forest.findings.add(Structure::Ring, first(slots), Kind::RingInUse { slots });
    }
}

/// Which of these leaked blocks hold a ring that was left behind when the metadata grew.
pub(super) fn old_slots(forest: &Forest<'_>, leaked: &[u64]) -> Spread {
    let mut old = Spread::default();
    let mut buffer = Vec::new();
    for block in leaked {
        let read = forest.blocks.read_raw(MetaBlock(*block), &mut buffer);
        if read.is_ok() && decode_slot(&buffer, MetaBlock(*block)).is_some() {
            old.add(*block);
        }
    }
    old
}
