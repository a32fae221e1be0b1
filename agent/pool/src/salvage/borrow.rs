//! One device taken from another generation than the rest: which blocks of its tree are still what they were.
//!
//! The free blocks of a pool are written over sooner or later. A node that was is sound, and may even hold keys that fit, for
//! it may be another volume's, or the same one's of another time. So only nodes that are proven to be the same are used: those
//! in use in every generation since, and those that were freed once, are free in all later generations, and lie where the
//! allocator has not come by again.

use super::choose::{self, Candidate};
use super::committed::{Committed, Count};
use super::history::{Chronicle, is_same_commit, records, was_passed};
use super::options::{Generation, SalvageOptions};
use super::pick;
use super::plan::children_of;
use super::reach::Reach;
use super::scan::Scan;
use crate::block_map::BlockSet;
use crate::blocks::Blocks;
use crate::error::PoolError;
use crate::ring::Ring;
use tierlift_ondisk::thin::{DeviceDetails, NodeKind, Superblock};
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// A device and the generation it is wanted from.
#[derive(Debug)]
pub(super) struct Wish {
    pub device: DeviceId,
    pub candidate: Candidate,
    /// The newest commit: whatever was written over was so by then.
    pub latest: Superblock,
}

/// The devices to be taken from other generations, each with its generation.
///
/// # Errors
/// When there is no such generation.
pub(super) fn wishes(
    blocks: &Blocks,
    scan: &Scan,
    ring: &Ring,
    chosen: &Candidate,
    options: &SalvageOptions,
) -> Result<Vec<Wish>, PoolError> {
    let pick = |generation: Option<Generation>| {
        let options = SalvageOptions { generation, ..options.clone() };
        pick::pick(blocks, scan, ring, &options).map(|(candidate, _)| candidate)
    };
    let newest = options.generation.filter(|_| !options.devices.is_empty()).and_then(|_| pick(None));
    let latest = &newest.as_ref().unwrap_or(chosen).superblock;
    let wish = |(device, generation): (&DeviceId, &Generation)| {
        let candidate = pick(Some(*generation)).ok_or(PoolError::NoSuchGeneration(*generation))?;
        Ok(Wish { device: *device, candidate, latest: latest.clone() })
    };
    options.devices.iter().map(wish).collect()
}

/// The device as it was in that generation.
#[derive(Debug)]
pub(super) struct Borrowed {
    pub device: u64,
    pub generation: Generation,
    pub superblock: Superblock,
    pub root: MetaBlock,
    pub record: Option<DeviceDetails>,
    /// The blocks of its tree that are proven to be the same as then.
    pub proven: BlockSet,
}

impl Borrowed {
    /// Whether the clock of its generation is known.
    pub(super) fn is_dated(&self) -> bool {
        matches!(self.generation, Generation::Block0 | Generation::Copy { .. })
    }
}

/// Finds the device in its generation. The chronicle is that of [`Wish::latest`].
///
/// # Errors
/// When that generation does not have the device, or its root is lost.
pub(super) fn find(chronicle: &Chronicle<'_>, wish: &Wish) -> Result<Borrowed, PoolError> {
    let Wish { device, candidate, .. } = wish;
    let superblock = candidate.superblock.clone();
    let blocks = chronicle.blocks.clone().with_recorded_count(superblock.metadata_map.nr_blocks);
    let then = Reach::from_superblock(&blocks, chronicle.scan, &superblock);
    let root = then.device_roots.get(&device.0).copied();
    let mut nodes = nodes_below(&blocks, chronicle.scan, root.into_iter());
    nodes.retain(|block| then.facts.contains_key(block));
    let Some(root) = root.filter(|root| nodes.contains(root)) else {
        let known = then.device_roots.keys().copied().map(DeviceId).collect();
        return Err(PoolError::NotInGeneration { device: *device, generation: candidate.generation, known });
    };
    let record = records(&blocks, &superblock).and_then(|records| records.get(&device.0).copied());
    let proven = proven(chronicle, &superblock, &nodes);
    Ok(Borrowed { device: device.0, generation: candidate.generation, superblock, root, record, proven })
}

/// Every node of the trees at these roots, each once.
pub(super) fn nodes_below(blocks: &Blocks, scan: &Scan, roots: impl Iterator<Item = MetaBlock>) -> BlockSet {
    let mut found = BlockSet::default();
    let mut open: Vec<_> = roots.collect();
    while let Some(block) = open.pop() {
        let Some(node) = scan.nodes.get(&block).filter(|_| !found.contains(&block)) else { continue };
        found.insert(block);
        if node.kind == NodeKind::Internal {
            open.extend(children_of(blocks, block).into_iter().map(MetaBlock));
        }
    }
    found
}

/// The nodes that are the same as in that generation.
fn proven(chronicle: &Chronicle<'_>, then: &Superblock, nodes: &BlockSet) -> BlockSet {
    let latest = chronicle.superblock;
    if choose::contradictions(chronicle.blocks, chronicle.scan, latest) > 0 {
        return BlockSet::default();
    }
    if is_same_commit(latest, then) {
        return nodes.clone();
    }
    let reach = Reach::from_superblock(chronicle.blocks, chronicle.scan, latest);
    let committed = Committed::load(chronicle.blocks, chronicle.scan, &latest.metadata_map, &reach);
    let mut pasts = chronicle.pasts(&committed, nodes.iter().copied());
    let Some(own) = pasts.iter().position(|past| is_same_commit(&past.superblock, then)) else {
        return BlockSet::default();
    };
    pasts.truncate(own.saturating_add(1));
    let superblocks: Vec<_> = std::iter::once(latest).chain(pasts.iter().map(|past| &past.superblock)).collect();
    let was_passed = |block: MetaBlock| {
        superblocks.windows(2).any(|pair| matches!(pair, [newer, older] if was_passed(block, older, newer)))
    };
    let counts: Vec<_> = std::iter::once(&committed).chain(pasts.iter().map(|past| &past.committed)).collect();
    let is_unbroken = |block: MetaBlock| pasts.last().is_some_and(|past| past.is_unbroken(block));
    let is_same = |block: &&MetaBlock| is_unbroken(**block) || freed_once(&counts, **block) && !was_passed(**block);
    nodes.iter().filter(is_same).copied().collect()
}

/// Whether a block that was in use in the oldest of these generations was freed at most once. The newest comes first.
fn freed_once(counts: &[&Committed], block: MetaBlock) -> bool {
    let counts = || counts.iter().map(|committed| committed.count(block));
    let free = counts().take_while(|count| *count == Count::Exactly(0)).count();
    counts().skip(free).all(|count| matches!(count, Count::Exactly(1..) | Count::Many))
}
