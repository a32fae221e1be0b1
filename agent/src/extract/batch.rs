//! Files written and not yet read back.
//!
//! Putting each file on the disk by itself would cost more than writing it. So files are gathered under numbers in a folder of their
//! own, put on the disk together, read back, and only then given their names.

use super::copy::{Place, Stop, judge};
use super::file::{self, Content, Nowhere, Sparse};
use super::manifest::Entry;
use super::{ahead, attributes};
use crate::unfinished::Unfinished;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, PosixFadviseAdvice, posix_fadvise};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Folder on the target for files without their names.
const FOLDER: &str = ".tierlift-parts";
/// How a file is made there.
const MAKE: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);
/// What a power cut may cost.
const MOST_BYTES: u64 = 64 << 20;
const MOST_FILES: usize = 512;
/// Permissions of a file, without the bits that a change of owner takes away.
const PLAIN_MODE: u32 = 0o777;
/// What reading back needs.
const READABLE: u32 = 0o600;
/// Files up to this size are small: 1 MiB.
const SMALL: u64 = 1 << 20;

/// A file that was written.
pub(super) struct Written {
    /// Where it was read, and where it goes.
    pub place: Place,
    /// What is known of the source.
    pub found: Metadata,
    /// For the manifest.
    pub entry: Entry,
    /// What was read.
    pub content: Content,
    /// Where it lies.
    part: PathBuf,
    /// It may have extended attributes.
    pub is_extended: bool,
    /// Whoever stops the program leaves no part behind.
    _guard: Unfinished,
}

/// The files gathered so far.
pub(super) struct Batch {
    folder: PathBuf,
    files: Vec<Written>,
    bytes: u64,
    next: u64,
    /// Two copies into one folder would clear each other's parts away.
    lock: Flock<File>,
}

impl Batch {
    /// Makes the folder, or clears away what a copy that was killed left in it.
    pub(super) fn begin(target: &Path) -> io::Result<Self> {
        let folder = target.join(FOLDER);
        fs::create_dir_all(&folder)?;
        // A file system without modes has none of the files' either.
        let _ = fs::set_permissions(&folder, Permissions::from_mode(0o700));
        let lock =
            Flock::lock(File::open(&folder)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
                Errno::EWOULDBLOCK => {
                    io::Error::new(io::ErrorKind::ResourceBusy, "another copy is writing there; let it end first")
                }
                errno => errno.into(),
            })?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().bytes().all(|sign| sign.is_ascii_digit()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, files: Vec::new(), bytes: 0, next: 0, lock })
    }

    /// Takes the folder away, and what was never given a name with it.
    pub(super) fn end(&self) {
        self.files.iter().for_each(Written::forget);
        let _ = fs::remove_dir(&self.folder);
    }

    /// Reads a file and writes it under a number.
    pub(super) fn write(&mut self, input: &File, place: &Place, found: &Metadata, entry: Entry) -> Result<(), Stop> {
        let number = self.next.to_string();
        let part = self.folder.join(&number);
        self.next = self.next.saturating_add(1);
        // With its mode at once, where we can read it back with that: to change it costs more, and nobody else looks into the folder.
        let mode = Mode::from_raw_mode(found.mode() & PLAIN_MODE | READABLE);
        let make = || Ok(File::from(rustix::fs::openat(&*self.lock, &number, MAKE, mode)?));
        let (output, guard) = Unfinished::make(make, |_| part.clone())
            .map_err(|error| judge(error, "it cannot be made on the target"))?;
        let size = found.len();
        let long = || output.set_len(size).map_err(|error| judge(error, "the target does not take files of this size"));
        // Small files get their length by what is written, which costs less; large ones before, where it may be refused.
        let written = (size > SMALL)
            .then(long)
            .unwrap_or(Ok(()))
            .and_then(|()| {
                file::read(input, size, &mut Sparse(&output)).map_err(|error| judge(error, "it cannot be written"))
            })
            .and_then(|content| {
                let is_long = output.metadata().is_ok_and(|there| there.len() == size);
                if is_long { Ok(content) } else { long().map(|()| content) }
            });
        let content = written.inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })?;
        self.bytes = self.bytes.saturating_add(size);
        let (place, found) = (place.clone(), found.clone());
        let is_extended = attributes::may_be_extended(input);
        self.files.push(Written { place, found, entry, content, part, is_extended, _guard: guard });
        Ok(())
    }

    /// Gives a file its name.
    pub(super) fn name(&self, written: &Written, target: &Path) -> io::Result<()> {
        let number = written.part.file_name().unwrap_or_default();
        Ok(rustix::fs::renameat(&*self.lock, number, rustix::fs::CWD, target)?)
    }

    /// Enough was gathered.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES || self.files.len() >= MOST_FILES
    }

    /// Puts all on the disk and hands them out, to be read back.
    pub(super) fn take(&mut self) -> Result<Vec<Written>, Stop> {
        self.bytes = 0;
        let files = std::mem::take(&mut self.files);
        if files.is_empty() {
            return Ok(files);
        }
        let synced = File::open(&self.folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        synced.map_err(|error| {
            files.iter().for_each(Written::forget);
            // Whatever the error: nobody knows which of the files it concerns.
            match judge(error, "they cannot be put on the target") {
                Stop::File(_, why) => Stop::Target(anyhow::anyhow!(why)),
                stop => stop,
            }
        })?;
        Ok(files)
    }
}

impl Written {
    /// Opens what was written, and asks the disk for it.
    pub(super) fn opened(&self) -> io::Result<File> {
        File::open(&self.part).inspect(|output| {
            // So that reading back asks the disk and not the memory.
            let _ = posix_fadvise(output, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            ahead::ask(output, self.found.len());
        })
    }

    /// Compares what lies on the disk with what was read, and answers the file.
    pub(super) fn read_back(&self, opened: io::Result<File>) -> Result<File, Stop> {
        let read = |output: File| file::read(&output, self.found.len(), &mut Nowhere).map(|back| (output, back));
        let (output, back) = opened.and_then(read).map_err(|error| judge(error, "it cannot be read back"))?;
        if back.sha256 == self.content.sha256 && back.lost.is_empty() {
            return Ok(output);
        }
        let text = "the target disk gives back other bytes than were written to it: it is failing; use another disk";
        Err(Stop::Target(anyhow::anyhow!(text)))
    }

    /// Takes the part away.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(&self.part);
    }
}
