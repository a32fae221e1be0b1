//! Whether one generation of a pool followed another, when no copies are left to ask.
//!
//! A commit never uses again what the commit before it used, and a block that was freed never comes back with the same
//! content. So of what an old generation used, each later one has no more than those before it: whoever has less of it is
//! newer. That needs a witness which is certainly not between the two: one that lacks a device or nodes which both of them have.
//!
//! Without a witness there is only the way kernels allocate: in a circle, leaving out nothing that is free, so that what a
//! commit wrote lies directly behind the commit before it. That alone proves little, for the circle begins anew whenever the
//! pool is activated: only when much was changed it cannot be chance.

use super::choose::is_akin;
use super::committed::{Committed, Count};
use super::history::records;
use super::reach::{Reach, Tree};
use super::scan::Scan;
use crate::block_map::BlockSet;
use crate::blocks::Blocks;
use std::collections::BTreeSet;
use tierlift_ondisk::thin::ring::SLOTS;
use tierlift_ondisk::thin::{DeviceDetails, Superblock, flags};
use tierlift_ondisk::units::MetaBlock;

/// Witnesses heard, and generations looked at for them.
const MOST_WITNESSES: usize = 8;
const MOST_LOOKED_AT: usize = 64;
/// Nodes that speak for an order beside other evidence: a block that was used again may by chance hold what an older tree
/// expects there.
const SOME: usize = 3;
/// Nodes that do so alone.
const MANY: usize = 8;
/// Of so many blocks allocated in a row, one may have been freed again at once.
const FREED_AT_ONCE: u64 = 8;

/// A generation that may have followed another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Successor<'a> {
    pub superblock: &'a Superblock,
    /// It certainly did.
    pub proven: bool,
}

/// The newest generation later than `known` among others, newest first, that nothing contradicts.
pub(super) fn of<'a>(
    blocks: &Blocks,
    scan: &Scan,
    known: &Superblock,
    others: &'a [Superblock],
) -> Option<Successor<'a>> {
    let blocks = &blocks.clone().with_recorded_count(known.metadata_map.nr_blocks);
    let of_same_pool = |other: &&Superblock| is_akin(blocks, scan, known, other) || is_empty(blocks, known);
    let chain = chain_behind(blocks, scan, known, others);
    let behind = chain.last().copied().filter(of_same_pool);
    let replaced = behind.map_or(Some(0), |_| replaced(blocks, scan, known, &chain));
    let behind = behind.filter(|_| replaced.is_some());
    let proven_behind =
        |behind: &Superblock| replaced >= Some(MANY) || is_proven(blocks, scan, [known, behind], others, SOME);
    if let Some(superblock) = behind.filter(|behind| proven_behind(behind)) {
        return Some(Successor { superblock, proven: true });
    }
    // Those between may be overwritten; one that is farther away must be proven all the better.
    let farther = others.first().filter(|other| index(other) != index(known)).filter(of_same_pool);
    let farther = farther.filter(|farther| is_proven(blocks, scan, [known, farther], others, MANY));
    let farther = farther.map(|superblock| Successor { superblock, proven: true });
    farther.or(behind.map(|superblock| Successor { superblock, proven: false }))
}

/// Nodes of mapping trees that are gone from the first of what lies behind a generation. When they are many it cannot have
/// been the other way round: then all of them would be changes to just what that one had changed, and just fill what was free
/// up to it. `None` when what was gone is back at the end, so that it did not come later.
fn replaced(blocks: &Blocks, scan: &Scan, known: &Superblock, chain: &[&Superblock]) -> Option<usize> {
    let nodes = |superblock| Nodes::of(blocks, scan, superblock);
    let Some((known, first)) = nodes(known).zip(chain.first().and_then(|first| nodes(first))) else { return Some(0) };
    let gone: BlockSet = known.nodes.difference(&first.nodes).copied().collect();
    let last = chain.last().filter(|_| chain.len() > 1).and_then(|last| nodes(last));
    let is_back = last.is_some_and(|last| !gone.is_disjoint(&last.nodes));
    (!is_back).then_some(gone.len())
}

fn index(superblock: &Superblock) -> MetaBlock {
    superblock.metadata_map.bitmap_root
}

/// Whether a generation has no devices.
pub(super) fn is_empty(blocks: &Blocks, superblock: &Superblock) -> bool {
    records(blocks, superblock).is_some_and(|records| records.is_empty())
}

/// Whether each device has as many mappings as its record says.
pub(super) fn is_whole(blocks: &Blocks, scan: &Scan, superblock: &Superblock) -> bool {
    Nodes::of(blocks, scan, superblock).is_some()
}

/// The generations that lie directly behind each other, beginning with what lies behind the known one.
pub(super) fn chain_behind<'a>(
    blocks: &Blocks,
    scan: &Scan,
    known: &Superblock,
    others: &'a [Superblock],
) -> Vec<&'a Superblock> {
    let distance = |other: &&Superblock| (index(other) <= index(known), index(other));
    let mut in_circle: Vec<_> = others.iter().filter(|other| index(other) != index(known)).collect();
    in_circle.sort_unstable_by_key(distance);
    let counts = |superblock: &Superblock| Committed::load(blocks, scan, &superblock.metadata_map, &Reach::default());
    let (mut from, mut older, mut chain) = (index(known), counts(known), Vec::new());
    for next in in_circle {
        let newer = counts(next);
        if !lies_behind(blocks, known, (from, &older), (index(next), &newer)) {
            break;
        }
        (from, older) = (index(next), newer);
        chain.push(next);
    }
    chain
}

/// Whether everything new in one generation, and next to nothing else that was free, lies between the ends of both. A
/// generation's index block is among the last things it allocated.
fn lies_behind(
    blocks: &Blocks,
    of: &Superblock,
    older: (MetaBlock, &Committed),
    newer: (MetaBlock, &Committed),
) -> bool {
    let ring = if of.has(flags::SUPERBLOCK_BACKUP) { SLOTS } else { 0 };
    let end = blocks.count().min(blocks.scan_end()).saturating_sub(ring);
    let ((from, older), (to, newer)) = (older, newer);
    let is_new = |block: u64| {
        let [older, newer] = [older, newer].map(|counts| counts.count(MetaBlock(block)));
        older == Count::Exactly(0) && !matches!(newer, Count::Exactly(0) | Count::Unknown)
    };
    // The bitmap that counts the index block itself may come after it.
    let behind = (to.0..end).skip(1).take_while(|block| is_new(*block)).last();
    let to = MetaBlock(behind.unwrap_or(to.0));
    let is_between = |block: u64| {
        let (after, before) = (block > from.0, block <= to.0);
        if from < to { after && before } else { after || before }
    };
    let (mut new, mut left_out) = (0_u64, 0_u64);
    for block in 1..end {
        match (older.count(MetaBlock(block)), newer.count(MetaBlock(block)), is_between(block)) {
            (Count::Exactly(0), Count::Exactly(0), true) => left_out = left_out.saturating_add(1),
            (Count::Exactly(0), Count::Exactly(0), false) => {}
            (Count::Exactly(0), _, false) | (Count::Unknown, ..) | (_, Count::Unknown, _) => return false,
            (Count::Exactly(0), _, true) => new = new.saturating_add(1),
            _ => {}
        }
    }
    new > 0 && left_out.saturating_mul(FREED_AT_ONCE) <= new
}

/// Whether a witness tells that the second followed the first: it is not between them; at least so many of its nodes are
/// only in the first any more, and none only in the second.
fn is_proven(
    blocks: &Blocks,
    scan: &Scan,
    [first, second]: [&Superblock; 2],
    others: &[Superblock],
    least: usize,
) -> bool {
    let nodes = |superblock| Nodes::of(blocks, scan, superblock);
    let Some((first, second)) = nodes(first).zip(nodes(second)) else { return false };
    let (mut heard, mut total) = (0_usize, 0_usize);
    for witness in others.iter().take(MOST_LOOKED_AT).filter_map(nodes) {
        if !witness.lacks_some_of_both(&first, &second) {
            continue;
        }
        heard = heard.saturating_add(1);
        if witness.only_with(&second, &first) > 0 || heard > MOST_WITNESSES {
            return false;
        }
        let gone = witness.only_with(&first, &second);
        total = total.saturating_add(gone);
        if gone >= least || total >= least.max(MANY) {
            return true;
        }
    }
    false
}

/// What a generation's devices consist of.
struct Nodes {
    devices: BTreeSet<(u64, u32)>,
    nodes: BlockSet,
}

impl Nodes {
    /// `None` when the devices' records show that some node was used again by something similar.
    fn of(blocks: &Blocks, scan: &Scan, superblock: &Superblock) -> Option<Self> {
        let reach = Reach::from_superblock(blocks, scan, superblock);
        let records = records(blocks, superblock)?;
        let root = |id: &u64| reach.device_roots.get(id).and_then(|root| reach.facts.get(root));
        let is_right =
            |(id, record): (&u64, &DeviceDetails)| root(id).is_some_and(|root| root.entries == record.mapped.0);
        if !records.iter().all(is_right) {
            return None;
        }
        let nodes = reach.facts.iter().filter(|(_, fact)| fact.tree == Tree::Mapping).map(|(block, _)| *block);
        let devices = records.iter().map(|(id, record)| (*id, record.creation_time));
        Some(Self { devices: devices.collect(), nodes: nodes.collect() })
    }

    /// Whether it is not between the two: what both have was never gone meanwhile, for nothing comes back.
    fn lacks_some_of_both(&self, first: &Self, second: &Self) -> bool {
        let mut devices = first.devices.intersection(&second.devices);
        let nodes = first.nodes.iter().filter(|node| second.nodes.contains(node) && !self.nodes.contains(node));
        devices.any(|device| !self.devices.contains(device)) || nodes.take(MANY).count() >= MANY
    }

    /// Nodes of this generation that the one has and the other lacks.
    fn only_with(&self, one: &Self, other: &Self) -> usize {
        self.nodes.iter().filter(|node| one.nodes.contains(node) && !other.nodes.contains(node)).count()
    }
}
