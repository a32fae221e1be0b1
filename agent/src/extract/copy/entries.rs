//! Whatever is no directory: files, further names of files, symbolic links.

use super::{Copy, MAX_FILE, Place, Stop, judge};
use crate::extract::attributes::CLOCK_STEP;
use crate::extract::file::{self, Nowhere, hex};
use crate::extract::kind::Kind;
use crate::extract::manifest::{Entry, State};
use crate::pace;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

impl Copy<'_> {
    pub(super) fn entry(&mut self, place: Place, found: &Metadata) -> anyhow::Result<()> {
        let kind = found.file_type();
        if kind.is_symlink() {
            return self.symlink(&place, found);
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return self.skipped(&place.path, "a pipe, socket or device: nothing in it to copy");
        }
        if self.links_again(&place, found)? {
            return Ok(());
        }
        match self.file(&place, found) {
            Ok(Some(entry)) => self.settled(&place, found, &entry),
            // Its other names must find it.
            Ok(None) if found.nlink() > 1 || self.batch.is_full() => self.settle(),
            Ok(None) => Ok(()),
            Err(stop) => {
                if matches!(stop, Stop::File(State::Damaged, _)) {
                    self.count_lost(&place.path, found);
                }
                self.stopped(&place.path, "file", stop)
            }
        }
    }

    /// Another name of a file that was copied already becomes a link; `false` when it must be copied.
    fn links_again(&mut self, place: &Place, found: &Metadata) -> anyhow::Result<bool> {
        let Some(first) = self.links.get(&(found.dev(), found.ino())).filter(|_| found.nlink() > 1) else {
            return Ok(false);
        };
        let same = same_file(first, &place.target);
        let linked = match (same, self.kind.has_hard_links()) {
            (true, _) => Ok(()),
            (false, true) => std::fs::hard_link(first, &place.target),
            (false, false) => Err(ErrorKind::Unsupported.into()),
        };
        if let Err(error) = linked {
            // It gets a second copy. Where something of this name is there already, that is compared or told.
            let dropped = u64::from(error.kind() != ErrorKind::AlreadyExists);
            self.done.counts.hard_links_dropped = self.done.counts.hard_links_dropped.saturating_add(dropped);
            return Ok(false);
        }
        let state = if same { State::Identical } else { State::Copied };
        let entry = Entry { size: found.len(), mtime: found.mtime(), ..place.entry("hardlink", state) };
        self.count(&place.path, found, &entry);
        self.note(place, &entry)?;
        Ok(true)
    }

    fn symlink(&mut self, place: &Place, found: &Metadata) -> anyhow::Result<()> {
        let leads_to = match std::fs::read_link(&place.source) {
            Ok(leads_to) => leads_to,
            Err(error) => return self.lost(&place.path, "symlink", &format!("cannot be read: {error}")),
        };
        if !self.kind.has_symlinks() {
            return self.no_link(&place.path, &leads_to);
        }
        if std::fs::read_link(&place.target).is_ok_and(|there| there == leads_to) {
            return self.note(place, &place.entry("symlink", State::Identical));
        }
        match std::os::unix::fs::symlink(&leads_to, &place.target) {
            Ok(()) => {}
            Err(error) if self.kind == Kind::Share && is_refusal(&error) => {
                return self.no_link(&place.path, &leads_to);
            }
            Err(error) => return self.stopped(&place.path, "symlink", judge(error, "the link cannot be made")),
        }
        self.attributes(&place.source, found, &place.target);
        self.done.counts.symlinks = self.done.counts.symlinks.saturating_add(1);
        self.note(place, &place.entry("symlink", State::Copied))
    }

    /// Writes a file into the batch, `None`; or tells that it is on the target already.
    fn file(&mut self, place: &Place, found: &Metadata) -> Result<Option<Entry>, Stop> {
        let entry = Entry { size: found.len(), mtime: found.mtime(), ..place.entry("file", State::Copied) };
        if found.len() > MAX_FILE {
            return Err(Stop::File(State::Damaged, format!("its size ({} bytes) is impossible", found.len())));
        }
        if let Some(why) = self.kind.refusal(found.len()) {
            return Err(Stop::File(State::Failed, why.to_owned()));
        }
        let input = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&place.source);
        let input = input.map_err(|error| Stop::File(State::Damaged, format!("cannot be opened: {error}")))?;
        if let Some(sha256) = self.already(place, &input, found)? {
            return Ok(Some(Entry { state: State::Identical, sha256: Some(sha256), ..entry }));
        }
        self.batch.write(&input, place, found, entry)?;
        Ok(None)
    }

    /// The hash, when the target holds this very file. A different file of the same name is an error without force.
    fn already(&self, place: &Place, input: &File, found: &Metadata) -> Result<Option<String>, Stop> {
        let Ok(there) = std::fs::symlink_metadata(&place.target) else { return Ok(None) };
        let same_time = there.mtime().abs_diff(found.mtime()) <= CLOCK_STEP;
        if there.is_file() && there.len() == found.len() {
            let known = self
                .manifest
                .known(&place.path)
                .filter(|known| known.size == found.len() && known.mtime == found.mtime());
            if let Some(known) = known.filter(|_| same_time) {
                pace::count(found.len().saturating_mul(2));
                return Ok(Some(known.sha256.clone()));
            }
            if let Some(sha256) = equal(input, &place.target, found.len()) {
                return Ok(Some(sha256));
            }
        }
        if self.job.force && !there.is_dir() {
            return Ok(None);
        }
        let why = "a different file of this name is on the target; it was left alone (--force replaces it)";
        Err(Stop::File(State::Failed, why.to_owned()))
    }
}

/// What a server says that makes no symbolic links.
fn is_refusal(error: &io::Error) -> bool {
    let codes = [nix::libc::EPERM, nix::libc::EACCES, nix::libc::EOPNOTSUPP, nix::libc::ENOSYS];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether this is a file below `root` that no link leads to, and every byte of it can be read.
pub fn is_whole(root: &Path, path: &Path) -> bool {
    let whole = |path: &Path| -> io::Result<bool> {
        let file = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
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
fn equal(input: &File, target: &Path, size: u64) -> Option<String> {
    let there = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(target).ok()?;
    let there = file::read(&there, size, &mut Nowhere).ok().filter(|content| content.lost.is_empty())?;
    let here = file::read(input, size, &mut Nowhere).ok()?;
    here.is_same_as(&there).then(|| hex(&here.sha256))
}

pub(super) fn same_file(one: &Path, two: &Path) -> bool {
    let number = |path: &Path| std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    number(one).is_some_and(|found| number(two) == Some(found))
}
