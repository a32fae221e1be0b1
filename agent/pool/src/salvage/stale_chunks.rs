//! What became of the chunks that a device of another generation maps: the data devices have no generations.

use super::borrow::{Borrowed, nodes_below};
use super::reach::Reach;
use super::scan::Scan;
use crate::block_map::BlockSet;
use crate::blocks::Blocks;
use crate::pool::{Pool, Step};
use crate::run::{Lookup, RunMap};
use crate::walk::{Item, ValueSize, walk};
use std::convert::Infallible;
use tierlift_ondisk::thin::{Bitmap, BlockKind, Family, IndexEntry, MappingValue, Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// What the chosen generation says of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Mapped the same way, by whatever device.
    Kept,
    /// Mapped by something that came later.
    Reused,
    /// Free, and so may have been written by whoever had it meanwhile.
    Free,
    /// Free, and without a place on any tier.
    Gone,
    /// In use by nothing that was found, or not known.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    chunk: u64,
    key: u64,
    time: u32,
    fate: Fate,
}

/// The chunks of one borrowed device that are in doubt.
#[derive(Debug)]
pub(super) struct StaleChunks {
    /// By chunk and key.
    asked: Vec<Asked>,
    /// Nodes of the chosen generation: what these map is as it was.
    current: BlockSet,
}

impl StaleChunks {
    /// Compares the device with the chosen generation, which `now` reaches.
    pub(super) fn find(pool: &Pool, scan: &Scan, now: &Reach, borrowed: &Borrowed) -> Self {
        let blocks = pool.blocks();
        let current = nodes_below(blocks, scan, now.device_roots.values().copied());
        let mut asked = Vec::new();
        let others = borrowed.proven.iter().filter(|block| !current.contains(*block));
        for_each_mapping(blocks, scan, pool.family(), others, |key, value| {
            asked.push(Asked { chunk: value.chunk.0, key, time: value.time, fate: Fate::Unknown });
        });
        asked.sort_unstable_by_key(|asked| (asked.chunk, asked.key));
        let mut found = Self { asked, current };
        if !found.asked.is_empty() {
            // The clock of a generation found by scanning is not known, but it cannot have been behind its own mappings.
            let youngest = found.asked.iter().map(|asked| asked.time).max().unwrap_or(0);
            found.by_mappings(pool, scan, if borrowed.is_dated() { borrowed.superblock.time } else { youngest });
            found.by_counts(pool);
            found.by_tiers(pool);
        }
        found
    }

    /// What became of the chunk that a node of the device maps at this key.
    pub(super) fn fate(&self, node: MetaBlock, key: u64, chunk: u64) -> Fate {
        if self.current.contains(&node) {
            return Fate::Kept;
        }
        let found = self.asked.binary_search_by_key(&(chunk, key), |asked| (asked.chunk, asked.key));
        found.ok().and_then(|at| self.asked.get(at)).map_or(Fate::Unknown, |asked| asked.fate)
    }

    /// Looks for each chunk in the mappings of the chosen generation. One that was in its place at the time already is no
    /// reuse: QNAP shares chunks also between different places.
    fn by_mappings(&mut self, pool: &Pool, scan: &Scan, time: u32) {
        let Self { asked, current } = self;
        for_each_mapping(pool.blocks(), scan, pool.family(), current.iter(), |key, value| {
            let from = asked.partition_point(|asked| asked.chunk < value.chunk.0);
            let same_chunk = asked.get_mut(from..).unwrap_or_default().iter_mut();
            for asked in same_chunk.take_while(|asked| asked.chunk == value.chunk.0) {
                if value.time < time || (key, value.time) == (asked.key, asked.time) {
                    asked.fate = Fate::Kept;
                } else if asked.fate == Fate::Unknown {
                    asked.fate = Fate::Reused;
                }
            }
        });
    }

    /// Of the others, the data space map tells those that are free.
    fn by_counts(&mut self, pool: &Pool) {
        let map = pool.superblock().data_map;
        let entries = Bitmap::entries(pool.blocks().size()) as u64;
        let mut buffer = Vec::new();
        let done: Result<(), Infallible> = walk(pool.blocks(), map.bitmap_root, ValueSize::INDEX, |item| {
            let Item::Leaf(node) = item else { return Ok(()) };
            for (number, value) in node.entries() {
                let first = number.saturating_mul(entries);
                let Ok(entry) = IndexEntry::decode(value) else { continue };
                let from = self.asked.partition_point(|asked| asked.chunk < first);
                let to = self.asked.partition_point(|asked| asked.chunk < first.saturating_add(entries));
                let Some(covered) = self.asked.get_mut(from..to).filter(|covered| !covered.is_empty()) else {
                    continue;
                };
                if pool.blocks().read(entry.block, BlockKind::Bitmap, &mut buffer).is_err() {
                    continue;
                }
                let Ok(bitmap) = Bitmap::decode(&buffer) else { continue };
                let is_free =
                    |chunk: u64| bitmap.count(usize::try_from(chunk.saturating_sub(first)).ok()?).map(|n| n == 0);
                for asked in covered.iter_mut().filter(|asked| asked.fate == Fate::Unknown) {
                    if is_free(asked.chunk) == Some(true) {
                        asked.fate = Fate::Free;
                    }
                }
            }
            Ok(())
        });
        let Ok(()) = done;
    }

    /// A free chunk whose tier block was given back too would read as zeros, which it never was. In a pool whose tier tree
    /// is empty (bypass) chunks need none.
    fn by_tiers(&mut self, pool: &Pool) {
        let mut tiers = RunMap::default();
        let done: Result<(), Infallible> = pool.tiers(|step| {
            match step {
                Step::Found(key, value) => tiers.push(key, value.block.0, value.tier),
                Step::Lost(hole) => tiers.push_lost(hole),
            }
            Ok(())
        });
        let Ok(()) = done;
        tiers.finish();
        if tiers.runs.is_empty() {
            return;
        }
        let piece = pool.superblock().tier_block_size.0;
        for asked in self.asked.iter_mut().filter(|asked| asked.fate == Fate::Free) {
            let start = asked.chunk.saturating_mul(pool.chunk_size().0);
            let key = start.checked_div(piece).unwrap_or(0);
            if tiers.lookup(key).0 == Lookup::Nothing {
                asked.fate = Fate::Gone;
            }
        }
    }
}

fn for_each_mapping<'a>(
    blocks: &Blocks,
    scan: &Scan,
    family: Family,
    nodes: impl Iterator<Item = &'a MetaBlock>,
    mut visit: impl FnMut(u64, MappingValue),
) {
    let mut buffer = Vec::new();
    let leaves = nodes.filter(|block| scan.nodes.get(*block).is_some_and(|node| node.kind == NodeKind::Leaf));
    for block in leaves {
        if blocks.read(*block, BlockKind::Node, &mut buffer).is_err() {
            continue;
        }
        let Ok(node) = Node::decode(&buffer) else { continue };
        node.entries_u64().for_each(|(key, value)| visit(key, MappingValue::decode(value, family)));
    }
}
