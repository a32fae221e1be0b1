//! Space maps: which blocks of an address space are in use, and how often. Up to five: metadata, data, and one per tier.

use super::bytes::{put, put_u32, put_u64};
use super::{BlockKind, BlockSize, seal};
use crate::error::DecodeError;
use crate::field::Fields;
use crate::units::MetaBlock;
use byteorder::{ByteOrder, LittleEndian};
use serde::Serialize;

const BLOCK_HEADER: usize = 16;
const ENTRY: usize = 16;

/// Root of a space map, 32 bytes in the superblock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct SpaceMapRoot {
    /// Blocks in the address space.
    pub nr_blocks: u64,
    /// Blocks whose count is above 0.
    pub nr_allocated: u64,
    /// Root of the tree of index entries; for the metadata map the index block.
    pub bitmap_root: MetaBlock,
    /// Root of the tree of counts of 3 and more.
    pub ref_count_root: MetaBlock,
}

impl SpaceMapRoot {
    /// Length on disk.
    pub const BYTES: usize = 32;

    /// Decodes the 32 bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("space-map root", bytes);
        Ok(Self {
            nr_blocks: fields.u64("nr_blocks", 0)?,
            nr_allocated: fields.u64("nr_allocated", 8)?,
            bitmap_root: MetaBlock(fields.u64("bitmap_root", 16)?),
            ref_count_root: MetaBlock(fields.u64("ref_count_root", 24)?),
        })
    }

    /// The 32 bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        put_u64(&mut out, 0, self.nr_blocks);
        put_u64(&mut out, 8, self.nr_allocated);
        put_u64(&mut out, 16, self.bitmap_root.0);
        put_u64(&mut out, 24, self.ref_count_root.0);
        out
    }
}

/// Points at one bitmap, 16 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IndexEntry {
    /// The bitmap's block.
    pub block: MetaBlock,
    /// Free entries. For the last bitmap of a map writers disagree on whether entries beyond the end count as free.
    pub nr_free: u32,
    /// No free entry lies below this one: a hint.
    pub none_free_before: u32,
}

impl IndexEntry {
    /// Decodes the 16 bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("space-map index entry", bytes);
        Ok(Self {
            block: MetaBlock(fields.u64("block", 0)?),
            nr_free: fields.u32("nr_free", 8)?,
            none_free_before: fields.u32("none_free_before", 12)?,
        })
    }

    /// The 16 bytes.
    pub fn encode(&self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        put_u64(&mut out, 0, self.block.0);
        put_u32(&mut out, 8, self.nr_free);
        put_u32(&mut out, 12, self.none_free_before);
        out
    }
}

/// Entries in the index block of the metadata map: 255 or 511.
pub fn index_entries(block_size: BlockSize) -> usize {
    block_size.bytes().saturating_sub(BLOCK_HEADER) / ENTRY
}

/// The index block of the metadata's own space map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexBlock {
    /// The block number it carries.
    pub number: MetaBlock,
    /// Its entries; unused ones are all zero.
    pub entries: Vec<IndexEntry>,
}

impl IndexBlock {
    /// Decodes a whole block; the checksum is not looked at here.
    ///
    /// # Errors
    /// When the block is shorter than its header.
    pub fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let number = MetaBlock(Fields::new("space-map index", block).u64("blocknr", 8)?);
        let area = block.get(BLOCK_HEADER..).unwrap_or_default();
        let entries = area.chunks_exact(ENTRY).map(IndexEntry::decode).collect::<Result<_, _>>()?;
        Ok(Self { number, entries })
    }

    /// A whole block with its checksum; entries beyond what fits are left out.
    pub fn encode(&self, block_size: BlockSize) -> Vec<u8> {
        let mut out = vec![0; block_size.bytes()];
        put_u64(&mut out, 8, self.number.0);
        for (place, entry) in out.get_mut(BLOCK_HEADER..).unwrap_or_default().chunks_exact_mut(ENTRY).zip(&self.entries)
        {
            place.copy_from_slice(&entry.encode());
        }
        seal(BlockKind::Index, &mut out);
        out
    }
}

/// A bitmap: two bits for each block. The bit at the lower address is the *high* bit of the count.
#[derive(Debug, Clone, Copy)]
pub struct Bitmap<'a> {
    number: MetaBlock,
    bits: &'a [u8],
}

impl<'a> Bitmap<'a> {
    /// Blocks that one bitmap speaks for: 16320 or 32704.
    pub fn entries(block_size: BlockSize) -> usize {
        block_size.bytes().saturating_sub(BLOCK_HEADER).saturating_mul(4)
    }

    /// Decodes a whole block; the checksum is not looked at here.
    ///
    /// # Errors
    /// When the block is shorter than its header.
    pub fn decode(block: &'a [u8]) -> Result<Self, DecodeError> {
        let number = MetaBlock(Fields::new("space-map bitmap", block).u64("blocknr", 8)?);
        Ok(Self { number, bits: block.get(BLOCK_HEADER..).unwrap_or_default() })
    }

    /// The block number it carries.
    pub fn number(&self) -> MetaBlock {
        self.number
    }

    /// Count of entry `index`: 0 to 2, or 3 for "look in the tree of counts". `None` beyond the end.
    pub fn count(&self, index: usize) -> Option<u8> {
        let byte = self.bits.get(index / 4)?;
        let pair = match index % 4 {
            0 => byte & 3,
            1 => byte >> 2 & 3,
            2 => byte >> 4 & 3,
            _ => byte >> 6,
        };
        Some((pair & 1) << 1 | pair >> 1)
    }

    /// The counts of entries `16 * index` to `16 * index + 15` at once: four bits each, the first in the lowest. `None`
    /// beyond the end.
    pub fn sixteen(&self, index: usize) -> Option<u64> {
        let bytes = self.bits.chunks_exact(4).nth(index)?;
        // Each pair of bits to the lower half of four, by halves; then the two bits of each pair change places.
        let halves = [(16, 0x0000_FFFF_0000_FFFF), (8, 0x00FF_00FF_00FF_00FF), (4, 0x0F0F_0F0F_0F0F_0F0F)];
        let halves = halves.into_iter().chain([(2, 0x3333_3333_3333_3333)]);
        let apart =
            halves.fold(u64::from(LittleEndian::read_u32(bytes)), |bits: u64, (by, mask)| (bits | bits << by) & mask);
        Some((apart & 0x1111_1111_1111_1111) << 1 | (apart & 0x2222_2222_2222_2222) >> 1)
    }

    /// Writes a whole block with its checksum from one count (0 to 3) per entry.
    pub fn encode(block_size: BlockSize, number: MetaBlock, counts: &[u8]) -> Vec<u8> {
        let mut out = vec![0; block_size.bytes()];
        put_u64(&mut out, 8, number.0);
        let bits: Vec<u8> = counts.chunks(4).map(pack).collect();
        let room = block_size.bytes().saturating_sub(BLOCK_HEADER);
        put(&mut out, BLOCK_HEADER, bits.get(..room).unwrap_or(&bits));
        seal(BlockKind::Bitmap, &mut out);
        out
    }
}

fn pack(counts: &[u8]) -> u8 {
    counts.iter().rev().fold(0, |byte, count| byte << 2 | (count & 1) << 1 | count >> 1 & 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::stored_checksum;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_checksums_are_those_of_the_format() {
        assert_eq!([BlockSize::K4, BlockSize::K8].map(Bitmap::entries), [16_320, 32_704]);
        assert_eq!([BlockSize::K4, BlockSize::K8].map(index_entries), [255, 511]);
        let bitmap = |size| stored_checksum(&Bitmap::encode(size, MetaBlock(5), &[]));
        assert_eq!([bitmap(BlockSize::K4), bitmap(BlockSize::K8)], [0xDA0C_0B53, 0x0005_F29E]);
        let index = IndexBlock { number: MetaBlock(5), entries: Vec::new() };
        let index = |size| stored_checksum(&index.encode(size));
        assert_eq!([index(BlockSize::K4), index(BlockSize::K8)], [0xDA0D_D506, 0x0004_2CCB]);
    }

    #[test]
    fn the_lower_bit_is_the_high_bit() {
        let mut block = Bitmap::encode(BlockSize::K4, MetaBlock(1), &[1, 2, 3, 0]);
        assert_eq!(block[16], 0b0011_0110);
        block.truncate(17);
        let bitmap = Bitmap::decode(&block).unwrap();
        assert_eq!([0, 1, 2, 3, 4].map(|index| bitmap.count(index)), [Some(1), Some(2), Some(3), Some(0), None]);
    }

    proptest! {
        #[test]
        fn counts_come_back(counts in proptest::collection::vec(0..4_u8, 0..200)) {
            let block = Bitmap::encode(BlockSize::K8, MetaBlock(3), &counts);
            let bitmap = Bitmap::decode(&block).unwrap();
            let back: Vec<_> = (0..counts.len()).filter_map(|index| bitmap.count(index)).collect();
            for (index, counts) in counts.chunks_exact(16).enumerate() {
                let sixteen = counts.iter().rev().fold(0, |sixteen, count| sixteen << 4 | u64::from(*count));
                prop_assert_eq!(bitmap.sixteen(index), Some(sixteen));
            }
            prop_assert_eq!(back, counts);
        }

        #[test]
        fn roots_and_entries_come_back(bytes: [u8; 32]) {
            prop_assert_eq!(SpaceMapRoot::decode(&bytes).unwrap().encode(), bytes);
            prop_assert_eq!(IndexEntry::decode(&bytes).unwrap().encode(), &bytes[..16]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), index: usize) {
            let _ = SpaceMapRoot::decode(&bytes);
            let _ = IndexBlock::decode(&bytes);
            let _ = Bitmap::decode(&bytes).map(|bitmap| bitmap.count(index));
        }
    }
}
