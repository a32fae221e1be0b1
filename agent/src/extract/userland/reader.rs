//! Reads for the reader of the file system, and marks what cannot be read.

use super::indexes::Indexes;
use crate::block::View;
use ext4_view::{Ext4, Ext4Read};
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Places and bits of the superblock that are hidden from the reader.
const INCOMPATIBLE_AT: u64 = 1024 + 0x60;
const NEEDS_RECOVERY: u8 = 4;
const READ_ONLY_COMPATIBLE_AT: u64 = 1024 + 0x65;
const CHECKSUMS: u8 = 4;
const INODE_SIZE_AT: u64 = 1024 + 0x58;
/// Smaller inodes have room for half of their checksum only: the kernel makes do with that half, the reader of the file system
/// refuses every one of them.
const SMALLEST_CHECKED: u16 = 0x84;

/// Bytes that stand for what cannot be read, at each multiple of their length on the volume.
///
/// The reader of the file system reads ahead and keeps what it read, so an error would cost sound neighbours too, and zeros
/// would pass for data later on. These bytes are recognised in the data of a file (they are drawn anew in each run), and are
/// unsound as anything else: no kind of inode (each multiple of 128 begins with a mode that is none), no directory entry (its
/// length is 0), no node of extents (no magic), no block numbers (each is beyond the end of any file system below 16 TiB).
#[derive(Debug, Clone)]
pub(super) struct Mark(Rc<[u8; MARK]>);

pub(super) const MARK: usize = 1024;
pub(super) const INODE: usize = 128;
/// Every block number in a mark is this or more.
pub(super) const MOST_BLOCKS: u64 = 0xffff_0000;
/// Volumes whose blocks would have such numbers have blocks of at least this size.
const SMALLEST_LARGE: u64 = 4096;

impl Mark {
    pub(super) fn new() -> Self {
        let mut bytes = [0; MARK];
        for (number, word) in bytes.chunks_exact_mut(4).enumerate() {
            let [one, two, ..] = RandomState::new().hash_one(number).to_le_bytes();
            let low = match number.checked_rem(INODE / 4) {
                // A kind of file that there is not, and not the number by which nodes of extents are known.
                Some(0) => [one, 0xf4 | two],
                // The length of a directory entry.
                Some(1) => [0, 0],
                _ => [one, two],
            };
            word.copy_from_slice(&[low[0], low[1], 0xff, 0xff]);
        }
        Self(Rc::new(bytes))
    }

    /// One that differs from this in its very first byte.
    pub(super) fn another(&self) -> Self {
        let mut other = *self.0;
        if let Some(first) = other.first_mut() {
            *first = !*first;
        }
        Self(Rc::new(other))
    }

    /// Fills what lies at `start` on the volume.
    pub(super) fn fill(&self, start: u64, into: &mut [u8]) {
        let first = usize::try_from(start.checked_rem(MARK as u64).unwrap_or(0)).unwrap_or(0);
        let marks = self.0.iter().cycle().skip(first);
        into.iter_mut().zip(marks).for_each(|(to, from)| *to = *from);
    }

    /// Whether a piece of a file, which begins at a multiple of the mark's length, was never read.
    pub(super) fn is(&self, piece: &[u8]) -> bool {
        !piece.is_empty() && self.0.starts_with(piece)
    }
}

/// Reads for the file system's reader.
struct Reader {
    view: View,
    mark: Mark,
    hide_journal: bool,
    hide_checksums: bool,
    /// Those to be hidden; the checksums of their inodes must be, too.
    indexes: Option<Rc<Indexes>>,
}

impl Reader {
    /// Reads what can be read, in pieces; the rest is marked.
    fn piecewise(&self, start: u64, into: &mut [u8]) {
        let mut at = start;
        let mut rest = into;
        while !rest.is_empty() {
            let inside = usize::try_from(at.checked_rem(MARK as u64).unwrap_or(0)).unwrap_or(0);
            let length = MARK.saturating_sub(inside).min(rest.len());
            let (piece, behind) = rest.split_at_mut(length);
            if self.view.read_at(Bytes(at), piece).is_err() {
                self.mark.fill(at, piece);
            }
            at = at.saturating_add(length as u64);
            rest = behind;
        }
    }
}

impl Ext4Read for Reader {
    fn read(&mut self, start: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.view.read_at(Bytes(start), into).is_err() {
            self.piecewise(start, into);
        }
        let mut hide = |place: u64, bit: u8| {
            let at = place.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| into.get_mut(at)) {
                *byte &= !bit;
            }
        };
        if self.hide_journal {
            hide(INCOMPATIBLE_AT, NEEDS_RECOVERY);
        }
        if self.hide_checksums || self.indexes.is_some() {
            hide(READ_ONLY_COMPATIBLE_AT, CHECKSUMS);
        }
        if let Some(indexes) = &self.indexes {
            indexes.hide(start, into);
        }
        Ok(())
    }
}

/// As it is; without its journal; without checksums, which QNAP's mark makes wrong.
pub(super) fn open(view: &View, mark: &Mark) -> Result<Ext4, String> {
    let smallest_block = view.size().0.checked_div(MOST_BLOCKS).unwrap_or(0);
    if smallest_block >= SMALLEST_LARGE {
        return Err(
            "volumes of 16 TiB and more are not read this way; repair a copy with `tierlift fsck`, then mount it"
                .into(),
        );
    }
    first(view, mark, [(false, false), (true, false), (false, true), (true, true)])
}

/// Whether changes wait in the journal. Where that cannot be read, they may.
pub(super) fn journal_waits(view: &View) -> bool {
    let mut features = [0];
    view.read_at(Bytes(INCOMPATIBLE_AT), &mut features).is_err() || features[0] & NEEDS_RECOVERY != 0
}

/// The same file system as it lies on the volume, without what waits in its journal.
pub(super) fn without_journal(view: &View, mark: &Mark) -> Option<Ext4> {
    first(view, mark, [(true, false), (true, true)]).ok()
}

/// Whether inodes have no room for their checksums, as those of old file systems. Nothing else is known of them by it, so it is
/// safe not to ask for checksums: without them it is what ext3 is.
fn has_small_inodes(view: &View) -> bool {
    let mut size = [0; 2];
    view.read_at(Bytes(INODE_SIZE_AT), &mut size).is_ok() && u16::from_le_bytes(size) < SMALLEST_CHECKED
}

/// The first of these ways to read it that works: whether the journal is hidden, and whether checksums are.
fn first<const WAYS: usize>(view: &View, mark: &Mark, ways: [(bool, bool); WAYS]) -> Result<Ext4, String> {
    let mut first = None;
    let unchecked = has_small_inodes(view);
    let indexes = Indexes::of_qnap(view).map(Rc::new);
    for (hide_journal, hide_checksums) in ways {
        let hide_checksums = hide_checksums || unchecked;
        let reader =
            Reader { view: view.clone(), mark: mark.clone(), hide_journal, hide_checksums, indexes: indexes.clone() };
        match Ext4::load(Box::new(reader)) {
            Ok(system) => return Ok(system),
            Err(error) => {
                first.get_or_insert(error.to_string());
            }
        }
    }
    Err(first.unwrap_or_default())
}
