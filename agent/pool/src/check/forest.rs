//! Walking all trees of a pool so that each node is read, verified and decoded once, however many trees share it.
//!
//! Snapshots share most of their nodes. What a node holds is summed up when it is first met ([`Known`]); when another parent
//! points at it, only that summary is held against the window which this parent leaves. Pointers are counted as they are
//! met, one for each parent node, which is what the metadata's own space map counts.
//!
//! Children are read in batches, sorted by their place on the device and joined where they are neighbours. Which parts of a
//! tree are lost is found in a second pass over damaged paths alone ([`Forest::losses`]), so that sound trees pay nothing.

use super::findings::Findings;
use super::kind::Kind;
use super::structure::{Map, Structure};
use crate::block_map::BlockMap;
use crate::blocks::Blocks;
use crate::counts::Counts;
use crate::fault::{Fault, Lost};
use crate::walk::{MOST_LEVELS, Place, ValueSize, hold, load};
use std::mem::take;
use tierlift_ondisk::thin::{BlockKind, Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// Blocks read at once at most. All inner nodes of a batch are held in memory, on each level of the tree.
const BATCH: usize = 64;

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Metadata blocks read.
    pub done: u64,
    /// Blocks in use, by the superblock.
    pub total: u64,
}

/// What a tree is for: a node belongs to trees of one role only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Devices,
    Details,
    Mapping,
    Tiers,
    Clones,
    Index(Map),
    CountTree(Map),
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Devices => "the device tree",
            Self::Details => "the details tree",
            Self::Mapping => "a mapping tree",
            Self::Tiers => "the tier tree",
            Self::Clones => "the clone-count tree",
            Self::Index(_) => "the index of a space map",
            Self::CountTree(_) => "the tree of counts of a space map",
        }
    }
}

/// What is known of a node that was met.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Lowest key; `None` when it is empty.
    first: Option<u64>,
    /// Highest key of all its leaves.
    last: u64,
    /// Entries in its leaves.
    pub entries: u64,
    /// Nodes below it, or itself, that cannot be used.
    pub broken: u32,
    height: u8,
    role: Role,
    /// It is being summed up: who meets it now is its descendant.
    open: bool,
}

impl Known {
    fn new(role: Role) -> Self {
        Self { first: None, last: 0, entries: 0, broken: 0, height: 0, role, open: false }
    }

    fn broken(role: Role) -> Self {
        Self { broken: 1, ..Self::new(role) }
    }

    /// Whether nothing at all is known of it but that it cannot be used.
    fn unusable(&self) -> bool {
        self.first.is_none() && self.broken > 0
    }

    /// Why a node that can be used is none that its parent may have there.
    fn misplaced(&self, place: &Place, role: Role) -> Option<Fault> {
        if self.role != role {
            return Some(Fault::OtherTree(self.role.name()));
        }
        let Some(first) = self.first else { return (!place.is_root).then_some(Fault::Empty) };
        let key = [first, self.last].into_iter().find(|key| !place.window.contains(*key))?;
        Some(Fault::KeyOutside { key, window: place.window })
    }
}

/// An inner node taken out of the buffer.
struct Inner {
    place: Place,
    first: u64,
    last: u64,
    children: Vec<Place>,
}

pub(super) struct Forest<'a> {
    pub blocks: &'a Blocks,
    /// Pointers met, by the block they lead to.
    pub refs: Counts,
    pub findings: Findings,
    /// Nodes that are neither roots nor at least a third full: a figure, not a fault.
    pub underfull: u64,
    /// What is being walked.
    structure: Structure,
    known: BlockMap<Known>,
    left: u64,
    bound: u64,
    buffer: Vec<u8>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Forest<'a> {
    pub(super) fn new(blocks: &'a Blocks, in_use: u64, progress: &'a mut dyn FnMut(Progress)) -> Self {
        // A sound node is read once, and one found in the wrong place once more for each parent.
        let bound = blocks.count().max(blocks.present()).saturating_mul(4);
        Self {
            blocks,
            refs: Counts::new(blocks.count()),
            findings: Findings::new(blocks.size()),
            underfull: 0,
            structure: Structure::Superblock,
            known: BlockMap::default(),
            left: bound,
            bound,
            buffer: Vec::new(),
            done: 0,
            total: in_use.min(blocks.count()),
            progress,
        }
    }

    /// Walks the tree at `root`, giving each of its leaves that was not met before to `leaf`, in no particular order and
    /// with the counter of pointers. The pointer to the root is for the caller to count. Each hole goes to `lost`, with the
    /// sum of the whole tree. Answers with that sum; its `broken` tells whether there are holes.
    pub(super) fn tree(
        &mut self,
        structure: Structure,
        root: MetaBlock,
        mut values: ValueSize,
        mut lost: impl FnMut(&mut Findings, &Known, Lost),
        mut leaf: impl FnMut(&Node<'_>, &mut Counts),
    ) -> Known {
        let role = structure.role();
        let place = Place::root(root);
        self.structure = structure;
        self.visit(&[place], role, 0, &mut values, &mut leaf);
        let sum = match self.known.get(&root) {
            Some(known) if known.role == role && !known.open => *known,
            _ => Known::broken(role),
        };
        if sum.broken > 0 {
            let mut path = Vec::new();
            self.losses(place, role, &mut values, &mut path, &mut |findings, hole| lost(findings, &sum, hole));
        }
        sum
    }

    fn visit(
        &mut self,
        places: &[Place],
        role: Role,
        depth: usize,
        values: &mut ValueSize,
        leaf: &mut impl FnMut(&Node<'_>, &mut Counts),
    ) {
        let fresh: Vec<_> = places.iter().filter(|place| !self.known.contains_key(&place.block)).copied().collect();
        // Sorting numbers is far cheaper than sorting places.
        let mut order: Vec<(MetaBlock, usize)> = fresh.iter().map(|place| place.block).zip(0..).collect();
        order.sort_unstable();
        order.dedup_by_key(|(block, _)| *block);
        let fresh: Vec<Place> = order.into_iter().filter_map(|(_, at)| fresh.get(at).copied()).collect();
        for batch in fresh.chunks(BATCH) {
            for inner in self.read(batch, role, values, leaf) {
                // One of its sisters may have led to it, in a tree that is no tree.
                if !self.known.contains_key(&inner.place.block) {
                    self.descend(&inner, role, depth, values, leaf);
                }
            }
        }
    }

    /// Reads nodes that are sorted by block. Leaves are dealt with, inner nodes are handed back.
    fn read(
        &mut self,
        batch: &[Place],
        role: Role,
        values: &mut ValueSize,
        leaf: &mut impl FnMut(&Node<'_>, &mut Counts),
    ) -> Vec<Inner> {
        let mut inners = Vec::new();
        let mut buffer = take(&mut self.buffer);
        let blocks = self.blocks;
        for run in batch.chunk_by(|a, b| a.block.0.checked_add(1) == Some(b.block.0)) {
            let Some(first) = run.first() else { continue };
            blocks.read_run(first.block, run.len(), BlockKind::Node, &mut buffer, |position, bytes| {
                let Some(place) = run.get(position) else { return };
                if self.admit(place.block) {
                    inners.extend(self.take(*place, bytes, role, values, leaf));
                }
            });
        }
        self.buffer = buffer;
        (self.progress)(Progress { done: self.done, total: self.total });
        inners
    }

    /// Whether a block may still be looked at, and was not in the meantime.
    fn admit(&mut self, block: MetaBlock) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.done = self.done.saturating_add(1);
        !self.known.contains_key(&block)
    }

    fn take(
        &mut self,
        place: Place,
        bytes: Result<&[u8], Fault>,
        role: Role,
        values: &mut ValueSize,
        leaf: &mut impl FnMut(&Node<'_>, &mut Counts),
    ) -> Option<Inner> {
        let node = match bytes.and_then(|bytes| hold(place, values, bytes)) {
            Ok(node) => node,
            // Sound, but not what this parent promises: another one may be right about it.
            Err(Fault::KeyOutside { .. }) => return None,
            Err(_) => {
                self.known.insert(place.block, Known::broken(role));
                return None;
            }
        };
        if !place.is_root && node.len() < node.max_entries() / 3 {
            self.underfull = self.underfull.saturating_add(1);
        }
        let (first, last) = (node.keys().next(), node.keys().next_back().unwrap_or(0));
        if node.kind() == NodeKind::Leaf {
            leaf(&node, &mut self.refs);
            self.known.insert(place.block, Known { first, last, entries: node.len() as u64, ..Known::new(role) });
            return None;
        }
        Some(Inner { place, first: first?, last, children: place.children(&node) })
    }

    fn descend(
        &mut self,
        inner: &Inner,
        role: Role,
        depth: usize,
        values: &mut ValueSize,
        leaf: &mut impl FnMut(&Node<'_>, &mut Counts),
    ) {
        let block = inner.place.block;
        if depth >= MOST_LEVELS {
            self.known.insert(block, Known::broken(role));
            return;
        }
        self.known.insert(block, Known { open: true, ..Known::new(role) });
        for child in &inner.children {
            self.refs.add(child.block.0);
        }
        self.visit(&inner.children, role, depth.saturating_add(1), values, leaf);
        let sum = self.sum(inner, role);
        self.known.insert(block, sum);
    }

    /// Sums up an inner node whose children have all been met.
    fn sum(&mut self, inner: &Inner, role: Role) -> Known {
        let mut sum = Known { first: Some(inner.first), last: inner.last, ..Known::new(role) };
        let mut height = None;
        let mut uneven = None;
        for place in &inner.children {
            match self.known.get(&place.block) {
                Some(child) if !child.open && child.misplaced(place, role).is_none() => {
                    sum.entries = sum.entries.saturating_add(child.entries);
                    sum.broken = sum.broken.saturating_add(child.broken);
                    sum.last = sum.last.max(child.last);
                    let whole = child.broken == 0;
                    let expected = *height.get_or_insert(child.height);
                    uneven = uneven.or((whole && expected != child.height).then_some((expected, child.height)));
                }
                _ => sum.broken = sum.broken.saturating_add(1),
            }
        }
        sum.height = height.unwrap_or(0).saturating_add(1);
        if let Some((expected, found)) = uneven {
            self.findings.add(self.structure, inner.place.block, Kind::UnevenDepth { expected, found });
        }
        sum
    }

    /// The second pass: what of a damaged tree is lost, in key order, going down damaged paths only.
    fn losses(
        &mut self,
        place: Place,
        role: Role,
        values: &mut ValueSize,
        path: &mut Vec<MetaBlock>,
        lost: &mut dyn FnMut(&mut Findings, Lost),
    ) {
        match self.look_again(place, role, values, path) {
            Err(fault) => lost(&mut self.findings, place.lost(fault)),
            Ok(children) => {
                path.push(place.block);
                for child in children {
                    self.losses(child, role, values, path, lost);
                }
                path.pop();
            }
        }
    }

    /// The children of a node that is not whole; none of one that is.
    fn look_again(
        &mut self,
        place: Place,
        role: Role,
        values: &mut ValueSize,
        path: &[MetaBlock],
    ) -> Result<Vec<Place>, Fault> {
        if path.contains(&place.block) {
            return Err(Fault::Loop);
        }
        if path.len() > MOST_LEVELS {
            return Err(Fault::TooDeep);
        }
        if let Some(known) = self.known.get(&place.block).filter(|known| !known.unusable()) {
            match known.misplaced(&place, role) {
                Some(fault) => return Err(fault),
                None if known.broken == 0 => return Ok(Vec::new()),
                None => {}
            }
        }
        self.left = self.left.checked_sub(1).ok_or(Fault::Endless)?;
        let mut buffer = take(&mut self.buffer);
        let children = load(self.blocks, place, values, &mut buffer)
            .map(|node| if node.kind() == NodeKind::Leaf { Vec::new() } else { place.children(&node) });
        self.buffer = buffer;
        children
    }

    /// Reads single blocks of one kind, sorted by block, where neighbours are joined; each goes to `take` with its position.
    pub(super) fn singles(
        &mut self,
        batch: &[MetaBlock],
        kind: BlockKind,
        mut take_one: impl FnMut(&mut Self, usize, Result<&[u8], Fault>),
    ) {
        let mut buffer = take(&mut self.buffer);
        let blocks = self.blocks;
        let mut at = 0_usize;
        for run in batch.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
            for part in run.chunks(BATCH) {
                let Some(first) = part.first() else { continue };
                blocks.read_run(*first, part.len(), kind, &mut buffer, |position, bytes| {
                    self.done = self.done.saturating_add(1);
                    take_one(self, at.saturating_add(position), bytes);
                });
                at = at.saturating_add(part.len());
                (self.progress)(Progress { done: self.done, total: self.total });
            }
        }
        self.buffer = buffer;
    }

    /// Tells when the bound was reached; called once, at the end.
    pub(super) fn finish(&mut self) {
        if self.left == 0 {
            self.findings.add(Structure::Superblock, None, Kind::TooEntangled { blocks: self.bound });
        }
    }

    /// Tree nodes met.
    pub(super) fn nodes(&self) -> u64 {
        self.known.len() as u64
    }
}

impl Structure {
    pub(super) fn role(self) -> Role {
        match self {
            Self::Details { .. } => Role::Details,
            Self::Mapping { .. } => Role::Mapping,
            Self::Tiers => Role::Tiers,
            Self::Clones => Role::Clones,
            Self::Index(map) | Self::Bitmaps(map) => Role::Index(map),
            Self::CountTree(map) => Role::CountTree(map),
            Self::Superblock | Self::Ring | Self::Held | Self::Devices { .. } => Role::Devices,
        }
    }
}
