//! A commit later than the newest one whose space map is left: known by its list of device roots alone.
//!
//! Kernels allocate in a circle and never overwrite what the last commit uses. So whatever a later commit changed lies in what
//! was free before, between the index block of the known generation and its own list of roots, which is among the last
//! things it wrote. An older list instead needs nodes that were freed since, or shares little with the known generation, or lies beyond the index blocks of
//! other commits.

use super::choose::{Candidate, is_akin};
use super::classify::Classifier;
use super::committed::{Committed, Count};
use super::options::Generation;
use super::reach::{Reach, Tree};
use super::scan::Scan;
use super::succession;
use crate::blocks::Blocks;
use crate::pool::Pool;
use tierlift_ondisk::thin::{DetailsSize, Family, NodeKind, Superblock};
use tierlift_ondisk::units::MetaBlock;

/// Lists tried.
const MOST_LISTS: usize = 64;

/// The newest list of device roots that is later than the known generation, with the records that fit it.
pub(super) fn than(blocks: &Blocks, scan: &Scan, known: &Superblock, family: Family) -> Option<Candidate> {
    let from = known.metadata_map.bitmap_root;
    let reach = Reach::from_superblock(blocks, scan, known);
    let committed = Committed::load(blocks, scan, &known.metadata_map, &reach);
    // A pool just made has nothing that a later state of it could share.
    let is_empty = succession::is_empty(blocks, known);
    let is_free = |block: MetaBlock| committed.count(block) == Count::Exactly(0);
    // Where a bitmap is lost too, what the known generation does not reach may be free as well.
    let is_other = |block: MetaBlock| {
        let may_be_free = matches!(committed.count(block), Count::Exactly(0) | Count::Unknown);
        may_be_free && !reach.facts.contains_key(&block)
    };
    let leaves = |is_ours: &dyn Fn(MetaBlock, u16) -> bool| {
        let leaves = scan.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Leaf && node.entries > 0);
        let mut found: Vec<_> = leaves
            .filter(|(block, node)| is_other(**block) && is_ours(**block, node.value_size))
            .map(|(block, _)| *block)
            .collect();
        // The farthest from the known generation first.
        found.sort_unstable_by_key(|block| std::cmp::Reverse(distance(from, *block)));
        found
    };
    let classifier = Classifier { blocks, scan, superblock: known, family, tiers_whole: false };
    let lists = leaves(&|block, size| size == 8 && classifier.tree_of(block) == Some(Tree::Roots));
    let details = leaves(&|_, size| DetailsSize::from_bytes(size.into()).is_some());
    let indexes = scan.indexes.iter().filter(|index| **index != from);
    let end = indexes.map(|index| distance(from, *index)).min();
    let is_near = |block: MetaBlock| end.is_none_or(|end| distance(from, block) < end);
    let mut fitting = lists.into_iter().filter(|list| is_near(*list)).take(MOST_LISTS).filter_map(|list| {
        let mut later = Superblock { mapping_root: list, ..known.clone() };
        let reach = Reach::from_superblock(blocks, scan, &later);
        let ours = |tree: Tree| matches!(tree, Tree::Roots | Tree::Mapping);
        let nodes = reach.facts.iter().filter(|(_, fact)| ours(fact.tree)).map(|(block, _)| block);
        let lost = reach.dangling.iter().filter(|(_, lost)| ours(lost.tree)).map(|(block, _)| block);
        let is_part = |block: &MetaBlock| !is_free(*block) || is_near(*block);
        // Of a pool just made nothing else can be asked than that all is there.
        let is_later = if is_empty { reach.dangling.is_empty() } else { is_akin(blocks, scan, known, &later) };
        if !is_later || !nodes.chain(lost).all(is_part) {
            return None;
        }
        later.details_root = *details.iter().find(|details| fits(blocks, &later, **details, &reach))?;
        // Its counts are lost: what is known is what its trees state.
        later.metadata_map.bitmap_root = MetaBlock(0);
        let reason =
            "found by scanning: its space map is lost, but its trees are later than all that have one".to_owned();
        let generation = Generation::Trees { block: list };
        Some(Candidate { generation, superblock: later, reason, certain: false, doubtful: false, rival: None })
    });
    let newest = fitting.next()?;
    // Whatever is there of another pool besides: nothing tells which was made last.
    let is_other = |other: &Candidate| !is_akin(blocks, scan, &newest.superblock, &other.superblock);
    (!is_empty || !fitting.any(|other| is_other(&other))).then_some(newest)
}

/// How far the allocator goes from one block to another.
fn distance(from: MetaBlock, to: MetaBlock) -> (bool, u64) {
    (to <= from, to.0)
}

/// Whether these records are of the same devices, and as many mappings are found for each.
fn fits(blocks: &Blocks, later: &Superblock, details: MetaBlock, reach: &Reach) -> bool {
    let Ok(pool) = Pool::with_blocks(blocks.clone(), Superblock { details_root: details, ..later.clone() }) else {
        return false;
    };
    let found = pool.details().found;
    let counted = |device: u64| {
        let fact = reach.device_roots.get(&device).and_then(|root| reach.facts.get(root));
        fact.map(|fact| (fact.entries, fact.whole))
    };
    found.len() == reach.device_roots.len()
        && found.iter().all(|(device, record)| match counted(*device) {
            Some((entries, true)) => entries == record.mapped.0,
            Some((entries, false)) => entries <= record.mapped.0,
            None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_comes_to_lower_blocks_last() {
        let far = |to| distance(MetaBlock(50), MetaBlock(to));
        assert!(far(51) < far(90) && far(90) < far(1) && far(1) < far(49) && far(49) < far(50));
    }
}
