//! Mishaps of whole disks and of the images made of them.

use super::{array_of, open};
use crate::Forged;
use anyhow::Context;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::{gpt, mbr};

const SECTOR: u64 = 512;
/// Copied at once; pieces of zeros are left as holes.
const PIECE: u64 = 1 << 20;

/// Copies `length` bytes between files, leaving out what is all zeros.
pub(super) fn copy_range(from: &File, at: u64, length: u64, to: &File, target: u64) -> anyhow::Result<()> {
    let mut done = 0;
    while done < length {
        let mut piece = vec![0; PIECE.min(length - done) as usize];
        from.read_exact_at(&mut piece, at + done)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(&piece, target + done)?;
        }
        done += piece.len() as u64;
    }
    Ok(())
}

/// Copies a file to `to`, sparse.
///
/// # Errors
/// When it cannot be read, or the copy not be written.
pub fn clone_disk(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let source = File::open(from).with_context(|| from.display().to_string())?;
    let (length, copy) = (source.metadata()?.len(), File::create(to)?);
    copy.set_len(length)?;
    copy_range(&source, 0, length, &copy, 0)?;
    Ok(to.to_owned())
}

/// Writes the data partition (the third) of a disk to `to`, without the disk around it.
///
/// # Errors
/// When the disk cannot be read, or the image not be written.
pub fn partition_alone(forged: &Forged, disk: usize, to: &Path) -> anyhow::Result<PathBuf> {
    let (start, length) = array_of(forged, disk)?.partition;
    let file = File::create(to)?;
    file.set_len(length * SECTOR)?;
    copy_range(&open(forged, disk)?, start * SECTOR, length * SECTOR, &file, 0)?;
    Ok(to.to_owned())
}

fn length(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}

fn to_change(path: &Path) -> anyhow::Result<File> {
    File::options().write(true).open(path).with_context(|| path.display().to_string())
}

/// Keeps the first `bytes` of an image.
///
/// # Errors
/// When it cannot be changed.
pub fn cut_at(path: &Path, bytes: u64) -> anyhow::Result<()> {
    Ok(to_change(path)?.set_len(bytes)?)
}

/// Cuts off the last `bytes` of an image.
///
/// # Errors
/// When it cannot be changed.
pub fn cut_short(path: &Path, bytes: u64) -> anyhow::Result<()> {
    cut_at(path, length(path)?.saturating_sub(bytes))
}

/// Adds zeros behind the end of an image.
///
/// # Errors
/// When it cannot be changed.
pub fn add_padding(path: &Path, bytes: u64) -> anyhow::Result<()> {
    cut_at(path, length(path)? + bytes)
}

/// Fills a stretch with zeros.
///
/// # Errors
/// When the file cannot be written.
pub fn wipe(path: &Path, at: u64, bytes: u64) -> anyhow::Result<()> {
    put(path, at, &vec![0; bytes as usize])
}

/// Writes bytes at a place.
///
/// # Errors
/// When the file cannot be written.
pub fn put(path: &Path, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
    Ok(to_change(path)?.write_all_at(bytes, at)?)
}

/// Writes bytes so many sectors before the end.
///
/// # Errors
/// When the file cannot be written.
pub fn put_from_end(path: &Path, sectors: u64, bytes: &[u8]) -> anyhow::Result<()> {
    put(path, (length(path)? / SECTOR).saturating_sub(sectors) * SECTOR, bytes)
}

/// Wipes sector 0 and the partition table behind it.
///
/// # Errors
/// When the file cannot be written.
pub fn wipe_primary_gpt(path: &Path) -> anyhow::Result<()> {
    wipe(path, 0, 34 * SECTOR)
}

/// Wipes the copy of the partition table at the end.
///
/// # Errors
/// When the file cannot be written.
pub fn wipe_backup_gpt(path: &Path) -> anyhow::Result<()> {
    put_from_end(path, 33, &[0; 33 * SECTOR as usize])
}

/// Wipes sector 0 and both copies of the partition table.
///
/// # Errors
/// When the file cannot be written.
pub fn wipe_both_gpts(path: &Path) -> anyhow::Result<()> {
    wipe_primary_gpt(path)?;
    wipe_backup_gpt(path)
}

/// Gives a disk the table of older firmware: an MBR with the first four partitions, all of type 0x83.
///
/// # Errors
/// When the disk has no GPT, or cannot be written.
pub fn as_mbr(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path)?;
    let mut header = vec![0; SECTOR as usize];
    file.read_exact_at(&mut header, SECTOR)?;
    let header = gpt::Header::decode(&header)?;
    let mut array = vec![0; header.entries_bytes()];
    file.read_exact_at(&mut array, header.entries_lba * SECTOR)?;
    let entries = header.decode_entries(&array)?;
    let entries: Vec<mbr::Entry> = entries
        .iter()
        .filter(|entry| entry.number <= 4)
        .map(|entry| mbr::Entry {
            number: entry.number,
            kind: 0x83,
            start: entry.first as u32,
            length: (entry.last - entry.first + 1) as u32,
        })
        .collect();
    wipe_both_gpts(path)?;
    put(path, 0, &mbr::encode(&entries))
}
