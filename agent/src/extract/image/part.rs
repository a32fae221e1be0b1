//! An image that is being copied: in segments, each noted when it is on the disk, so that a copy that was cut goes on there.

use super::progress::{Head, Progress, Segment};
use super::{Refused, same};
use crate::extract::file::{self, Content, Nowhere, Sink, Sparse};
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rustix::fs::FallocateFlags;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tierlift_ondisk::field::hex;
use tierlift_ondisk::units::Bytes;

/// What is added to the name of the image.
const PART: &str = ".tierlift-part";
/// What is added to that for the file of lines.
const PROGRESS: &str = ".progress";
/// Bytes written at a time to make zeros.
const ZEROS: usize = 1 << 20;

/// The part file of an image, and how far it is. It stays when the program is stopped: the next run goes on with it.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    progress: Progress,
    size: u64,
    segment: u64,
    /// Nothing was ever written to it but what this run wrote.
    fresh: bool,
}

impl Part {
    /// Opens the part of `target`, or begins a new one. What an earlier run wrote of another volume is thrown away.
    pub(super) fn open(target: &Path, volume: &str, size: u64, segment: u64) -> anyhow::Result<Self> {
        let path = path_of(target);
        let cannot = || format!("{} cannot be written", path.display());
        let head = Head::new(volume, size, segment);
        let progress = Progress::open(&progress_of(target), head).with_context(cannot)?;
        let progress =
            progress.ok_or_else(|| Refused(format!("{} is being copied by another run", target.display())))?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(&path).with_context(cannot)?;
        let mut part = Self { path, file, progress, size, segment, fresh: false };
        if part.progress.segments.is_empty() {
            part.restart()?;
        } else {
            part.failed(part.file.set_len(size))?;
        }
        Ok(part)
    }

    fn failed<T>(&self, result: io::Result<T>) -> anyhow::Result<T> {
        result.with_context(|| format!("{} cannot be written: is the target full?", self.path.display()))
    }

    /// Begins anew.
    fn restart(&mut self) -> anyhow::Result<()> {
        self.fresh = true;
        let begun = self.progress.restart().and_then(|()| self.file.set_len(0)).and_then(|()| {
            // Where files have no holes this takes the room for all of it.
            self.file.set_len(self.size)
        });
        self.failed(begun)
    }

    fn range(&self, offset: u64) -> Range<u64> {
        offset..offset.saturating_add(self.segment).min(self.size)
    }

    /// Keeps those segments of an earlier run that are on the disk as they were read; the source is not read for it but in a few
    /// small places. Where it holds other bytes there, nothing is kept.
    pub(super) fn keep(&mut self, source: &File) -> anyhow::Result<Bytes> {
        let segments = &mut self.progress.segments;
        let step = segments.len().div_ceil(same::PLACES).max(1);
        let mut places = segments.values().step_by(step).filter(|found| !same::is_in(&found.lost, found.offset));
        if places.any(|found| same::differs(source, &self.file, found.offset, self.size)) {
            self.restart()?;
            return Ok(Bytes(0));
        }
        // What was lost may be there now: another disk was attached.
        segments.retain(|_, found| !found.lost.first().is_some_and(|lost| same::is_back(source, lost)));
        forget_cached(&self.file);
        let mut kept = 0_u64;
        for offset in self.progress.segments.keys().copied().collect::<Vec<_>>() {
            let range = self.range(offset);
            let back = self.failed(file::read_part(&self.file, range.clone(), None, &mut Nowhere))?;
            let same = |found: &Segment| back.lost.is_empty() && hex(&back.sha256) == found.sha256;
            if self.progress.segments.get(&offset).is_some_and(same) {
                kept = kept.saturating_add(range.end.saturating_sub(range.start));
            } else {
                self.progress.segments.remove(&offset);
            }
        }
        Ok(Bytes(kept))
    }

    /// Copies what is not there.
    pub(super) fn fill(&mut self, source: &File) -> anyhow::Result<()> {
        let mut offset = 0;
        while offset < self.size {
            if !self.progress.segments.contains_key(&offset) {
                self.copy_segment(source, offset)?;
            }
            offset = self.range(offset).end;
        }
        Ok(())
    }

    /// Copies one segment and notes it.
    pub(super) fn copy_segment(&mut self, source: &File, offset: u64) -> anyhow::Result<()> {
        let range = self.range(offset);
        let copied = || -> io::Result<Segment> {
            if !self.fresh {
                clear(&self.file, range.clone())?;
            }
            let mut output = Output { sparse: Sparse(&self.file), wrote: false };
            let content = file::read_part(source, range, None, &mut output)?;
            if output.wrote {
                self.file.sync_data()?;
            }
            Ok(Segment { offset, sha256: hex(&content.sha256), lost: content.lost })
        };
        let noted = copied().and_then(|segment| self.progress.add(segment));
        self.failed(noted)
    }

    /// Reads everything back from the disk and compares each segment with what was read from the source.
    pub(super) fn read_back(&self) -> anyhow::Result<Content> {
        self.failed(self.file.sync_all())?;
        forget_cached(&self.file);
        let (mut all, mut lost, mut offset) = (Sha256::new(), Vec::new(), 0);
        while offset < self.size {
            let range = self.range(offset);
            let end = range.end;
            let back = self.failed(file::read_part(&self.file, range, Some(&mut all), &mut Nowhere))?;
            let written = self.progress.segments.get(&offset);
            let written = written.filter(|written| written.sha256 == hex(&back.sha256) && back.lost.is_empty());
            let Some(written) = written else {
                anyhow::bail!(
                    "{}: the target does not give back what was written to it: its disk is failing; use another one",
                    self.path.display()
                );
            };
            written.lost.iter().for_each(|range| file::lose(&mut lost, range.offset, range.length));
            offset = end;
        }
        Ok(Content { sha256: all.finalize().into(), lost, hashing: Duration::ZERO })
    }

    /// Gives the image its name. The lines are not needed any more.
    pub(super) fn finish(self, target: &Path, path: &Path) -> anyhow::Result<()> {
        self.failed(std::fs::rename(&self.path, path))?;
        let folder = File::open(crate::unfinished::folder_of(path));
        // Not every target can do this; the lines go last all the same.
        let _ = folder.and_then(|folder| folder.sync_all());
        let _ = std::fs::remove_file(progress_of(target));
        Ok(())
    }
}

/// Room that the part of an image takes already.
pub(super) fn allocated(target: &Path) -> Bytes {
    Bytes(std::fs::symlink_metadata(path_of(target)).map_or(0, |found| found.blocks().saturating_mul(512)))
}

/// Takes the lines away that a run left which was cut after the image had got its name.
pub(super) fn forget_lines(target: &Path) {
    if !path_of(target).exists() {
        let _ = std::fs::remove_file(progress_of(target));
    }
}

fn path_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(PART);
    name.into()
}

fn progress_of(target: &Path) -> PathBuf {
    let mut name = path_of(target).into_os_string();
    name.push(PROGRESS);
    name.into()
}

/// So that reading back asks the disk and not the memory.
fn forget_cached(file: &File) {
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Makes a range zeros: zeros and what is lost are not written, and a run that was cut may have written something else.
fn clear(file: &File, range: Range<u64>) -> io::Result<()> {
    let (data, _) = file::next_data(file, range.start, range.end);
    let length = range.end.saturating_sub(range.start);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if data >= range.end || rustix::fs::fallocate(file, hole, range.start, length).is_ok() {
        return Ok(());
    }
    zero(file, range)
}

/// The same where files have no holes.
fn zero(file: &File, range: Range<u64>) -> io::Result<()> {
    let (mut there, zeros) = (vec![0; ZEROS], vec![0; ZEROS]);
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end.saturating_sub(at)).unwrap_or(ZEROS).min(ZEROS);
        let (there, zeros) = (there.get_mut(..length).unwrap_or_default(), zeros.get(..length).unwrap_or_default());
        // Most of it was never written: to read it costs less than to write it.
        if file.read_exact_at(there, at).is_err() || there != zeros {
            file.write_all_at(zeros, at)?;
        }
        at = at.saturating_add(length as u64);
    }
    Ok(())
}

/// Writes sparsely, and tells whether anything was written.
struct Output<'a> {
    sparse: Sparse<'a>,
    wrote: bool,
}

impl Sink for Output<'_> {
    fn take(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.wrote = self.wrote || bytes.iter().any(|byte| *byte != 0);
        self.sparse.take(offset, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cleared_with_and_without_holes() {
        for clear in [clear, zero] {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&[7; 3 << 20], 0).unwrap();
            clear(&file, 5000..(2 << 20) + 9).unwrap();
            let mut bytes = vec![1; 3 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let right = |(at, byte): (usize, &u8)| *byte == if (5000..(2 << 20) + 9).contains(&at) { 0 } else { 7 };
            assert!(bytes.iter().enumerate().all(right));
        }
    }
}
