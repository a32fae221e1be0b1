//! One file: read with holes and unreadable ranges, written sparsely, read back.

use crate::pace;
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Bytes read at a time; after an error a range is tried again in pieces of the second size, the smallest block of ext4 worth
/// the time.
const STEP: usize = 256 << 10;
const SMALL: usize = 4096;
static ZEROS: [u8; SMALL] = [0; SMALL];
/// Unreadable ranges kept apart; beyond that the last one grows over everything behind it.
const MAX_LOST: usize = 10_000;

/// A range of a file that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl LostRange {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// What reading a file gave.
#[derive(Debug, Clone)]
pub struct Content {
    /// SHA-256 of all bytes, unreadable ones counted as zeros.
    pub sha256: [u8; 32],
    /// What could not be read.
    pub lost: Vec<LostRange>,
    /// Time the SHA-256 took.
    pub hashing: Duration,
}

impl Content {
    /// The same bytes, and the same of them unreadable.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.lost == other.lost
    }
}

/// Takes what a file holds, in order. Holes and unreadable ranges are left out.
pub trait Sink {
    /// Takes bytes at `offset`.
    ///
    /// # Errors
    /// When they cannot be kept; the reading stops.
    fn take(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// Keeps nothing: for hashing alone.
pub struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to a file, leaving zeros out.
pub struct Sparse<'a>(pub &'a File);

/// Length of the first so many small pieces.
fn whole(bytes: &[u8], pieces: usize) -> usize {
    pieces.saturating_mul(SMALL).min(bytes.len())
}

impl Sink for Sparse<'_> {
    fn take(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Compared as a whole: byte by byte, holes would take longer here than their SHA-256 does.
        let is_empty = |piece: &&[u8]| ZEROS.starts_with(piece);
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let empty = whole(rest, rest.chunks(SMALL).take_while(is_empty).count());
            let (_, data) = rest.split_at(empty);
            let (full, after) =
                data.split_at(whole(data, data.chunks(SMALL).take_while(|piece| !is_empty(piece)).count()));
            at = at.saturating_add(empty as u64);
            // A whole stretch at once: a write costs more than what is in it.
            self.0.write_all_at(full, at)?;
            at = at.saturating_add(full.len() as u64);
            rest = after;
        }
        Ok(())
    }
}

/// Reads the first `size` bytes of a file into a sink. Errors are only those of the sink: what cannot be read is told in the
/// answer.
///
/// # Errors
/// When the sink fails.
pub fn read(file: &File, size: u64, sink: &mut dyn Sink) -> io::Result<Content> {
    read_part(file, 0..size, None, sink)
}

/// The same for a part of a file. `all` takes its bytes, too (zeros for unreadable ones), for the hash of parts one behind the
/// other.
///
/// # Errors
/// When the sink fails.
pub fn read_part(file: &File, part: Range<u64>, all: Option<&mut Sha256>, sink: &mut dyn Sink) -> io::Result<Content> {
    let (start, size) = (part.start, part.end);
    let step = usize::try_from(size.saturating_sub(start)).unwrap_or(STEP).clamp(SMALL, STEP);
    let mut reader =
        Reader { file, hash: Sha256::new(), all, lost: Vec::new(), hashing: Duration::ZERO, buffer: vec![0; step] };
    let there = length(file).min(size);
    let mut at = start;
    while at < there {
        let (data, end) = next_data(file, at, there);
        reader.zeros(data.saturating_sub(at));
        reader.data(data, end, sink)?;
        at = end;
    }
    // Missing at the end is lost; only what the file system calls a hole is zeros.
    let missing = size.saturating_sub(there.max(start));
    if missing > 0 {
        lose(&mut reader.lost, there.max(start), missing);
        reader.zeros(missing);
    }
    Ok(Content { sha256: reader.hash.finalize().into(), lost: reader.lost, hashing: reader.hashing })
}

/// The length of a file, or of a block device.
fn length(file: &File) -> u64 {
    match file.metadata() {
        Ok(found) if found.is_file() => found.len(),
        _ => lseek(file, 0, Whence::SeekEnd).ok().and_then(|end| u64::try_from(end).ok()).unwrap_or(0),
    }
}

/// The next stretch of data from `at` on and before `size`, as start and end. Where the file system cannot tell, everything is data.
pub fn next_data(file: &File, at: u64, size: u64) -> (u64, u64) {
    let seek = |from: u64, whence| i64::try_from(from).ok().map(|from| lseek(file, from, whence));
    let data = match seek(at, Whence::SeekData) {
        Some(Ok(data)) => u64::try_from(data).unwrap_or(at).clamp(at, size),
        Some(Err(nix::errno::Errno::ENXIO)) => return (size, size),
        _ => return (at, size),
    };
    let end = match seek(data, Whence::SeekHole) {
        Some(Ok(end)) => u64::try_from(end).unwrap_or(size).min(size),
        _ => size,
    };
    // Always forward, whatever the file system says.
    if end > data || data >= size { (data, end.max(data)) } else { (at, size) }
}

struct Reader<'a> {
    file: &'a File,
    hash: Sha256,
    all: Option<&'a mut Sha256>,
    lost: Vec<LostRange>,
    hashing: Duration,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    fn zeros(&mut self, length: u64) {
        let zeros = [0; SMALL];
        let mut left = length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(SMALL).min(SMALL);
            let piece = zeros.get(..part).unwrap_or_default();
            self.hash.update(piece);
            self.all.iter_mut().for_each(|all| all.update(piece));
            left = left.saturating_sub(part as u64);
        }
    }

    fn data(&mut self, start: u64, end: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let mut at = start;
        while at < end {
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(STEP).min(self.buffer.len());
            if !self.piece(at, length, sink)? {
                self.piecewise(at, length, sink)?;
            }
            at = at.saturating_add(length as u64);
        }
        Ok(())
    }

    /// A range that failed as a whole, in small pieces: what can be read of it is read.
    fn piecewise(&mut self, start: u64, length: usize, sink: &mut dyn Sink) -> io::Result<()> {
        let end = start.saturating_add(length as u64);
        let mut at = start;
        while at < end {
            let part = usize::try_from(end.saturating_sub(at)).unwrap_or(SMALL).min(SMALL);
            if !self.piece(at, part, sink)? {
                lose(&mut self.lost, at, part as u64);
                self.zeros(part as u64);
            }
            at = at.saturating_add(part as u64);
        }
        Ok(())
    }

    /// Reads one piece; `false` when it cannot be read.
    fn piece(&mut self, at: u64, length: usize, sink: &mut dyn Sink) -> io::Result<bool> {
        let Some(buffer) = self.buffer.get_mut(..length) else { return Ok(false) };
        if self.file.read_exact_at(buffer, at).is_err() {
            return Ok(false);
        }
        pace::count(length as u64);
        let start = Instant::now();
        self.hash.update(&*buffer);
        self.all.iter_mut().for_each(|all| all.update(&*buffer));
        self.hashing = self.hashing.saturating_add(start.elapsed());
        sink.take(at, buffer)?;
        Ok(true)
    }
}

/// Adds a range to what is lost: to the one before it where they touch, or where there are too many to be kept apart.
pub fn lose(lost: &mut Vec<LostRange>, offset: u64, length: u64) {
    let full = lost.len() >= MAX_LOST;
    match lost.last_mut() {
        Some(last) if full || last.end() == offset => {
            last.length = offset.saturating_add(length).saturating_sub(last.offset);
        }
        _ => lost.push(LostRange { offset, length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_ondisk::field::hex;

    fn file(size: u64, pieces: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in pieces {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    #[test]
    fn holes_are_kept_and_hashed() {
        let source = file((3 << 20) + 5, &[(1 << 20, b"data"), ((3 << 20) + 1, b"end")]);
        let copy = file((3 << 20) + 5, &[]);
        let content = read(&source, (3 << 20) + 5, &mut Sparse(&copy)).unwrap();
        let mut plain = vec![0; (3 << 20) + 5];
        source.read_exact_at(&mut plain, 0).unwrap();
        assert_eq!(content.sha256, <[u8; 32]>::from(Sha256::digest(&plain)));
        assert!(read(&copy, (3 << 20) + 5, &mut Nowhere).unwrap().is_same_as(&content));
        assert!(std::os::unix::fs::MetadataExt::blocks(&copy.metadata().unwrap()) < 100);
    }

    #[test]
    fn what_cannot_be_read_is_lost_and_the_rest_is_not() {
        // The file is shorter than its directory entry said.
        let source = file(10_000, &[(0, &[7; 10_000])]);
        let copy = file(20_000, &[]);
        let content = read(&source, 20_000, &mut Sparse(&copy)).unwrap();
        assert_eq!(content.lost, [LostRange { offset: 10_000, length: 10_000 }]);
        let mut start = vec![0; 10_000];
        copy.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(start, vec![7; 10_000]);
    }

    #[test]
    fn parts_are_read_as_the_whole_is() {
        let source = file(900_000, &[(0, &[7; 100_000]), (500_000, &[9; 300_000])]);
        let whole = read(&source, 1_000_000, &mut Nowhere).unwrap();
        let (mut all, mut lost) = (Sha256::new(), Vec::new());
        for start in (0..1_000_000).step_by(400_000) {
            let part = start..(start + 400_000).min(1_000_000);
            let content = read_part(&source, part.clone(), Some(&mut all), &mut Nowhere).unwrap();
            let mut plain = vec![0; (part.end - part.start) as usize];
            let there = (part.end.min(900_000) - part.start) as usize;
            source.read_exact_at(&mut plain[..there], part.start).unwrap();
            assert_eq!(content.sha256, <[u8; 32]>::from(Sha256::digest(&plain)));
            content.lost.iter().for_each(|range| lose(&mut lost, range.offset, range.length));
        }
        assert_eq!((<[u8; 32]>::from(all.finalize()), lost), (whole.sha256, whole.lost));
        let behind = read_part(&source, 950_000..960_000, None, &mut Nowhere).unwrap();
        assert_eq!(behind.lost, [LostRange { offset: 950_000, length: 10_000 }]);
    }

    #[test]
    fn an_empty_file_is_whole() {
        let content = read(&file(0, &[]), 0, &mut Nowhere).unwrap();
        assert_eq!(hex(&content.sha256), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
