//! What is left of an ext2, ext3 or ext4 file system below the level of paths: its inodes, their blocks, and directory blocks
//! that nothing leads to any more.
//!
//! No kernel and no library gives this for a file system with holes. Everything here only reads, survives any bytes, and takes
//! what cannot be read for unknown, never for empty. The format is the one of the kernel's documentation ("ext4 data structures
//! and algorithms"); what we rely on is in "docs/recovery, what a file system tells".

mod attributes;
mod blocks;
mod copies;
mod directory;
mod inode;
mod inodes;
mod layout;
mod lost_names;
mod superblock;
mod survey;
mod unlisted;

pub use attributes::Attributes;
pub use copies::{SuperblockCopy, first_from, lost_superblock};
pub use inode::{Identity, Inode};
pub use inodes::{Found, Inodes, ROOT};
pub use lost_names::{FoundName, lost_names};
pub use superblock::{Ext4, Probe, Trap, probe};
pub use survey::{Survey, survey};
pub use unlisted::unlisted;

use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

fn field16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at.saturating_add(2)).and_then(|field| field.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn field32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at.saturating_add(4)).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// A number of which the halves lie in two places.
fn wide(bytes: &[u8], low: usize, high: usize) -> u64 {
    u64::from(field32(bytes, high)) << 32 | u64::from(field32(bytes, low))
}

/// A block of the file system; `None` when it cannot be read.
fn read_block(view: &dyn ReadAt, block: u64, size: u64) -> Option<Vec<u8>> {
    let offset = block.checked_mul(size)?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    view.read_at(Bytes(offset), &mut bytes).ok()?;
    Some(bytes)
}
