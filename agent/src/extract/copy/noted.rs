//! What became of each thing: counted, told and put into the manifest.

use super::{Copy, MAX_LOSSES, Place, Stop};
use crate::extract::lost_found;
use crate::extract::manifest::{Entry, State};
use std::path::Path;

impl Copy<'_> {
    /// Puts what was written, or was there already, into the manifest.
    pub(super) fn note(&mut self, place: &Place, entry: &Entry) -> anyhow::Result<()> {
        if place.is_renamed() {
            self.done.counts.names_changed = self.done.counts.names_changed.saturating_add(1);
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
        self.done.counts.damaged = self.done.counts.damaged.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(super) fn failed(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.failed = self.done.counts.failed.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    pub(super) fn skipped(&mut self, path: &Path, why: &str) -> anyhow::Result<()> {
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
