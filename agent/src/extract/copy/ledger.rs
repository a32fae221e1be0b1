//! What became of each thing: counted, told and put into the manifest. Both ways of copying keep it, so that both tell the same.

use super::{Done, Job, MAX_LOSSES, Place, Stop, full, judge};
use crate::extract::lost_found;
use crate::extract::manifest::{Entry, Manifest, State};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time after which the manifest is kept, at the latest.
const KEEP: Duration = Duration::from_secs(5);
/// Damaged files looked for in older snapshots.
const MAX_DAMAGED: usize = 10_000;

/// The account of a copy under way.
pub(in crate::extract) struct Ledger {
    /// What became of every file.
    pub(in crate::extract) manifest: Manifest,
    /// The counts, and what people are told.
    pub(in crate::extract) done: Done,
    kept: Instant,
}

impl Ledger {
    pub(in crate::extract) fn begin(job: &Job) -> anyhow::Result<Self> {
        let manifest = Manifest::begin(&job.target, &job.name, job.force)?;
        Ok(Self { manifest, done: Done::default(), kept: Instant::now() })
    }

    /// For the case that the power fails; a target that takes no more is noticed at the next file.
    pub(in crate::extract) fn keep(&mut self) {
        if self.kept.elapsed() >= KEEP {
            self.kept = Instant::now();
            let _ = self.manifest.flush();
        }
    }

    /// Ends the account of a copy that began at `start` and came to this result.
    pub(in crate::extract) fn finish(mut self, result: anyhow::Result<()>, start: Instant) -> anyhow::Result<Done> {
        let manifest = self.manifest.finish(&self.done.counts, result.is_ok());
        result?;
        self.done.took = start.elapsed();
        self.done.manifest = manifest.map_err(|error| match error.downcast_ref().map(io::Error::kind) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => full(),
            _ => error.context("the files are copied, but the manifest could not be written"),
        })?;
        Ok(self.done)
    }

    /// Puts what was written, or was there already, into the manifest.
    pub(in crate::extract) fn note(&mut self, place: &Place, entry: &Entry) -> anyhow::Result<()> {
        if place.is_renamed() {
            self.done.counts.names_changed = self.done.counts.names_changed.saturating_add(1);
        }
        self.manifest.add(entry)
    }

    /// Counts and notes what became of a file.
    pub(in crate::extract) fn settled(&mut self, place: &Place, entry: &Entry) -> anyhow::Result<()> {
        if entry.state == State::Damaged && self.done.damaged.len() < MAX_DAMAGED {
            self.done.damaged.push(place.path.clone());
        }
        self.count(entry);
        self.note(place, entry)
    }

    pub(in crate::extract) fn stopped(&mut self, path: &Path, kind: &str, stop: Stop) -> anyhow::Result<()> {
        match stop {
            Stop::Target(error) => Err(error.context(format!("at {}", path.display()))),
            Stop::File(State::Damaged, why) => self.lost(path, kind, &why),
            Stop::File(_, why) => self.failed(path, kind, &why),
        }
    }

    /// Makes a directory; `false` when it cannot be made, and nothing can go into it.
    pub(in crate::extract) fn directory(&mut self, place: &Place) -> anyhow::Result<bool> {
        let made = match std::fs::create_dir(&place.target) {
            // A link to a directory would lead out of the target.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match std::fs::symlink_metadata(&place.target) {
                Ok(there) if there.is_dir() => Ok(()),
                _ => Err(error),
            },
            made => made,
        };
        if let Err(error) = made {
            let stop = judge(error, "the directory cannot be made");
            return self.stopped(&place.path, "directory", stop).map(|()| false);
        }
        self.done.counts.directories = self.done.counts.directories.saturating_add(1);
        self.note(place, &place.entry("directory", State::Copied))?;
        Ok(true)
    }

    /// Something of the source that is lost as a whole.
    pub(in crate::extract) fn lost(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.damaged = self.done.counts.damaged.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(in crate::extract) fn failed(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.failed = self.done.counts.failed.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(in crate::extract) fn skipped(&mut self, path: &Path, why: &str) -> anyhow::Result<()> {
        self.done.counts.special = self.done.counts.special.saturating_add(1);
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, "special", State::Skipped) })
    }

    /// A symbolic link that the target has no place for: the manifest keeps where it leads.
    pub(super) fn no_link(&mut self, path: &Path, leads_to: &Path) -> anyhow::Result<()> {
        self.done.counts.symlinks_dropped = self.done.counts.symlinks_dropped.saturating_add(1);
        let mut why = format!("the target has no symbolic links; it leads to {}", leads_to.display());
        if let Some(digits) = Entry::new(leads_to, "symlink", State::Skipped).path_hex {
            why.push_str(&format!(" (bytes {digits})"));
        }
        self.manifest.add(&Entry { why: Some(why), ..Entry::new(path, "symlink", State::Skipped) })
    }

    fn loss(&mut self, text: String) {
        if self.done.losses.len() < MAX_LOSSES {
            self.done.losses.push(text);
        }
    }

    pub(super) fn count(&mut self, entry: &Entry) {
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
}
