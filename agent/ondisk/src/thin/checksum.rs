//! The checksum of a metadata block: CRC-32C without the final inversion, mixed with a constant that tells the block's type.
//!
//! It covers all of the block after the checksum itself, unused space too. There is no type field: the type of an unknown
//! block is found by taking the constant out of the stored checksum again ([`identify`]).

use super::bytes::put_u32;
use crate::field::Fields;
use crate::units::MetaBlock;

/// The types of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// Superblock, a copy of it in the ring, or a reserved metadata snapshot.
    Superblock,
    /// Node of any tree.
    Node,
    /// Bitmap of a space map.
    Bitmap,
    /// Index of the metadata's own space map.
    Index,
}

impl BlockKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Superblock, Self::Node, Self::Bitmap, Self::Index];

    /// What tells the kinds apart: the CRC is combined with it.
    pub const fn constant(self) -> u32 {
        match self {
            Self::Superblock => 160_774,
            Self::Node => 121_107,
            Self::Bitmap => 240_779,
            Self::Index => 160_478,
        }
    }

    /// The name shown to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superblock => "superblock",
            Self::Node => "tree node",
            Self::Bitmap => "space-map bitmap",
            Self::Index => "space-map index",
        }
    }
}

/// CRC-32C of everything after the checksum field, without the final inversion.
fn raw_crc(block: &[u8]) -> u32 {
    !crc32c::crc32c(block.get(4..).unwrap_or_default())
}

/// The checksum that a block of this kind must carry in its first four bytes.
pub fn checksum(kind: BlockKind, block: &[u8]) -> u32 {
    raw_crc(block) ^ kind.constant()
}

/// The checksum that is stored in the block; 0 for a block too short to hold one.
pub fn stored_checksum(block: &[u8]) -> u32 {
    Fields::new("block", block).u32("checksum", 0).unwrap_or(0)
}

/// The block number that the block carries.
pub fn own_number(block: &[u8]) -> Option<MetaBlock> {
    Fields::new("block", block).u64("own number", 8).ok().map(MetaBlock)
}

/// The type whose checksum the block carries, or `None` when it is damaged or not a metadata block at all.
pub fn identify(block: &[u8]) -> Option<BlockKind> {
    let constant = raw_crc(block) ^ stored_checksum(block);
    BlockKind::ALL.into_iter().find(|kind| kind.constant() == constant)
}

/// Writes the checksum into a block whose other bytes are complete.
pub fn seal(kind: BlockKind, block: &mut [u8]) {
    let sum = checksum(kind, block);
    put_u32(block, 0, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_castagnoli_without_final_inversion() {
        assert_eq!(raw_crc(b"....123456789"), 0x1CF9_6D7C);
        assert_eq!(raw_crc(&[0; 4096]), 0x58CD_A791);
        assert_eq!(raw_crc(&[0; 8192]), 0x03E3_C75A);
    }

    #[test]
    fn each_kind_has_its_constant() {
        let sums = |size: usize| BlockKind::ALL.map(|kind| checksum(kind, &vec![0; size]));
        assert_eq!(sums(4096), [0x58CF_D397, 0x58CC_7E82, 0x58CE_0B1A, 0x58CF_D54F]);
        assert_eq!(sums(8192), [0x03E1_B35C, 0x03E2_1E49, 0x03E0_6BD1, 0x03E1_B584]);
    }

    #[test]
    fn a_sealed_block_tells_its_kind_and_a_flipped_bit_hides_it() {
        for kind in BlockKind::ALL {
            let mut block = vec![7; 4096];
            seal(kind, &mut block);
            assert_eq!(identify(&block), Some(kind));
            block[4095] ^= 1;
            assert_eq!(identify(&block), None);
        }
    }

    #[test]
    fn short_input_is_no_block() {
        for length in 0..16 {
            assert_eq!(identify(&vec![0; length]), None);
        }
    }
}
