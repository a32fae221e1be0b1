//! The content of one file: read with its marks, written with its holes, read back.

use super::Work;
use super::reader::{self, MARK, Mark};
use crate::extract::copy::{Stop, judge};
use crate::extract::file::{self, Content, LostRange, Nowhere, Sink, Sparse};
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

/// A file that was written and read back, still without its name.
pub(super) struct Written {
    /// What was read.
    pub(super) content: Content,
    /// Whoever stops the program leaves no part behind.
    _guard: Unfinished,
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
        let content = self.read(entry, input, size, &mut Sparse(&file)).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        let start = Instant::now();
        // So that reading back asks the disk and not the memory.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let back = file::read(&file, size, &mut Nowhere).map_err(failed)?;
        let verifying = start.elapsed().saturating_add(content.hashing);
        self.ledger.done.verifying = self.ledger.done.verifying.saturating_add(verifying);
        if back.sha256 != content.sha256 || !back.lost.is_empty() {
            let text =
                "the target disk gives back other bytes than were written to it: it is failing; use another disk";
            return Err(Stop::Target(anyhow::anyhow!(text)));
        }
        Ok(Written { content, _guard: guard })
    }

    /// Reads a file into a sink. Errors are only those of the sink: what cannot be read is told in the answer.
    pub(super) fn read(
        &self,
        entry: &DirEntry,
        input: &mut ext4_view::File,
        size: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<Content> {
        let mut output = Output { sink, hash: Sha256::new(), lost: Vec::new(), hashing: Duration::ZERO };
        let mut buffer = vec![0; STEP];
        let mut at = 0_u64;
        while at < size {
            let read = fill(input, &mut buffer);
            self.pieces(entry, at, buffer.get(..read).unwrap_or_default(), &mut output)?;
            at = at.saturating_add(read as u64);
            // Nothing behind an error is asked for.
            if read < buffer.len() {
                output.lose(at, size.saturating_sub(at));
                break;
            }
        }
        let Output { hash, lost, hashing, .. } = output;
        Ok(Content { sha256: hash.finalize().into(), lost, hashing })
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

/// Reads until the buffer is full, the file ends or an error comes: each reading ends with a block, and to take blocks one by one
/// costs more than what is in them. Holes are not asked for on the volume.
fn fill(input: &mut ext4_view::File, buffer: &mut [u8]) -> usize {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read_bytes(rest) {
            Ok(read) if read > 0 => filled = filled.saturating_add(read),
            _ => break,
        }
    }
    filled
}

/// What was taken of a file so far.
struct Output<'a> {
    sink: &'a mut dyn Sink,
    hash: Sha256,
    lost: Vec<LostRange>,
    hashing: Duration,
}

impl Output<'_> {
    fn data(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let start = Instant::now();
        self.hash.update(bytes);
        self.hashing = self.hashing.saturating_add(start.elapsed());
        self.sink.take(at, bytes)
    }

    /// A range that cannot be read: zeros on the target, and told.
    fn lose(&mut self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        file::lose(&mut self.lost, offset, length);
        let piece = [0; 4096];
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(piece.len()).min(piece.len());
            self.hash.update(piece.get(..now).unwrap_or_default());
            left = left.saturating_sub(now as u64);
        }
    }
}
