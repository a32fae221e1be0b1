//! What of the space maps is lost. A rebuild counts everything anew, so this costs nothing but must be told.

use super::scan::Scan;
use crate::blocks::Blocks;
use crate::walk::{Item, ValueSize, walk};
use std::convert::Infallible;
use tierlift_ondisk::thin::{BlockKind, IndexBlock, IndexEntry, SpaceMapRoot, Superblock};
use tierlift_ondisk::units::MetaBlock;

/// Blocks of all space maps of a generation that cannot be used. Roots that are 0 are not known, and count as nothing.
pub(super) fn lost_blocks(blocks: &Blocks, scan: &Scan, superblock: &Superblock) -> usize {
    let is_lost = |bitmap: &MetaBlock| bitmap.0 != 0 && !scan.bitmaps.contains(bitmap);
    let tiers = superblock.tier_maps.iter().take(superblock.tier_num as usize);
    let trees = tiers.chain([&superblock.data_map]).flat_map(|map| {
        let (index, bitmaps) = index_tree(blocks, map);
        std::iter::once(index.saturating_add(bitmaps.iter().filter(|bitmap| is_lost(bitmap)).count()))
            .chain([lost_nodes(blocks, map.ref_count_root, ValueSize::COUNTS)])
    });
    let own = &superblock.metadata_map;
    let (index, bitmaps) = index_block(blocks, own.bitmap_root);
    let own_bitmaps = bitmaps.iter().filter(|bitmap| is_lost(bitmap)).count();
    let own = [index, own_bitmaps, lost_nodes(blocks, own.ref_count_root, ValueSize::COUNTS)];
    trees.chain(own).fold(0, usize::saturating_add)
}

/// Nodes lost in the index of a map, and the bitmaps that the others name.
fn index_tree(blocks: &Blocks, map: &SpaceMapRoot) -> (usize, Vec<MetaBlock>) {
    let (mut lost, mut bitmaps) = (0_usize, Vec::new());
    if map.bitmap_root.0 == 0 {
        return (lost, bitmaps);
    }
    let done: Result<(), Infallible> = walk(blocks, map.bitmap_root, ValueSize::INDEX, |item| {
        match item {
            Item::Leaf(node) => {
                bitmaps.extend(node.entries().filter_map(|(_, value)| Some(IndexEntry::decode(value).ok()?.block)));
            }
            Item::Lost(_) => lost = lost.saturating_add(1),
        }
        Ok(())
    });
    let Ok(()) = done;
    (lost, bitmaps)
}

/// The same for the index of the metadata map, which is a single block.
fn index_block(blocks: &Blocks, index: MetaBlock) -> (usize, Vec<MetaBlock>) {
    let mut buffer = Vec::new();
    if index.0 == 0 {
        return (0, Vec::new());
    }
    let read = blocks.read(index, BlockKind::Index, &mut buffer);
    match read.ok().and_then(|()| IndexBlock::decode(&buffer).ok()) {
        Some(index) => (0, index.entries.iter().map(|entry| entry.block).collect()),
        None => (1, Vec::new()),
    }
}

fn lost_nodes(blocks: &Blocks, root: MetaBlock, values: ValueSize) -> usize {
    let mut lost = 0_usize;
    if root.0 != 0 {
        let done: Result<(), Infallible> = walk(blocks, root, values, |item| {
            lost = lost.saturating_add(usize::from(matches!(item, Item::Lost(_))));
            Ok(())
        });
        let Ok(()) = done;
    }
    lost
}
