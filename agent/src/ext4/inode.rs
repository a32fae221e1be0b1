//! Inodes, one after another from their tables.

use super::layout::Layout;
use super::{field16, field32, wide};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

const KIND: u16 = 0xf000;
const REGULAR: u16 = 0x8000;
const DIRECTORY: u16 = 0x4000;
/// Bytes that lists of blocks and short contents have.
const BODY: usize = 60;
/// Inodes of this size tell when they were made, and have nanoseconds.
const WITH_TIMES: usize = 0x98;

/// An inode that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    mode: u16,
    /// Names that lead to it.
    pub links: u16,
    /// Bytes of its content.
    pub(super) size: u64,
    /// Flags: how its blocks are listed.
    pub(super) flags: u32,
    /// When it or its content was changed last, seconds since 1970. No program can set it.
    pub(super) changed: i64,
    /// The list of its blocks, or its content.
    pub(super) body: [u8; BODY],
}

impl Inode {
    /// A plain file.
    pub fn is_file(&self) -> bool {
        self.mode & KIND == REGULAR
    }

    /// A directory.
    pub(super) fn is_directory(&self) -> bool {
        self.mode & KIND == DIRECTORY
    }

    /// `None` for one that is not in use.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (mode, links, deleted) = (field16(bytes, 0), field16(bytes, 0x1a), field32(bytes, 0x14));
        if mode == 0 || links == 0 || deleted != 0 {
            return None;
        }
        let extra = if bytes.len() > 128 { usize::from(field16(bytes, 0x80)) } else { 0 };
        let epoch = if extra >= 8 { i64::from(field32(bytes, 0x84) & 3) << 32 } else { 0 };
        let changed = i64::from(field32(bytes, 0xc) as i32).saturating_add(epoch);
        let body = bytes.get(0x28..0x64)?.try_into().ok()?;
        Some(Self { mode, links, size: wide(bytes, 4, 0x6c), flags: field32(bytes, 0x20), changed, body })
    }
}

/// What tells one inode from others. Two readers of the same file system that find the same here mean the same inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Kind and permissions, as `st_mode` has them.
    pub mode: u16,
    /// Number of the user it belongs to.
    pub owner: u32,
    /// Number of the group.
    pub group: u32,
    /// Bytes of its content.
    pub size: u64,
    /// When its content was changed last: seconds since 1970, nanoseconds.
    pub modified: (i64, u32),
    /// When it was made; small inodes do not tell.
    pub made: Option<(i64, u32)>,
}

impl Identity {
    /// `bytes` are a whole inode.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let has_times = bytes.len() >= WITH_TIMES;
        let time = |at: usize, extra_at: usize| {
            let extra = if has_times { field32(bytes, extra_at) } else { 0 };
            let seconds = i64::from(field32(bytes, at) as i32).saturating_add(i64::from(extra & 3) << 32);
            (seconds, extra >> 2)
        };
        let halves = |low: usize, high: usize| u32::from(field16(bytes, high)) << 16 | u32::from(field16(bytes, low));
        Self {
            mode: field16(bytes, 0),
            owner: halves(2, 0x78),
            group: halves(0x18, 0x7a),
            size: wide(bytes, 4, 0x6c),
            modified: time(0x10, 0x88),
            made: has_times.then(|| time(0x90, 0x94)),
        }
    }
}

/// One inode by its number; `None` when it is not in use or cannot be read.
pub(super) fn inode(view: &dyn ReadAt, layout: &Layout, number: u32) -> Option<Inode> {
    Inode::decode(&bytes(view, layout, number)?)
}

/// All bytes of an inode, in use or not; `None` when they cannot be read.
pub(super) fn bytes(view: &dyn ReadAt, layout: &Layout, number: u32) -> Option<Vec<u8>> {
    let index = u64::from(number).checked_sub(1)?;
    let group = layout.groups.get(usize::try_from(index.checked_div(layout.inodes_per_group)?).ok()?)?.as_ref()?;
    let inside = index.checked_rem(layout.inodes_per_group)?.checked_mul(layout.inode_size)?;
    let mut bytes = vec![0; usize::try_from(layout.inode_size).ok()?];
    let place = group.inode_table.checked_mul(layout.block_size)?.checked_add(inside)?;
    view.read_at(Bytes(place), &mut bytes).ok()?;
    Some(bytes)
}

/// Visits every inode in use with its number. Answers how many may be in use but cannot be read.
pub(super) fn all(view: &dyn ReadAt, layout: &Layout, visit: &mut dyn FnMut(u64, &Inode)) -> u64 {
    let mut unknown = 0_u64;
    let in_block = layout.block_size.checked_div(layout.inode_size).unwrap_or(1).max(1);
    for (number, group) in (0_u64..).zip(&layout.groups) {
        let Some(group) = group else {
            unknown = unknown.saturating_add(layout.inodes_per_group);
            continue;
        };
        let first = number.saturating_mul(layout.inodes_per_group);
        let end = group.inodes.div_ceil(in_block);
        let mut next = 0;
        while next < end {
            let block = next.saturating_add(empty(view, layout, group.inode_table.saturating_add(next)));
            next = block.saturating_add(1);
            if block >= end {
                break;
            }
            let before = block.saturating_mul(in_block);
            let here = in_block.min(group.inodes.saturating_sub(before));
            match super::read_block(view, group.inode_table.saturating_add(block), layout.block_size) {
                Some(bytes) => decode(&bytes, layout, first.saturating_add(before), here, visit),
                None => unknown = unknown.saturating_add(here),
            }
        }
    }
    unknown
}

/// Blocks from this one on that are a hole: a table that was never written has no inode in use.
fn empty(view: &dyn ReadAt, layout: &Layout, block: u64) -> u64 {
    let Some(offset) = block.checked_mul(layout.block_size) else { return 0 };
    let data = view.next_data(Bytes(offset)).map_or(u64::MAX, |data| data.0);
    data.saturating_sub(offset).checked_div(layout.block_size).unwrap_or(0)
}

/// The first `count` inodes of a block; `before` inodes come before it.
fn decode(bytes: &[u8], layout: &Layout, before: u64, count: u64, visit: &mut dyn FnMut(u64, &Inode)) {
    let size = usize::try_from(layout.inode_size).unwrap_or(128).max(128);
    for (number, bytes) in
        (before.saturating_add(1)..).zip(bytes.chunks_exact(size)).take(usize::try_from(count).unwrap_or(0))
    {
        if let Some(inode) = Inode::decode(bytes) {
            visit(number, &inode);
        }
    }
}
