//! What became of each thing: counted, told and put into the manifest.

use super::{Copy, MAX_FILE, MAX_LINKS, MAX_LOSSES, MAX_NAMELESS, Place, Stop};
use crate::case::Counts;
use crate::extract::lost_found;
use crate::extract::manifest::{Entry, State};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Copy<'_> {
    /// Puts what was written, or was there already, into the manifest.
    pub(super) fn note(&mut self, place: &Place, entry: &Entry) -> anyhow::Result<()> {
        if place.is_renamed() {
            self.tally(&place.path, &Counts { names_changed: 1, ..Counts::default() });
        }
        self.manifest.add(entry)
    }

    pub(super) fn stopped(&mut self, path: &Path, kind: &str, stop: Stop) -> anyhow::Result<()> {
        match stop {
            Stop::Target(error) => Err(error.context(format!("at {}", path.display()))),
            Stop::File(State::Damaged, why) => self.lost(path, kind, &why),
            Stop::File(_, why) => self.failed(path, kind, &why),
        }
    }

    /// Something of the source that is lost as a whole.
    pub(super) fn lost(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.tally(path, &Counts { damaged: 1, ..Counts::default() });
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(super) fn failed(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.tally(path, &Counts { failed: 1, ..Counts::default() });
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(super) fn skipped(&mut self, path: &Path, why: &str) -> anyhow::Result<()> {
        self.tally(path, &Counts { special: 1, ..Counts::default() });
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

    /// Counts a file that was written, or was there already.
    pub(super) fn count(&mut self, path: &Path, found: &Metadata, entry: &Entry) {
        let lost = entry.lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
        if entry.state == State::Damaged {
            self.loss(format!("{}: {lost} of {} bytes cannot be read", entry.path, entry.size));
        }
        let mut counts = self.weighed(found, lost);
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

    /// Counts the bytes of a file of the source that is lost as a whole.
    pub(super) fn count_lost(&mut self, path: &Path, found: &Metadata) {
        let counts = self.weighed(found, found.len());
        self.tally(path, &counts);
    }

    /// The bytes of a file and what is lost of them, unless they were counted under another of its names.
    fn weighed(&mut self, found: &Metadata, lost: u64) -> Counts {
        // More is damage: nobody knows the true size.
        let (size, lost) = (found.len().min(MAX_FILE), lost.min(MAX_FILE));
        let number = (found.dev(), found.ino());
        let before = self.weighed.get(&number).copied();
        if before.is_some() || (found.nlink() > 1 && self.weighed.len() < MAX_LINKS) {
            self.weighed.insert(number, lost.max(before.unwrap_or(0)));
        }
        let bytes = if before.is_some() { 0 } else { size };
        Counts { bytes, lost_bytes: lost.saturating_sub(before.unwrap_or(0)), ..Counts::default() }
    }

    /// Adds counts that a thing of the source gives.
    pub(super) fn tally(&mut self, path: &Path, counts: &Counts) {
        self.done.counts.add(counts);
        let is_nameless = path.starts_with(lost_found::FOLDER) && path != Path::new(lost_found::FOLDER);
        if is_nameless && self.done.lost_found.len() < MAX_NAMELESS {
            self.done.lost_found.push((path.to_owned(), *counts));
        }
    }
}
