//! The blocks of an inode: by extents, or by the older lists of block numbers.

use super::inode::Inode;
use super::layout::Layout;
use super::{field16, field32, read_block};
use tierlift_ondisk::view::ReadAt;

const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;
const MAGIC: u16 = 0xf30a;
const HEADER: usize = 12;
const ENTRY: usize = 12;
/// Trees are never deeper.
const MAX_DEPTH: u16 = 5;
/// Longer extents were set aside, but never written.
const MAX_WRITTEN: u64 = 32768;
/// Block numbers in an inode before the lists of lists begin.
const DIRECT: usize = 12;

/// Blocks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    /// First block.
    pub(super) start: u64,
    /// Number of blocks.
    pub(super) length: u64,
    /// They hold content; blocks that were only set aside read as zeros, and those of the list itself are not content.
    pub(super) written: bool,
}

/// Lists blocks of one file system.
pub(super) struct Blocks<'a> {
    view: &'a dyn ReadAt,
    layout: &'a Layout,
    /// Blocks of lists that may still be read: no sound file system has more of them than blocks.
    budget: u64,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(view: &'a dyn ReadAt, layout: &'a Layout) -> Self {
        Self::limited(view, layout, layout.blocks)
    }

    /// For a few inodes that are known to be small: reads at most so many blocks of lists.
    pub(super) fn limited(view: &'a dyn ReadAt, layout: &'a Layout, budget: u64) -> Self {
        Self { view, layout, budget: budget.min(layout.blocks) }
    }

    /// Visits the blocks of an inode; `false` when not all of them can be told.
    pub(super) fn of(&mut self, inode: &Inode, visit: &mut dyn FnMut(Run)) -> bool {
        if inode.flags & INLINE != 0 || !(inode.is_file() || inode.is_directory()) {
            return true;
        }
        if inode.flags & EXTENTS != 0 {
            return self.extents(&inode.body, None, visit);
        }
        let numbers: Vec<u64> = inode.body.chunks_exact(4).map(|number| u64::from(field32(number, 0))).collect();
        let mut whole = true;
        for (index, block) in numbers.into_iter().enumerate().filter(|(_, block)| *block > 0) {
            let level = index.checked_sub(DIRECT).map_or(0, |level| level.saturating_add(1));
            whole &= self.listed(block, level, visit);
        }
        whole
    }

    fn extents(&mut self, node: &[u8], expected: Option<u16>, visit: &mut dyn FnMut(Run)) -> bool {
        let (magic, depth) = (field16(node, 0), field16(node, 6));
        if magic != MAGIC || depth > MAX_DEPTH || expected.is_some_and(|expected| expected != depth) {
            return false;
        }
        let count = usize::from(field16(node, 2));
        let entries = node.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY);
        let mut whole = count <= entries.len();
        for entry in entries.take(count) {
            whole &= match depth.checked_sub(1) {
                None => self.run(extent(entry), visit),
                Some(below) => {
                    self.node(u64::from(field16(entry, 8)) << 32 | u64::from(field32(entry, 4)), below, visit)
                }
            };
        }
        whole
    }

    fn node(&mut self, block: u64, depth: u16, visit: &mut dyn FnMut(Run)) -> bool {
        self.list(block, visit).is_some_and(|bytes| self.extents(&bytes, Some(depth), visit))
    }

    fn listed(&mut self, block: u64, level: usize, visit: &mut dyn FnMut(Run)) -> bool {
        let Some(below) = level.checked_sub(1) else {
            return self.run(Run { start: block, length: 1, written: true }, visit);
        };
        let Some(bytes) = self.list(block, visit) else { return false };
        let mut whole = true;
        for number in bytes.chunks_exact(4).map(|number| field32(number, 0)).filter(|number| *number > 0) {
            whole &= self.listed(u64::from(number), below, visit);
        }
        whole
    }

    /// A block that lists others.
    fn list(&mut self, block: u64, visit: &mut dyn FnMut(Run)) -> Option<Vec<u8>> {
        self.budget = self.budget.checked_sub(1)?;
        self.run(Run { start: block, length: 1, written: false }, visit)
            .then(|| read_block(self.view, block, self.layout.block_size))?
    }

    fn run(&self, run: Run, visit: &mut dyn FnMut(Run)) -> bool {
        let inside = run.start.checked_add(run.length).is_some_and(|end| end <= self.layout.blocks);
        if inside {
            visit(run);
        }
        inside
    }
}

fn extent(entry: &[u8]) -> Run {
    let length = u64::from(field16(entry, 4));
    let start = u64::from(field16(entry, 6)) << 32 | u64::from(field32(entry, 8));
    match length.checked_sub(MAX_WRITTEN) {
        Some(length) if length > 0 => Run { start, length, written: false },
        _ => Run { start, length, written: true },
    }
}
