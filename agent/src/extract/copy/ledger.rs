//! What became of each thing: counted, told and put into the manifest. Both ways of copying keep it, so that both tell the same.

use super::entries::MAX_FILE;
use super::{Done, Job, MAX_LINKS, MAX_LOSSES, Place, Stop, full, judge};
use crate::case::Counts;
use crate::extract::lost_found;
use crate::extract::manifest::{Entry, Manifest, State};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time after which the manifest is kept, at the latest.
const KEEP: Duration = Duration::from_secs(5);
/// Damaged files looked for in older snapshots.
const MAX_DAMAGED: usize = 10_000;
/// Things of a lost+found of which each one's counts are remembered; beyond that, what is there again after a repair counts twice.
const MAX_NAMELESS: usize = 100_000;

/// What a file of the source adds to the bytes that are counted.
#[derive(Debug, Clone, Copy)]
pub(in crate::extract) struct Weight {
    /// Bytes, as the source tells.
    pub(in crate::extract) size: u64,
    /// The number of a file with several names: its bytes count once.
    pub(in crate::extract) number: Option<(u64, u64)>,
}

impl Weight {
    pub(in crate::extract) fn of(found: &Metadata) -> Self {
        Self { size: found.len(), number: (found.nlink() > 1).then(|| (found.dev(), found.ino())) }
    }
}

/// The account of a copy under way.
pub(in crate::extract) struct Ledger {
    /// What became of every file.
    pub(in crate::extract) manifest: Manifest,
    /// The counts, and what people are told.
    pub(in crate::extract) done: Done,
    /// Files with several names whose bytes were counted, by number, with what of them is lost.
    weighed: HashMap<(u64, u64), u64>,
    kept: Instant,
}

impl Ledger {
    pub(in crate::extract) fn begin(job: &Job) -> anyhow::Result<Self> {
        let manifest = Manifest::begin(&job.target, &job.name, job.force)?;
        Ok(Self { manifest, done: Done::default(), weighed: HashMap::new(), kept: Instant::now() })
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
            self.tally(&place.path, &Counts { names_changed: 1, ..Counts::default() });
        }
        self.manifest.add(entry)
    }

    /// Counts and notes what became of a file.
    pub(in crate::extract) fn settled(&mut self, place: &Place, weight: Weight, entry: &Entry) -> anyhow::Result<()> {
        if entry.state == State::Damaged && self.done.damaged.len() < MAX_DAMAGED {
            self.done.damaged.push(place.path.clone());
        }
        self.count(&place.path, weight, entry);
        self.note(place, entry)
    }

    pub(in crate::extract) fn stopped(&mut self, path: &Path, kind: &str, stop: Stop) -> anyhow::Result<()> {
        match stop {
            Stop::Target(error) => Err(error.context(format!("at {}", path.display()))),
            Stop::File(State::Damaged, why) => self.lost(path, kind, &why),
            Stop::File(_, why) => self.failed(path, kind, &why),
        }
    }

    /// The same for a file, of which at least the size is known: lost as a whole, its bytes are lost ones.
    pub(in crate::extract) fn file_stopped(&mut self, path: &Path, weight: Weight, stop: Stop) -> anyhow::Result<()> {
        if matches!(stop, Stop::File(State::Damaged, _)) {
            let counts = self.weighed(weight, weight.size);
            self.tally(path, &counts);
        }
        self.stopped(path, "file", stop)
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
        self.tally(&place.path, &Counts { directories: 1, ..Counts::default() });
        self.note(place, &place.entry("directory", State::Copied))?;
        Ok(true)
    }

    /// Something of the source that is lost as a whole.
    pub(in crate::extract) fn lost(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.tally(path, &Counts { damaged: 1, ..Counts::default() });
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(in crate::extract) fn failed(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.tally(path, &Counts { failed: 1, ..Counts::default() });
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(in crate::extract) fn skipped(&mut self, path: &Path, why: &str) -> anyhow::Result<()> {
        self.tally(path, &Counts { special: 1, ..Counts::default() });
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, "special", State::Skipped) })
    }

    /// A symbolic link that the target has no place for: the manifest keeps where it leads.
    pub(super) fn no_link(&mut self, path: &Path, leads_to: &Path) -> anyhow::Result<()> {
        self.tally(path, &Counts { symlinks_dropped: 1, ..Counts::default() });
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

    /// Counts a file that was written, or was there already.
    pub(super) fn count(&mut self, path: &Path, weight: Weight, entry: &Entry) {
        let unread = entry.lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
        // Where nobody knows which of its bytes are true, none of them can be called recovered.
        let lost = if entry.why.is_some() { weight.size } else { unread };
        if entry.state == State::Damaged {
            self.loss(match &entry.why {
                Some(why) => format!("{}: {why}", entry.path),
                None => format!("{}: {unread} of {} bytes cannot be read", entry.path, entry.size),
            });
        }
        let mut counts = self.weighed(weight, lost);
        match entry.state {
            State::Identical => counts.identical = 1,
            State::Damaged => counts.damaged = 1,
            _ => counts.copied = 1,
        }
        if path.starts_with(lost_found::FOLDER) {
            counts.nameless = u64::from(entry.state != State::Damaged);
            counts.nameless_bytes = counts.recovered_bytes();
        }
        self.tally(path, &counts);
    }

    /// The bytes of a file and what is lost of them, unless they were counted under another of its names.
    fn weighed(&mut self, weight: Weight, lost: u64) -> Counts {
        // More is damage: nobody knows the true size.
        let (size, lost) = (weight.size.min(MAX_FILE), lost.min(MAX_FILE));
        let before = weight.number.and_then(|number| self.weighed.get(&number).copied());
        if let Some(number) = weight.number.filter(|_| before.is_some() || self.weighed.len() < MAX_LINKS) {
            self.weighed.insert(number, lost.max(before.unwrap_or(0)));
        }
        let bytes = if before.is_some() { 0 } else { size };
        Counts { bytes, lost_bytes: lost.saturating_sub(before.unwrap_or(0)), ..Counts::default() }
    }

    /// Adds counts that a thing of the source gives.
    fn tally(&mut self, path: &Path, counts: &Counts) {
        self.done.counts.add(counts);
        let is_nameless = path.starts_with(lost_found::FOLDER) && path != Path::new(lost_found::FOLDER);
        if is_nameless && self.done.lost_found.len() < MAX_NAMELESS {
            self.done.lost_found.push((path.to_owned(), *counts));
        }
    }
}
