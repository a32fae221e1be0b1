//! Copies a tree to a folder on another disk.

use super::attributes;
use super::batch::{Batch, Written};
use super::file::{self, Nowhere, hex};
use super::lost_found;
use super::manifest::{Entry, Manifest, State};
use super::room;
use super::walk::{Met, Walk};
use crate::case::{Copied, Counts};
use crate::commands::{Failure, Outcome};
use crate::pace::{self, Heartbeat};
use anyhow::Context;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Added to the name of a file with unreadable ranges, so that nobody takes it for a sound one.
const DAMAGED: &str = ".damaged";
/// Directories that wait for their times.
const MAX_LEFT: usize = 10_000;
/// Files with several names remembered, to link them again; beyond that each name becomes a file of its own.
const MAX_LINKS: usize = 1_000_000;
/// No file of ext4 is larger than 16 TiB: more is damage, and would take for ever to read.
const MAX_FILE: u64 = 16 << 40;
/// Damaged files looked for in older snapshots.
const MAX_DAMAGED: usize = 10_000;
/// Losses told in the report; all are in the manifest.
pub const MAX_LOSSES: usize = 200;
/// Time after which the manifest is kept, at the latest.
const KEEP: Duration = Duration::from_secs(5);
/// A clock of FAT counts in steps of two seconds.
const CLOCK_STEP: i64 = 2;

/// A copy to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// What is copied, for people: "vg1/lv1".
    pub name: String,
    /// Root of the tree, or a single file.
    pub source: PathBuf,
    /// Folder on the target; the tree's content goes into it.
    pub target: PathBuf,
    /// Files of the target that differ may be replaced.
    pub force: bool,
}

/// What a copy that came to its end did.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Counts.
    pub counts: Counts,
    /// The first of the files that were lost or not copied, each with why.
    pub losses: Vec<String>,
    /// The first of the files that could not be read whole, by path in the source.
    pub damaged: Vec<PathBuf>,
    /// Where the manifest lies.
    pub manifest: PathBuf,
    /// Time it took.
    pub took: Duration,
    /// The part of it that went into SHA-256 and into reading back what was written.
    pub verifying: Duration,
}

impl Done {
    /// For the case: what was copied from where to where, and how people find the manifest.
    pub fn copied(self, source: &str, target: &str, manifest: String) -> Copied {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Copied {
            source: source.to_owned(),
            target: target.to_owned(),
            milliseconds: milliseconds(self.took),
            verifying_milliseconds: milliseconds(self.verifying),
            counts: self.counts,
            losses: self.losses,
            manifest,
        }
    }
}

/// Why the copying stops.
pub(super) enum Stop {
    /// The target cannot take more; nothing after this can succeed.
    Target(anyhow::Error),
    /// Only this file: it is told and the copy goes on.
    File(State, String),
}

/// Copies the tree, telling progress on `tell`.
///
/// # Errors
/// When the target is full, fails, or holds a copy of something else. What was copied before stays, with its manifest.
pub fn run(job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    std::fs::create_dir_all(&job.target).with_context(|| format!("{} cannot be made", job.target.display()))?;
    let manifest = Manifest::begin(&job.target, &job.name, job.force)?;
    let start = Instant::now();
    let batch = Batch::begin(&job.target).with_context(|| format!("{} cannot be written to", job.target.display()))?;
    let mut copy = Copy {
        job,
        manifest,
        batch,
        left: Vec::new(),
        links: HashMap::new(),
        done: Done::default(),
        kept: start,
        tell,
    };
    let beat = Heartbeat::start(room::used(&job.source));
    let result = copy.everything();
    // Also when it was stopped: what was written before is whole.
    let settled = copy.settle();
    let result = result.and(settled);
    drop(beat);
    copy.batch.end();
    copy.tell_counts();
    let manifest = copy.manifest.finish(&copy.done.counts, result.is_ok());
    result?;
    copy.done.took = start.elapsed();
    copy.done.manifest = manifest.map_err(|error| match error.downcast_ref().map(io::Error::kind) {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => full(),
        _ => error.context("the files are copied, but the manifest could not be written"),
    })?;
    Ok(copy.done)
}

/// Exit code of a copy that came to its end.
pub fn outcome(counts: &Counts) -> Outcome {
    match (counts.damaged > 0, counts.failed > 0) {
        (true, _) => Outcome::DAMAGE,
        (false, true) => Outcome::REPORTED,
        (false, false) => Outcome::CLEAN,
    }
}

struct Copy<'a> {
    job: &'a Job,
    manifest: Manifest,
    batch: Batch,
    /// Directories that nothing more is put into but what is in the batch.
    left: Vec<(PathBuf, Metadata)>,
    /// First name on the target of each file with several names, by its number.
    links: HashMap<(u64, u64), PathBuf>,
    done: Done,
    kept: Instant,
    tell: &'a mut dyn FnMut(&str),
}

impl Copy<'_> {
    fn everything(&mut self) -> anyhow::Result<()> {
        let found = std::fs::symlink_metadata(&self.job.source)
            .with_context(|| format!("{} cannot be read", self.job.source.display()))?;
        if !found.is_dir() {
            let name = self.job.source.file_name().context("the source has no name")?.to_owned();
            return self.entry(Path::new(&name), &self.job.source.clone(), &found);
        }
        let walk =
            Walk::new(&self.job.source).with_context(|| format!("{} cannot be read", self.job.source.display()))?;
        // Directories that could not be made on the target, and with them everything inside.
        let mut closed: Option<PathBuf> = None;
        for met in walk {
            self.keep_manifest();
            let path = path_of(&met).to_owned();
            if closed.as_ref().is_some_and(|closed| path.starts_with(closed)) {
                if !matches!(met, Met::Enter(..) | Met::Leave(..)) {
                    self.failed(&path, "file", "its directory could not be made on the target")?;
                }
                continue;
            }
            if !self.met(met)? {
                closed = Some(path);
            }
        }
        Ok(())
    }

    /// Deals with one thing on the way; `false` when a directory could not be made.
    fn met(&mut self, met: Met) -> anyhow::Result<bool> {
        match met {
            Met::Enter(path, found) => return self.directory(&path, &found),
            Met::Leave(path, found) => {
                // The root's own attributes belong to the target. The others are given when nothing more is put in.
                if !path.as_os_str().is_empty() {
                    self.left.push((path, found));
                }
                if self.left.len() >= MAX_LEFT {
                    self.settle()?;
                }
            }
            Met::Entry(path, found) => {
                let source = self.job.source.join(&path);
                self.entry(&path, &source, &found)?;
            }
            Met::Broken(path, error) => self.lost(&path, "unknown", &format!("cannot be read: {error}"))?,
            Met::OtherFileSystem(path) => self.skipped(&path, "another file system is mounted here")?,
        }
        Ok(true)
    }

    fn directory(&mut self, path: &Path, _found: &Metadata) -> anyhow::Result<bool> {
        if path.as_os_str().is_empty() {
            return Ok(true);
        }
        let target = self.job.target.join(path);
        let made = match std::fs::create_dir(&target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match std::fs::symlink_metadata(&target) {
                Ok(there) if there.is_dir() => Ok(()),
                _ => Err(error),
            },
            made => made,
        };
        match made {
            Ok(()) => {
                self.done.counts.directories = self.done.counts.directories.saturating_add(1);
                self.manifest.add(&Entry::new(path, "directory", State::Copied))?;
                Ok(true)
            }
            Err(error) => {
                let error = judge(error, "the directory cannot be made");
                self.stopped(path, "directory", error)?;
                Ok(false)
            }
        }
    }

    fn entry(&mut self, path: &Path, source: &Path, found: &Metadata) -> anyhow::Result<()> {
        let kind = found.file_type();
        if kind.is_symlink() {
            return self.symlink(path, source, found);
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return self.skipped(path, "a pipe, socket or device: nothing in it to copy");
        }
        if self.links_again(path, found)? {
            return Ok(());
        }
        match self.file(path, source, found) {
            Ok(Some(entry)) => self.settled(path, found, &entry),
            // Its other names must find it.
            Ok(None) if found.nlink() > 1 || self.batch.is_full() => self.settle(),
            Ok(None) => Ok(()),
            Err(stop) => self.stopped(path, "file", stop),
        }
    }

    /// Another name of a file that was copied already becomes a link; `false` when it must be copied.
    fn links_again(&mut self, path: &Path, found: &Metadata) -> anyhow::Result<bool> {
        let Some(first) = self.links.get(&(found.dev(), found.ino())).filter(|_| found.nlink() > 1) else {
            return Ok(false);
        };
        let (first, target) = (self.job.target.join(first), self.job.target.join(path));
        let same = same_file(&first, &target);
        // A file system without links gets a second copy.
        if !same && std::fs::hard_link(&first, &target).is_err() {
            return Ok(false);
        }
        let state = if same { State::Identical } else { State::Copied };
        let entry = Entry { size: found.len(), mtime: found.mtime(), ..Entry::new(path, "hardlink", state) };
        self.count(&entry);
        self.manifest.add(&entry)?;
        Ok(true)
    }

    fn symlink(&mut self, path: &Path, source: &Path, found: &Metadata) -> anyhow::Result<()> {
        let target = self.job.target.join(path);
        let place = match std::fs::read_link(source) {
            Ok(place) => place,
            Err(error) => return self.lost(path, "symlink", &format!("cannot be read: {error}")),
        };
        if std::fs::read_link(&target).is_ok_and(|there| there == place) {
            return self.manifest.add(&Entry::new(path, "symlink", State::Identical));
        }
        if let Err(error) = std::os::unix::fs::symlink(&place, &target) {
            return self.stopped(path, "symlink", judge(error, "the link cannot be made"));
        }
        self.attributes(source, found, &target);
        self.done.counts.symlinks = self.done.counts.symlinks.saturating_add(1);
        self.manifest.add(&Entry::new(path, "symlink", State::Copied))
    }

    /// Writes a file into the batch, `None`; or tells that it is on the target already.
    fn file(&mut self, path: &Path, source: &Path, found: &Metadata) -> Result<Option<Entry>, Stop> {
        let entry = Entry { size: found.len(), mtime: found.mtime(), ..Entry::new(path, "file", State::Copied) };
        if found.len() > MAX_FILE {
            return Err(Stop::File(State::Damaged, format!("its size ({} bytes) is impossible", found.len())));
        }
        let input = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(source);
        let input = input.map_err(|error| Stop::File(State::Damaged, format!("cannot be opened: {error}")))?;
        let target = self.job.target.join(path);
        if let Some(sha256) = self.already(path, &input, found, &target)? {
            return Ok(Some(Entry { state: State::Identical, sha256: Some(sha256), ..entry }));
        }
        self.batch.write(&input, (path, source), found, entry)?;
        Ok(None)
    }

    /// Reads back what was gathered and gives it its names; then directories that were left in the meantime get their times.
    fn settle(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let files = match self.batch.take() {
            Ok(files) => files,
            Err(stop) => return self.stopped(Path::new("the files last written"), "file", stop),
        };
        let mut waiting = files.into_iter();
        while let Some(written) = waiting.next() {
            let (before, named) = (Instant::now(), written.read_back());
            let verifying = before.elapsed().saturating_add(written.content.hashing);
            self.done.verifying = self.done.verifying.saturating_add(verifying);
            let named = named.and_then(|()| self.name(&written));
            if let Err(stop) = named {
                written.forget();
                if let Err(error) = self.stopped(&written.path, "file", stop) {
                    waiting.for_each(|rest| rest.forget());
                    return Err(error);
                }
            }
        }
        for (path, found) in std::mem::take(&mut self.left) {
            self.attributes(&self.job.source.join(&path), &found, &self.job.target.join(&path));
        }
        log::debug!("a batch was settled in {} ms", start.elapsed().as_millis());
        Ok(())
    }

    /// Gives a file its attributes and its name.
    fn name(&mut self, written: &Written) -> Result<(), Stop> {
        self.attributes(&written.source, &written.found, &written.part);
        let target = self.job.target.join(&written.path);
        let damaged = !written.content.lost.is_empty();
        let name = if damaged { damaged_name(&target) } else { target };
        std::fs::rename(&written.part, &name).map_err(|error| judge(error, "it cannot be given its name"))?;
        let sha256 = Some(hex(&written.content.sha256));
        let written_as = damaged.then(|| name.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let state = if damaged { State::Damaged } else { State::Copied };
        let entry = Entry { state, sha256, written_as, lost: written.content.lost.clone(), ..written.entry.clone() };
        self.settled(&written.path, &written.found, &entry).map_err(Stop::Target)
    }

    /// Notes what became of a file.
    fn settled(&mut self, path: &Path, found: &Metadata, entry: &Entry) -> anyhow::Result<()> {
        if entry.state == State::Damaged {
            if self.done.damaged.len() < MAX_DAMAGED {
                self.done.damaged.push(path.to_owned());
            }
        } else if found.nlink() > 1 && self.links.len() < MAX_LINKS {
            self.links.insert((found.dev(), found.ino()), path.to_owned());
        }
        self.count(entry);
        self.manifest.add(entry)
    }

    /// The hash, when the target holds this very file. A different file of the same name is an error without force.
    fn already(&self, path: &Path, input: &File, found: &Metadata, target: &Path) -> Result<Option<String>, Stop> {
        let Ok(there) = std::fs::symlink_metadata(target) else { return Ok(None) };
        let same_time = there.mtime().abs_diff(found.mtime()) <= CLOCK_STEP.unsigned_abs();
        if there.is_file() && there.len() == found.len() {
            let known =
                self.manifest.known(path).filter(|known| known.size == found.len() && known.mtime == found.mtime());
            if let Some(known) = known.filter(|_| same_time) {
                pace::count(found.len().saturating_mul(2));
                return Ok(Some(known.sha256.clone()));
            }
            if let Some(sha256) = equal(input, target, found.len()) {
                return Ok(Some(sha256));
            }
        }
        if self.job.force && !there.is_dir() {
            return Ok(None);
        }
        let why = "a different file of this name is on the target; it was left alone (--force replaces it)";
        Err(Stop::File(State::Failed, why.to_owned()))
    }

    fn attributes(&mut self, source: &Path, found: &Metadata, target: &Path) {
        let dropped = &mut self.done.counts.attributes_dropped;
        *dropped = dropped.saturating_add(attributes::transfer(source, found, target));
    }

    fn stopped(&mut self, path: &Path, kind: &str, stop: Stop) -> anyhow::Result<()> {
        match stop {
            Stop::Target(error) => Err(error.context(format!("at {}", path.display()))),
            Stop::File(State::Damaged, why) => self.lost(path, kind, &why),
            Stop::File(_, why) => self.failed(path, kind, &why),
        }
    }

    /// Something of the source that is lost as a whole.
    fn lost(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.damaged = self.done.counts.damaged.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    fn failed(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.failed = self.done.counts.failed.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    fn skipped(&mut self, path: &Path, why: &str) -> anyhow::Result<()> {
        self.done.counts.special = self.done.counts.special.saturating_add(1);
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, "special", State::Skipped) })
    }

    fn loss(&mut self, text: String) {
        if self.done.losses.len() < MAX_LOSSES {
            self.done.losses.push(text);
        }
    }

    fn count(&mut self, entry: &Entry) {
        let lost = entry.lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
        if entry.state == State::Damaged {
            self.loss(format!("{}: {lost} of {} bytes cannot be read", entry.path, entry.size));
        }
        let counts = &mut self.done.counts;
        if Path::new(&entry.path).starts_with(lost_found::FOLDER) {
            counts.nameless = counts.nameless.saturating_add(1);
            counts.nameless_bytes = counts.nameless_bytes.saturating_add(entry.size);
        }
        let counter = match entry.state {
            State::Identical => &mut counts.identical,
            State::Damaged => &mut counts.damaged,
            _ => &mut counts.copied,
        };
        *counter = counter.saturating_add(1);
        counts.bytes = counts.bytes.saturating_add(entry.size);
        counts.lost_bytes = counts.lost_bytes.saturating_add(lost);
    }

    /// For the case that the power fails; a target that takes no more is noticed at the next file.
    fn keep_manifest(&mut self) {
        if self.kept.elapsed() >= KEEP {
            self.kept = Instant::now();
            let _ = self.manifest.flush();
        }
    }

    fn tell_counts(&mut self) {
        let counts = &self.done.counts;
        let files = counts.copied.saturating_add(counts.identical);
        let size = tierlift_ondisk::units::Bytes(counts.bytes).human();
        (self.tell)(&format!("{files} files ({size}), {} damaged, {} not copied", counts.damaged, counts.failed));
    }
}

fn path_of(met: &Met) -> &Path {
    match met {
        Met::Enter(path, _) | Met::Leave(path, _) | Met::Entry(path, _) => path,
        Met::Broken(path, _) | Met::OtherFileSystem(path) => path,
    }
}

/// Whether this is a file, and every byte of it can be read.
pub fn is_whole(path: &Path) -> bool {
    let whole = || -> io::Result<bool> {
        let file = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
        let found = file.metadata()?;
        Ok(found.is_file() && found.len() <= MAX_FILE && file::read(&file, found.len(), &mut Nowhere)?.lost.is_empty())
    };
    whole().unwrap_or(false)
}

/// The hash when both files hold the same.
fn equal(input: &File, target: &Path, size: u64) -> Option<String> {
    let there = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(target).ok()?;
    let there = file::read(&there, size, &mut Nowhere).ok().filter(|content| content.lost.is_empty())?;
    let here = file::read(input, size, &mut Nowhere).ok()?;
    here.is_same_as(&there).then(|| hex(&here.sha256))
}

fn same_file(one: &Path, two: &Path) -> bool {
    let number = |path: &Path| std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    number(one).is_some_and(|found| number(two) == Some(found))
}

fn damaged_name(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(DAMAGED);
    target.with_file_name(name)
}

fn full() -> anyhow::Error {
    let message = "the target is full; what was copied so far is complete and checked. Make room there and run the same command \
                   again, or use a larger disk, or copy parts (VG/LV:PATH)";
    Failure { outcome: Outcome::FAILED, message: message.to_owned() }.into()
}

/// Whether an error of the target concerns one file or all that would follow.
pub(super) fn judge(error: io::Error, what: &str) -> Stop {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Stop::Target(full()),
        ErrorKind::ReadOnlyFilesystem => Stop::Target(anyhow::anyhow!("the target is read-only")),
        _ if error.raw_os_error() == Some(nix::libc::EIO) => {
            Stop::Target(anyhow::anyhow!("the target disk fails ({error}); use another disk"))
        }
        _ => Stop::File(State::Failed, format!("{what}: {error}")),
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
