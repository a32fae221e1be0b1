//! The tree of a file system, walked with bounds.

use super::reader::{Budget, Pages, Reader};
use crate::block::View;
use ext4_view::{Ext4, Ext4Read};
use std::collections::BTreeSet;
use std::rc::Rc;
use tierlift_ondisk::view::ReadAt;

/// Entries of directories looked at.
const MAX_ENTRIES: usize = 20_000;
/// Directories in each other.
const MAX_DEPTH: usize = 16;
/// Groups of blocks; QNAP's system partitions have four.
const MAX_GROUPS: u64 = 4096;
/// Bytes of the superblock that are looked at before the reader sees it.
const SUPERBLOCK: (u64, usize) = (1024, 1024);

/// A file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) size: u64,
}

/// How a walk ended.
#[derive(Debug)]
pub(super) enum WalkEnd {
    /// Everything was seen.
    Done,
    /// Parts could not be read.
    Damaged(String),
    /// A bound was reached.
    Bounded(String),
}

/// An open file system.
pub(super) struct FileSystem {
    system: Ext4,
    budget: Budget,
    /// No changes wait in a journal, or they were taken into account.
    pub(super) journal_applied: bool,
}

impl FileSystem {
    /// Opens it; `None` when there is none, an error when it is there and cannot be read.
    pub(super) fn open(view: View, budget: &Budget) -> Option<Result<Self, String>> {
        let pages = Pages::default();
        let mut reader = Reader::new(view.clone(), budget.clone(), Rc::clone(&pages), false);
        let mut block = vec![0; SUPERBLOCK.1];
        reader.read(SUPERBLOCK.0, &mut block).ok()?;
        (block.get(0x38..0x3a) == Some(&[0x53, 0xef])).then_some(())?;
        if let Err(why) = plausible(&block, view.size().0) {
            return Some(Err(why));
        }
        // The reader knows journals with checksums only, as ext4 has them. Without its journal a file system is as it was some
        // seconds earlier.
        let opened = Ext4::load(Box::new(reader)).map(|system| (system, true)).or_else(|_| {
            let reader = Reader::new(view, budget.clone(), pages, true);
            Ext4::load(Box::new(reader)).map(|system| (system, false))
        });
        Some(match opened {
            Ok((system, journal_applied)) => Ok(Self { system, budget: budget.clone(), journal_applied }),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Walks the tree below a directory, directories in `seen` excepted, and hands over each regular file.
    pub(super) fn walk(&self, below: &str, seen: &mut BTreeSet<String>, take: &mut impl FnMut(&Entry)) -> WalkEnd {
        let mut walk = Walk { entries: MAX_ENTRIES, damage: None };
        // What is not there is no damage: each NAS has its own tree.
        if !self.system.exists(below).unwrap_or(false) {
            return WalkEnd::Done;
        }
        match self.directory(below, 0, seen, take, &mut walk) {
            Err(why) => WalkEnd::Bounded(why),
            Ok(()) => walk.damage.map_or(WalkEnd::Done, WalkEnd::Damaged),
        }
    }

    fn directory(
        &self,
        path: &str,
        depth: usize,
        seen: &mut BTreeSet<String>,
        take: &mut impl FnMut(&Entry),
        walk: &mut Walk,
    ) -> Result<(), String> {
        if depth > MAX_DEPTH {
            walk.damage = Some("directories in each other without end".into());
            return Ok(());
        }
        if !seen.insert(path.to_owned()) {
            return Ok(());
        }
        let entries = match self.system.read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.damaged(path, &error.to_string(), walk),
        };
        for entry in entries {
            walk.entries = walk.entries.checked_sub(1).ok_or("it has more files than are looked at")?;
            let Ok(entry) = entry else { return self.damaged(path, "the directory is damaged", walk) };
            let Ok(name) = entry.file_name().as_str().map(str::to_owned) else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{}/{name}", path.trim_end_matches('/'));
            // What an entry is, its inode says: a link taken for a directory would be followed.
            match entry.metadata() {
                Ok(inode) if inode.is_dir() => {
                    self.directory(&path, depth.saturating_add(1), seen, take, walk)?;
                }
                Ok(inode) if inode.file_type().is_regular_file() => take(&Entry { path, size: inode.len() }),
                Ok(_) => {}
                Err(error) => self.damaged(&path, &error.to_string(), walk)?,
            }
        }
        Ok(())
    }

    fn damaged(&self, path: &str, why: &str, walk: &mut Walk) -> Result<(), String> {
        if self.budget.is_spent() {
            return Err("a scan reads no more of a system partition".into());
        }
        walk.damage.get_or_insert_with(|| format!("{path}: {why}"));
        Ok(())
    }

    /// The first `most` bytes of a file, `None` when they cannot be read.
    pub(super) fn read(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        let mut file = self.system.open(path).ok()?;
        let length = usize::try_from(file.metadata().len().min(most)).ok()?;
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match file.read_bytes(bytes.get_mut(done..)?).ok()? {
                0 => break,
                now => done = done.checked_add(now)?,
            }
        }
        bytes.truncate(done);
        Some(bytes)
    }
}

/// What is left of a walk's bounds, and the first damage met.
struct Walk {
    entries: usize,
    damage: Option<String>,
}

/// The reader allocates what the superblock makes it expect, so what it says is held against the partition first.
fn plausible(block: &[u8], size: u64) -> Result<(), String> {
    let word = |at: usize| {
        let bytes = block.get(at..).and_then(|rest| rest.first_chunk::<4>());
        u64::from(bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    };
    let (blocks, shift, per_group) = (word(4), word(0x18), word(0x20));
    let high = if word(0x60) & 0x80 == 0 { 0 } else { word(0x150) };
    let bytes = 1024u64.checked_shl(u32::try_from(shift).unwrap_or(64)).and_then(|block| block.checked_mul(blocks));
    let fits = bytes.is_some_and(|bytes| bytes <= size.saturating_mul(2));
    let groups = blocks.checked_div(per_group).is_some_and(|groups| groups < MAX_GROUPS);
    if shift <= 6 && high == 0 && fits && groups {
        return Ok(());
    }
    Err(format!("its superblock cannot be right: {blocks} blocks, {per_group} in a group"))
}
