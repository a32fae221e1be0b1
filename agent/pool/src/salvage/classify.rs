//! Which tree a node that nothing points at belongs to: told by its values, for the node itself does not say.

use super::reach::{MOST_LEVELS, Reach, Tree};
use super::scan::Scan;
use crate::blocks::Blocks;
use tierlift_ondisk::thin::{BlockKind, Family, MappingValue, Node, NodeKind, Superblock, TierValue};
use tierlift_ondisk::units::MetaBlock;

/// Ids that messages and tables of thin devices can name.
const MOST_DEVICES: u64 = 1 << 24;

/// No pool is longer: values of the tier tree read as mappings lie beyond it, unless they are of the first tier.
const MOST_CHUNKS: u64 = 1 << 37;

/// What values are possible in the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classifier<'a> {
    pub blocks: &'a Blocks,
    pub scan: &'a Scan,
    pub superblock: &'a Superblock,
    pub family: Family,
    /// The tier tree is known whole: nothing else is a part of it.
    pub tiers_whole: bool,
}

/// Whether the tier tree has no loss and as many entries as are allocated.
pub(crate) fn tiers_whole(superblock: &Superblock, reach: &Reach) -> bool {
    let maps = superblock.tier_maps.iter().take(superblock.tier_num as usize);
    let allocated = maps.map(|map| map.nr_allocated).fold(0, u64::saturating_add);
    reach.facts.get(&superblock.tier_root).is_some_and(|fact| fact.whole && fact.entries == allocated)
}

impl Classifier<'_> {
    /// The tree of a node; `None` when its values fit no tree, or more than one.
    pub(crate) fn tree_of(&self, block: MetaBlock) -> Option<Tree> {
        self.descend(block, 0)
    }

    fn descend(&self, block: MetaBlock, level: u8) -> Option<Tree> {
        let found = self.scan.nodes.get(&block)?;
        match (found.kind, found.value_size) {
            (NodeKind::Leaf, 24 | 32 | 44) => return Some(Tree::Details),
            (NodeKind::Leaf, 4 | 16) => return Some(Tree::SpaceMap),
            (NodeKind::Leaf, 8) | (NodeKind::Internal, _) => {}
            _ => return None,
        }
        let mut buffer = Vec::new();
        self.blocks.read(block, BlockKind::Node, &mut buffer).ok()?;
        let node = Node::decode(&buffer).ok()?;
        if node.kind() == NodeKind::Leaf {
            return self.by_values(&node);
        }
        let next_level = level.checked_add(1).filter(|level| *level < MOST_LEVELS)?;
        let children: Vec<_> = node.entries_u64().map(|(_, child)| MetaBlock(child)).collect();
        // A few siblings are enough; all of them together would read a hostile tree again and again.
        children
            .into_iter()
            .filter(|child| self.scan.nodes.contains_key(child))
            .take(2)
            .find_map(|child| self.descend(child, next_level))
    }

    fn by_values(&self, node: &Node<'_>) -> Option<Tree> {
        let fits = [
            (Tree::Roots, self.is_list_of_roots(node)),
            (
                Tree::Tier,
                !self.tiers_whole
                    && self.has_tier_tree()
                    && node.entries_u64().all(|(key, value)| self.is_tier(key, value)),
            ),
            (Tree::Mapping, self.is_list_of_mappings(node)),
        ];
        let mut possible = fits.into_iter().filter(|(_, fits)| *fits).map(|(tree, _)| tree);
        let first = possible.next()?;
        possible.next().is_none().then_some(first).filter(|_| !node.is_empty())
    }

    /// Whether these can be devices and the roots of their mapping trees. Roots may be lost, but one that is there must be a
    /// node; a single pair of numbers proves little, so that its root must be there.
    fn is_list_of_roots(&self, node: &Node<'_>) -> bool {
        let is_node = |value: u64| self.scan.nodes.contains_key(&MetaBlock(value));
        let is_root = |value: u64| is_node(value) || node.len() > 1 && !self.scan.is_sound(MetaBlock(value));
        node.entries_u64()
            .all(|(key, value)| key < MOST_DEVICES && value != 0 && value < self.blocks.count() && is_root(value))
    }

    /// Whether these can be mappings: no device maps a chunk twice, as small numbers read as mappings all would.
    fn is_list_of_mappings(&self, node: &Node<'_>) -> bool {
        let chunk = |value| MappingValue::decode(value, self.family).chunk;
        let mut values = node.entries_u64().map(|(_, value)| value);
        let first = values.next().map(chunk);
        values.next().map(chunk).is_none_or(|second| Some(second) != first)
            && node.entries_u64().all(|(_, value)| self.is_mapping(value))
    }

    /// Whether anything at all is mapped by tiers.
    fn has_tier_tree(&self) -> bool {
        let mut tiers = self.superblock.tier_maps.iter().take(self.superblock.tier_num as usize);
        tiers.any(|map| map.nr_allocated > 0)
    }

    fn is_tier(&self, key: u64, value: u64) -> bool {
        let value = TierValue::decode(value);
        let superblock = self.superblock;
        let mut tiers = superblock.tier_maps.iter().take(superblock.tier_num as usize);
        let pool = superblock.data_map.nr_blocks.saturating_mul(superblock.chunk_size.0);
        tiers.nth(usize::from(value.tier)).is_some_and(|map| value.block.0 < map.nr_blocks)
            && key.saturating_mul(superblock.tier_block_size.0) < pool
            && value.reserved <= 2
    }

    fn is_mapping(&self, value: u64) -> bool {
        let MappingValue { chunk, time, .. } = MappingValue::decode(value, self.family);
        // The clock of newer versions starts at 1, so that no mapping of theirs looks like a tier value; only what was cloned
        // by chunks has time 0.
        let earliest = u32::from(self.superblock.version >= 3 && self.has_tier_tree());
        chunk.0 < self.superblock.data_map.nr_blocks.min(MOST_CHUNKS)
            && (earliest..=self.superblock.time).contains(&time)
    }
}
