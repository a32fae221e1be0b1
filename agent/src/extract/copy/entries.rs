//! Whatever is no directory: files, further names of files, symbolic links.

use super::{Copy, Job, Place, Stop, Weight};
use crate::extract::ahead;
use crate::extract::attributes::CLOCK_STEP;
use crate::extract::file::{self, Content, Nowhere};
use crate::extract::kind::Kind;
use crate::extract::manifest::{Entry, Manifest, State};
use crate::pace;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use tierlift_ondisk::field::hex;

/// No file of ext4 is larger than 16 TiB: more is damage, and would take for ever to read.
pub(super) const MAX_FILE: u64 = 16 << 40;

impl Copy<'_> {
    pub(super) fn entry(
        &mut self,
        place: Place,
        found: &Metadata,
        opened: Option<io::Result<File>>,
    ) -> anyhow::Result<()> {
        let kind = found.file_type();
        if kind.is_symlink() {
            return self.symlink(&place, found);
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return self.ledger.skipped(&place.path, "a pipe, socket or device: nothing in it to copy");
        }
        if self.links_again(&place, found)? {
            return Ok(());
        }
        match self.file(&place, found, opened) {
            Ok(Some(entry)) => self.settled(&place, found, &entry),
            // Its other names must find it.
            Ok(None) if found.nlink() > 1 || self.batch.is_full() => self.settle(),
            Ok(None) => Ok(()),
            Err(stop) => self.ledger.file_stopped(&place.path, Weight::of(found), stop),
        }
    }

    /// Another name of a file that was copied already becomes a link; `false` when it must be copied.
    fn links_again(&mut self, place: &Place, found: &Metadata) -> anyhow::Result<bool> {
        let Some(first) = self.links.get(&(found.dev(), found.ino())).filter(|_| found.nlink() > 1) else {
            return Ok(false);
        };
        let entry = Entry { size: found.len(), mtime: found.mtime(), ..place.entry("hardlink", State::Copied) };
        self.ledger.links_again(self.kind, first, place, Weight::of(found), entry)
    }

    fn symlink(&mut self, place: &Place, found: &Metadata) -> anyhow::Result<()> {
        if let Some(why) = self.job.doubt(Some(found.ino())) {
            return self.ledger.lost(&place.path, "symlink", why);
        }
        let leads_to = match std::fs::read_link(&place.source) {
            Ok(leads_to) => leads_to,
            Err(error) => return self.ledger.lost(&place.path, "symlink", &format!("cannot be read: {error}")),
        };
        if self.ledger.symlink(self.kind, place, &leads_to)? {
            self.attributes(&place.source, found, &place.target);
        }
        Ok(())
    }

    /// Writes a file into the batch, `None`; or tells that it is on the target already.
    fn file(
        &mut self,
        place: &Place,
        found: &Metadata,
        opened: Option<io::Result<File>>,
    ) -> Result<Option<Entry>, Stop> {
        let doubt = self.job.doubt(Some(found.ino()));
        let why = doubt.map(str::to_owned);
        let entry = Entry { size: found.len(), mtime: found.mtime(), why, ..place.entry("file", State::Copied) };
        fits(self.kind, found.len())?;
        let input = opened
            .unwrap_or_else(|| ahead::open(&place.source))
            .map_err(|error| Stop::File(State::Damaged, format!("cannot be opened: {error}")))?;
        let content = || file::read(&input, found.len(), &mut Nowhere).ok();
        // Nothing on the target is the same as a file of which nobody knows what it was.
        if doubt.is_some() {
            self.batch.write(&input, place, found, entry)?;
            return Ok(None);
        }
        if let Some(sha256) = already(self.job, &self.ledger.manifest, place, &entry, content)? {
            return Ok(Some(Entry { state: State::Identical, sha256: Some(sha256), ..entry }));
        }
        self.batch.write(&input, place, found, entry)?;
        Ok(None)
    }
}

/// Whether a file of so many bytes can be, and the target holds it.
pub(in crate::extract) fn fits(kind: Kind, size: u64) -> Result<(), Stop> {
    if size > MAX_FILE {
        return Err(Stop::File(State::Damaged, format!("its size ({size} bytes) is impossible")));
    }
    match kind.refusal(size) {
        Some(why) => Err(Stop::File(State::Failed, why.to_owned())),
        None => Ok(()),
    }
}

/// The hash, when the target holds this very file, of which `entry` tells size and time. A different file of the same name is an
/// error without force. `content` reads the source, where nothing else tells.
pub(in crate::extract) fn already(
    job: &Job,
    manifest: &Manifest,
    place: &Place,
    entry: &Entry,
    content: impl FnOnce() -> Option<Content>,
) -> Result<Option<String>, Stop> {
    let Ok(there) = std::fs::symlink_metadata(&place.target) else { return Ok(None) };
    let same_time = there.mtime().abs_diff(entry.mtime) <= CLOCK_STEP;
    if there.is_file() && there.len() == entry.size {
        let known = manifest.known(&place.path);
        let known = known.filter(|known| known.size == entry.size && known.mtime == entry.mtime);
        if let Some(known) = known.filter(|_| same_time) {
            pace::count(entry.size.saturating_mul(2));
            return Ok(Some(known.sha256.clone()));
        }
        if let Some(sha256) = equal(content, &place.target, entry.size) {
            return Ok(Some(sha256));
        }
    }
    if job.force && !there.is_dir() {
        return Ok(None);
    }
    let why = "a different file of this name is on the target; it was left alone (--force replaces it)";
    Err(Stop::File(State::Failed, why.to_owned()))
}

/// Whether this is a file below `root` that no link leads to, and every byte of it can be read.
pub fn is_whole(root: &Path, path: &Path) -> bool {
    let whole = |path: &Path| -> io::Result<bool> {
        let file = ahead::open(path)?;
        let found = file.metadata()?;
        Ok(found.is_file() && found.len() <= MAX_FILE && file::read(&file, found.len(), &mut Nowhere)?.lost.is_empty())
    };
    without_links(root, path).is_some_and(|path| whole(&path).unwrap_or(false))
}

/// `root/path`, where every part of the way is a directory and no link: a link may lead out of the root, to a file of this very
/// machine. Opening a file without following links looks at the last part of its path only.
fn without_links(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut way = root.to_owned();
    for part in path.components() {
        let Component::Normal(name) = part else { return None };
        if !std::fs::symlink_metadata(&way).is_ok_and(|found| found.is_dir()) {
            return None;
        }
        way.push(name);
    }
    (way != root).then_some(way)
}

/// The hash when both files hold the same.
fn equal(content: impl FnOnce() -> Option<Content>, target: &Path, size: u64) -> Option<String> {
    let there = ahead::open(target).ok()?;
    let there = file::read(&there, size, &mut Nowhere).ok().filter(|content| content.lost.is_empty())?;
    let here = content()?;
    here.is_same_as(&there).then(|| hex(&here.sha256))
}
