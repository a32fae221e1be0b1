//! Copies files out of an ext2, ext3 or ext4 file system without the kernel: for block sizes it does not mount, and for file
//! systems too damaged to be mounted. Owners, modes, times, extended attributes, access control lists, hard links and holes are
//! kept.
//!
//! A crate reads the files, with what waits in the journal. It tells neither extended attributes nor the numbers of inodes; those
//! are read by [`crate::ext4`] from the volume as it lies there. Only where both readers mean the same inode is it used, and only
//! when the journal has no newer state of that inode; otherwise the attributes count as lost, and each name becomes a file of its
//! own.

mod attributes;
mod indexes;
mod reader;
mod write;

use super::copy::{Done, Job, MAX_LOSSES, Stop, judge};
use super::file::LostRange;
use super::manifest::{Entry, Manifest, State};
use crate::block::{FileView, View};
use crate::commands::Failure;
use crate::ext4::{Found, Inodes, ROOT};
use anyhow::{Context, ensure};
use ext4_view::{DirEntry, Ext4, Metadata};
use reader::Mark;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tierlift_ondisk::units::Bytes;
use write::Written;

/// Directories in each other; more is a loop.
const MAX_DEPTH: usize = 200;
/// Things looked at in all; more is a loop, too.
const MAX_THINGS: u64 = 50_000_000;
/// Name of a file while it is written.
const PART: &str = ".tierlift-part";
/// Longest link target.
const MAX_LINK: usize = 4096;
/// No file of ext4 is larger than 16 TiB: more is damage, and would take for ever to read.
const MAX_FILE: u64 = 16 << 40;
/// Files with several names remembered, to link them again; beyond that each name becomes a file of its own.
const MAX_LINKS: usize = 1_000_000;

/// Copies everything that can be reached, telling progress on `tell`. `job.source` is the device or image.
///
/// # Errors
/// When no file system can be opened, or the target fails or is full.
pub fn copy(job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    let view: View = Arc::new(FileView::open(&job.source)?);
    copy_view(&view, job, tell)
}

fn copy_view(view: &View, job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    let start = Instant::now();
    let mark = Mark::new();
    let system = reader::open(view, &mark).map_err(|why| {
        Failure::unusable(format!("{}: its files cannot be read without the kernel either: {why}", job.name))
    })?;
    std::fs::create_dir_all(&job.target).with_context(|| format!("{} cannot be made", job.target.display()))?;
    let manifest = Manifest::begin(&job.target, &job.name, job.force)?;
    let inodes = Numbers::open(view, &mark);
    (tell)(match inodes {
        Some(_) => "extended attributes, ACLs and hard links are kept; losses are counted",
        None => "extended attributes, ACLs and hard links cannot be read here",
    });
    let links = HashMap::new();
    let mut work = Work { system, view, mark, inodes, links, job, manifest, done: Done::default(), things: 0, tell };
    let result = work.directory(&mut Vec::new(), Some(ROOT), 0);
    let manifest = work.manifest.finish(&work.done.counts, result.is_ok());
    result?;
    work.done.took = start.elapsed();
    work.done.manifest = manifest.context("the files are copied, but the manifest could not be written")?;
    Ok(work.done)
}

/// Finds the inodes of what the reader of the files found.
struct Numbers<'a> {
    inodes: Inodes<'a>,
    /// The file system without what waits in its journal, when something does.
    on_volume: Option<Ext4>,
}

impl<'a> Numbers<'a> {
    fn open(view: &'a View, mark: &Mark) -> Option<Self> {
        let on_volume = match reader::journal_waits(view) {
            true => Some(reader::without_journal(view, mark)?),
            false => None,
        };
        Some(Self { inodes: Inodes::open(view)?, on_volume })
    }

    /// The inode of this number, if it is the one that was found under this entry.
    fn find(&self, number: u32, entry: &DirEntry, found: &Metadata) -> Option<Found> {
        if let Some(on_volume) = &self.on_volume {
            // All times are compared here, also that of the last change of attributes.
            on_volume.symlink_metadata(&entry.path()).ok().filter(|there| there == found)?;
        }
        self.inodes.find(number).filter(|inode| Some(&inode.identity) == attributes::identity(found).as_ref())
    }

    /// Two names of this inode are surely names of one file. While a journal waits, names on the volume may be older ones; then
    /// it takes nanoseconds to tell files apart that were made one after another.
    fn can_link(&self, inode: &Found) -> bool {
        inode.inode.links > 1 && (self.on_volume.is_none() || inode.identity.made.is_some())
    }
}

struct Work<'a> {
    system: Ext4,
    view: &'a View,
    mark: Mark,
    inodes: Option<Numbers<'a>>,
    /// First name on the target of each file with several names, by its number.
    links: HashMap<u32, PathBuf>,
    job: &'a Job,
    manifest: Manifest,
    done: Done,
    things: u64,
    tell: &'a mut dyn FnMut(&str),
}

impl Work<'_> {
    /// `path` are the bytes below the root, without a slash at either end; `number` is that of the directory's inode, if known.
    fn directory(&mut self, path: &mut Vec<u8>, number: Option<u32>, depth: usize) -> anyhow::Result<()> {
        let shown = path_of(path);
        if depth > MAX_DEPTH {
            return self.lost(&shown, "directory", "directories in each other without end");
        }
        let inside: Vec<u8> = [b"/", path.as_slice()].concat();
        let listed = ext4_view::Path::try_from(inside.as_slice()).map_err(|error| error.to_string());
        let listed = listed.and_then(|inside| self.system.read_dir(inside).map_err(|error| error.to_string()));
        let (entries, end) = match listed {
            Ok(entries) => read_all(entries),
            Err(why) => (Vec::new(), Some(why)),
        };
        if let Some(why) = end {
            self.lost(&shown, "directory", &format!("names in it may be missing: {why}"))?;
        }
        for (entry, number) in self.numbered(entries, number) {
            let name = entry.file_name();
            let name: &[u8] = name.as_ref();
            if name == b"." || name == b".." {
                continue;
            }
            self.things = self.things.saturating_add(1);
            ensure!(self.things < MAX_THINGS, "more than {MAX_THINGS} files: the directories lead in circles");
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
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

    fn entry(&mut self, path: &mut Vec<u8>, entry: &DirEntry, number: Option<u32>, depth: usize) -> anyhow::Result<()> {
        let shown = path_of(path);
        let found = match entry.metadata() {
            Ok(found) => found,
            Err(error) => return self.lost(&shown, "unknown", &error.to_string()),
        };
        if entry.file_name() == PART {
            return self.not_copied(&shown, "unknown", "files are written under this name before they get their own");
        }
        let target = self.job.target.join(&shown);
        let inode = self.inodes.as_ref().zip(number).and_then(|(inodes, number)| inodes.find(number, entry, &found));
        let inode = inode.as_ref();
        if found.is_dir() {
            let made = std::fs::create_dir(&target);
            // A link to a directory would lead out of the target.
            if made.is_err() && !std::fs::symlink_metadata(&target).is_ok_and(|there| there.is_dir()) {
                return self.not_copied(&shown, "directory", "its directory could not be made on the target");
            }
            self.done.counts.directories = self.done.counts.directories.saturating_add(1);
            self.manifest.add(&Entry::new(&shown, "directory", State::Copied))?;
            self.directory(path, number, depth.saturating_add(1))?;
            self.attributes(&found, inode, &target);
            return Ok(());
        }
        if found.is_symlink() {
            return self.link(&shown, entry, (&found, inode), &target);
        }
        if !found.file_type().is_regular_file() {
            self.done.counts.special = self.done.counts.special.saturating_add(1);
            return self.manifest.add(&Entry::new(&shown, "special", State::Skipped));
        }
        // Only files with more names than this one are looked for, or remembered.
        let several = self.inodes.as_ref().zip(inode).is_some_and(|(inodes, inode)| inodes.can_link(inode));
        let shared = number.filter(|_| several);
        if self.links_again(&shown, shared, &found, &target)? {
            return Ok(());
        }
        let whole = self.file(&shown, entry, (&found, inode), &target)?;
        if let Some(number) = shared.filter(|_| whole && self.links.len() < MAX_LINKS) {
            self.links.insert(number, shown);
        }
        Ok(())
    }

    /// Another name of a file that was copied already becomes a link; `false` when it must be copied.
    fn links_again(
        &mut self,
        shown: &Path,
        number: Option<u32>,
        found: &Metadata,
        target: &Path,
    ) -> anyhow::Result<bool> {
        let Some(first) = number.and_then(|number| self.links.get(&number)) else { return Ok(false) };
        let first = self.job.target.join(first);
        let same = same_file(&first, target);
        // A file system without links gets a second copy.
        if !same && std::fs::hard_link(&first, target).is_err() {
            return Ok(false);
        }
        let state = if same { State::Identical } else { State::Copied };
        let (size, mtime) = (found.len(), found.modified().seconds());
        self.count(Entry { size, mtime, ..Entry::new(shown, "hardlink", state) }, target)?;
        Ok(true)
    }

    fn link(
        &mut self,
        shown: &Path,
        entry: &DirEntry,
        (found, inode): (&Metadata, Option<&Found>),
        target: &Path,
    ) -> anyhow::Result<()> {
        let place = match self.system.read_link(&entry.path()) {
            Ok(place) if !self.mark.is(place.as_ref()) => place,
            _ => return self.lost(shown, "symlink", "where it leads cannot be read"),
        };
        let place: &[u8] = place.as_ref();
        let place = Path::new(OsStr::from_bytes(place.get(..MAX_LINK).unwrap_or(place)));
        if std::fs::read_link(target).is_ok_and(|there| there == place) {
            return self.manifest.add(&Entry::new(shown, "symlink", State::Identical));
        }
        if let Err(error) = std::os::unix::fs::symlink(place, target) {
            return self.not_copied(shown, "symlink", &format!("the link cannot be made: {error}"));
        }
        self.attributes(found, inode, target);
        self.done.counts.symlinks = self.done.counts.symlinks.saturating_add(1);
        self.manifest.add(&Entry::new(shown, "symlink", State::Copied))
    }

    /// Whether the file is on the target under its name now, and whole.
    fn file(
        &mut self,
        shown: &Path,
        entry: &DirEntry,
        (found, inode): (&Metadata, Option<&Found>),
        target: &Path,
    ) -> anyhow::Result<bool> {
        let (size, mtime) = (found.len(), found.modified().seconds());
        let new = Entry { size, mtime, ..Entry::new(shown, "file", State::Copied) };
        let there = std::fs::symlink_metadata(target).ok();
        let known = self.manifest.known(shown).filter(|known| (known.size, known.mtime) == (size, mtime));
        let is_same = there.as_ref().is_some_and(|there| there.is_file() && there.len() == size);
        if let Some(known) = known.filter(|_| is_same) {
            let sha256 = Some(known.sha256.clone());
            self.count(Entry { state: State::Identical, sha256, ..new }, target)?;
            return Ok(true);
        }
        if there.is_some() && !self.job.force {
            let why = "a different file of this name is on the target; it was left alone";
            return self.not_copied(shown, "file", why).map(|()| false);
        }
        if size > MAX_FILE {
            let why = format!("its size ({size} bytes) is impossible");
            return self.lost(shown, "file", &why).map(|()| false);
        }
        let mut input = match self.system.open(&entry.path()) {
            Ok(input) => input,
            Err(error) => return self.lost(shown, "file", &error.to_string()).map(|()| false),
        };
        let part = target.with_file_name(PART);
        let written = self.write(entry, &mut input, size, &part);
        let named = written.and_then(|written| {
            self.attributes(found, inode, &part);
            let name = name_of(target, &written.lost);
            std::fs::rename(&part, &name).map_err(|error| judge(error, "it cannot be given its name"))?;
            Ok((written, name))
        });
        let (Written { sha256, lost, .. }, name) = match named {
            Ok(named) => named,
            Err(stop) => {
                let _ = std::fs::remove_file(&part);
                return match stop {
                    Stop::Target(error) => Err(error.context(format!("at {}", shown.display()))),
                    Stop::File(_, why) => self.not_copied(shown, "file", &why).map(|()| false),
                };
            }
        };
        let whole = lost.is_empty();
        self.count(Entry { sha256: Some(sha256), lost, ..new }, &name)?;
        Ok(whole)
    }

    fn count(&mut self, mut entry: Entry, name: &Path) -> anyhow::Result<()> {
        let lost = entry.lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
        let counts = &mut self.done.counts;
        counts.bytes = counts.bytes.saturating_add(entry.size);
        counts.lost_bytes = counts.lost_bytes.saturating_add(lost);
        if lost > 0 {
            counts.damaged = counts.damaged.saturating_add(1);
            entry.state = State::Damaged;
            entry.written_as = name.file_name().map(|name| name.to_string_lossy().into_owned());
            self.loss(format!("{}: {lost} of {} bytes cannot be read", entry.path, entry.size));
        } else if entry.state == State::Identical {
            counts.identical = counts.identical.saturating_add(1);
        } else {
            counts.copied = counts.copied.saturating_add(1);
            if counts.copied.checked_rem(1000) == Some(0) {
                (self.tell)(&format!("{} files ({})", counts.copied, Bytes(counts.bytes).human()));
            }
        }
        self.manifest.add(&entry)
    }

    /// Without an inode, what it may have had of extended attributes and other names counts as lost.
    fn attributes(&mut self, found: &Metadata, inode: Option<&Found>, target: &Path) {
        let extended = self.inodes.as_ref().zip(inode).map(|(inodes, inode)| inodes.inodes.attributes(inode));
        let dropped = attributes::give(found, extended.as_ref(), target);
        let counter = &mut self.done.counts.attributes_dropped;
        *counter = counter.saturating_add(dropped);
    }

    fn lost(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.damaged = self.done.counts.damaged.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    fn not_copied(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.failed = self.done.counts.failed.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    fn loss(&mut self, text: String) {
        if self.done.losses.len() < MAX_LOSSES {
            self.done.losses.push(text);
        }
    }
}

/// The entries of a directory, and the error that ended it.
fn read_all(entries: ext4_view::ReadDir) -> (Vec<DirEntry>, Option<String>) {
    let mut all = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => all.push(entry),
            // What a damaged directory tells behind its damage cannot be trusted.
            Err(error) => return (all, Some(error.to_string())),
        }
    }
    (all, None)
}

/// A file with unreadable ranges has another name, so that nobody takes it for a sound one.
fn name_of(target: &Path, lost: &[LostRange]) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    if !lost.is_empty() {
        name.push(".damaged");
    }
    PathBuf::from(name)
}

fn same_file(one: &Path, two: &Path) -> bool {
    let number = |path: &Path| std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    number(one).is_some_and(|found| number(two) == Some(found))
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
