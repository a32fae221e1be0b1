//! Copies files out of an ext2, ext3 or ext4 file system without the kernel: for block sizes it does not mount, and for file
//! systems too damaged to be mounted. Owners, modes and times are kept; extended attributes and hard links are not (each name
//! of a file becomes a file of its own).

use super::copy::{Done, Job, MAX_LOSSES};
use super::file::{self, LostRange, Nowhere, Sink, Sparse, hex};
use super::manifest::{Entry, Manifest, State};
use crate::block::{FileView, View};
use crate::commands::Failure;
use crate::unfinished::Unfinished;
use anyhow::{Context, ensure};
use ext4_view::{DirEntry, Ext4, Ext4Read, Metadata};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Directories in each other; more is a loop.
const MAX_DEPTH: usize = 200;
/// Things looked at in all; more is a loop, too.
const MAX_THINGS: u64 = 50_000_000;
/// Bytes read at a time.
const STEP: usize = 1 << 20;
/// Name of a file while it is written.
const PART: &str = ".tierlift-part";
/// Places and bits of the superblock that are hidden from the reader.
const INCOMPATIBLE_AT: u64 = 1024 + 0x60;
const NEEDS_RECOVERY: u8 = 4;
const READ_ONLY_COMPATIBLE_AT: u64 = 1024 + 0x65;
const CHECKSUMS: u8 = 4;
/// Longest link target.
const MAX_LINK: usize = 4096;

/// Bytes that stand for what cannot be read, at each multiple of their length on the volume.
///
/// The reader of the file system reads ahead and keeps what it read, so an error would cost sound neighbours too, and zeros
/// would pass for data later on. These bytes are recognised in the data of a file (they are drawn anew in each run), and are
/// unsound as anything else: no kind of inode (each multiple of 128 begins with a mode that is none), no directory entry (its
/// length is 0), no node of extents (no magic), no block numbers (each is beyond the end of any file system below 16 TiB).
#[derive(Debug, Clone)]
struct Mark(Rc<[u8; MARK]>);

const MARK: usize = 1024;
const INODE: usize = 128;
/// Pieces shorter than this may look like a mark by chance.
const SHORT: usize = 64;
/// Every block number in a mark is this or more.
const MOST_BLOCKS: u64 = 0xffff_0000;
/// Volumes whose blocks would have such numbers have blocks of at least this size.
const SMALLEST_LARGE: u64 = 4096;

impl Mark {
    fn new() -> Self {
        let mut bytes = [0; MARK];
        for (number, word) in bytes.chunks_exact_mut(4).enumerate() {
            let [one, two, ..] = RandomState::new().hash_one(number).to_le_bytes();
            let low = match number.checked_rem(INODE / 4) {
                // A kind of file that there is not, and not the number by which nodes of extents are known.
                Some(0) => [one, 0xf4 | two],
                // The length of a directory entry.
                Some(1) => [0, 0],
                _ => [one, two],
            };
            word.copy_from_slice(&[low[0], low[1], 0xff, 0xff]);
        }
        Self(Rc::new(bytes))
    }

    /// One that differs from this in its very first byte.
    fn another(&self) -> Self {
        let mut other = *self.0;
        if let Some(first) = other.first_mut() {
            *first = !*first;
        }
        Self(Rc::new(other))
    }

    /// Fills what lies at `start` on the volume.
    fn fill(&self, start: u64, into: &mut [u8]) {
        let first = usize::try_from(start.checked_rem(MARK as u64).unwrap_or(0)).unwrap_or(0);
        let marks = self.0.iter().cycle().skip(first);
        into.iter_mut().zip(marks).for_each(|(to, from)| *to = *from);
    }

    /// Whether a piece of a file, which begins at a multiple of the mark's length, was never read.
    fn is(&self, piece: &[u8]) -> bool {
        !piece.is_empty() && self.0.starts_with(piece)
    }
}

/// Reads for the file system's reader.
struct Reader {
    view: View,
    mark: Mark,
    hide_journal: bool,
    hide_checksums: bool,
}

impl Reader {
    /// Reads what can be read, in pieces; the rest is marked.
    fn piecewise(&self, start: u64, into: &mut [u8]) {
        let mut at = start;
        let mut rest = into;
        while !rest.is_empty() {
            let inside = usize::try_from(at.checked_rem(MARK as u64).unwrap_or(0)).unwrap_or(0);
            let length = MARK.saturating_sub(inside).min(rest.len());
            let (piece, behind) = rest.split_at_mut(length);
            if self.view.read_at(Bytes(at), piece).is_err() {
                self.mark.fill(at, piece);
            }
            at = at.saturating_add(length as u64);
            rest = behind;
        }
    }
}

impl Ext4Read for Reader {
    fn read(&mut self, start: u64, into: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.view.read_at(Bytes(start), into).is_err() {
            self.piecewise(start, into);
        }
        let mut hide = |place: u64, bit: u8| {
            let at = place.checked_sub(start).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| into.get_mut(at)) {
                *byte &= !bit;
            }
        };
        if self.hide_journal {
            hide(INCOMPATIBLE_AT, NEEDS_RECOVERY);
        }
        if self.hide_checksums {
            hide(READ_ONLY_COMPATIBLE_AT, CHECKSUMS);
        }
        Ok(())
    }
}

/// Copies everything that can be reached, telling progress on `tell`. `job.source` is the device or image.
///
/// # Errors
/// When no file system can be opened, or the target fails or is full.
pub fn copy(job: &Job, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Done> {
    let view: View = Arc::new(FileView::open(&job.source)?);
    let mark = Mark::new();
    let system = open(&view, &mark).map_err(|why| {
        Failure::unusable(format!("{}: its files cannot be read without the kernel either: {why}", job.name))
    })?;
    std::fs::create_dir_all(&job.target).with_context(|| format!("{} cannot be made", job.target.display()))?;
    let manifest = Manifest::begin(&job.target, &job.name, job.force)?;
    let mut work = Work { system, view, mark, job, manifest, done: Done::default(), things: 0, tell };
    (work.tell)("read this way, extended attributes and ACLs are not kept, and hard links become files of their own");
    let result = work.directory(&mut Vec::new(), 0);
    let manifest = work.manifest.finish(&work.done.counts, result.is_ok());
    result?;
    work.done.manifest = manifest.context("the files are copied, but the manifest could not be written")?;
    Ok(work.done)
}

/// As it is; without its journal; without checksums, which QNAP's mark makes wrong.
fn open(view: &View, mark: &Mark) -> Result<Ext4, String> {
    let smallest_block = view.size().0.checked_div(MOST_BLOCKS).unwrap_or(0);
    if smallest_block >= SMALLEST_LARGE {
        return Err(
            "volumes of 16 TiB and more are not read this way; repair a copy with `tierlift fsck`, then mount it"
                .into(),
        );
    }
    let mut first = None;
    for (hide_journal, hide_checksums) in [(false, false), (true, false), (false, true), (true, true)] {
        let reader = Reader { view: view.clone(), mark: mark.clone(), hide_journal, hide_checksums };
        match Ext4::load(Box::new(reader)) {
            Ok(system) => return Ok(system),
            Err(error) => {
                first.get_or_insert(error.to_string());
            }
        }
    }
    Err(first.unwrap_or_default())
}

struct Work<'a> {
    system: Ext4,
    view: View,
    mark: Mark,
    job: &'a Job,
    manifest: Manifest,
    done: Done,
    things: u64,
    tell: &'a mut dyn FnMut(&str),
}

impl Work<'_> {
    /// `path` are the bytes below the root, without a slash at either end.
    fn directory(&mut self, path: &mut Vec<u8>, depth: usize) -> anyhow::Result<()> {
        let shown = path_of(path);
        if depth > MAX_DEPTH {
            return self.lost(&shown, "directory", "directories in each other without end");
        }
        let inside: Vec<u8> = [b"/", path.as_slice()].concat();
        let listed = ext4_view::Path::try_from(inside.as_slice()).map_err(|error| error.to_string());
        let listed = listed.and_then(|inside| self.system.read_dir(inside).map_err(|error| error.to_string()));
        let (entries, end) = match listed {
            Ok(entries) => read_all(entries),
            Err(why) => (Vec::new(), Some(why)),
        };
        if let Some(why) = end {
            self.lost(&shown, "directory", &format!("names in it may be missing: {why}"))?;
        }
        for entry in entries {
            let name = entry.file_name();
            let name: &[u8] = name.as_ref();
            if name == b"." || name == b".." {
                continue;
            }
            self.things = self.things.saturating_add(1);
            ensure!(self.things < MAX_THINGS, "more than {MAX_THINGS} files: the directories lead in circles");
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            let result = self.entry(path, &entry, depth);
            path.truncate(length);
            result?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &mut Vec<u8>, entry: &DirEntry, depth: usize) -> anyhow::Result<()> {
        let shown = path_of(path);
        let found = match entry.metadata() {
            Ok(found) => found,
            Err(error) => return self.lost(&shown, "unknown", &error.to_string()),
        };
        let target = self.job.target.join(&shown);
        if found.is_dir() {
            let made = std::fs::create_dir(&target);
            if made.is_err() && !target.is_dir() {
                return self.not_copied(&shown, "directory", "its directory could not be made on the target");
            }
            self.done.counts.directories = self.done.counts.directories.saturating_add(1);
            self.manifest.add(&Entry::new(&shown, "directory", State::Copied))?;
            self.directory(path, depth.saturating_add(1))?;
            self.attributes(&found, &target);
            return Ok(());
        }
        if found.is_symlink() {
            return self.link(&shown, entry, &target);
        }
        if !found.file_type().is_regular_file() {
            self.done.counts.special = self.done.counts.special.saturating_add(1);
            return self.manifest.add(&Entry::new(&shown, "special", State::Skipped));
        }
        self.file(&shown, entry, &found, &target)
    }

    fn link(&mut self, shown: &Path, entry: &DirEntry, target: &Path) -> anyhow::Result<()> {
        let place = match self.system.read_link(&entry.path()) {
            Ok(place) if !self.mark.is(place.as_ref()) => place,
            _ => return self.lost(shown, "symlink", "where it leads cannot be read"),
        };
        let place: &[u8] = place.as_ref();
        let place = Path::new(OsStr::from_bytes(place.get(..MAX_LINK).unwrap_or(place)));
        if std::fs::read_link(target).is_ok_and(|there| there == place) {
            return self.manifest.add(&Entry::new(shown, "symlink", State::Identical));
        }
        if let Err(error) = std::os::unix::fs::symlink(place, target) {
            return self.not_copied(shown, "symlink", &format!("the link cannot be made: {error}"));
        }
        self.done.counts.symlinks = self.done.counts.symlinks.saturating_add(1);
        self.manifest.add(&Entry::new(shown, "symlink", State::Copied))
    }

    fn file(&mut self, shown: &Path, entry: &DirEntry, found: &Metadata, target: &Path) -> anyhow::Result<()> {
        let (size, mtime) = (found.len(), found.modified().seconds());
        let new = Entry { size, mtime, ..Entry::new(shown, "file", State::Copied) };
        let there = std::fs::symlink_metadata(target).ok().filter(|there| there.is_file() && there.len() == size);
        let known = self.manifest.known(shown).filter(|known| (known.size, known.mtime) == (size, mtime));
        if let (Some(_), Some(known)) = (there, known) {
            let entry = Entry { state: State::Identical, sha256: Some(known.sha256.clone()), ..new };
            self.done.counts.identical = self.done.counts.identical.saturating_add(1);
            self.done.counts.bytes = self.done.counts.bytes.saturating_add(size);
            return self.manifest.add(&entry);
        }
        if target.symlink_metadata().is_ok() && !self.job.force {
            return self.not_copied(shown, "file", "a different file of this name is on the target; it was left alone");
        }
        let mut input = match self.system.open(&entry.path()) {
            Ok(input) => input,
            Err(error) => return self.lost(shown, "file", &error.to_string()),
        };
        let part = target.with_file_name(PART);
        let (sha256, lost, _guard) = self.write(entry, &mut input, size, &part).inspect_err(|_| {
            let _ = std::fs::remove_file(&part);
        })?;
        self.attributes(found, &part);
        let mut name = target.as_os_str().to_owned();
        if !lost.is_empty() {
            name.push(".damaged");
        }
        let name = PathBuf::from(name);
        std::fs::rename(&part, &name).with_context(|| format!("{} cannot be given its name", name.display()))?;
        self.count(Entry { sha256: Some(sha256), lost, ..new }, &name)
    }

    /// The file as a part file, read back. Errors are those of the target.
    fn write(
        &mut self,
        entry: &DirEntry,
        input: &mut ext4_view::File,
        size: u64,
        part: &Path,
    ) -> anyhow::Result<(String, Vec<LostRange>, Unfinished)> {
        let failed = || format!("{} cannot be written: is the target full?", part.display());
        let make = || File::options().read(true).write(true).create(true).truncate(true).open(part);
        let (output, guard) = Unfinished::make(make, |_| part.to_owned()).with_context(failed)?;
        output.set_len(size).with_context(failed)?;
        let (mut hash, mut lost) = (Sha256::new(), Vec::<LostRange>::new());
        let mut buffer = vec![0; STEP];
        let mut at = 0_u64;
        while at < size {
            // Never more than to the end of a block; nothing behind an error is asked for.
            let read = input.read_bytes(&mut buffer).unwrap_or(0);
            let rest = size.saturating_sub(at);
            let length = if read == 0 { rest } else { (read as u64).min(rest) };
            if read == 0 {
                lose(&mut lost, at, length);
                zeros(&mut hash, length);
            }
            let mut piece_at = at;
            for piece in buffer.get(..read).unwrap_or_default().chunks(MARK) {
                if self.mark.is(piece) && !(piece.len() < SHORT && self.is_data(entry, piece_at, piece)) {
                    lose(&mut lost, piece_at, piece.len() as u64);
                    zeros(&mut hash, piece.len() as u64);
                } else {
                    hash.update(piece);
                    Sparse(&output).take(piece_at, piece).with_context(failed)?;
                }
                piece_at = piece_at.saturating_add(piece.len() as u64);
            }
            at = at.saturating_add(length);
        }
        output.sync_data().with_context(failed)?;
        let digest: [u8; 32] = hash.finalize().into();
        let back = file::read(&output, size, &mut Nowhere).with_context(failed)?;
        ensure!(
            back.sha256 == digest && back.lost.is_empty(),
            "the target disk gives back other bytes than were written to it: it is failing; use another disk"
        );
        Ok((hex(&digest), lost, guard))
    }

    /// Whether the end of a file that looks like the mark, but is too short to be sure, is data: then it looks the same when
    /// another mark is used.
    fn is_data(&self, entry: &DirEntry, place: u64, piece: &[u8]) -> bool {
        let Ok(system) = open(&self.view, &self.mark.another()) else { return false };
        let Ok(mut input) = system.open(&entry.path()) else { return false };
        let mut buffer = vec![0; STEP];
        loop {
            let at = input.position();
            match input.read_bytes(&mut buffer) {
                Ok(read) if read > 0 => {
                    let inside = place
                        .checked_sub(at)
                        .and_then(|inside| usize::try_from(inside).ok())
                        .filter(|inside| *inside < read);
                    if let Some(here) = inside.and_then(|inside| buffer.get(inside..read)) {
                        return here == piece;
                    }
                }
                _ => return false,
            }
        }
    }

    fn count(&mut self, mut entry: Entry, name: &Path) -> anyhow::Result<()> {
        let lost = entry.lost.iter().map(|range| range.length).fold(0, u64::saturating_add);
        let counts = &mut self.done.counts;
        counts.bytes = counts.bytes.saturating_add(entry.size);
        counts.lost_bytes = counts.lost_bytes.saturating_add(lost);
        if lost > 0 {
            counts.damaged = counts.damaged.saturating_add(1);
            entry.state = State::Damaged;
            entry.written_as = name.file_name().map(|name| name.to_string_lossy().into_owned());
            self.loss(format!("{}: {lost} of {} bytes cannot be read", entry.path, entry.size));
        } else {
            counts.copied = counts.copied.saturating_add(1);
            if counts.copied.checked_rem(1000) == Some(0) {
                (self.tell)(&format!("{} files ({})", counts.copied, Bytes(counts.bytes).human()));
            }
        }
        self.manifest.add(&entry)
    }

    fn attributes(&mut self, found: &Metadata, target: &Path) {
        let (owner, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        let at = nix::fcntl::AT_FDCWD;
        let owned = fchownat(at, target, Some(owner), Some(group), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
        let mode = Permissions::from_mode(u32::from(found.mode()) & 0o7777);
        let moded = std::fs::set_permissions(target, mode).is_ok();
        let time = |time: ext4_view::Timestamp| TimeSpec::new(time.seconds(), i64::from(time.nanoseconds()));
        let (accessed, modified) = (time(found.accessed()), time(found.modified()));
        let timed = utimensat(at, target, &accessed, &modified, UtimensatFlags::NoFollowSymlink).is_ok();
        let dropped = [owned, moded, timed].iter().filter(|done| !**done).count() as u64;
        let counter = &mut self.done.counts.attributes_dropped;
        *counter = counter.saturating_add(dropped);
    }

    fn lost(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.damaged = self.done.counts.damaged.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    fn not_copied(&mut self, path: &Path, kind: &str, why: &str) -> anyhow::Result<()> {
        self.done.counts.failed = self.done.counts.failed.saturating_add(1);
        self.loss(format!("{}: {why}", path.display()));
        self.manifest.add(&Entry { why: Some(why.to_owned()), ..Entry::new(path, kind, State::Failed) })
    }

    fn loss(&mut self, text: String) {
        if self.done.losses.len() < MAX_LOSSES {
            self.done.losses.push(text);
        }
    }
}

/// The entries of a directory, and the error that ended it.
fn read_all(entries: ext4_view::ReadDir) -> (Vec<DirEntry>, Option<String>) {
    let mut all = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => all.push(entry),
            // What a damaged directory tells behind its damage cannot be trusted.
            Err(error) => return (all, Some(error.to_string())),
        }
    }
    (all, None)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn lose(lost: &mut Vec<LostRange>, offset: u64, length: u64) {
    match lost.last_mut() {
        Some(last) if last.offset.saturating_add(last.length) == offset => {
            last.length = last.length.saturating_add(length);
        }
        _ => lost.push(LostRange { offset, length }),
    }
}

fn zeros(hash: &mut Sha256, length: u64) {
    let piece = [0; 4096];
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
        hash.update(piece.get(..now).unwrap_or_default());
        left = left.saturating_sub(now as u64);
    }
}

#[cfg(test)]
#[path = "userland_tests.rs"]
mod tests;
