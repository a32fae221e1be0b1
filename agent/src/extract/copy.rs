//! Copies a tree to a folder on another disk.

mod damaged_name;
mod entries;
mod ledger;
mod links;
mod settle;
mod stop;

pub(super) use damaged_name::DamagedNames;
pub use entries::is_whole;
pub(super) use entries::{already, fits};
pub(super) use ledger::{Ledger, Weight};
pub(super) use settle::{Named, is_damaged};
use stop::full;
pub(super) use stop::{Stop, judge};

use super::ahead::{self, Ahead};
use super::batch::Batch;
use super::kind::Kind;
use super::manifest::{Entry, State};
use super::names::Names;
use super::room;
use super::walk::{Met, Walk};
use crate::case::{Copied, Counts};
use crate::commands::Outcome;
use crate::pace::Heartbeat;
use anyhow::Context;
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Directories that wait for their times.
const MAX_LEFT: usize = 10_000;
/// Files with several names remembered, to link them again; beyond that each name becomes a file of its own.
pub(super) const MAX_LINKS: usize = 1_000_000;
/// Losses told in the report; all are in the manifest.
pub const MAX_LOSSES: usize = 200;
/// Why a file that can be read whole counts as damaged.
const REPAIRED: &str = "a repair of the file system took parts out of it whose place nobody knows (zeros stand for them) or gave \
                        it another length, or it shared blocks with another file";
/// The same where nobody knows which file it is.
const MAY_BE_REPAIRED: &str = "a repair of the file system took parts out of some files or gave them another length, and its \
                               number cannot be read, so it may be one of them";

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
    /// Numbers of the files that a repair of the file system took parts out of, or that shared blocks: they can be read whole, and
    /// are copied as damaged all the same.
    pub suspicious: BTreeSet<u64>,
}

impl Job {
    /// Why a file cannot be taken for whole although all of it can be read; `number` is that of its inode, if known.
    pub(super) fn doubt(&self, number: Option<u64>) -> Option<&'static str> {
        match number {
            Some(number) => self.suspicious.contains(&number).then_some(REPAIRED),
            None => (!self.suspicious.is_empty()).then_some(MAY_BE_REPAIRED),
        }
    }
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
    /// What the things in lost+found gave of the counts, by path; a thing can be there several times.
    pub lost_found: Vec<(PathBuf, Counts)>,
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

/// Where something lies.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Below the root of the copy, as the source calls it.
    pub path: PathBuf,
    /// Where it is read: under the place where the source is mounted, or without the kernel from the file system's own root.
    pub source: PathBuf,
    /// Where it goes.
    pub target: PathBuf,
}

impl Place {
    /// Whether it has another name on the target; its directories may have other names all the same.
    fn is_renamed(&self) -> bool {
        self.target.file_name() != self.path.file_name()
    }

    /// An entry for it.
    pub(super) fn entry(&self, kind: &str, state: State) -> Entry {
        let name = self.target.file_name().filter(|_| self.is_renamed());
        let written_as = name.map(|name| name.to_string_lossy().into_owned());
        Entry { written_as, ..Entry::new(&self.path, kind, state) }
    }
}

/// Copies the tree, telling progress on `tell`.
///
/// # Errors
/// When the target is full, fails, or holds a copy of something else. What was copied before stays, with its manifest.
pub fn run(job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    std::fs::create_dir_all(&job.target).with_context(|| format!("{} cannot be made", job.target.display()))?;
    let kind = Kind::of(&job.target);
    let kind = kind.with_context(|| format!("{}: its file system cannot be asked", job.target.display()))?;
    run_on(kind, job, tell)
}

/// The directory that paths of the source are below: the tree's root, or that of the single file.
fn root_of(source: &Path) -> &Path {
    if std::fs::symlink_metadata(source).is_ok_and(|found| found.is_dir()) {
        return source;
    }
    source.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The same on a target of a known kind.
pub(super) fn run_on(kind: Kind, job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    if let Some(told) = room::too_large(kind, &job.source) {
        tell(&told);
    }
    let start = Instant::now();
    let mut copy = Copy::begin(kind, job, tell)?;
    let beat = Heartbeat::start(room::used(&job.source));
    let result = copy.everything();
    // Also when it was stopped: what was written before is whole.
    let settled = copy.settle();
    let result = result.and(settled);
    drop(beat);
    copy.batch.end();
    copy.tell_counts();
    copy.ledger.finish(result, start)
}

/// Exit code of a copy that came to its end.
pub fn outcome(counts: &Counts) -> Outcome {
    let told = counts.failed > 0 || counts.names_changed > 0 || counts.symlinks_dropped > 0;
    match (counts.damaged > 0, told) {
        (true, _) => Outcome::DAMAGE,
        (false, true) => Outcome::REPORTED,
        (false, false) => Outcome::CLEAN,
    }
}

struct Copy<'a> {
    job: &'a Job,
    /// What all paths of the source are below.
    root: &'a Path,
    kind: Kind,
    names: Names,
    ledger: Ledger,
    batch: Batch,
    /// Directories that nothing more is put into but what is in the batch.
    left: Vec<(Place, Metadata)>,
    /// Where the first name of each file with several names lies on the target, by its number.
    links: HashMap<(u64, u64), PathBuf>,
    /// For files with unreadable ranges.
    damaged_names: DamagedNames,
    tell: &'a mut dyn FnMut(&str),
}

impl<'a> Copy<'a> {
    fn begin(kind: Kind, job: &'a Job, tell: &'a mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        let ledger = Ledger::begin(job)?;
        let batch = Batch::begin(&job.target);
        let batch = batch.with_context(|| format!("{} cannot be written to", job.target.display()))?;
        let root = root_of(&job.source);
        Ok(Self {
            job,
            root,
            kind,
            names: Names::new(kind, root),
            ledger,
            batch,
            left: Vec::new(),
            links: HashMap::new(),
            damaged_names: DamagedNames::new(kind),
            tell,
        })
    }

    fn everything(&mut self) -> anyhow::Result<()> {
        let found = std::fs::symlink_metadata(&self.job.source)
            .with_context(|| format!("{} cannot be read", self.job.source.display()))?;
        if !found.is_dir() {
            let name = self.job.source.file_name().context("the source has no name")?;
            let place = self.place(PathBuf::from(name));
            return self.entry(place, &found, None);
        }
        let root = &self.job.source;
        let walk = Walk::new(root).with_context(|| format!("{} cannot be read", root.display()))?;
        // What an earlier copy knows is hardly read again.
        let known = self.ledger.manifest.known_paths();
        let walk = Ahead::of(walk.map(|met| ahead::met(root, met, |path| known.get(path).is_none())));
        // Directories that could not be made on the target, and with them everything inside.
        let mut closed: Option<PathBuf> = None;
        for (met, file) in walk {
            self.ledger.keep();
            let path = path_of(&met).to_owned();
            if closed.as_ref().is_some_and(|closed| path.starts_with(closed)) {
                if !matches!(met, Met::Enter(..) | Met::Leave(..)) {
                    self.ledger.failed(&path, "file", "its directory could not be made on the target")?;
                }
                continue;
            }
            if !self.met(met, file)? {
                closed = Some(path);
            }
        }
        Ok(())
    }

    /// Where something goes. Asked in the order of the walk, each directory's names are looked at once.
    fn place(&mut self, path: PathBuf) -> Place {
        let (source, target) = (self.root.join(&path), self.job.target.join(self.names.target(&path)));
        Place { path, source, target }
    }

    /// Deals with one thing on the way, a file that was opened already or not; `false` when a directory could not be made.
    fn met(&mut self, met: Met, file: Option<io::Result<File>>) -> anyhow::Result<bool> {
        match met {
            Met::Enter(path) => return self.directory(path),
            Met::Leave(path, found) => {
                // The root's own attributes belong to the target. The others are given when nothing more is put in.
                if !path.as_os_str().is_empty() {
                    let place = self.place(path);
                    self.left.push((place, found));
                }
                if self.left.len() >= MAX_LEFT {
                    self.settle()?;
                }
            }
            Met::Entry(path, found) => {
                let place = self.place(path);
                self.entry(place, &found, file)?;
            }
            Met::Broken(path, error) => self.ledger.lost(&path, "unknown", &format!("cannot be read: {error}"))?,
            Met::OtherFileSystem(path) => self.ledger.skipped(&path, "another file system is mounted here")?,
        }
        Ok(true)
    }

    fn directory(&mut self, path: PathBuf) -> anyhow::Result<bool> {
        if path.as_os_str().is_empty() {
            return Ok(true);
        }
        let place = self.place(path);
        self.ledger.directory(&place)
    }

    fn tell_counts(&mut self) {
        let counts = &self.ledger.done.counts;
        let files = counts.copied.saturating_add(counts.identical);
        let size = tierlift_ondisk::units::Bytes(counts.recovered_bytes()).human();
        (self.tell)(&format!("{files} files ({size}), {} damaged, {} not copied", counts.damaged, counts.failed));
    }
}

fn path_of(met: &Met) -> &Path {
    match met {
        Met::Leave(path, _) | Met::Entry(path, _) | Met::Broken(path, _) => path,
        Met::Enter(path) | Met::OtherFileSystem(path) => path,
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
