//! Copies files out of an ext2, ext3 or ext4 file system without the kernel: for block sizes it does not mount, and for file
//! systems too damaged to be mounted. Owners, modes, times, extended attributes, access control lists, hard links and holes are
//! kept.
//!
//! A crate reads the files, with what waits in the journal. It tells neither extended attributes nor the numbers of inodes; those
//! are read by [`crate::ext4`] from the volume as it lies there. Only where both readers mean the same inode is it used, and only
//! when the journal has no newer state of that inode; otherwise the attributes count as lost, and each name becomes a file of its
//! own.

mod attributes;
mod entries;
mod indexes;
mod listing;
mod numbers;
mod reader;
mod write;

use super::copy::{DamagedNames, Done, Job, Ledger, Place};
use super::kind::Kind;
use super::names::Names;
use crate::block::{FileView, View};
use crate::commands::Failure;
use crate::ext4::ROOT;
use anyhow::{Context, ensure};
use ext4_view::{DirEntry, Ext4};
use listing::list;
use numbers::Numbers;
use reader::Mark;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tierlift_ondisk::units::Bytes;

/// Directories in each other; more is a loop.
const MAX_DEPTH: usize = 200;
/// Things looked at in all; more is a loop, too.
const MAX_THINGS: u64 = 50_000_000;
/// Things after which progress is told.
const TOLD: u64 = 1000;

/// Copies everything that can be reached, telling progress on `tell`. `job.source` is the device or image.
///
/// # Errors
/// When no file system can be opened or its root directory cannot be read, or the target fails or is full.
pub fn copy(job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    let view: View = Arc::new(FileView::open(&job.source)?);
    copy_view(&view, job, tell)
}

fn copy_view(view: &View, job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    let (mark, system) = open(view, &job.name)?;
    std::fs::create_dir_all(&job.target).with_context(|| format!("{} cannot be made", job.target.display()))?;
    let kind = Kind::of(&job.target);
    let kind = kind.with_context(|| format!("{}: its file system cannot be asked", job.target.display()))?;
    copy_on(kind, view, (mark, system), job, tell)
}

/// The file system, of which at least the root directory can be read: without it, nothing would be copied and one directory
/// told as lost.
fn open(view: &View, name: &str) -> anyhow::Result<(Mark, Ext4)> {
    let mark = Mark::new();
    let unusable = |why: String| {
        Failure::unusable(format!(
            "{name}: its files cannot be read without the kernel: {why}; mount it instead (`tierlift copy` without \
             --without-mount), or keep the whole volume with --image"
        ))
    };
    let system = reader::open(view, &mark).map_err(unusable)?;
    let root = list(&system, b"");
    match root.end {
        Some(why) if root.entries.is_empty() => {
            Err(unusable(format!("the root directory cannot be read ({why})")).into())
        }
        _ => Ok((mark, system)),
    }
}

/// The same on a target of a known kind.
fn copy_on(
    kind: Kind,
    view: &View,
    (mark, system): (Mark, Ext4),
    job: &Job,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<Done> {
    let start = Instant::now();
    let ledger = Ledger::begin(job)?;
    let inodes = Numbers::open(view, &mark);
    (tell)(match inodes {
        Some(_) => "extended attributes, ACLs and hard links are kept; losses are counted",
        None => "extended attributes, ACLs and hard links cannot be read here",
    });
    if let Some(why) = kind.refusal(u64::MAX) {
        (tell)(&format!("larger files are told one by one, and not copied: {why}"));
    }
    let (links, names) = (HashMap::new(), Names::given(kind));
    let damaged_names = DamagedNames::new(kind);
    let mut work = Work { system, view, mark, inodes, links, job, kind, names, damaged_names, ledger, things: 0, tell };
    let result = work.directory(&mut Vec::new(), Some(ROOT), 0);
    work.ledger.finish(result, start)
}

struct Work<'a> {
    system: Ext4,
    view: &'a View,
    mark: Mark,
    inodes: Option<Numbers<'a>>,
    /// Where the first name of each file with several names lies on the target, by its number.
    links: HashMap<u32, PathBuf>,
    job: &'a Job,
    kind: Kind,
    names: Names,
    damaged_names: DamagedNames,
    ledger: Ledger,
    things: u64,
    tell: &'a mut dyn FnMut(&str),
}

impl Work<'_> {
    /// `path` are the bytes below the root, without a slash at either end; `number` is that of the directory's inode, if known.
    fn directory(&mut self, path: &mut Vec<u8>, number: Option<u32>, depth: usize) -> anyhow::Result<()> {
        let shown = path_of(path);
        if depth > MAX_DEPTH {
            return self.ledger.lost(&shown, "directory", "directories in each other without end");
        }
        let listed = list(&self.system, path);
        if let Some(why) = &listed.end {
            self.ledger.lost(&shown, "directory", &format!("names in it may be missing: {why}"))?;
        }
        self.names.enter(&shown, listed.names(), listed.end.is_none());
        for (entry, number) in self.numbered(listed.entries, number) {
            self.things = self.things.saturating_add(1);
            ensure!(self.things < MAX_THINGS, "more than {MAX_THINGS} files: the directories lead in circles");
            self.tell_progress();
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(entry.file_name().as_ref());
            let result = self.entry(path, &entry, number, depth);
            path.truncate(length);
            result?;
        }
        Ok(())
    }

    /// The entries of the directory of this number, each with its own.
    fn numbered(&self, entries: Vec<DirEntry>, directory: Option<u32>) -> Vec<(DirEntry, Option<u32>)> {
        let numbers = self.inodes.as_ref().zip(directory).map(|(inodes, number)| inodes.inodes.numbers(number));
        let numbers = numbers.unwrap_or_default();
        let number = |entry: &DirEntry| numbers.get(entry.file_name().as_ref() as &[u8]).copied();
        entries.into_iter().map(|entry| (number(&entry), entry)).map(|(number, entry)| (entry, number)).collect()
    }

    /// Where something goes. The directories above it were entered.
    fn place(&mut self, path: PathBuf) -> Place {
        let (source, target) = (Path::new("/").join(&path), self.job.target.join(self.names.target(&path)));
        Place { path, source, target }
    }

    fn tell_progress(&mut self) {
        self.ledger.keep();
        if self.things.checked_rem(TOLD) == Some(0) {
            let counts = &self.ledger.done.counts;
            let files = counts.copied.saturating_add(counts.identical);
            (self.tell)(&format!("{files} files ({})", Bytes(counts.recovered_bytes()).human()));
        }
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
#[path = "userland_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "userland/kept_tests.rs"]
mod kept_tests;

#[cfg(test)]
#[path = "userland/target_tests.rs"]
mod target_tests;
