//! Inodes looked up by their numbers, and the numbers that the names of a directory have: what a reader of files, which goes by
//! paths, does not tell.

use super::attributes::{self, Attributes};
use super::blocks::Blocks;
use super::inode::{self, Identity, Inode};
use super::layout::Layout;
use super::{directory, read_block};
use std::collections::HashMap;
use std::ops::Range;
use tierlift_ondisk::view::ReadAt;

/// Inode of the root directory.
pub const ROOT: u32 = 2;
/// Bytes read of one directory. The names behind them get no numbers.
const MAX_DIRECTORY: u64 = 256 << 20;
/// Names of one directory that get numbers.
const MAX_NAMES: usize = 1 << 20;
/// Blocks of lists read for one directory; a sound one of the size above has fewer.
const MAX_LISTS: u64 = 1 << 13;

/// The inodes of a file system.
pub struct Inodes<'a> {
    view: &'a dyn ReadAt,
    layout: Layout,
}

/// An inode that is in use.
#[derive(Debug, Clone)]
pub struct Found {
    /// The inode.
    pub inode: Inode,
    /// What tells it from others.
    pub identity: Identity,
    bytes: Vec<u8>,
}

impl<'a> Inodes<'a> {
    /// `None` when nothing tells where the inodes are.
    pub fn open(view: &'a dyn ReadAt) -> Option<Self> {
        Some(Self { view, layout: Layout::read(view)? })
    }

    /// Where the inodes lie on the volume, in bytes; without the tables that nothing tells of any more.
    pub fn tables(&self) -> Vec<Range<u64>> {
        let size = self.layout.block_size;
        let length = self.layout.table_blocks().saturating_mul(size);
        let start = self.layout.groups.iter().flatten().map(|group| group.inode_table.saturating_mul(size));
        start.map(|start| start..start.saturating_add(length)).collect()
    }

    /// Bytes of an inode.
    pub fn inode_size(&self) -> u64 {
        self.layout.inode_size
    }

    /// An inode; `None` when it is not in use or cannot be read.
    pub fn find(&self, number: u32) -> Option<Found> {
        let bytes = inode::bytes(self.view, &self.layout, number)?;
        Some(Found { inode: Inode::decode(&bytes)?, identity: Identity::decode(&bytes), bytes })
    }

    /// The extended attributes of an inode.
    pub fn attributes(&self, found: &Found) -> Attributes {
        attributes::of(self.view, &self.layout, &found.bytes)
    }

    /// The numbers that the names in a directory lead to. Names in blocks that cannot be read or make no sense are left out, and
    /// so are names that lead to two inodes.
    pub fn numbers(&self, directory: u32) -> HashMap<Vec<u8>, u32> {
        let mut numbers = HashMap::new();
        for block in self.blocks(directory) {
            let Some(bytes) = read_block(self.view, block, self.layout.block_size) else { continue };
            for entry in directory::entries(&bytes, self.layout.inodes).unwrap_or_default() {
                if numbers.len() >= MAX_NAMES {
                    return sound(numbers);
                }
                let number = entry.inode;
                let known = numbers.entry(entry.name).or_insert(number);
                if *known != number {
                    *known = 0;
                }
            }
        }
        sound(numbers)
    }

    /// The blocks of a directory.
    fn blocks(&self, directory: u32) -> Vec<u64> {
        let found = inode::inode(self.view, &self.layout, directory).filter(Inode::is_directory);
        let Some(inode) = found else { return Vec::new() };
        let most = inode.size.min(MAX_DIRECTORY).div_ceil(self.layout.block_size.max(1));
        let mut blocks = Vec::new();
        let mut left = most;
        // What cannot be told of them is missed when a name has no number.
        let _ = Blocks::limited(self.view, &self.layout, MAX_LISTS).of(&inode, &mut |run| {
            if run.written {
                let length = run.length.min(left);
                left = left.saturating_sub(length);
                blocks.extend(run.start..run.start.saturating_add(length));
            }
        });
        blocks
    }
}

/// Without the names that were found to lead to two inodes.
fn sound(mut numbers: HashMap<Vec<u8>, u32>) -> HashMap<Vec<u8>, u32> {
    numbers.retain(|_, number| *number != 0);
    numbers
}
