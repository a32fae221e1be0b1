//! Counting the entries of many trees that share most of their nodes, as snapshots do: each node is read once.

use crate::block_map::BlockMap;
use crate::blocks::Blocks;
use crate::walk::{MOST_LEVELS, Place, ValueSize, load};
use serde::Serialize;
use tierlift_ondisk::thin::NodeKind;
use tierlift_ondisk::units::MetaBlock;

/// The sum of a tree or of a part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Entries counted.
    pub entries: u64,
    /// Lowest key.
    pub first: Option<u64>,
    /// Highest key.
    pub last: Option<u64>,
    /// Blocks that could not be used; what they held is not counted.
    pub broken: u64,
}

impl Tally {
    fn add(&mut self, later: Self) {
        self.entries = self.entries.saturating_add(later.entries);
        self.broken = self.broken.saturating_add(later.broken);
        self.first = self.first.or(later.first);
        self.last = later.last.or(self.last);
    }
}

/// Counts trees of one metadata device, remembering the sums of sound nodes.
#[derive(Debug)]
pub struct Counter<'a> {
    blocks: &'a Blocks,
    sums: BlockMap<Tally>,
    left: u64,
}

impl<'a> Counter<'a> {
    /// A counter that reads at most four times as many blocks as there are, however damaged trees are shared.
    pub fn new(blocks: &'a Blocks) -> Self {
        Self { blocks, sums: BlockMap::default(), left: blocks.count().max(blocks.present()).saturating_mul(4) }
    }

    /// Counts the tree of 8-byte values at `root`; `None` when the bound was reached.
    pub fn count(&mut self, root: MetaBlock) -> Option<Tally> {
        self.sum(Place::root(root), 0)
    }

    fn sum(&mut self, place: Place, level: usize) -> Option<Tally> {
        let inside = |key: Option<u64>| key.is_none_or(|key| place.window.contains(key));
        let known = self.sums.get(&place.block);
        if let Some(known) = known.filter(|known| inside(known.first) && inside(known.last)) {
            return Some(*known);
        }
        self.left = self.left.checked_sub(1)?;
        let mut buffer = Vec::new();
        let node = match load(self.blocks, place, &mut ValueSize::EIGHT.clone(), &mut buffer) {
            Ok(node) if level < MOST_LEVELS => node,
            _ => return Some(Tally { broken: 1, ..Tally::default() }),
        };
        let mut total = Tally::default();
        if node.kind() == NodeKind::Leaf {
            let (first, last) = (node.keys().next(), node.keys().next_back());
            total = Tally { entries: node.len() as u64, first, last, broken: 0 };
        } else {
            for child in place.children(&node) {
                total.add(self.sum(child, level.saturating_add(1))?);
            }
        }
        if total.broken == 0 && total.entries > 0 {
            self.sums.insert(place.block, total);
        }
        Some(total)
    }
}
