//! The content of one file: read with its marks, written with its holes, read back.

use super::Work;
use super::reader::{self, MARK, Mark};
use crate::extract::copy::{Stop, judge};
use crate::extract::file::{self, LostRange, Nowhere, Sink, Sparse, hex};
use crate::unfinished::Unfinished;
use ext4_view::DirEntry;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes read at a time.
const STEP: usize = 1 << 20;
/// Pieces shorter than this may look like a mark by chance.
const SHORT: usize = 64;
/// Unreadable ranges kept apart; beyond that the last one grows over everything behind it.
const MAX_LOST: usize = 10_000;

/// A file that was written and read back, still without its name.
pub(super) struct Written {
    /// SHA-256 of what is on the target.
    pub(super) sha256: String,
    /// What could not be read.
    pub(super) lost: Vec<LostRange>,
    /// Whoever stops the program leaves no part behind.
    pub(super) _guard: Unfinished,
}

impl Work<'_> {
    /// The file as a part file, read back. Errors are those of the target: they stop this file, or everything.
    pub(super) fn write(
        &mut self,
        entry: &DirEntry,
        input: &mut ext4_view::File,
        size: u64,
        part: &Path,
    ) -> Result<Written, Stop> {
        let failed = |error| judge(error, "it cannot be written");
        // What a killed run left, or a link, is never written into.
        let _ = std::fs::remove_file(part);
        let make = || File::options().read(true).write(true).create_new(true).open(part);
        let (file, guard) = Unfinished::make(make, |_| part.to_owned())
            .map_err(|error| judge(error, "it cannot be made on the target"))?;
        file.set_len(size).map_err(|error| judge(error, "the target does not take files of this size"))?;
        let mut output = Output { file: &file, hash: Sha256::new(), lost: Vec::new(), hashing: Duration::ZERO };
        let mut buffer = vec![0; STEP];
        let mut at = 0_u64;
        while at < size {
            // Never more than to the end of a block; nothing behind an error is asked for.
            let read = input.read_bytes(&mut buffer).unwrap_or(0);
            if read == 0 {
                output.lose(at, size.saturating_sub(at));
                break;
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            self.pieces(entry, at, bytes, &mut output).map_err(failed)?;
            at = at.saturating_add(read as u64);
        }
        let Output { hash, lost, hashing, .. } = output;
        file.sync_data().map_err(failed)?;
        let digest: [u8; 32] = hash.finalize().into();
        let start = Instant::now();
        // So that reading back asks the disk and not the memory.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let back = file::read(&file, size, &mut Nowhere).map_err(failed)?;
        let verifying = start.elapsed().saturating_add(hashing);
        self.done.verifying = self.done.verifying.saturating_add(verifying);
        if back.sha256 != digest || !back.lost.is_empty() {
            let text =
                "the target disk gives back other bytes than were written to it: it is failing; use another disk";
            return Err(Stop::Target(anyhow::anyhow!(text)));
        }
        Ok(Written { sha256: hex(&digest), lost, _guard: guard })
    }

    /// Takes what was read at `at`, and tells the pieces of it that carry the mark.
    fn pieces(&self, entry: &DirEntry, at: u64, bytes: &[u8], output: &mut Output<'_>) -> io::Result<()> {
        let place = |inside: usize| at.saturating_add(inside as u64);
        let (mut sound, mut end) = (0_usize, 0_usize);
        for piece in bytes.chunks(MARK) {
            let next = end.saturating_add(piece.len());
            if self.mark.is(piece) && !(piece.len() < SHORT && self.is_data(entry, place(end), piece)) {
                output.data(place(sound), bytes.get(sound..end).unwrap_or_default())?;
                output.lose(place(end), piece.len() as u64);
                sound = next;
            }
            end = next;
        }
        output.data(place(sound), bytes.get(sound..end).unwrap_or_default())
    }

    /// Whether the end of a file that looks like the mark, but is too short to be sure, is data: then it looks the same when
    /// another mark is used.
    fn is_data(&self, entry: &DirEntry, place: u64, piece: &[u8]) -> bool {
        let another: Mark = self.mark.another();
        let Ok(system) = reader::open(self.view, &another) else { return false };
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
}

/// What was taken of a file so far.
struct Output<'a> {
    file: &'a File,
    hash: Sha256,
    lost: Vec<LostRange>,
    hashing: Duration,
}

impl Output<'_> {
    fn data(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let start = Instant::now();
        self.hash.update(bytes);
        self.hashing = self.hashing.saturating_add(start.elapsed());
        Sparse(self.file).take(at, bytes)
    }

    /// A range that cannot be read: zeros on the target, and told.
    fn lose(&mut self, offset: u64, length: u64) {
        let full = self.lost.len() >= MAX_LOST;
        match self.lost.last_mut() {
            Some(last) if full || last.offset.saturating_add(last.length) == offset => {
                last.length = offset.saturating_add(length).saturating_sub(last.offset);
            }
            _ => self.lost.push(LostRange { offset, length }),
        }
        let piece = [0; 4096];
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
            self.hash.update(piece.get(..now).unwrap_or_default());
            left = left.saturating_sub(now as u64);
        }
    }
}
