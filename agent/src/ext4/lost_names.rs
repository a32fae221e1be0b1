//! Names of files that nothing leads to any more: directory blocks whose directory is gone, and copies in the journal.
//!
//! A lost directory's blocks stay where they were: marked as in use, and claimed by no inode. The journal has copies of what was
//! written last. A name found there says what a file was called once; whether it is the same file, the number alone does not
//! prove, so only numbers with one single name are answered, and always with the place it comes from.

use super::blocks::{Blocks, Run};
use super::inode;
use super::layout::Layout;
use super::{directory, read_block};
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::view::ReadAt;

/// Runs of blocks kept in mind; file systems with more are not searched beyond their journal.
const MAX_RUNS: usize = 32 << 20;
/// Blocks of a file system that are searched: 64 TiB of the usual size.
const MAX_BLOCKS: u64 = 1 << 34;
/// Blocks that are read because no inode claims them: 256 GiB of the usual size.
const MAX_LOOKS: u64 = 64 << 20;
/// Names kept for each file; more than one tell nothing anyway.
const MAX_NAMES: usize = 4;

/// A name, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundName {
    /// The name alone, without a path.
    pub name: Vec<u8>,
    /// Block of the file system it stands in.
    pub block: u64,
    /// That block belongs to the journal.
    pub in_journal: bool,
}

/// Searches for names of these inodes; `wanted` are their numbers. Only those with a single name are answered.
pub fn lost_names(view: &dyn ReadAt, wanted: &BTreeSet<u64>) -> BTreeMap<u64, FoundName> {
    let Some(layout) = Layout::read(view) else { return BTreeMap::new() };
    let mut search = Search { view, layout: &layout, wanted, found: BTreeMap::new() };
    search.journal();
    search.unclaimed();
    let single = |(inode, names): (u64, Vec<FoundName>)| match names.as_slice() {
        [name] => Some((inode, name.clone())),
        _ => None,
    };
    search.found.into_iter().filter_map(single).collect()
}

struct Search<'a> {
    view: &'a dyn ReadAt,
    layout: &'a Layout,
    wanted: &'a BTreeSet<u64>,
    found: BTreeMap<u64, Vec<FoundName>>,
}

impl Search<'_> {
    fn journal(&mut self) {
        let Some(journal) = inode::inode(self.view, self.layout, self.layout.journal) else { return };
        let mut runs = Vec::new();
        Blocks::new(self.view, self.layout).of(&journal, &mut |run| {
            if runs.len() < MAX_RUNS {
                runs.push(run);
            }
        });
        for run in runs {
            (run.start..run.start.saturating_add(run.length)).for_each(|block| self.look_at(block, true));
        }
    }

    /// Blocks in use that no inode claims.
    fn unclaimed(&mut self) {
        if !self.layout.bit_is_block || self.layout.blocks > MAX_BLOCKS {
            return;
        }
        let Some(claimed) = self.claimed() else { return };
        let mut looks = MAX_LOOKS;
        for (number, group) in (0..).zip(&self.layout.groups) {
            let all = self.layout.blocks_of(number);
            let bitmap = match group {
                Some(group) => match group.block_bitmap {
                    Some(block) => read_block(self.view, block, self.layout.block_size),
                    None => continue,
                },
                None => None,
            };
            let mut next = claimed.partition_point(|run| run.start.saturating_add(run.length) <= all.start);
            for (bit, block) in (0_usize..).zip(all) {
                while claimed.get(next).is_some_and(|run| run.start.saturating_add(run.length) <= block) {
                    next = next.saturating_add(1);
                }
                // A bitmap that cannot be read hides nothing.
                let used = bitmap.as_ref().is_none_or(|bitmap| {
                    bitmap.get(bit / 8).is_some_and(|byte| byte.checked_shr((bit % 8) as u32).unwrap_or(0) & 1 == 1)
                });
                if used && claimed.get(next).is_none_or(|run| block < run.start) {
                    let Some(left) = looks.checked_sub(1) else { return };
                    looks = left;
                    self.look_at(block, false);
                }
            }
        }
    }

    /// The blocks of all inodes and inode tables, sorted, without gaps between neighbours.
    fn claimed(&self) -> Option<Vec<Run>> {
        let mut runs = Vec::new();
        let tables = self.layout.groups.iter().flatten();
        let run = |start, length| Run { start, length, written: true };
        runs.extend(tables.map(|group| run(group.inode_table, self.layout.table_blocks())));
        let mut blocks = Blocks::new(self.view, self.layout);
        inode::all(self.view, self.layout, &mut |_, inode| {
            blocks.of(inode, &mut |found| {
                if runs.len() < MAX_RUNS {
                    runs.push(run(found.start, found.length));
                }
            });
        });
        if runs.len() >= MAX_RUNS {
            return None;
        }
        runs.sort_unstable();
        runs.dedup_by(|next, before| {
            let end = before.start.saturating_add(before.length);
            let joined = next.start <= end;
            if joined {
                before.length = end.max(next.start.saturating_add(next.length)).saturating_sub(before.start);
            }
            joined
        });
        Some(runs)
    }

    fn look_at(&mut self, block: u64, in_journal: bool) {
        let Some(bytes) = read_block(self.view, block, self.layout.block_size) else { return };
        let Some(entries) = directory::entries(&bytes, self.layout.inodes) else { return };
        for entry in entries.into_iter().filter(|entry| entry.may_be_file) {
            if matches!(entry.name.as_slice(), b"." | b"..") || !self.wanted.contains(&u64::from(entry.inode)) {
                continue;
            }
            let names = self.found.entry(u64::from(entry.inode)).or_default();
            if names.len() < MAX_NAMES && !names.iter().any(|known| known.name == entry.name) {
                names.push(FoundName { name: entry.name, block, in_journal });
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
