//! What the chosen generation's own space map says of each metadata block: part of the committed trees, or free.

use super::reach::Reach;
use super::scan::Scan;
use crate::blocks::Blocks;
use crate::walk::{Item, ValueSize, walk};
use std::collections::HashMap;
use std::convert::Infallible;
use tierlift_ondisk::field::Fields;
use tierlift_ondisk::thin::{Bitmap, BlockKind, IndexBlock, SpaceMapRoot};
use tierlift_ondisk::units::MetaBlock;

/// Lost blocks that no pointer names; with more of them nothing can be concluded.
const MOST_UNNAMED: usize = 65_536;

/// A reference count as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Exactly this many pointers.
    Exactly(u32),
    /// Three or more; the tree that says how many is lost here.
    Many,
    /// The bitmap is lost.
    Unknown,
}

/// The committed counts of the metadata device.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The bitmap for each stretch of blocks.
    bitmaps: Vec<Option<Vec<u8>>>,
    overflow: HashMap<u64, u32>,
    per_bitmap: u64,
    /// Where the index came from, when it was not where the superblock says.
    pub guessed_bitmaps: u64,
    /// Places of the index or of bitmaps that hold something sound of another kind: they were freed and used again.
    pub reused: u64,
}

impl Committed {
    /// Reads the metadata space map. What of it is lost stays unknown, unless exactly one bitmap found by the scan agrees
    /// with everything the trees reach.
    pub(crate) fn load(blocks: &Blocks, scan: &Scan, map: &SpaceMapRoot, reach: &Reach) -> Self {
        let per_bitmap = Bitmap::entries(blocks.size()) as u64;
        let stretches = map.nr_blocks.min(blocks.scan_end()).div_ceil(per_bitmap.max(1));
        let mut committed = Self { overflow: overflow(blocks, map.ref_count_root), per_bitmap, ..Self::default() };
        let mut buffer = Vec::new();
        let index = match blocks.read(map.bitmap_root, BlockKind::Index, &mut buffer) {
            Ok(()) => IndexBlock::decode(&buffer).ok(),
            Err(_) => {
                committed.reused = u64::from(scan.is_sound(map.bitmap_root));
                None
            }
        };
        for stretch in 0..stretches {
            let entry = index.as_ref().and_then(|index| index.entries.get(stretch as usize));
            let bitmap = match entry {
                Some(entry) if blocks.read(entry.block, BlockKind::Bitmap, &mut buffer).is_ok() => Some(buffer.clone()),
                Some(entry) => {
                    committed.reused = committed.reused.saturating_add(u64::from(scan.is_sound(entry.block)));
                    None
                }
                None => committed.guess(blocks, scan, reach, map, stretch),
            };
            committed.bitmaps.push(bitmap);
        }
        committed
    }

    /// The one bitmap under which every node reached in this stretch, every lost one that is pointed at, the lost index and
    /// the bitmap itself are in use at least as often as they are pointed at: one of an older generation does not know the
    /// blocks that were written since, and one of another map has other totals.
    fn guess(
        &mut self,
        blocks: &Blocks,
        scan: &Scan,
        reach: &Reach,
        map: &SpaceMapRoot,
        stretch: u64,
    ) -> Option<Vec<u8>> {
        let first = stretch.saturating_mul(self.per_bitmap);
        let inside = |block: MetaBlock, edges: u32| {
            let inside = block.0.checked_sub(first).filter(|index| *index < self.per_bitmap)?;
            Some((usize::try_from(inside).ok()?, edges))
        };
        let mut named: Vec<_> = reach.facts.iter().filter_map(|(block, fact)| inside(*block, fact.edges)).collect();
        if named.is_empty() {
            return None;
        }
        named.extend(reach.dangling.iter().filter_map(|(block, lost)| inside(*block, lost.edges)));
        named.extend(inside(map.bitmap_root, 1));
        let mut fitting = None;
        for candidate in &scan.bitmaps {
            let mut buffer = Vec::new();
            let own = inside(*candidate, 1);
            if blocks.read(*candidate, BlockKind::Bitmap, &mut buffer).is_err()
                || !agrees(&buffer, named.iter().copied().chain(own))
                || !self.has_totals(&buffer, map)
            {
                continue;
            }
            if fitting.replace(buffer).is_some() {
                return None;
            }
        }
        self.guessed_bitmaps = self.guessed_bitmaps.saturating_add(u64::from(fitting.is_some()));
        fitting
    }

    /// Whether a bitmap counts as many blocks as the superblock says are in use, or, where there are several bitmaps, not
    /// more of them, and not all there are: such a one says nothing.
    fn has_totals(&self, bytes: &[u8], map: &SpaceMapRoot) -> bool {
        let Ok(bitmap) = Bitmap::decode(bytes) else { return false };
        let counts = (0..self.per_bitmap).filter_map(|index| bitmap.count(usize::try_from(index).ok()?));
        let used = counts.filter(|count| *count > 0).count() as u64;
        match map.nr_allocated {
            0 => used < self.per_bitmap,
            allocated if map.nr_blocks <= self.per_bitmap => used == allocated,
            allocated => used <= allocated && used < self.per_bitmap,
        }
    }

    /// The committed count of a block.
    pub(crate) fn count(&self, block: MetaBlock) -> Count {
        let stretch = block.0.checked_div(self.per_bitmap).unwrap_or(u64::MAX);
        let index = block.0.checked_rem(self.per_bitmap).unwrap_or_default();
        let bitmap =
            usize::try_from(stretch).ok().and_then(|stretch| self.bitmaps.get(stretch)).and_then(Option::as_deref);
        let count = bitmap.and_then(|bytes| Bitmap::decode(bytes).ok()?.count(index as usize));
        match count {
            None => Count::Unknown,
            Some(3) => self.overflow.get(&block.0).map_or(Count::Many, |count| Count::Exactly(*count)),
            Some(count) => Count::Exactly(u32::from(count)),
        }
    }

    /// Blocks in use that are lost and that no pointer names, so that not even their place in a tree is known. Blocks from
    /// `ring` on belong to the ring of copies. `None` when there are too many, or not all counts are known.
    pub(crate) fn unnamed(&self, scan: &Scan, reach: &Reach, ring: MetaBlock) -> Option<Vec<MetaBlock>> {
        let blocks = (self.bitmaps.len() as u64).saturating_mul(self.per_bitmap).min(ring.0);
        let mut found = Vec::new();
        for block in (1..blocks).map(MetaBlock) {
            match self.count(block) {
                Count::Exactly(0) => {}
                Count::Unknown => return None,
                _ if scan.is_sound(block) || reach.dangling.contains_key(&block) => {}
                _ if found.len() >= MOST_UNNAMED => return None,
                _ => found.push(block),
            }
        }
        Some(found)
    }

    /// Nodes that the trees reach although the space map calls them free, or that are pointed at more often than it counts:
    /// above 0 the trees are not those of this space map.
    pub(crate) fn contradictions(&self, reach: &Reach) -> u64 {
        let wrong = reach.facts.iter().filter(|(block, fact)| match self.count(**block) {
            Count::Exactly(count) => count < fact.edges,
            Count::Many | Count::Unknown => false,
        });
        wrong.count() as u64
    }
}

/// Whether a bitmap counts each of these blocks as often as it is pointed at, or more often where pointers may be lost.
fn agrees(bytes: &[u8], mut named: impl Iterator<Item = (usize, u32)>) -> bool {
    let Ok(bitmap) = Bitmap::decode(bytes) else { return false };
    named.all(|(index, edges)| bitmap.count(index).is_some_and(|count| u32::from(count) >= edges.min(3)))
}

fn overflow(blocks: &Blocks, root: MetaBlock) -> HashMap<u64, u32> {
    let mut counts = HashMap::new();
    let done: Result<(), Infallible> = walk(blocks, root, ValueSize::COUNTS, |item| {
        if let Item::Leaf(node) = item {
            let read = |value| Fields::new("count", value).u32("count", 0).ok();
            counts.extend(node.entries().filter_map(|(key, value)| Some((key, read(value)?))));
        }
        Ok(())
    });
    let Ok(()) = done;
    counts
}
