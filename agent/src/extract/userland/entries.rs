//! Whatever a directory holds: directories, files, further names of files, symbolic links.

use super::{Work, attributes, list, path_of};
use crate::ext4::Found;
use crate::extract::copy::{MAX_LINKS, Named, Place, Stop, Weight, already, fits, is_damaged, judge};
use crate::extract::file::Nowhere;
use crate::extract::manifest::{Entry, State};
use ext4_view::{DirEntry, Metadata};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Name of a file while it is written.
pub(super) const PART: &str = ".tierlift-part";
/// Bytes of the longest place a link leads to.
const MAX_LINK: u64 = 4096;

/// What both readers know of something; the second one only where it surely means the same inode.
type Seen<'a> = (&'a Metadata, Option<&'a Found>);

impl Work<'_> {
    pub(super) fn entry(
        &mut self,
        path: &mut Vec<u8>,
        entry: &DirEntry,
        number: Option<u32>,
        depth: usize,
    ) -> anyhow::Result<()> {
        let place = self.place(path_of(path));
        let found = match entry.metadata() {
            Ok(found) => found,
            Err(error) => return self.ledger.lost(&place.path, "unknown", &error.to_string()),
        };
        if self.is_part(&place.target) {
            let why = "files are written under this name before they get their own";
            return self.ledger.failed(&place.path, "unknown", why);
        }
        let inode = self.inodes.as_ref().zip(number).and_then(|(inodes, number)| inodes.find(number, entry, &found));
        let seen = (&found, inode.as_ref());
        if found.is_dir() {
            if self.ledger.directory(&place)? {
                self.directory(path, number, depth.saturating_add(1))?;
                self.attributes(seen, &place.target);
            }
            return Ok(());
        }
        let doubt = self.job.doubt(number.map(u64::from));
        if found.is_symlink() {
            if let Some(why) = doubt {
                return self.ledger.lost(&place.path, "symlink", why);
            }
            return self.symlink(&place, entry, seen);
        }
        if !found.file_type().is_regular_file() {
            return self.ledger.skipped(&place.path, "a pipe, socket or device: nothing in it to copy");
        }
        // Only files with more names than this one are looked for, or remembered.
        let several = self.inodes.as_ref().zip(seen.1).is_some_and(|(inodes, inode)| inodes.can_link(inode));
        self.shared(&place, entry, seen, (number.filter(|_| several), doubt))
    }

    /// On a target of Windows, this name in other letters is this name.
    fn is_part(&self, target: &Path) -> bool {
        let name = target.file_name().unwrap_or_default();
        name == PART || (self.kind.is_of_windows() && name.eq_ignore_ascii_case(PART))
    }

    /// A file; `number` is that of its inode when it has several names. All but the first become links. `doubt` tells why it is
    /// not taken for whole.
    fn shared(
        &mut self,
        place: &Place,
        entry: &DirEntry,
        seen: Seen<'_>,
        (number, doubt): (Option<u32>, Option<&str>),
    ) -> anyhow::Result<()> {
        let (size, mtime, why) = (seen.0.len(), seen.0.modified().seconds(), doubt.map(str::to_owned));
        let known = |kind| Entry { size, mtime, why: why.clone(), ..place.entry(kind, State::Copied) };
        let weight = Weight { size: seen.0.len(), number: number.map(|number| (0, number.into())) };
        if let Some(first) = number.and_then(|number| self.links.get(&number)) {
            if self.ledger.links_again(self.kind, first, place, weight, known("hardlink"))? {
                return Ok(());
            }
        }
        let copied = match self.file(place, entry, seen, known("file")) {
            Ok(copied) => copied,
            Err(stop) => return self.ledger.file_stopped(&place.path, weight, stop),
        };
        let whole = copied.state != State::Damaged;
        if let Some(number) = number.filter(|_| whole && self.links.len() < MAX_LINKS) {
            self.links.insert(number, place.target.clone());
        }
        self.ledger.settled(place, weight, &copied)
    }

    fn symlink(&mut self, place: &Place, entry: &DirEntry, seen: Seen<'_>) -> anyhow::Result<()> {
        // The reader would make room for as much as the inode says, before it reads any of it.
        let leads_to = (seen.0.len() <= MAX_LINK).then(|| self.system.read_link(&entry.path()).ok()).flatten();
        let Some(leads_to) = leads_to.filter(|leads_to| !self.mark.is(leads_to.as_ref())) else {
            return self.ledger.lost(&place.path, "symlink", "where it leads cannot be read");
        };
        let leads_to = Path::new(OsStr::from_bytes(leads_to.as_ref()));
        if self.ledger.symlink(self.kind, place, leads_to)? {
            self.attributes(seen, &place.target);
        }
        Ok(())
    }

    /// Copies a file, or finds it on the target; `known` is its entry as far as it is known before. Answers that for the manifest.
    fn file(&mut self, place: &Place, entry: &DirEntry, seen: Seen<'_>, known: Entry) -> Result<Entry, Stop> {
        let size = known.size;
        fits(self.kind, size)?;
        let open = || self.system.open(&entry.path());
        let mut input = open().map_err(|error| Stop::File(State::Damaged, error.to_string()))?;
        // Nothing on the target is the same as a file of which nobody knows what it was.
        let is_sure = known.why.is_none();
        let content = || self.read(entry, &mut open().ok()?, size, &mut Nowhere).ok();
        let same = is_sure.then(|| already(self.job, &self.ledger.manifest, place, &known, content)).transpose()?;
        if let Some(sha256) = same.flatten() {
            return Ok(Entry { state: State::Identical, sha256: Some(sha256), ..known });
        }
        let part = place.target.with_file_name(PART);
        let written = self.write(entry, &mut input, size, &part);
        let named = written.and_then(|written| {
            self.attributes(seen, &part);
            let damaged = is_damaged(&known, &written.content).then(|| self.damaged_name(place));
            let named = Named::of(place, damaged);
            std::fs::rename(&part, &named.target).map_err(|error| judge(error, "it cannot be given its name"))?;
            Ok(named.entry(&known, &written.content))
        });
        named.inspect_err(|_| {
            let _ = std::fs::remove_file(&part);
        })
    }

    /// The name that a damaged file gets.
    fn damaged_name(&mut self, place: &Place) -> OsString {
        let list = |directory: &Path| list(&self.system, directory.as_os_str().as_bytes()).names();
        self.damaged_names.name(place, &mut self.names, list)
    }

    /// Without an inode, what it may have had of extended attributes and other names counts as lost.
    fn attributes(&mut self, (found, inode): Seen<'_>, target: &Path) {
        let extended = self.inodes.as_ref().zip(inode).map(|(inodes, inode)| inodes.inodes.attributes(inode));
        attributes::give(found, extended.as_ref(), target).count(&mut self.ledger.done.counts);
    }
}
