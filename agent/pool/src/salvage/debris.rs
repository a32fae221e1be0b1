//! A pool and the debris of another one that it was made over: which of the generations found is of the pool itself.
//!
//! Making a pool writes the first blocks of the device, and kernels go on behind them. So when the state that a pool was made
//! with is still there, no other pool was made since, and what lies directly behind it is that pool's. And a generation of
//! which everything is there has not been overwritten, while one whose blocks hold parts of it has.

use super::choose::{self, Candidate};
use super::committed::{Committed, Count};
use super::history::records;
use super::newer;
use super::reach::{Reach, Tree};
use super::scan::Scan;
use super::succession::{chain_behind, is_empty};
use crate::blocks::Blocks;
use crate::pool::Pool;
use std::collections::BTreeSet;
use tierlift_ondisk::thin::Superblock;
use tierlift_ondisk::units::MetaBlock;

/// Generations looked at.
const MOST_LOOKED_AT: usize = 64;

/// A clock that rises with every device made, as far as the devices that are left tell: transaction, then time.
type Clock = (u64, u32);

/// Generations found by scanning, the newest of any pool first.
struct Debris<'a> {
    blocks: Blocks,
    scan: &'a Scan,
    found: Vec<(Candidate, Option<Clock>)>,
}

/// The newest generation of the pool itself, among those found by scanning, the newest of any pool first. `transaction` is
/// the pool's, when it is known from elsewhere.
pub(super) fn newest_of_pool(
    blocks: &Blocks,
    scan: &Scan,
    found: Vec<Candidate>,
    transaction: Option<u64>,
) -> Option<Candidate> {
    let recorded = found.first()?.superblock.metadata_map.nr_blocks;
    let blocks = blocks.clone().with_recorded_count(recorded);
    let clocked = |candidate: Candidate| {
        let clock = clock(&blocks, &candidate.superblock);
        (candidate, clock)
    };
    let found = found.into_iter().map(clocked).collect();
    let mut debris = Debris { blocks: blocks.clone(), scan, found };
    debris.leave_out_later_than(transaction);
    debris.turn_to_latest();
    debris.newest()
}

/// The latest clock that any device of a generation shows; `None` when its records are lost.
fn clock(blocks: &Blocks, superblock: &Superblock) -> Option<Clock> {
    let records = records(blocks, superblock)?;
    Some(records.values().map(|record| (record.transaction, record.creation_time)).max().unwrap_or_default())
}

impl Debris<'_> {
    fn are_akin(&self, one: &Candidate, other: &Candidate) -> bool {
        choose::is_akin(&self.blocks, self.scan, &one.superblock, &other.superblock)
    }

    fn is_empty(&self, candidate: &Candidate) -> bool {
        is_empty(&self.blocks, &candidate.superblock)
    }

    /// A pool with more transactions than this one ever had is another, and so are those that it came from.
    fn leave_out_later_than(&mut self, transaction: Option<u64>) {
        let Some(transaction) = transaction else { return };
        let mut later: Option<Candidate> = None;
        let mut own = Vec::new();
        for (candidate, clock) in self.found.clone() {
            let came_from = later.as_ref().is_some_and(|later| self.are_akin(later, &candidate));
            if clock.is_some_and(|clock| clock.0 > transaction) || came_from {
                later = Some(candidate);
            } else {
                own.push((candidate, clock));
            }
        }
        if !own.is_empty() {
            self.found = own;
        }
    }

    /// The circle begins with the latest clock, unless the first one lacks a device that was deleted, or is damaged.
    fn turn_to_latest(&mut self) {
        let Some(latest) = self.latest() else { return };
        let Some(at) = self.found.iter().position(|(_, clock)| *clock == Some(latest)) else { return };
        let ends = self.found.first().zip(self.found.get(at));
        if ends.is_some_and(|((first, _), (last, _))| self.is_whole(first) && !self.are_akin(first, last)) {
            self.found.rotate_left(at);
        }
    }

    fn is_whole(&self, candidate: &Candidate) -> bool {
        let reach = Reach::from_superblock(&self.blocks, self.scan, &candidate.superblock);
        is_whole(&self.blocks, &candidate.superblock, &reach)
    }

    fn latest(&self) -> Option<Clock> {
        self.found.iter().filter_map(|(_, clock)| *clock).max()
    }

    fn newest(self) -> Option<Candidate> {
        let (first, of_first) = self.found.first()?;
        let is_other = |own: &Candidate| self.is_empty(first) || !self.are_akin(own, first);
        let is_as_late = |own: &Candidate| clock(&self.blocks, &own.superblock) >= of_first.or(self.latest());
        let made_last = self.made_last().filter(is_other);
        if let Some(own) = made_last.as_ref().filter(|own| self.is_empty(first) || is_as_late(own)) {
            return Some(own.clone());
        }
        if let Some(own) = self.untouched().filter(is_other) {
            return Some(own);
        }
        Some(Candidate { rival: made_last.map(|own| own.generation), ..first.clone() })
    }

    /// The end of what followed the state that a pool was made with.
    fn made_last(&self) -> Option<Candidate> {
        let (blocks, scan) = (&self.blocks, self.scan);
        let made = self.found.iter().map(|(candidate, _)| candidate).filter(|candidate| self.is_empty(candidate));
        let made = made.min_by_key(|made| made.superblock.metadata_map.bitmap_root)?;
        let looked_at = self.found.iter().take(MOST_LOOKED_AT);
        let others: Vec<_> = looked_at.map(|(candidate, _)| candidate.superblock.clone()).collect();
        let end = chain_behind(blocks, scan, &made.superblock, &others).pop();
        match end.filter(|end| !is_empty(blocks, end)) {
            Some(end) => self.found.iter().map(|(found, _)| found).find(|found| found.superblock == *end).cloned(),
            None => {
                let family = Pool::with_blocks(blocks.clone(), made.superblock.clone()).ok()?.family();
                newer::than(blocks, scan, &made.superblock, family)
            }
        }
    }

    /// A generation of whose mapping trees nothing is gone, when what is gone from the first one was overwritten by it.
    fn untouched(&self) -> Option<Candidate> {
        let ((first, _), others) = self.found.split_first()?;
        let reach = |candidate: &Candidate| Reach::from_superblock(&self.blocks, self.scan, &candidate.superblock);
        let of_first = reach(first);
        if is_whole(&self.blocks, &first.superblock, &of_first) {
            return None;
        }
        let committed = Committed::load(&self.blocks, self.scan, &first.superblock.metadata_map, &of_first);
        let is_gone = |block: &MetaBlock| {
            let was_used = matches!(committed.count(*block), Count::Exactly(1..) | Count::Many);
            was_used && !of_first.facts.contains_key(block)
        };
        let overwrote = |other: &Reach| other.facts.keys().any(is_gone);
        // Of one pool, a generation has all devices of the one before it, or lacks what was deleted.
        let devices: BTreeSet<_> = records(&self.blocks, &first.superblock)?.into_keys().collect();
        let of_other_pool = |other: &Reach| {
            let others: BTreeSet<_> = other.device_roots.keys().copied().collect();
            !devices.is_subset(&others) && !devices.is_superset(&others)
        };
        let mut others = others.iter().take(MOST_LOOKED_AT).map(|(other, _)| other);
        let own = others.find(|other| {
            let reach = reach(other);
            is_whole(&self.blocks, &other.superblock, &reach) && of_other_pool(&reach) && overwrote(&reach)
        });
        own.cloned()
    }
}

/// Whether no part of any device's mapping tree is lost, nor, as far as the records tell, was used again.
fn is_whole(blocks: &Blocks, superblock: &Superblock, reach: &Reach) -> bool {
    let is_lost = reach.dangling.values().any(|lost| matches!(lost.tree, Tree::Roots | Tree::Mapping));
    let root = |id: &u64| reach.device_roots.get(id).and_then(|root| reach.facts.get(root));
    let records = records(blocks, superblock).unwrap_or_default();
    !is_lost
        && !reach.device_roots.is_empty()
        && records.iter().all(|(id, record)| root(id).is_some_and(|root| root.entries == record.mapped.0))
}
