//! What a walk from the roots reaches, how often each node is pointed at, and which pointers lead to nothing usable.
//!
//! Only inner nodes are read again: of leaves the scan knows all that matters here.

use super::scan::{Scan, ScannedNode};
use crate::block_map::BlockMap;
use crate::blocks::Blocks;
use crate::fault::KeyRange;
use crate::walk::{Place, ValueSize, load};
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{NodeKind, Superblock};
use tierlift_ondisk::units::MetaBlock;

/// As in a walk; deeper is damage.
pub(crate) const MOST_LEVELS: u8 = 24;

/// Which tree a node is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tree {
    Details,
    /// Upper level of the mapping tree: device to root.
    Roots,
    Mapping,
    Tier,
    SpaceMap,
    Clones,
}

impl Tree {
    /// Whether the leaves of this tree have values of this length.
    fn allows(self, value_size: u16) -> bool {
        match self {
            Self::Details => matches!(value_size, 24 | 32 | 44),
            Self::Roots | Self::Mapping | Self::Tier => value_size == 8,
            Self::SpaceMap => matches!(value_size, 4 | 16),
            Self::Clones => value_size == 4,
        }
    }
}

/// A node that was reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact {
    pub tree: Tree,
    /// Pointers to it.
    pub edges: u32,
    /// 0 for a leaf; `None` when nothing below could be read.
    pub height: Option<u8>,
    /// Entries of all readable leaves below.
    pub entries: u64,
    /// Nothing below is lost.
    pub whole: bool,
}

/// A block that pointers name and that cannot be what they promise.
#[derive(Debug, Clone)]
pub(crate) struct Dangling {
    pub tree: Tree,
    pub edges: u32,
    /// The keys all its parents allow.
    pub window: KeyRange,
    /// Height it must have had, by its siblings.
    pub height: Option<u8>,
}

/// Everything reached.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub facts: BlockMap<Fact>,
    pub dangling: BTreeMap<MetaBlock, Dangling>,
    /// Root of each device's mapping tree.
    pub device_roots: BTreeMap<u64, MetaBlock>,
}

impl Reach {
    /// Walks every tree of a superblock, and those of the reserved metadata snapshot.
    pub(crate) fn from_superblock(blocks: &Blocks, scan: &Scan, superblock: &Superblock) -> Self {
        let mut walker = Walker { blocks, scan, reach: Self::default(), buffers: Vec::new() };
        walker.mapping(superblock.mapping_root, true);
        walker.root(Tree::Details, superblock.details_root);
        if superblock.tier_num > 0 {
            walker.root(Tree::Tier, superblock.tier_root);
        }
        if superblock.clone_root.0 != 0 {
            walker.root(Tree::Clones, superblock.clone_root);
        }
        let tiers = superblock.tier_maps.iter().take(superblock.tier_num as usize);
        for map in tiers.chain([&superblock.data_map]) {
            walker.root(Tree::SpaceMap, map.bitmap_root);
            walker.root(Tree::SpaceMap, map.ref_count_root);
        }
        walker.root(Tree::SpaceMap, superblock.metadata_map.ref_count_root);
        if let Some(held) = scan.superblocks.get(&superblock.held_root).filter(|_| superblock.held_root.0 != 0) {
            walker.mapping(held.mapping_root, false);
            walker.root(Tree::Details, held.details_root);
        }
        walker.reach
    }

    /// Goes on from a node that no root leads to.
    pub(crate) fn add_orphan(&mut self, blocks: &Blocks, scan: &Scan, tree: Tree, block: MetaBlock) {
        let mut walker = Walker { blocks, scan, reach: std::mem::take(self), buffers: Vec::new() };
        walker.visit(tree, Place::root(block), 0);
        if let Some(fact) = walker.reach.facts.get_mut(&block) {
            // The pointer to it was ours.
            fact.edges = fact.edges.saturating_sub(1);
        }
        *self = walker.reach;
    }
}

struct Walker<'a> {
    blocks: &'a Blocks,
    scan: &'a Scan,
    reach: Reach,
    /// One read buffer a level.
    buffers: Vec<Vec<u8>>,
}

impl Walker<'_> {
    fn root(&mut self, tree: Tree, block: MetaBlock) {
        // A generation found by scanning knows no roots of space maps, and needs none.
        if tree == Tree::SpaceMap && block.0 == 0 {
            return;
        }
        self.visit(tree, Place::root(block), 0);
    }

    /// Both levels of a mapping tree.
    fn mapping(&mut self, block: MetaBlock, current: bool) {
        self.root(Tree::Roots, block);
        let mut roots = Vec::new();
        self.roots_below(block, 0, &mut roots);
        for (device, root) in roots {
            self.root(Tree::Mapping, root);
            if current {
                self.reach.device_roots.insert(device, root);
            }
        }
    }

    fn roots_below(&self, block: MetaBlock, level: u8, roots: &mut Vec<(u64, MetaBlock)>) {
        if level >= MOST_LEVELS || self.reach.facts.get(&block).is_none_or(|fact| fact.tree != Tree::Roots) {
            return;
        }
        let mut buffer = Vec::new();
        let place = Place::root(block);
        let Ok(node) = load(self.blocks, place, &mut ValueSize::EIGHT.clone(), &mut buffer) else { return };
        if node.kind() == NodeKind::Leaf {
            roots.extend(node.entries_u64().map(|(device, root)| (device, MetaBlock(root))));
        } else {
            for child in place.children(&node) {
                self.roots_below(child.block, level.saturating_add(1), roots);
            }
        }
    }

    /// Visits what a pointer leads to; answers its height.
    fn visit(&mut self, tree: Tree, place: Place, level: u8) -> Option<Fact> {
        if !self.fits(tree, place) || level >= MOST_LEVELS {
            self.dangle(tree, place);
            return None;
        }
        if let Some(known) = self.reach.facts.get_mut(&place.block) {
            if known.tree != tree {
                self.dangle(tree, place);
                return None;
            }
            known.edges = known.edges.saturating_add(1);
            return Some(*known);
        }
        let node = self.scan.nodes.get(&place.block)?;
        let mut fact = Fact { tree, edges: 1, height: Some(0), entries: u64::from(node.entries), whole: true };
        if node.kind == NodeKind::Internal {
            // Known before its children, so that a circle ends.
            self.reach.facts.insert(place.block, Fact { height: None, whole: false, entries: 0, ..fact });
            fact = self.inner(tree, place, level, fact)?;
            fact.edges = self.reach.facts.get(&place.block).map_or(1, |known| known.edges);
        }
        self.reach.facts.insert(place.block, fact);
        Some(fact)
    }

    fn inner(&mut self, tree: Tree, place: Place, level: u8, fact: Fact) -> Option<Fact> {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        let children = load(self.blocks, place, &mut ValueSize::EIGHT.clone(), &mut buffer).map(|n| place.children(&n));
        self.buffers.push(buffer);
        let mut fact = Fact { height: None, entries: 0, ..fact };
        let mut lost = Vec::new();
        for child in children.ok()? {
            match self.visit(tree, child, level.saturating_add(1)) {
                Some(below) => {
                    let height = below.height.map(|height| height.saturating_add(1));
                    fact.height = fact.height.max(height);
                    fact.entries = fact.entries.saturating_add(below.entries);
                    fact.whole &= below.whole;
                }
                None => lost.push(child.block),
            }
        }
        fact.whole &= lost.is_empty();
        if let Some(height) = fact.height {
            for block in lost {
                if let Some(dangling) = self.reach.dangling.get_mut(&block) {
                    dangling.height = Some(height.saturating_sub(1));
                }
            }
        }
        Some(fact)
    }

    /// Whether the scan found there what this pointer promises.
    fn fits(&self, tree: Tree, place: Place) -> bool {
        self.scan.nodes.get(&place.block).is_some_and(|node| {
            let value_ok = node.kind == NodeKind::Internal || tree.allows(node.value_size);
            let empty_ok = node.entries > 0 || place.is_root && node.kind == NodeKind::Leaf;
            value_ok && empty_ok && within(node, place.window)
        })
    }

    fn dangle(&mut self, tree: Tree, place: Place) {
        let lost = self.reach.dangling.entry(place.block).or_insert(Dangling {
            tree,
            edges: 0,
            window: place.window,
            height: None,
        });
        lost.edges = lost.edges.saturating_add(1);
        lost.window.first = lost.window.first.max(place.window.first);
        lost.window.last = lost.window.last.min(place.window.last);
    }
}

/// Whether all keys of the node lie in the window.
pub(crate) fn within(node: &ScannedNode, window: KeyRange) -> bool {
    node.entries == 0 || window.contains(node.first) && window.contains(node.last)
}
