//! Where everything lies in the metadata of an undamaged pool: what damage aims at.

use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::thin::ring::{SLOTS, Slot, decode_slot, slot_block};
use tierlift_ondisk::thin::{
    BlockKind, BlockSize, IndexBlock, IndexEntry, MAGIC, Node, NodeKind, SpaceMapRoot, Superblock, identify,
};
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// The nodes of one tree, or of several of a kind.
#[derive(Debug, Clone, Default)]
pub struct TreeLayout {
    /// Roots.
    pub roots: Vec<MetaBlock>,
    /// Inner nodes, roots among them.
    pub inner: BTreeSet<MetaBlock>,
    /// Leaves, roots among them.
    pub leaves: BTreeSet<MetaBlock>,
}

impl TreeLayout {
    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = MetaBlock> {
        self.inner.iter().chain(&self.leaves).copied()
    }
}

/// The blocks of one or several space maps.
#[derive(Debug, Clone, Default)]
pub struct MapLayout {
    /// Bitmaps.
    pub bitmaps: Vec<MetaBlock>,
    /// The index block of the metadata's map.
    pub index: Option<MetaBlock>,
    /// Trees that find bitmaps.
    pub index_trees: TreeLayout,
    /// Trees of counts.
    pub count_trees: TreeLayout,
}

impl MapLayout {
    /// Where the superblock points.
    pub fn roots(&self) -> Vec<MetaBlock> {
        let trees = self.index_trees.roots.iter().chain(&self.count_trees.roots);
        self.index.iter().chain(trees).copied().collect()
    }

    /// Index and tree nodes.
    pub fn nodes(&self) -> Vec<MetaBlock> {
        self.index.into_iter().chain(self.index_trees.nodes()).chain(self.count_trees.nodes()).collect()
    }

    /// Everything.
    pub fn all(&self) -> Vec<MetaBlock> {
        [self.nodes(), self.bitmaps.clone()].concat()
    }
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Block size.
    pub block_size: BlockSize,
    /// The superblock in block 0.
    pub superblock: Superblock,
    /// Superblocks of the commits before, oldest first; that of block 0 is the last.
    pub history: Vec<Superblock>,
    /// Root of each thin device's mapping tree.
    pub device_roots: BTreeMap<DeviceId, MetaBlock>,
    /// The mapping trees of all devices.
    pub mappings: TreeLayout,
    /// For each mapping leaf: how many mappings it states, counted once for each device that has it.
    pub stated: BTreeMap<MetaBlock, u64>,
    /// The upper level of the mapping tree.
    pub top_level: TreeLayout,
    /// The details tree.
    pub details: TreeLayout,
    /// The tier tree.
    pub tiers: TreeLayout,
    /// Space maps of metadata and chunks.
    pub maps: MapLayout,
    /// Space maps of the tiers.
    pub tier_maps: MapLayout,
    /// The slots of the ring, used or not.
    pub ring: Vec<MetaBlock>,
}

impl Layout {
    /// Walks a pool that is whole.
    ///
    /// # Errors
    /// When it is not, or is no pool.
    pub fn read(image: &[u8]) -> anyhow::Result<Self> {
        let (block_size, superblock) = find_superblock(image).context("no superblock")?;
        let walker = Walker { image, block_size };
        let mut layout = Self {
            block_size,
            history: Vec::new(),
            device_roots: BTreeMap::new(),
            mappings: TreeLayout::default(),
            stated: BTreeMap::new(),
            top_level: walker.tree(superblock.mapping_root)?,
            details: walker.tree(superblock.details_root)?,
            tiers: TreeLayout::default(),
            maps: walker.disk_map(superblock.data_map)?,
            tier_maps: MapLayout::default(),
            ring: Vec::new(),
            superblock,
        };
        walker.mappings(&mut layout)?;
        walker.metadata_map(&mut layout)?;
        walker.tiers(&mut layout)?;
        walker.ring(&mut layout);
        Ok(layout)
    }

    /// All commits are known, not only those the ring still has.
    #[must_use]
    pub fn with_history(self, history: Vec<Superblock>) -> Self {
        Self { history, ..self }
    }

    /// Every block in use but block 0.
    pub fn used(&self) -> Vec<MetaBlock> {
        let ring: BTreeSet<_> = self.ring.iter().copied().collect();
        self.working().union(&ring).copied().collect()
    }

    /// Every block in use but block 0 and the ring.
    pub fn working(&self) -> BTreeSet<MetaBlock> {
        let trees = [&self.mappings, &self.top_level, &self.details, &self.tiers];
        let nodes = trees.into_iter().flat_map(TreeLayout::nodes);
        nodes.chain(self.maps.all()).chain(self.tier_maps.all()).collect()
    }

    /// The live-leaf bound: mappings stated by leaves of the last commit that are none of these blocks.
    pub fn live_mappings(&self, damaged: &BTreeSet<MetaBlock>) -> u64 {
        self.stated.iter().filter(|(leaf, _)| !damaged.contains(leaf)).map(|(_, count)| count).sum()
    }
}

fn find_superblock(image: &[u8]) -> Option<(BlockSize, Superblock)> {
    BlockSize::PROBE_ORDER.into_iter().find_map(|size| {
        let block = image.get(..size.bytes())?;
        let superblock = Superblock::decode(block).ok()?;
        let right = identify(block) == Some(BlockKind::Superblock) && superblock.magic == MAGIC;
        right.then_some((size, superblock))
    })
}

struct Walker<'a> {
    image: &'a [u8],
    block_size: BlockSize,
}

impl<'a> Walker<'a> {
    fn block(&self, block: MetaBlock) -> anyhow::Result<&'a [u8]> {
        let size = self.block_size.bytes();
        self.image.get(block.0 as usize * size..).and_then(|rest| rest.get(..size)).context("a pointer beyond the end")
    }

    fn node(&self, block: MetaBlock) -> anyhow::Result<Node<'a>> {
        let bytes = self.block(block)?;
        anyhow::ensure!(identify(bytes) == Some(BlockKind::Node), "block {block} is no node");
        Ok(Node::decode(bytes)?)
    }

    fn tree(&self, root: MetaBlock) -> anyhow::Result<TreeLayout> {
        let mut tree = TreeLayout::default();
        self.add_tree(root, &mut tree)?;
        Ok(tree)
    }

    fn add_tree(&self, root: MetaBlock, tree: &mut TreeLayout) -> anyhow::Result<()> {
        tree.roots.push(root);
        let mut left = vec![root];
        while let Some(block) = left.pop() {
            let node = self.node(block)?;
            if node.kind() == NodeKind::Leaf {
                tree.leaves.insert(block);
            } else if tree.inner.insert(block) {
                left.extend(node.entries_u64().map(|(_, child)| MetaBlock(child)));
            }
        }
        Ok(())
    }

    fn mappings(&self, layout: &mut Layout) -> anyhow::Result<()> {
        for leaf in &layout.top_level.leaves {
            let roots = self.node(*leaf)?;
            layout.device_roots.extend(roots.entries_u64().map(|(id, root)| (DeviceId(id), MetaBlock(root))));
        }
        for root in layout.device_roots.values() {
            let tree = self.tree(*root)?;
            for leaf in &tree.leaves {
                *layout.stated.entry(*leaf).or_default() += self.node(*leaf)?.len() as u64;
            }
            layout.mappings.roots.push(*root);
            layout.mappings.inner.extend(tree.inner);
            layout.mappings.leaves.extend(tree.leaves);
        }
        Ok(())
    }

    fn disk_map(&self, map: SpaceMapRoot) -> anyhow::Result<MapLayout> {
        let mut layout = MapLayout::default();
        self.add_disk_map(map, &mut layout)?;
        Ok(layout)
    }

    fn add_disk_map(&self, map: SpaceMapRoot, layout: &mut MapLayout) -> anyhow::Result<()> {
        let index = self.tree(map.bitmap_root)?;
        for leaf in &index.leaves {
            for (_, value) in self.node(*leaf)?.entries() {
                layout.bitmaps.push(IndexEntry::decode(value)?.block);
            }
        }
        self.add_tree(map.bitmap_root, &mut layout.index_trees)?;
        self.add_tree(map.ref_count_root, &mut layout.count_trees)
    }

    fn metadata_map(&self, layout: &mut Layout) -> anyhow::Result<()> {
        let map = layout.superblock.metadata_map;
        let index = IndexBlock::decode(self.block(map.bitmap_root)?)?;
        let blocks = index.entries.iter().map(|entry| entry.block).filter(|block| block.0 != 0);
        layout.maps.bitmaps.extend(blocks);
        layout.maps.index = Some(map.bitmap_root);
        self.add_tree(map.ref_count_root, &mut layout.maps.count_trees)
    }

    fn tiers(&self, layout: &mut Layout) -> anyhow::Result<()> {
        if layout.superblock.tier_num == 0 {
            return Ok(());
        }
        layout.tiers = self.tree(layout.superblock.tier_root)?;
        for map in layout.superblock.tier_maps {
            if map.bitmap_root.0 != 0 {
                self.add_disk_map(map, &mut layout.tier_maps)?;
            }
        }
        Ok(())
    }

    fn ring(&self, layout: &mut Layout) {
        let end = self.block_size.blocks_in(self.image.len() as u64);
        let mut copies = BTreeMap::new();
        for place in (1..=SLOTS).filter_map(|slot| slot_block(end, slot)) {
            let slot = self.block(place).ok().and_then(|block| decode_slot(block, place));
            layout.ring.extend(slot.is_some().then_some(place));
            if let Some(Slot::Copy(copy)) = slot {
                copies.insert(copy.backup_id, Superblock { number: MetaBlock(0), backup_id: 0, ..*copy });
            }
        }
        layout.history = copies.into_values().collect();
    }
}
