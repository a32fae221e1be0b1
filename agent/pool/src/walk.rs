//! Walking one B-tree from a root: in key order, with what is readable handed out and what is not named as a lost key range.
//!
//! Nothing a node says is believed before it is held against its parent: a child's keys must lie in the window that the
//! parent's keys leave for it. A block that was reused for something else is sound by itself and only fails here.

use crate::blocks::Blocks;
use crate::fault::{Fault, KeyRange, Lost};
use tierlift_ondisk::thin::{BlockKind, Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// No tree over 16.7 million blocks with at least two children a node and 64-bit keys needs more levels than this.
pub(crate) const MOST_LEVELS: usize = 24;

/// The value length of a tree's leaves: one of a few, and the same in all of them.
#[derive(Debug, Clone)]
pub struct ValueSize {
    allowed: &'static [usize],
    seen: Option<usize>,
}

impl ValueSize {
    /// Leaves of a tree of reference counts.
    pub const COUNTS: Self = Self { allowed: &[4], seen: None };
    /// Leaves of a tree of index entries.
    pub const INDEX: Self = Self { allowed: &[16], seen: None };
    /// Leaves with values of exactly 8 bytes.
    pub const EIGHT: Self = Self { allowed: &[8], seen: None };
    /// Leaves of the details tree.
    pub const DETAILS: Self = Self { allowed: &[24, 32, 44], seen: None };

    fn accept(&mut self, found: usize) -> Result<(), Fault> {
        if self.seen.map_or(self.allowed.contains(&found), |seen| seen == found) {
            self.seen = Some(found);
            return Ok(());
        }
        let expected = match self.seen {
            Some(seen) => seen.to_string(),
            None => self.allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        };
        Err(Fault::ValueSize { expected, found })
    }
}

/// What a walk hands out, in key order.
#[derive(Debug)]
pub enum Item<'a> {
    /// A sound leaf; all its keys lie where its parents allow.
    Leaf(Node<'a>),
    /// A hole.
    Lost(Lost),
}

/// Reads a node and holds it against what its parent says of it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn load<'b>(
    blocks: &Blocks,
    place: Place,
    values: &mut ValueSize,
    buffer: &'b mut Vec<u8>,
) -> Result<Node<'b>, Fault> {
    blocks.read(place.block, BlockKind::Node, buffer)?;
    hold(place, values, buffer)
}

/// Decodes a node whose block is sound and holds it against what its parent says of it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn hold<'b>(place: Place, values: &mut ValueSize, block: &'b [u8]) -> Result<Node<'b>, Fault> {
    let node = Node::decode(block)?;
    if node.is_empty() && !(place.is_root && node.kind() == NodeKind::Leaf) {
        return Err(Fault::Empty);
    }
    // Keys ascend, so the first and the last speak for all of them.
    let ends = node.keys().next().into_iter().chain(node.keys().next_back());
    if let Some(key) = ends.into_iter().find(|key| !place.window.contains(*key)) {
        return Err(Fault::KeyOutside { key, window: place.window });
    }
    if node.kind() == NodeKind::Leaf {
        values.accept(node.value_size())?;
    }
    Ok(node)
}

/// A node as its parent describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub block: MetaBlock,
    pub window: KeyRange,
    pub is_root: bool,
}

impl Place {
    pub(crate) fn root(block: MetaBlock) -> Self {
        Self { block, window: KeyRange::ALL, is_root: true }
    }

    /// The children of a node, each with the window between its key and the next.
    pub(crate) fn children(&self, node: &Node<'_>) -> Vec<Self> {
        let nexts = node.keys().skip(1).map(|key| key.saturating_sub(1)).chain([self.window.last]);
        let child =
            |((first, block), last)| Self { block: MetaBlock(block), window: KeyRange { first, last }, is_root: false };
        node.entries_u64().zip(nexts).map(child).collect()
    }

    pub(crate) fn lost(&self, fault: Fault) -> Lost {
        Lost { keys: self.window, block: self.block, fault }
    }
}

struct Walker<'a, F> {
    blocks: &'a Blocks,
    values: ValueSize,
    visit: F,
    path: Vec<MetaBlock>,
    left: u64,
}

/// Walks the tree at `root`, calling `visit` for each leaf and each hole in key order. Needs memory for one node a level.
///
/// # Errors
/// Only what `visit` returns; it ends the walk.
pub fn walk<E>(
    blocks: &Blocks,
    root: MetaBlock,
    values: ValueSize,
    visit: impl FnMut(Item<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let left = blocks.count().max(blocks.present());
    Walker { blocks, values, visit, path: Vec::new(), left }.descend(Place::root(root))
}

impl<E, F: FnMut(Item<'_>) -> Result<(), E>> Walker<'_, F> {
    fn descend(&mut self, place: Place) -> Result<(), E> {
        let mut buffer = Vec::new();
        let loaded = self.admit(place.block).and_then(|()| load(self.blocks, place, &mut self.values, &mut buffer));
        match loaded {
            Err(fault) => (self.visit)(Item::Lost(place.lost(fault))),
            Ok(node) if node.kind() == NodeKind::Leaf => (self.visit)(Item::Leaf(node)),
            Ok(node) => {
                let children = place.children(&node);
                self.path.push(place.block);
                let result = children.into_iter().try_for_each(|child| self.descend(child));
                self.path.pop();
                result
            }
        }
    }

    /// Bounds the walk whatever the pointers say.
    fn admit(&mut self, block: MetaBlock) -> Result<(), Fault> {
        if self.path.contains(&block) {
            return Err(Fault::Loop);
        }
        if self.path.len() >= MOST_LEVELS {
            return Err(Fault::TooDeep);
        }
        self.left = self.left.checked_sub(1).ok_or(Fault::Endless)?;
        Ok(())
    }
}
