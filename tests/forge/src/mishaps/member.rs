//! Mishaps of md members.

use super::{array_of, open};
use crate::Forged;
use anyhow::Context;
use std::os::unix::fs::FileExt;
use tierlift_ondisk::md::{
    FEATURE_BAD_BLOCKS, FEATURE_RECOVERING, FEATURE_RESHAPE, Reshape, Role, SUPERBLOCK_BYTES, Superblock, place_1_0,
};
use tierlift_ondisk::units::Sectors;

const SECTOR: u64 = 512;
/// Data are changed in pieces of this size.
const PIECE: u64 = 8192;
/// A day, in which the rest of an array lived on without a member.
const DAY: u64 = 86_400;

/// Byte of the disk where the data member's superblock lies.
fn place(forged: &Forged, disk: usize) -> anyhow::Result<u64> {
    let (start, length) = array_of(forged, disk)?.partition;
    let sector = place_1_0(Sectors(length)).context("partition too small for md")?;
    Ok((start + sector.0) * SECTOR)
}

/// The superblock of a disk's data member.
///
/// # Errors
/// When the disk cannot be read or the superblock is gone.
pub fn superblock(forged: &Forged, disk: usize) -> anyhow::Result<Superblock> {
    let mut bytes = vec![0; SUPERBLOCK_BYTES];
    open(forged, disk)?.read_exact_at(&mut bytes, place(forged, disk)?)?;
    Ok(Superblock::decode(&bytes)?)
}

/// Changes the superblock of a disk's data member; its checksum is right again afterwards.
///
/// # Errors
/// As [`superblock`], and when the disk cannot be written.
pub fn change_superblock(forged: &Forged, disk: usize, change: impl FnOnce(&mut Superblock)) -> anyhow::Result<()> {
    let mut block = superblock(forged, disk)?;
    change(&mut block);
    Ok(open(forged, disk)?.write_all_at(&block.encode(), place(forged, disk)?)?)
}

/// Sets the time of the last update, in seconds after what the forge writes.
///
/// # Errors
/// As [`change_superblock`].
pub fn set_time(forged: &Forged, disk: usize, seconds: i64) -> anyhow::Result<()> {
    change_superblock(forged, disk, |block| block.updated = block.updated.saturating_add_signed(seconds))
}

/// What the others' superblocks say after a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// More events, a later time, and the role is faulty.
    Told,
    /// QNAP's frozen counter: the same number of events, but a later time, and the role is faulty.
    FrozenEvents,
    /// Nothing at all: superblocks that lie.
    Untold,
}

/// A member leaves its array, which lives on for a day: its data are older than those of the others.
///
/// # Errors
/// When a disk cannot be read or written.
pub fn leave(forged: &Forged, disk: usize, departure: Departure) -> anyhow::Result<()> {
    make_older(forged, disk)?;
    if departure == Departure::Untold {
        return Ok(());
    }
    let gone = superblock(forged, disk)?.device_number as usize;
    for other in array_of(forged, disk)?.disks.iter().filter(|other| **other != disk) {
        change_superblock(forged, *other, |block| {
            block.updated += DAY;
            block.events += if departure == Departure::Told { 200 } else { 0 };
            block.roles[gone] = Role::Faulty;
        })?;
    }
    Ok(())
}

/// Turns every third piece of a member's data into what it may have held before: what now lies elsewhere on it.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn make_older(forged: &Forged, disk: usize) -> anyhow::Result<()> {
    let (start, _) = array_of(forged, disk)?.partition;
    let end = superblock(forged, disk)?.size.0;
    let file = open(forged, disk)?;
    let mut before = vec![0xA5; PIECE as usize];
    let mut used = 0u64;
    let mut at = start * SECTOR;
    while at + PIECE <= (start + end) * SECTOR {
        let mut piece = vec![0; PIECE as usize];
        file.read_exact_at(&mut piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            used += 1;
            if used % 3 == 0 && piece != before {
                file.write_all_at(&before, at)?;
            }
            before = piece;
        }
        at += PIECE;
    }
    Ok(())
}

/// Two halves of a mirror run on without each other: each says the other is faulty, and their data differ.
///
/// # Errors
/// When a disk cannot be read or written.
pub fn part(forged: &Forged, first: usize, second: usize) -> anyhow::Result<()> {
    make_older(forged, first)?;
    let numbers = [superblock(forged, first)?.device_number, superblock(forged, second)?.device_number];
    for (disk, other, time, events) in [(first, numbers[1], DAY, 900), (second, numbers[0], 2 * DAY, 800)] {
        change_superblock(forged, disk, |block| {
            block.updated += time;
            block.events += events;
            block.roles[other as usize] = Role::Faulty;
        })?;
    }
    Ok(())
}

/// QNAP's rescue: the member failed when nothing could be spared, and was kept in use, read-only. All superblocks say so.
///
/// # Errors
/// When a disk cannot be read or written.
pub fn rescue(forged: &Forged, disk: usize) -> anyhow::Result<()> {
    let number = superblock(forged, disk)?.device_number as usize;
    for member in &array_of(forged, disk)?.disks {
        change_superblock(forged, *member, |block| {
            if let Role::Active(role) = block.roles[number] {
                block.roles[number] = Role::Rescue(role);
            }
        })?;
    }
    Ok(())
}

/// Sets QNAP's private word.
///
/// # Errors
/// As [`change_superblock`].
pub fn feature_word(forged: &Forged, disk: usize, word: u32) -> anyhow::Result<()> {
    change_superblock(forged, disk, |block| block.qnap_feature = word)
}

/// Writes entries (first sector, length) to a member's bad-block log.
///
/// # Errors
/// As [`change_superblock`].
pub fn bad_blocks(forged: &Forged, disk: usize, ranges: &[(u64, u64)]) -> anyhow::Result<()> {
    let entries: Vec<u8> = ranges.iter().flat_map(|(start, length)| (start << 10 | length).to_le_bytes()).collect();
    open(forged, disk)?.write_all_at(&entries, place(forged, disk)? - 8 * SECTOR)?;
    change_superblock(forged, disk, |block| block.features |= FEATURE_BAD_BLOCKS)
}

/// The member was being rebuilt and reached this sector: behind it are old data.
///
/// # Errors
/// As [`change_superblock`].
pub fn rebuilding(forged: &Forged, disk: usize, reached: u64) -> anyhow::Result<()> {
    let (start, _) = array_of(forged, disk)?.partition;
    let end = superblock(forged, disk)?.size.0;
    let file = open(forged, disk)?;
    let unwritten = vec![0xE1; PIECE as usize];
    for at in (start + reached..(start + end).saturating_sub(16)).step_by(16) {
        // Enough of it to be seen, without filling a sparse file.
        if at % 256 == 0 {
            file.write_all_at(&unwritten, at * SECTOR)?;
        }
    }
    change_superblock(forged, disk, |block| {
        block.features |= FEATURE_RECOVERING;
        block.recovery_offset = reached;
    })
}

/// A reshape to one more member is under way on the array of `disk`.
///
/// # Errors
/// As [`change_superblock`].
pub fn reshape(forged: &Forged, disk: usize) -> anyhow::Result<()> {
    for member in &array_of(forged, disk)?.disks {
        change_superblock(forged, *member, |block| {
            block.features |= FEATURE_RESHAPE;
            block.reshape_position = 65_536;
            block.reshape =
                Reshape { level: block.level, delta_disks: 1, layout: block.layout, chunk: block.chunk, offset: 0 };
        })?;
    }
    Ok(())
}

/// Flips a bit of the superblock's checksum.
///
/// # Errors
/// When the disk cannot be read or written.
pub fn break_checksum(forged: &Forged, disk: usize) -> anyhow::Result<()> {
    let (file, at) = (open(forged, disk)?, place(forged, disk)? + 216);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[byte[0] ^ 1], at)?)
}

/// Fills the superblock with zeros.
///
/// # Errors
/// When the disk cannot be written.
pub fn wipe_superblock(forged: &Forged, disk: usize) -> anyhow::Result<()> {
    Ok(open(forged, disk)?.write_all_at(&[0; SUPERBLOCK_BYTES], place(forged, disk)?)?)
}
