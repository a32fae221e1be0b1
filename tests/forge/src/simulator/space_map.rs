//! Space maps as they lie on disk: bitmaps, the index that finds them, and the tree of counts above 2.

use super::counts::Counts;
use super::store::{Holds, Store};
use super::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::thin::{Bitmap, IndexBlock, IndexEntry, SpaceMapRoot, index_entries};
use tierlift_ondisk::units::MetaBlock;

/// Counts from here on are kept in the tree.
const OVERFLOW: u32 = 3;

/// The tree of counts above 2, with what it says.
#[derive(Debug)]
struct Overflow {
    tree: Tree,
    counts: BTreeMap<u64, u32>,
}

impl Overflow {
    fn create(store: &mut Store) -> anyhow::Result<Self> {
        Ok(Self { tree: Tree::create(store, 4, Holds::Values)?, counts: BTreeMap::new() })
    }

    fn set(&mut self, store: &mut Store, block: u64, count: u32) -> anyhow::Result<()> {
        let before = self.counts.get(&block).copied();
        if count >= OVERFLOW && before != Some(count) {
            self.counts.insert(block, count);
            self.tree.insert(store, block, &count.to_le_bytes())?;
        } else if count < OVERFLOW && before.is_some() {
            self.counts.remove(&block);
            self.tree.remove(store, block)?;
        }
        Ok(())
    }
}

/// Bitmap number `index` of a map, written to `block`, and its entry in the index.
fn write_bitmap(store: &mut Store, counts: &[u32], block: u64) -> IndexEntry {
    let narrow: Vec<u8> = counts.iter().map(|count| (*count).min(OVERFLOW) as u8).collect();
    let entries = Bitmap::entries(store.size) as u32;
    let used = narrow.iter().filter(|count| **count > 0).count() as u32;
    // The kernel counts entries beyond the end of the map as free.
    let first_free = narrow.iter().position(|count| *count == 0).unwrap_or(narrow.len()) as u32;
    store.write(block, &Bitmap::encode(store.size, MetaBlock(block), &narrow));
    IndexEntry { block: MetaBlock(block), nr_free: entries - used, none_free_before: first_free }
}

/// Bitmaps that a map of so many blocks needs.
fn bitmaps_for(store: &Store, blocks: u64) -> u64 {
    blocks.div_ceil(Bitmap::entries(store.size) as u64)
}

/// The map of the chunks or of a tier: its index is a tree.
#[derive(Debug)]
pub(super) struct DiskMap {
    bitmaps: Vec<u64>,
    index: Tree,
    overflow: Overflow,
}

impl DiskMap {
    /// A map of that many free blocks.
    pub(super) fn create(store: &mut Store, counts: &Counts) -> anyhow::Result<Self> {
        let index = Tree::create(store, 16, Holds::Values)?;
        let mut map = Self { bitmaps: Vec::new(), index, overflow: Overflow::create(store)? };
        for number in 0..bitmaps_for(store, counts.blocks()) {
            let block = store.allocate_raw()?;
            map.bitmaps.push(block);
            map.write(store, counts, number as usize)?;
        }
        Ok(map)
    }

    fn write(&mut self, store: &mut Store, counts: &Counts, number: usize) -> anyhow::Result<()> {
        let entries = Bitmap::entries(store.size);
        let entry = write_bitmap(store, counts.part(number * entries, entries), self.bitmaps[number]);
        self.index.insert(store, number as u64, &entry.encode())
    }

    /// Writes what changed.
    pub(super) fn flush(&mut self, store: &mut Store, counts: &mut Counts) -> anyhow::Result<()> {
        let entries = Bitmap::entries(store.size) as u64;
        let changed = counts.take_changed();
        let numbers: BTreeSet<_> = changed.iter().map(|block| (block / entries) as usize).collect();
        for block in changed {
            self.overflow.set(store, block, counts.get(block))?;
        }
        for number in numbers {
            self.bitmaps[number] = store.shadow_raw(self.bitmaps[number])?;
            self.write(store, counts, number)?;
        }
        Ok(())
    }

    pub(super) fn root(&self, counts: &Counts) -> SpaceMapRoot {
        SpaceMapRoot {
            nr_blocks: counts.blocks(),
            nr_allocated: counts.used(),
            bitmap_root: MetaBlock(self.index.root),
            ref_count_root: MetaBlock(self.overflow.tree.root),
        }
    }
}

/// The map of the metadata device itself: its index is one block. Writing it changes it.
#[derive(Debug)]
pub(super) struct MetadataMap {
    bitmaps: Vec<IndexEntry>,
    index: u64,
    overflow: Overflow,
}

impl MetadataMap {
    /// A map of the device as it is.
    pub(super) fn create(store: &mut Store) -> anyhow::Result<Self> {
        let bitmaps = bitmaps_for(store, store.metadata.blocks());
        anyhow::ensure!(bitmaps <= index_entries(store.size) as u64, "more metadata than the format can describe");
        let index = store.allocate_raw()?;
        let mut map = Self { bitmaps: Vec::new(), index, overflow: Overflow::create(store)? };
        for number in 0..bitmaps as usize {
            map.bitmaps.push(IndexEntry { block: MetaBlock(store.allocate_raw()?), ..IndexEntry::default() });
            map.write(store, number);
        }
        Ok(map)
    }

    fn write(&mut self, store: &mut Store, number: usize) {
        let entries = Bitmap::entries(store.size);
        let counts = store.metadata.part(number * entries, entries).to_vec();
        self.bitmaps[number] = write_bitmap(store, &counts, self.bitmaps[number].block.0);
    }

    /// Writes what changed. Each new place of a block changes counts again, until every block of the map has moved once.
    pub(super) fn flush(&mut self, store: &mut Store) -> anyhow::Result<()> {
        self.index = store.shadow_raw(self.index)?;
        let entries = Bitmap::entries(store.size) as u64;
        let mut moved = BTreeSet::new();
        loop {
            let changed = store.metadata.take_changed();
            if changed.is_empty() {
                break;
            }
            for block in changed {
                let count = store.metadata.get(block);
                self.overflow.set(store, block, count)?;
                let number = (block / entries) as usize;
                let place = &mut self.bitmaps[number].block.0;
                *place = store.shadow_raw(*place)?;
                moved.insert(number);
            }
        }
        moved.into_iter().for_each(|number| self.write(store, number));
        let block = IndexBlock { number: MetaBlock(self.index), entries: self.bitmaps.clone() };
        store.write(self.index, &block.encode(store.size));
        Ok(())
    }

    pub(super) fn root(&self, store: &Store) -> SpaceMapRoot {
        SpaceMapRoot {
            nr_blocks: store.metadata.blocks(),
            nr_allocated: store.metadata.used(),
            bitmap_root: MetaBlock(self.index),
            ref_count_root: MetaBlock(self.overflow.tree.root),
        }
    }
}
