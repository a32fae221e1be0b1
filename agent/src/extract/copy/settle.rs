//! What was gathered gets its attributes and its names, once it was read back.

use super::{Copy, MAX_LINKS, Place, Stop, Weight, judge};
use crate::extract::ahead::Ahead;
use crate::extract::attributes;
use crate::extract::batch::Written;
use crate::extract::file::{Content, hex};
use crate::extract::manifest::{Entry, State};
use crate::extract::walk::names_in;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl Copy<'_> {
    /// Reads back what was gathered and gives it its names; then directories that were left in the meantime get their times.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let files = match self.batch.take() {
            Ok(files) => files,
            Err(stop) => return self.ledger.stopped(Path::new("the files last written"), "file", stop),
        };
        let mut waiting = Ahead::of(files.into_iter().map(Written::opened));
        loop {
            let before = Instant::now();
            let Some((written, opened)) = waiting.next() else { break };
            let named = written.read_back(opened);
            let verifying = before.elapsed().saturating_add(written.content.hashing);
            self.ledger.done.verifying = self.ledger.done.verifying.saturating_add(verifying);
            let named = named.and_then(|()| self.name(&written));
            if let Err(stop) = named {
                written.forget();
                if let Err(error) = self.ledger.stopped(&written.place.path, "file", stop) {
                    waiting.for_each(|(rest, _)| rest.forget());
                    return Err(error);
                }
            }
        }
        for (place, found) in std::mem::take(&mut self.left) {
            self.attributes(&place.source, &found, &place.target);
        }
        log::debug!("a batch was settled in {} ms", start.elapsed().as_millis());
        Ok(())
    }

    /// Gives a file its attributes and its name.
    fn name(&mut self, written: &Written) -> Result<(), Stop> {
        let place = &written.place;
        self.attributes(&place.source, &written.found, &written.part);
        let is_damaged = is_damaged(&written.entry, &written.content);
        let damaged = is_damaged.then(|| self.damaged_name(place));
        let named = Named::of(place, damaged);
        std::fs::rename(&written.part, &named.target).map_err(|error| judge(error, "it cannot be given its name"))?;
        let entry = named.entry(&written.entry, &written.content);
        self.settled(place, &written.found, &entry).map_err(Stop::Target)
    }

    /// Notes what became of a file.
    pub(super) fn settled(&mut self, place: &Place, found: &Metadata, entry: &Entry) -> anyhow::Result<()> {
        let whole = entry.state != State::Damaged;
        if whole && found.nlink() > 1 && self.links.len() < MAX_LINKS {
            self.links.insert((found.dev(), found.ino()), place.target.clone());
        }
        self.ledger.settled(place, Weight::of(found), entry)
    }

    /// The name that a damaged file gets.
    fn damaged_name(&mut self, place: &Place) -> OsString {
        // Of a directory that cannot be read whole, the names that can be read: no others are copied from it.
        let list = |directory: &Path| {
            let entries = std::fs::read_dir(self.root.join(directory));
            entries.map(|entries| names_in(entries).0).unwrap_or_default()
        };
        self.damaged_names.name(place, &mut self.names, list)
    }

    pub(super) fn attributes(&mut self, source: &Path, found: &Metadata, target: &Path) {
        attributes::transfer(source, found, target).count(&mut self.ledger.done.counts);
    }
}

/// Whether a file that was read is not whole, or cannot be taken for whole.
pub(in crate::extract) fn is_damaged(known: &Entry, content: &Content) -> bool {
    !content.lost.is_empty() || known.why.is_some()
}

/// The name that a file which was written gets: another one where parts of it are lost.
pub(in crate::extract) struct Named {
    /// Where it goes.
    pub(in crate::extract) target: PathBuf,
    state: State,
    written_as: Option<String>,
}

impl Named {
    /// `damaged` is the name of a file that is not whole.
    pub(in crate::extract) fn of(place: &Place, damaged: Option<OsString>) -> Self {
        let (state, target) = match damaged {
            None => (State::Copied, place.target.clone()),
            Some(name) => (State::Damaged, place.target.with_file_name(name)),
        };
        let written_as = target.file_name().filter(|name| Some(*name) != place.path.file_name());
        let written_as = written_as.map(|name| name.to_string_lossy().into_owned());
        Self { target, state, written_as }
    }

    /// The entry for it, from what was known before it was read.
    pub(in crate::extract) fn entry(self, known: &Entry, content: &Content) -> Entry {
        let Self { state, written_as, .. } = self;
        Entry { state, sha256: Some(hex(&content.sha256)), written_as, lost: content.lost.clone(), ..known.clone() }
    }
}
