//! What was gathered gets its attributes and its names, once it was read back.

use super::{Copy, MAX_LINKS, Place, Stop, Weight, judge};
use crate::extract::attributes;
use crate::extract::batch::Written;
use crate::extract::file::Content;
use crate::extract::manifest::{Entry, State};
use crate::extract::walk::names_in;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tierlift_ondisk::field::hex;

/// Files read back together; each is open meanwhile.
const GROUP: usize = 32;

impl Copy<'_> {
    /// Reads back what was gathered and gives it its names; then directories that were left in the meantime get their times.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let files = match self.batch.take() {
            Ok(files) => files,
            Err(stop) => return self.ledger.stopped(Path::new("the files last written"), "file", stop),
        };
        let mut files = files.into_iter();
        while !files.as_slice().is_empty() {
            let group = self.read_back(files.by_ref().take(GROUP).collect());
            if let Err(error) = self.name_all(group) {
                files.for_each(|rest| rest.forget());
                return Err(error);
            }
        }
        for (place, found) in std::mem::take(&mut self.left) {
            self.attributes(&place.source, &found, &place.target);
        }
        log::debug!("a batch was settled in {} ms", start.elapsed().as_millis());
        Ok(())
    }

    /// Reads files back, all of them asked for before the first is waited for.
    fn read_back(&mut self, group: Vec<Written>) -> Vec<(Written, Result<File, Stop>)> {
        let start = Instant::now();
        let opened: Vec<io::Result<File>> = group.iter().map(Written::opened).collect();
        let read: Vec<_> = group.iter().zip(opened).map(|(written, opened)| written.read_back(opened)).collect();
        let hashing: Duration = group.iter().map(|written| written.content.hashing).sum();
        let verifying = start.elapsed().saturating_add(hashing);
        self.ledger.done.verifying = self.ledger.done.verifying.saturating_add(verifying);
        group.into_iter().zip(read).collect()
    }

    /// Gives the names to those that are right.
    fn name_all(&mut self, group: Vec<(Written, Result<File, Stop>)>) -> anyhow::Result<()> {
        let mut waiting = group.into_iter();
        while let Some((written, back)) = waiting.next() {
            let Err(stop) = back.and_then(|output| self.name(&written, output)) else { continue };
            written.forget();
            if let Err(error) = self.ledger.stopped(&written.place.path, "file", stop) {
                waiting.for_each(|(rest, _)| rest.forget());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives a file its attributes and its name.
    fn name(&mut self, written: &Written, output: File) -> Result<(), Stop> {
        let place = &written.place;
        let dropped = attributes::transfer_open(&place.source, &written.found, written.is_extended, &output);
        dropped.count(&mut self.ledger.done.counts);
        // A share may refuse another name to a file that is open.
        drop(output);
        let is_damaged = is_damaged(&written.entry, &written.content);
        let damaged = is_damaged.then(|| self.damaged_name(place));
        let named = Named::of(place, damaged);
        self.batch.name(written, &named.target).map_err(|error| judge(error, "it cannot be given its name"))?;
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
