//! What was gathered gets its attributes and its names, once it was read back.

use super::{Copy, MAX_DAMAGED, MAX_LINKS, Place, Stop, judge};
use crate::extract::attributes;
use crate::extract::batch::Written;
use crate::extract::file::hex;
use crate::extract::manifest::{Entry, State};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

impl Copy<'_> {
    /// Reads back what was gathered and gives it its names; then directories that were left in the meantime get their times.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
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
                if let Err(error) = self.stopped(&written.place.path, "file", stop) {
                    waiting.for_each(|rest| rest.forget());
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
        let damaged = !written.content.lost.is_empty();
        let target = match damaged {
            true => place.target.with_file_name(self.damaged_name(place)),
            false => place.target.clone(),
        };
        std::fs::rename(&written.part, &target).map_err(|error| judge(error, "it cannot be given its name"))?;
        let sha256 = Some(hex(&written.content.sha256));
        let state = if damaged { State::Damaged } else { State::Copied };
        let written_as = target.file_name().filter(|name| Some(*name) != place.path.file_name());
        let written_as = written_as.map(|name| name.to_string_lossy().into_owned());
        let entry = Entry { state, sha256, written_as, lost: written.content.lost.clone(), ..written.entry.clone() };
        self.settled(place, &written.found, &entry).map_err(Stop::Target)
    }

    /// Notes what became of a file.
    pub(super) fn settled(&mut self, place: &Place, found: &Metadata, entry: &Entry) -> anyhow::Result<()> {
        if entry.state == State::Damaged {
            if self.done.damaged.len() < MAX_DAMAGED {
                self.done.damaged.push(place.path.clone());
            }
        } else if found.nlink() > 1 && self.links.len() < MAX_LINKS {
            self.links.insert((found.dev(), found.ino()), place.target.clone());
        }
        self.count(&place.path, found, entry);
        self.note(place, entry)
    }

    pub(super) fn attributes(&mut self, source: &Path, found: &Metadata, target: &Path) {
        attributes::transfer(source, found, target).count(&mut self.done.counts);
    }
}
