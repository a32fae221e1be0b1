//! Older generations of the pool, newest first, as witnesses: which blocks were in use all the time since, and what was above
//! them then.
//!
//! A node never changes while a committed generation uses it. So what a lost node points at now, it pointed at in every
//! generation since it was written, and a block that was free in one of these, or whose pointers all came from elsewhere
//! then, is not below it. That holds only while nothing was freed and used again in between, which counts of the generations
//! tell: between two that follow each other directly it is impossible, and where some are missing only blocks that the
//! allocator went over meanwhile are in doubt.

use super::choose::as_block0;
use super::classify::{Classifier, tiers_whole};
use super::committed::{Committed, Count};
use super::from_index;
use super::options::Hints;
use super::orphan::{Orphan, follow_unreached, orphans};
use super::reach::{Reach, Tree};
use super::scan::Scan;
use crate::block_map::BlockSet;
use crate::blocks::Blocks;
use crate::pool::Pool;
use crate::ring::Ring;
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{DeviceDetails, Family, Superblock};
use tierlift_ondisk::units::MetaBlock;

/// Older generations followed as witnesses.
pub(crate) const MOST_PASTS: usize = 48;
/// Nodes looked at over all of them.
const MOST_NODES: usize = 20_000_000;

/// One older generation that nothing contradicts.
#[derive(Debug)]
pub(crate) struct Past {
    pub superblock: Superblock,
    pub reach: Reach,
    pub committed: Committed,
    /// Nodes of mapping trees that lacked pointers then and are still the same.
    pub orphans: Vec<Orphan>,
    /// Blocks of interest that were in use ever since.
    unbroken: BlockSet,
}

impl Past {
    /// Whether a block has been in use, and so unchanged, ever since.
    pub(crate) fn is_unbroken(&self, block: MetaBlock) -> bool {
        self.unbroken.contains(&block)
    }

    /// Whether the device had this root, or did not exist yet.
    pub(crate) fn had(&self, device: u64, root: MetaBlock) -> bool {
        self.reach.device_roots.get(&device).is_none_or(|old| *old == root)
    }

    /// Whether all pointers to a block can be seen, or there was none.
    pub(crate) fn is_accounted_for(&self, block: MetaBlock) -> bool {
        match self.committed.count(block) {
            Count::Exactly(count) => {
                let named = self.reach.dangling.get(&block).map_or(0, |lost| lost.edges);
                count <= self.reach.facts.get(&block).map_or(named, |fact| fact.edges)
            }
            Count::Many | Count::Unknown => false,
        }
    }
}

/// What is known of the generations before the chosen one.
pub(crate) struct Chronicle<'a> {
    pub blocks: &'a Blocks,
    pub scan: &'a Scan,
    pub ring: &'a Ring,
    pub superblock: &'a Superblock,
    pub family: Family,
    /// Generations followed.
    pub most: usize,
}

impl Chronicle<'_> {
    /// Follows the generations before the chosen one, the newest first, as far as nothing contradicts them. `interest` are
    /// the blocks whose lives are followed.
    pub(crate) fn pasts(&self, committed: &Committed, interest: impl Iterator<Item = MetaBlock>) -> Vec<Past> {
        let mut unbroken: BlockSet = interest.filter(|block| is_used(committed, *block)).collect();
        let mut later = self.superblock.clone();
        let mut pasts: Vec<Past> = Vec::new();
        let mut nodes = 0_usize;
        for (superblock, directly) in self.superblocks() {
            let Some((reach, older)) = self.follow(&superblock) else { break };
            nodes = nodes.saturating_add(reach.facts.len());
            let newer = pasts.last().map_or(committed, |past| &past.committed);
            let in_circle = directly || self.lies_in_circle((&superblock, &older), (&later, newer));
            if pasts.len() >= self.most || nodes > MOST_NODES || !in_circle {
                break;
            }
            unbroken.retain(|block| is_used(&older, *block) && (directly || !was_passed(*block, &superblock, &later)));
            let mut orphans = orphans(self.blocks, self.scan, &older, &reach);
            orphans.retain(|orphan| orphan.tree == Tree::Mapping && unbroken.contains(&orphan.child.block));
            later = superblock.clone();
            pasts.push(Past { superblock, reach, committed: older, orphans, unbroken: unbroken.clone() });
        }
        pasts
    }

    /// The newest records of devices that can be read whole, in this or an older generation.
    pub(crate) fn newest_records(&self, pasts: &[Past]) -> Option<(Superblock, BTreeMap<u64, DeviceDetails>)> {
        let copies = self
            .ring
            .copies
            .iter()
            .rev()
            .map(|(_, copy)| copy)
            .filter(|copy| (copy.transaction, copy.time) <= (self.superblock.transaction, self.superblock.time));
        let pasts = pasts.iter().map(|past| &past.superblock);
        std::iter::once(self.superblock)
            .chain(copies)
            .chain(pasts)
            .find_map(|superblock| Some((superblock.clone(), records(self.blocks, superblock)?)))
    }

    /// Superblocks before the chosen one, newest first, and whether the next newer one is known to follow directly.
    fn superblocks(&self) -> Vec<(Superblock, bool)> {
        let copies: Vec<_> = self.ring.copies.iter().rev().map(|(_, copy)| copy).collect();
        let from = copies.iter().rposition(|copy| is_same_commit(copy, self.superblock));
        let mut next = from.and_then(|from| copies.get(from)).map(|copy| copy.backup_id);
        let older = copies.into_iter().skip(from.map_or(0, |from| from.saturating_add(1)));
        let mut found = Vec::new();
        for copy in older {
            found.push((copy.clone(), next == copy.backup_id.checked_add(1)));
            next = Some(copy.backup_id);
        }
        if found.is_empty() && self.ring.copies.is_empty() {
            let hints = Hints::default();
            let by_index = from_index::candidates(self.blocks, self.scan, Some(self.superblock), &hints);
            let all: Vec<_> = by_index.into_iter().map(|(found, _)| found.superblock).collect();
            let index = |superblock: &Superblock| superblock.metadata_map.bitmap_root;
            let own = all.iter().position(|other| index(other) == index(self.superblock));
            let Some(own) = own else { return found };
            found.extend(all.into_iter().skip(own.saturating_add(1)).map(|superblock| (superblock, false)));
        }
        found
    }

    /// Whether all that is new since an older generation lies where the allocator came by on its circle from one to the other.
    /// Where a pool was activated in between it began anew at the start, and what it came by is not known.
    fn lies_in_circle(&self, older: (&Superblock, &Committed), newer: (&Superblock, &Committed)) -> bool {
        let is_new = |block: MetaBlock| older.1.count(block) == Count::Exactly(0) && is_used(newer.1, block);
        // The bitmaps that count the index block itself may come right behind it.
        let index = newer.0.metadata_map.bitmap_root.0;
        let behind = (index..self.blocks.count()).skip(1).take_while(|block| is_new(MetaBlock(*block)));
        let last = MetaBlock(behind.last().unwrap_or(index));
        let is_behind = |block: MetaBlock| block.0 > index && block <= last;
        let mut nodes = self.scan.nodes.keys();
        nodes.all(|block| !is_new(*block) || was_passed(*block, older.0, newer.0) || is_behind(*block))
    }

    fn follow(&self, superblock: &Superblock) -> Option<(Reach, Committed)> {
        let mut reach = Reach::from_superblock(self.blocks, self.scan, superblock);
        let committed = Committed::load(self.blocks, self.scan, &superblock.metadata_map, &reach);
        let classifier = Classifier {
            blocks: self.blocks,
            scan: self.scan,
            superblock,
            family: self.family,
            tiers_whole: tiers_whole(superblock, &reach),
        };
        follow_unreached(&classifier, &committed, &mut reach);
        (committed.reused == 0 && committed.contradictions(&reach) == 0).then_some((reach, committed))
    }
}

/// The records of a generation, when all of them can be read.
pub(crate) fn records(blocks: &Blocks, superblock: &Superblock) -> Option<BTreeMap<u64, DeviceDetails>> {
    let walk = Pool::with_blocks(blocks.clone(), as_block0(superblock)).ok()?.details();
    walk.lost.is_empty().then(|| walk.found.into_iter().collect())
}

/// Whether two superblocks are of one commit: each commit writes a new index of its space map.
pub(crate) fn is_same_commit(one: &Superblock, other: &Superblock) -> bool {
    let roots = |superblock: &Superblock| (superblock.metadata_map.bitmap_root, superblock.mapping_root);
    roots(one) == roots(other)
}

fn is_used(committed: &Committed, block: MetaBlock) -> bool {
    matches!(committed.count(block), Count::Exactly(1..) | Count::Many)
}

/// Whether the allocator, which goes in a circle, may have come by a block between two generations. Each one's index block is
/// among the last things it allocated.
pub(crate) fn was_passed(block: MetaBlock, older: &Superblock, newer: &Superblock) -> bool {
    let (from, to) = (older.metadata_map.bitmap_root, newer.metadata_map.bitmap_root);
    if from <= to { from < block && block <= to } else { from < block || block <= to }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_ondisk::thin::SpaceMapRoot;

    #[test]
    fn the_allocator_goes_in_a_circle() {
        let forge = tierlift_forge::simulator::Simulator::format(tierlift_forge::simulator::Shape::MAINLINE).unwrap();
        let any = forge.finish().unwrap().commits.pop().unwrap();
        let at = |block| {
            let map = SpaceMapRoot { bitmap_root: MetaBlock(block), ..any.metadata_map };
            Superblock { metadata_map: map, ..any.clone() }
        };
        let passed = |from, to| [5, 10, 15, 20, 25].map(|block| was_passed(MetaBlock(block), &at(from), &at(to)));
        assert_eq!(passed(10, 20), [false, false, true, true, false]);
        assert_eq!(passed(20, 10), [true, true, false, false, true]);
    }
}
