//! Indexes of directories that QNAP's kernel made. It orders them in its own way: who looks a name up by them does not find it,
//! although it is listed. So the reader of the files is not told that there are any, and looks through the names.
//!
//! A newer inode that waits in the journal lies elsewhere and keeps its flag: below such a directory, names may still not be
//! found, and are told as lost.

use crate::block::View;
use crate::ext4::Inodes;
use std::ops::Range;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Where QNAP leaves its mark.
const QNAP_AT: u64 = 1024 + 0x3fc;
/// In an inode: its kind, and the byte of its flags that tells of an index.
const KIND: usize = 1;
const DIRECTORY: u8 = 0x40;
const FLAGS: usize = 0x21;
const INDEX: u8 = 0x10;

/// Where the inodes lie whose indexes are hidden.
pub(super) struct Indexes {
    /// Bytes of the volume, in order.
    tables: Vec<Range<u64>>,
    inode_size: u64,
}

impl Indexes {
    /// `None` when the file system is not one of QNAP's.
    pub(super) fn of_qnap(view: &View) -> Option<Self> {
        let mut mark = [0; 4];
        view.read_at(Bytes(QNAP_AT), &mut mark).ok().filter(|()| mark == *b"QNAP")?;
        let inodes = Inodes::open(view)?;
        let mut tables = inodes.tables();
        tables.sort_unstable_by_key(|table| table.start);
        tables.dedup();
        Some(Self { tables, inode_size: inodes.inode_size().max(128) })
    }

    /// Takes the flag from every directory in what was read at `start`.
    pub(super) fn hide(&self, start: u64, bytes: &mut [u8]) {
        let end = start.saturating_add(bytes.len() as u64);
        let first = self.tables.partition_point(|table| table.end <= start);
        let here = self.tables.iter().skip(first).take_while(|table| table.start < end);
        for table in here {
            let before = start.saturating_sub(table.start).div_ceil(self.inode_size).saturating_mul(self.inode_size);
            let mut at = table.start.saturating_add(before);
            while at < end.min(table.end) {
                let inside = usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
                if let Some(inode) = bytes.get_mut(inside..) {
                    unmark(inode);
                }
                at = at.saturating_add(self.inode_size);
            }
        }
    }
}

/// `inode` begins with an inode.
fn unmark(inode: &mut [u8]) {
    let is_directory = inode.get(KIND).is_some_and(|kind| kind & 0xf0 == DIRECTORY);
    if let Some(flags) = inode.get_mut(FLAGS).filter(|_| is_directory) {
        *flags &= !INDEX;
    }
}
