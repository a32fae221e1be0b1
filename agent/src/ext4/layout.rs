//! Superblock and group descriptors: where inode tables and bitmaps lie.

use super::copies::{self, FIRST, LENGTH};
use super::{field16, field32, read_block, wide};
use std::ops::Range;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

const MAGIC: u16 = 0xef53;
/// More groups than 512 TiB have of the usual size.
const MAX_GROUPS: u64 = 1 << 22;

const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_DESCRIPTOR_CHECKSUMS: u32 = 0x10 | 0x400;
const RO_COMPAT_BIGALLOC: u32 = 0x200;
const GROUP_INODES_UNUSED: u16 = 0x1;
const GROUP_BLOCKS_UNUSED: u16 = 0x2;

/// Where things lie.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Bytes of a block.
    pub(super) block_size: u64,
    /// Blocks in all, never more than the volume has.
    pub(super) blocks: u64,
    /// Inodes in all.
    pub(super) inodes: u64,
    /// Bytes of an inode.
    pub(super) inode_size: u64,
    /// Inodes in each group.
    pub(super) inodes_per_group: u64,
    /// First inode that users' files have; those before are the file system's own, but for the root.
    pub(super) first_inode: u64,
    /// Inode of the journal; 0 when there is none.
    pub(super) journal: u32,
    /// A bit of a bitmap stands for one block.
    pub(super) bit_is_block: bool,
    /// The groups; `None` for one whose descriptor cannot be read.
    pub(super) groups: Vec<Option<Group>>,
    first_block: u64,
    blocks_per_group: u64,
}

/// A group of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Block of the bitmap of blocks; `None` when it was never written because nothing is in use.
    pub(super) block_bitmap: Option<u64>,
    /// First block of the inode table.
    pub(super) inode_table: u64,
    /// Inodes at the start of the table that may be in use.
    pub(super) inodes: u64,
}

impl Layout {
    /// Reads the first superblock that makes sense, and the descriptors behind it; `None` when there is none.
    pub(super) fn read(view: &dyn ReadAt) -> Option<Self> {
        std::iter::once(FIRST).chain(copies::places().map(|(place, ..)| place)).find_map(|place| {
            let mut block = [0; LENGTH];
            view.read_at(Bytes(place), &mut block).ok()?;
            Self::decode(view, &block, place)
        })
    }

    pub(super) fn decode(view: &dyn ReadAt, block: &[u8], place: u64) -> Option<Self> {
        if field16(block, 0x38) != MAGIC || field32(block, 0x18) > 6 {
            return None;
        }
        let block_size = 1024_u64 << field32(block, 0x18);
        let incompat = field32(block, 0x60);
        let ro_compat = field32(block, 0x64);
        let high = if incompat & INCOMPAT_64BIT == 0 { 0 } else { u64::from(field32(block, 0x150)) << 32 };
        let blocks = (high | u64::from(field32(block, 4))).min(view.size().0.checked_div(block_size)?);
        let first_block = u64::from(field32(block, 0x14));
        let blocks_per_group = u64::from(field32(block, 0x20));
        let inode_size = if field32(block, 0x4c) == 0 { 128 } else { u64::from(field16(block, 0x58)) };
        let inodes_per_group = u64::from(field32(block, 0x28));
        let bits = block_size.checked_mul(8)?;
        let sound = (1..=bits).contains(&inodes_per_group)
            && blocks_per_group >= 8
            && (blocks_per_group <= bits || ro_compat & RO_COMPAT_BIGALLOC != 0)
            && inode_size.is_power_of_two()
            && (128..=block_size).contains(&inode_size)
            && first_block < blocks;
        if !sound {
            return None;
        }
        let count = blocks.checked_sub(first_block)?.div_ceil(blocks_per_group);
        let mut layout = Self {
            block_size,
            blocks,
            inodes: u64::from(field32(block, 0)).min(count.checked_mul(inodes_per_group)?),
            inode_size,
            inodes_per_group,
            first_inode: if field32(block, 0x4c) == 0 { 11 } else { u64::from(field32(block, 0x54)) },
            journal: field32(block, 0xe0),
            bit_is_block: ro_compat & RO_COMPAT_BIGALLOC == 0,
            groups: Vec::new(),
            first_block,
            blocks_per_group,
        };
        let descriptors = Descriptors {
            size: if incompat & INCOMPAT_64BIT == 0 { 32 } else { u64::from(field16(block, 0xfe)).max(32) },
            table: place.checked_div(block_size)?.checked_add(1)?,
            first_spread: (incompat & INCOMPAT_META_BG != 0).then(|| u64::from(field32(block, 0x104))),
            sparse: ro_compat & RO_COMPAT_SPARSE_SUPER != 0,
            counted: ro_compat & RO_COMPAT_DESCRIPTOR_CHECKSUMS != 0,
        };
        // Tables that do not fit into the volume are none, and would be read for ever.
        if count > MAX_GROUPS || layout.table_blocks().checked_mul(count)? > blocks {
            return None;
        }
        layout.groups = descriptors.read(view, &layout, count)?;
        Some(layout)
    }

    /// The blocks of a group.
    pub(super) fn blocks_of(&self, group: u64) -> Range<u64> {
        let start = group.saturating_mul(self.blocks_per_group).saturating_add(self.first_block);
        start.min(self.blocks)..start.saturating_add(self.blocks_per_group).min(self.blocks)
    }

    /// Blocks of each inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        self.inodes_per_group.saturating_mul(self.inode_size).div_ceil(self.block_size.max(1))
    }
}

/// Where the descriptors lie, and what they tell.
struct Descriptors {
    size: u64,
    /// First block of the table.
    table: u64,
    /// From this block of descriptors on, each lies in the first of the groups it describes.
    first_spread: Option<u64>,
    /// Only some groups have a copy of the superblock.
    sparse: bool,
    /// Flags and counts of unused inodes are kept.
    counted: bool,
}

impl Descriptors {
    fn read(&self, view: &dyn ReadAt, layout: &Layout, count: u64) -> Option<Vec<Option<Group>>> {
        let in_block = layout.block_size.checked_div(self.size).filter(|count| *count > 0)?;
        let mut groups = Vec::new();
        for number in 0..count.div_ceil(in_block) {
            let block = self.block(layout, number, in_block).and_then(|at| read_block(view, at, layout.block_size));
            let here = in_block.min(count.saturating_sub(number.saturating_mul(in_block)));
            for index in 0..usize::try_from(here).ok()? {
                let size = usize::try_from(self.size).ok()?;
                let start = index.checked_mul(size)?;
                let bytes = block.as_ref().and_then(|block| block.get(start..start.checked_add(size)?));
                groups.push(bytes.and_then(|bytes| self.decode(bytes, layout)));
            }
        }
        Some(groups)
    }

    /// Where a block of descriptors lies.
    fn block(&self, layout: &Layout, number: u64, in_block: u64) -> Option<u64> {
        if self.first_spread.is_none_or(|first| number < first) {
            return self.table.checked_add(number);
        }
        let group = number.checked_mul(in_block)?;
        let start = layout.blocks_of(group).start;
        if self.has_superblock(group) { start.checked_add(1) } else { Some(start) }
    }

    fn has_superblock(&self, group: u64) -> bool {
        let power_of = |base: u64| {
            std::iter::successors(Some(base), |power| power.checked_mul(base))
                .take_while(|power| *power <= group)
                .any(|power| power == group)
        };
        !self.sparse || group <= 1 || [3, 5, 7].into_iter().any(power_of)
    }

    fn decode(&self, bytes: &[u8], layout: &Layout) -> Option<Group> {
        let is_wide = bytes.len() >= 64;
        let place = |low, high| if is_wide { wide(bytes, low, high) } else { u64::from(field32(bytes, low)) };
        let (bitmap, inode_table) = (place(0, 0x20), place(8, 0x28));
        let inside = |block: u64| block > 0 && block < layout.blocks;
        if !inside(bitmap) || !inside(inode_table) {
            return None;
        }
        let flags = if self.counted { field16(bytes, 0x12) } else { 0 };
        let unused_high = if is_wide { u64::from(field16(bytes, 0x32)) << 16 } else { 0 };
        let unused = if self.counted { unused_high | u64::from(field16(bytes, 0x1c)) } else { 0 };
        let inodes = match flags & GROUP_INODES_UNUSED {
            0 => layout.inodes_per_group.saturating_sub(unused),
            _ => 0,
        };
        Some(Group { block_bitmap: (flags & GROUP_BLOCKS_UNUSED == 0).then_some(bitmap), inode_table, inodes })
    }
}
