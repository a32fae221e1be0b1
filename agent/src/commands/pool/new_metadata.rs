//! Where repaired metadata go: a file that appears whole or not at all, or, when forced, a block device that cannot be taken
//! for metadata until everything is on it.

use super::output::Output;
use crate::block::Place;
use crate::commands::Failure;
use anyhow::{Context, bail};
use rustix::fs::{FallocateFlags, fallocate, major, minor};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much is written at once.
const PIECE: usize = 1 << 20;
/// What stands at the start of a device until it is whole: no superblock, and no zeros, which a kernel would format.
const UNFINISHED: &[u8] = b"tierlift: pool metadata being written here, not finished\n";
/// Longest superblock block.
const HEAD: usize = 8192;

/// Where new metadata go.
pub(super) enum Target {
    File(Output),
    Device(Device),
}

impl Target {
    /// Opens a file to be made, or with `force` a block device. A source is refused.
    pub(super) fn open(path: &Path, force: bool, sources: &[&Place]) -> anyhow::Result<Self> {
        let is_device = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
        if is_device {
            return Device::open(path, force, sources).map(Self::Device);
        }
        Output::create(path, force, sources).map(Self::File)
    }
}

/// A block device that may be overwritten.
pub(super) struct Device {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Device {
    fn open(path: &Path, force: bool, sources: &[&Place]) -> anyhow::Result<Self> {
        if !force {
            bail!("{} is a block device; --force overwrites ALL of it, a file name makes a new file", path.display());
        }
        refuse_same_disk(path, sources)?;
        // Exclusive: fails for a device that is mounted or part of something active.
        let flags = nix::fcntl::OFlag::O_EXCL.bits();
        let mut file = OpenOptions::new().write(true).custom_flags(flags).open(path).with_context(|| {
            format!("{} cannot be opened for writing; is it in use, or are you not root?", path.display())
        })?;
        let length = file.seek(SeekFrom::End(0)).with_context(|| format!("{}: its size", path.display()))?;
        Ok(Self { path: path.to_owned(), file, length })
    }

    /// Makes the device blank but for a mark at its start, so that nothing old on it can be taken for part of the new.
    pub(super) fn prepare(&mut self, needed: u64) -> anyhow::Result<&File> {
        let Self { path, file, length } = self;
        if *length < needed {
            bail!("{} has {length} bytes, but the new metadata need {needed}: nothing was written", path.display());
        }
        let failed = || format!("{} cannot be written", path.display());
        let mut head = UNFINISHED.to_vec();
        head.resize(HEAD.min(usize::try_from(*length).unwrap_or(HEAD)), 0);
        file.write_all_at(&head, 0).and_then(|()| file.sync_all()).with_context(failed)?;
        blank(file, HEAD as u64, *length).and_then(|()| file.sync_all()).with_context(failed)?;
        Ok(file)
    }
}

fn blank(file: &File, start: u64, end: u64) -> io::Result<()> {
    let Some(length) = end.checked_sub(start).filter(|length| *length > 0) else { return Ok(()) };
    if fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, start, length).is_ok() {
        return Ok(());
    }
    let zeros = vec![0; PIECE];
    (start..end).step_by(PIECE).try_for_each(|at| {
        let count = usize::try_from(end.saturating_sub(at)).unwrap_or(PIECE).min(PIECE);
        file.write_all_at(zeros.get(..count).unwrap_or_default(), at)
    })
}

/// A partition of a source's disk, or the disk a source is a partition of, is a source too.
fn refuse_same_disk(path: &Path, sources: &[&Place]) -> anyhow::Result<()> {
    let target = in_sysfs(path).with_context(|| format!("{}: which disk is it?", path.display()))?;
    for source in sources {
        let Ok(found) = in_sysfs(&source.path) else { continue };
        if found.starts_with(&target) || target.starts_with(&found) {
            let message = format!(
                "{} is the source {source} itself or lies on the same disk, which is never written; name another place",
                path.display()
            );
            return Err(Failure::usage(message).into());
        }
    }
    Ok(())
}

fn in_sysfs(path: &Path) -> io::Result<PathBuf> {
    let found = std::fs::metadata(path)?;
    if !found.file_type().is_block_device() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    std::fs::canonicalize(format!("/sys/dev/block/{}:{}", major(found.rdev()), minor(found.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file stands in for the device: what counts is that it is blank, and neither zeros nor a superblock at its start.
    #[test]
    fn a_device_is_blank_and_marked_before_anything_is_written() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![0xaa; 3 << 20], 0).unwrap();
        let mut device = Device { path: "device".into(), file, length: 3 << 20 };
        assert!(device.prepare((3 << 20) + 1).is_err());
        let mut found = vec![0; 3 << 20];
        device.prepare(2 << 20).unwrap().read_exact_at(&mut found, 0).unwrap();
        assert!(found.starts_with(UNFINISHED));
        assert!(found[UNFINISHED.len()..].iter().all(|byte| *byte == 0));
    }
}
