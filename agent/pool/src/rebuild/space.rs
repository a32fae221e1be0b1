//! Writing space maps from what is in use.

use super::error::RebuildError;
use super::output::Writer;
use super::tree::TreeBuilder;
use std::iter::Peekable;
use tierlift_ondisk::thin::{Bitmap, BlockSize, IndexBlock, IndexEntry, SpaceMapRoot, index_entries};
use tierlift_ondisk::units::MetaBlock;

/// Counts from this on do not fit a bitmap's two bits.
const OVERFLOW: u32 = 3;
/// Blocks that the metadata map may need for itself beyond its bitmaps, when the device may grow.
const SLACK: u64 = 1024;

/// Blocks one bitmap speaks for.
fn per_bitmap(size: BlockSize) -> u64 {
    Bitmap::entries(size) as u64
}

/// Bitmaps for a space of that many blocks.
pub(super) fn bitmaps(size: BlockSize, blocks: u64) -> u64 {
    blocks.div_ceil(per_bitmap(size).max(1))
}

/// Writes bitmaps in order, giving the index entry of each.
struct Bitmaps<I: Iterator<Item = (u64, u32)>> {
    counts: Peekable<I>,
    size: BlockSize,
    allocated: u64,
    /// Counts that do not fit the bitmap just made.
    overflow: Vec<(u64, u32)>,
}

impl<I: Iterator<Item = (u64, u32)>> Bitmaps<I> {
    fn new(size: BlockSize, counts: I) -> Self {
        Self { counts: counts.peekable(), size, allocated: 0, overflow: Vec::new() }
    }

    /// Bitmap `number`, to lie at `block`.
    fn make(&mut self, number: u64, block: MetaBlock) -> (Vec<u8>, IndexEntry) {
        let first = number.saturating_mul(per_bitmap(self.size));
        let end = first.saturating_add(per_bitmap(self.size));
        let mut bits = vec![0; Bitmap::entries(self.size)];
        let mut used: u32 = 0;
        self.overflow.clear();
        while let Some((index, count)) = self.counts.next_if(|(index, _)| *index < end) {
            used = used.saturating_add(1);
            if let Some(place) = bits.get_mut(index.saturating_sub(first) as usize) {
                *place = count.min(OVERFLOW) as u8;
            }
            if count >= OVERFLOW {
                self.overflow.push((index, count));
            }
        }
        self.allocated = self.allocated.saturating_add(used.into());
        let none_free_before = bits.iter().position(|count| *count == 0).unwrap_or(bits.len()) as u32;
        // Entries beyond the end of the space count as free: kernels rely on it when the space grows.
        let nr_free = (bits.len() as u32).saturating_sub(used);
        (Bitmap::encode(self.size, block, &bits), IndexEntry { block, nr_free, none_free_before })
    }
}

/// Writes the map of the data or of a tier: `counts` ascending, all above 0 and below `blocks`. Counts the pointers to its
/// two roots.
pub(super) fn write_map(
    writer: &mut Writer<'_>,
    blocks: u64,
    counts: impl Iterator<Item = (u64, u32)>,
) -> Result<SpaceMapRoot, RebuildError> {
    let mut maps = Bitmaps::new(writer.size, counts);
    let (mut index, mut overflow) = (TreeBuilder::new(16), TreeBuilder::new(4));
    for number in 0..bitmaps(writer.size, blocks) {
        let block = writer.allocate()?;
        let (bytes, entry) = maps.make(number, block);
        writer.write(block, &bytes)?;
        writer.point(block);
        index.push(writer, number, entry.encode())?;
        for (block, count) in &maps.overflow {
            overflow.push(writer, *block, count.to_le_bytes())?;
        }
    }
    let nr_allocated = maps.allocated;
    let (bitmap_root, ref_count_root) = (index.finish(writer)?, overflow.finish(writer)?);
    writer.point(bitmap_root);
    writer.point(ref_count_root);
    Ok(SpaceMapRoot { nr_blocks: blocks, nr_allocated, bitmap_root, ref_count_root })
}

/// The length the metadata need when they may grow beyond `recorded` blocks: with a quarter to spare.
pub(super) fn roomy(writer: &Writer<'_>, recorded: u64) -> u64 {
    let used = writer.next().saturating_add(SLACK);
    recorded.max(used.saturating_add(used / 4))
}

/// Writes the map of the metadata themselves, its own blocks included: everything else must have been written or counted.
pub(super) fn write_own_map(writer: &mut Writer<'_>, blocks: u64) -> Result<SpaceMapRoot, RebuildError> {
    let count = bitmaps(writer.size, blocks);
    if count > index_entries(writer.size) as u64 {
        return Err(RebuildError::TooLarge);
    }
    let index = writer.allocate()?;
    writer.point(index);
    let places = (0..count).map(|_| writer.allocate()).collect::<Result<Vec<_>, _>>()?;
    places.iter().for_each(|place| writer.point(*place));
    // The tree's own blocks have one pointer each, so building it adds nothing to it.
    let overflow: Vec<_> = writer.counts.iter().filter(|(_, count)| *count >= OVERFLOW).collect();
    let mut tree = TreeBuilder::new(4);
    for (block, count) in overflow {
        tree.push(writer, block, count.to_le_bytes())?;
    }
    let ref_count_root = tree.finish(writer)?;
    writer.point(ref_count_root);
    let mut entries = Vec::with_capacity(places.len());
    let counts = writer.counts.clone();
    let mut maps = Bitmaps::new(writer.size, counts.iter());
    for (number, place) in (0..).zip(places) {
        let (bytes, entry) = maps.make(number, place);
        writer.write(place, &bytes)?;
        entries.push(entry);
    }
    writer.write(index, &IndexBlock { number: index, entries }.encode(writer.size))?;
    let nr_allocated = maps.allocated;
    Ok(SpaceMapRoot { nr_blocks: blocks, nr_allocated, bitmap_root: index, ref_count_root })
}
