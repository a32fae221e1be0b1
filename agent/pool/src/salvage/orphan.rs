//! Orphans: nodes that the committed space map counts but that too few pointers lead to. What they lack is exactly what was
//! lost with some inner node.

use super::classify::Classifier;
use super::committed::{Committed, Count};
use super::reach::{Fact, Reach, Tree};
use super::scan::Scan;
use super::synthesize::Child;
use crate::blocks::Blocks;
use tierlift_ondisk::thin::{BlockKind, Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// A node that lacks pointers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Orphan {
    pub tree: Tree,
    pub child: Child,
    /// Highest key for comparing ranges; that of the last readable leaf.
    pub last: u64,
    pub height: Option<u8>,
    /// Pointers it lacks; `None` when not known exactly.
    pub lacks: Option<u32>,
    pub entries: u64,
    pub whole: bool,
}

/// Follows every committed node that no root leads to, so that pointers between them are counted too.
pub(crate) fn follow_unreached(classifier: &Classifier<'_>, committed: &Committed, reach: &mut Reach) {
    let mut unreached: Vec<_> = (classifier.scan.nodes.iter())
        .filter(|(block, _)| !reach.facts.contains_key(block) && in_use(committed, **block))
        .map(|(block, node)| (*block, *node))
        .collect();
    unreached.sort_unstable_by_key(|(block, _)| *block);
    for (block, node) in unreached {
        if reach.facts.contains_key(&block) {
            continue;
        }
        let Some(tree) = classifier.tree_of(block) else { continue };
        if node.kind == NodeKind::Internal {
            reach.add_orphan(classifier.blocks, classifier.scan, tree, block);
        } else {
            let fact = Fact { tree, edges: 0, height: Some(0), entries: u64::from(node.entries), whole: true };
            reach.facts.insert(block, fact);
        }
    }
}

fn in_use(committed: &Committed, block: MetaBlock) -> bool {
    match committed.count(block) {
        Count::Exactly(count) => count > 0,
        Count::Many => true,
        Count::Unknown => false,
    }
}

/// All nodes that lack pointers, by block.
pub(crate) fn orphans(blocks: &Blocks, scan: &Scan, committed: &Committed, reach: &Reach) -> Vec<Orphan> {
    let mut found: Vec<_> =
        reach.facts.iter().filter_map(|(block, fact)| orphan(blocks, scan, committed, *block, fact)).collect();
    found.sort_unstable_by_key(|orphan| (orphan.child.first, orphan.child.block));
    found
}

fn orphan(blocks: &Blocks, scan: &Scan, committed: &Committed, block: MetaBlock, fact: &Fact) -> Option<Orphan> {
    let lacks = match committed.count(block) {
        Count::Exactly(count) => Some(count.checked_sub(fact.edges).filter(|lacks| *lacks > 0)?),
        Count::Many => None,
        Count::Unknown => return None,
    };
    let node = scan.nodes.get(&block)?;
    let end = end_of(blocks, scan, block, 0);
    let child = Child { block, first: node.first, end };
    let last = end.unwrap_or(node.last);
    Some(Orphan { tree: fact.tree, child, last, height: fact.height, lacks, entries: fact.entries, whole: fact.whole })
}

/// The last key below a node; `None` when the last leaf is lost.
pub(crate) fn end_of(blocks: &Blocks, scan: &Scan, block: MetaBlock, level: u8) -> Option<u64> {
    let node = scan.nodes.get(&block)?;
    if node.kind == NodeKind::Leaf {
        return Some(node.last);
    }
    let next_level = level.checked_add(1).filter(|level| *level < super::reach::MOST_LEVELS)?;
    let mut buffer = Vec::new();
    blocks.read(block, BlockKind::Node, &mut buffer).ok()?;
    let (key, child) = Node::decode(&buffer).ok()?.entries_u64().last()?;
    end_of(blocks, scan, MetaBlock(child), next_level).filter(|last| *last >= key)
}
