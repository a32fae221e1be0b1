//! The superblock: 404 bytes at the start of block 0, and of each copy in the ring.
//!
//! QNAP's is a superset of mainline's at the same offsets. Mainline reserves 128 bytes for each space-map root; QNAP cut the
//! two areas into slots of 40 bytes to make room for the maps of three tiers, and went on after `incompat_flags`.

use super::bytes::{put, put_u32, put_u64};
use super::{BlockKind, BlockSize, SpaceMapRoot, seal};
use crate::error::DecodeError;
use crate::field::Fields;
use crate::units::{MetaBlock, Sectors};

/// What every superblock carries at byte 32.
pub const MAGIC: u64 = 27_022_010;
/// Length of the structure; the rest of the block is zero.
pub const SUPERBLOCK_BYTES: usize = 404;
/// Tiers there is room for.
pub const MAX_TIERS: usize = 3;

/// Bits of [`Superblock::flags`].
pub mod flags {
    /// The metadata must be checked before it is written again.
    pub const NEEDS_CHECK: u32 = 1;
    /// Clone times are in use.
    pub const FAST_BLOCK_CLONE: u32 = 1 << 30;
    /// A copy of the superblock goes to the ring at each commit.
    pub const SUPERBLOCK_BACKUP: u32 = 1 << 31;
}

const STRUCTURE: &str = "superblock";
const TIER_ROOTS_AT: [usize; MAX_TIERS] = [104, 144, 232];

/// A superblock, field by field. In a mainline pool everything from `backup_id` on is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// See [`flags`]; unknown bits are kept.
    pub flags: u32,
    /// Own block number: 0, or the block of the copy.
    pub number: MetaBlock,
    /// Zeros from kernels.
    pub uuid: [u8; 16],
    /// [`MAGIC`].
    pub magic: u64,
    /// 1 to 4.
    pub version: u32,
    /// The pool's clock: rises with each snapshot or clone.
    pub time: u32,
    /// User space's transaction id.
    pub transaction: u64,
    /// Block of the reserved metadata snapshot, 0 for none.
    pub held_root: MetaBlock,
    /// Space map of the pool's chunks.
    pub data_map: SpaceMapRoot,
    /// Space maps of the tiers.
    pub tier_maps: [SpaceMapRoot; MAX_TIERS],
    /// Named by QNAP's sources, used by none.
    pub rescan_needed: u32,
    /// Space map of the metadata device.
    pub metadata_map: SpaceMapRoot,
    /// Root of the two-level mapping tree.
    pub mapping_root: MetaBlock,
    /// Root of the details tree.
    pub details_root: MetaBlock,
    /// Chunk size.
    pub chunk_size: Sectors,
    /// Metadata block size: 8 or 16 sectors; wrong in some old pools, so never trusted.
    pub metadata_block_size: Sectors,
    /// Counted in 4 KiB units by QNAP's kernels whatever the block size, so never trusted; see `metadata_map`.
    pub metadata_nr_blocks: u64,
    /// Compatible features.
    pub compat_flags: u32,
    /// Any bit: must not be written.
    pub compat_ro_flags: u32,
    /// Any bit: must not be read.
    pub incompat_flags: u32,
    /// Sequence number of a copy in the ring; 0 in block 0.
    pub backup_id: u64,
    /// Written by QNAP's tools only.
    pub reserve_block_count: u64,
    /// Root of the tree of clone counts, 0 for none; never kept up to date by kernels.
    pub clone_root: MetaBlock,
    /// Tiers in the pool's table: 0 to 3.
    pub tier_num: u32,
    /// Root of the tier tree, 0 for none.
    pub tier_root: MetaBlock,
    /// Tier block size; 8192 sectors in all kernels.
    pub tier_block_size: Sectors,
}

impl Superblock {
    /// Decodes the structure. Only its length is checked: what the values mean, and the checksum, is for the reader to judge.
    ///
    /// # Errors
    /// When there are fewer than [`SUPERBLOCK_BYTES`].
    pub fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let f = Fields::new(STRUCTURE, block);
        let sectors = |field, offset| f.u32(field, offset).map(|value| Sectors(value.into()));
        let block_at = |field, offset| f.u64(field, offset).map(MetaBlock);
        let [tier0, tier1, tier2] = TIER_ROOTS_AT;
        Ok(Self {
            flags: f.u32("flags", 4)?,
            number: block_at("blocknr", 8)?,
            uuid: f.array("uuid", 16)?,
            magic: f.u64("magic", 32)?,
            version: f.u32("version", 40)?,
            time: f.u32("time", 44)?,
            transaction: f.u64("trans_id", 48)?,
            held_root: block_at("held_root", 56)?,
            data_map: map_root(&f, "data_sm_root", 64)?,
            tier_maps: [
                map_root(&f, "tier0_sm_root", tier0)?,
                map_root(&f, "tier1_sm_root", tier1)?,
                map_root(&f, "tier2_sm_root", tier2)?,
            ],
            rescan_needed: f.u32("rescan_needed", 184)?,
            metadata_map: map_root(&f, "metadata_sm_root", 192)?,
            mapping_root: block_at("data_mapping_root", 320)?,
            details_root: block_at("device_details_root", 328)?,
            chunk_size: sectors("data_block_size", 336)?,
            metadata_block_size: sectors("metadata_block_size", 340)?,
            metadata_nr_blocks: f.u64("metadata_nr_blocks", 344)?,
            compat_flags: f.u32("compat_flags", 352)?,
            compat_ro_flags: f.u32("compat_ro_flags", 356)?,
            incompat_flags: f.u32("incompat_flags", 360)?,
            backup_id: f.u64("backup_id", 364)?,
            reserve_block_count: f.u64("reserve_block_count", 372)?,
            clone_root: block_at("clone_root", 380)?,
            tier_num: f.u32("tier_num", 388)?,
            tier_root: block_at("pool_mapping_root", 392)?,
            tier_block_size: sectors("tier_block_size", 400)?,
        })
    }

    /// A whole block with its checksum. Sizes in sectors that do not fit 32 bits become 0.
    pub fn encode(&self, block_size: BlockSize) -> Vec<u8> {
        let mut out = vec![0; block_size.bytes()];
        self.put_head(&mut out);
        self.put_maps(&mut out);
        self.put_tail(&mut out);
        seal(BlockKind::Superblock, &mut out);
        out
    }

    fn put_head(&self, out: &mut [u8]) {
        put_u32(out, 4, self.flags);
        put_u64(out, 8, self.number.0);
        put(out, 16, &self.uuid);
        put_u64(out, 32, self.magic);
        put_u32(out, 40, self.version);
        put_u32(out, 44, self.time);
        put_u64(out, 48, self.transaction);
        put_u64(out, 56, self.held_root.0);
    }

    fn put_maps(&self, out: &mut [u8]) {
        put(out, 64, &self.data_map.encode());
        for (map, offset) in self.tier_maps.iter().zip(TIER_ROOTS_AT) {
            put(out, offset, &map.encode());
        }
        put_u32(out, 184, self.rescan_needed);
        put(out, 192, &self.metadata_map.encode());
    }

    fn put_tail(&self, out: &mut [u8]) {
        let narrow = |sectors: Sectors| u32::try_from(sectors.0).unwrap_or(0);
        put_u64(out, 320, self.mapping_root.0);
        put_u64(out, 328, self.details_root.0);
        put_u32(out, 336, narrow(self.chunk_size));
        put_u32(out, 340, narrow(self.metadata_block_size));
        put_u64(out, 344, self.metadata_nr_blocks);
        put_u32(out, 352, self.compat_flags);
        put_u32(out, 356, self.compat_ro_flags);
        put_u32(out, 360, self.incompat_flags);
        put_u64(out, 364, self.backup_id);
        put_u64(out, 372, self.reserve_block_count);
        put_u64(out, 380, self.clone_root.0);
        put_u32(out, 388, self.tier_num);
        put_u64(out, 392, self.tier_root.0);
        put_u32(out, 400, narrow(self.tier_block_size));
    }

    /// The same state as `other`, whatever their places, sequence numbers and flags (which change without a commit).
    pub fn same_state(&self, other: &Self) -> bool {
        let bare = |superblock: &Self| Self { flags: 0, number: MetaBlock(0), backup_id: 0, ..superblock.clone() };
        bare(self) == bare(other)
    }

    /// Whether a bit of [`flags`] is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

fn map_root(fields: &Fields<'_>, field: &'static str, offset: usize) -> Result<SpaceMapRoot, DecodeError> {
    SpaceMapRoot::decode(&fields.array::<{ SpaceMapRoot::BYTES }>(field, offset)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_block_is_refused_by_field() {
        let error = Superblock::decode(&[0; SUPERBLOCK_BYTES - 1]).unwrap_err();
        assert_eq!((error.field, error.offset), ("tier_block_size", 400));
        assert!(Superblock::decode(&[0; SUPERBLOCK_BYTES]).is_ok());
    }

    /// The worked example of the format: three tiers, written by QNAP's thin_restore.
    const EXAMPLE: [(usize, &str); 12] = [
        (0x000, "f3b3e8a7000000c00000000000000000"),
        (0x020, "ba529c0100000000040000000500000009000000000000000000000000000000"),
        (0x040, "409c000000000000fe2100000000000004000000000000000500000000000000"),
        (0x068, "2c01000000000000c80000000000000009000000000000000a00000000000000"),
        (0x090, "d00700000000000020030000000000000b000000000000000c00000000000000"),
        (0x0c0, "00080000000000000a0100000000000001000000000000000200000000000000"),
        (0x0e8, "ac0d0000000000005d000000000000000d000000000000000e00000000000000"),
        (0x140, "07000000000000000600000000000000"),
        (0x150, "00040000100000000008000000000000"),
        (0x160, "00000000000000000000000000000000"),
        (0x170, "00000000b80b00000000000008000000"),
        (0x180, "00000000030000000f0000000000000000200000"),
    ];

    fn example() -> Vec<u8> {
        let mut block = vec![0; 8192];
        for (offset, hex) in EXAMPLE {
            let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
            let bytes: Vec<_> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
            put(&mut block, offset, &bytes);
        }
        block
    }

    #[test]
    fn the_worked_example_decodes_and_encodes_to_its_bytes() {
        let found = Superblock::decode(&example()).unwrap();
        assert_eq!((found.magic, found.version, found.time, found.transaction), (MAGIC, 4, 5, 9));
        assert_eq!((found.data_map.nr_blocks, found.data_map.nr_allocated), (40_000, 8702));
        assert_eq!(found.tier_maps.map(|map| (map.nr_blocks, map.nr_allocated)), [(300, 200), (2000, 800), (3500, 93)]);
        assert_eq!((found.metadata_map.nr_blocks, found.metadata_map.bitmap_root), (2048, MetaBlock(1)));
        assert_eq!(
            (found.mapping_root, found.details_root, found.tier_root),
            (MetaBlock(7), MetaBlock(6), MetaBlock(15))
        );
        assert_eq!((found.chunk_size, found.tier_block_size), (Sectors(1024), Sectors(8192)));
        assert_eq!((found.reserve_block_count, found.clone_root, found.tier_num), (3000, MetaBlock(8), 3));
        assert!(found.has(flags::FAST_BLOCK_CLONE) && found.has(flags::SUPERBLOCK_BACKUP));
        assert!(!found.has(flags::NEEDS_CHECK));
        assert_eq!(found.encode(BlockSize::K8), example());
    }

    #[test]
    fn place_number_and_flags_are_no_part_of_the_state() {
        let block0 = Superblock::decode(&[7; 512]).unwrap();
        let copy = Superblock { number: MetaBlock(9), backup_id: 3, flags: 0, ..block0.clone() };
        assert!(block0.same_state(&copy));
        assert!(!block0.same_state(&Superblock { time: 1, ..block0.clone() }));
    }

    proptest! {
        #[test]
        fn every_superblock_comes_back(bytes in proptest::collection::vec(any::<u8>(), SUPERBLOCK_BYTES)) {
            let superblock = Superblock::decode(&bytes).unwrap();
            for size in BlockSize::PROBE_ORDER {
                prop_assert_eq!(&Superblock::decode(&superblock.encode(size)).unwrap(), &superblock);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Superblock::decode(&bytes);
        }
    }
}
