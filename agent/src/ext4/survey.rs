//! What files there are, how new they are, and how many touch a place that is lost.

use super::blocks::Blocks;
use super::inode;
use super::inodes::ROOT;
use super::layout::Layout;
use serde::Serialize;
use std::ops::Range;
use tierlift_ondisk::view::ReadAt;

/// The files of a file system, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// Plain files whose inode can be read.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Files whose content, or the list of its blocks, touches a lost range.
    pub damaged_files: u64,
    /// Directories that do: names in them are lost.
    pub damaged_directories: u64,
    /// Inodes that may be in use and cannot be read.
    pub unknown: u64,
    /// When a file was changed last, seconds since 1970. Set by the system, not by programs.
    pub newest: Option<i64>,
}

/// Looks at all inodes; `lost` are the ranges of the volume that cannot be read, in bytes, sorted and apart. `None` when there is
/// no such file system, or nothing tells any more where its inodes are.
pub fn survey(view: &dyn ReadAt, lost: &[Range<u64>]) -> Option<Survey> {
    let layout = Layout::read(view)?;
    let mut found = Survey::default();
    let mut blocks = Blocks::new(view, &layout);
    found.unknown = inode::all(view, &layout, &mut |number, inode| {
        let own = number < layout.first_inode && number != u64::from(ROOT);
        if own || !(inode.is_file() || inode.is_directory()) {
            return;
        }
        let mut damaged = false;
        if !lost.is_empty() {
            let whole = blocks.of(inode, &mut |run| {
                let byte = |block: u64| block.saturating_mul(layout.block_size);
                damaged |= run.written && touches(lost, byte(run.start)..byte(run.start.saturating_add(run.length)));
            });
            damaged |= !whole;
        }
        let (all, lost) = if inode.is_file() {
            found.newest = found.newest.max(Some(inode.changed));
            (&mut found.files, &mut found.damaged_files)
        } else {
            (&mut found.directories, &mut found.damaged_directories)
        };
        *all = all.saturating_add(1);
        *lost = lost.saturating_add(u64::from(damaged));
    });
    Some(found)
}

fn touches(lost: &[Range<u64>], range: Range<u64>) -> bool {
    let next = lost.partition_point(|lost| lost.end <= range.start);
    lost.get(next).is_some_and(|lost| lost.start < range.end)
}
