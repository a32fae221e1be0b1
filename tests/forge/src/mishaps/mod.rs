//! What happens to the disks of a NAS: members that fall out, counters that freeze, images cut short, tables wiped.
//!
//! Each function changes the disk files of a [`Forged`] set as the event would have, by the specification's picture of it.

mod grow;
mod image;
mod member;
mod version;

pub use grow::grow;
pub use image::{
    add_padding, as_mbr, clone_disk, cut_at, cut_short, partition_alone, put, put_from_end, wipe, wipe_backup_gpt,
    wipe_both_gpts, wipe_primary_gpt,
};
pub use member::{
    Departure, bad_blocks, break_checksum, change_superblock, feature_word, leave, make_older, part, rebuilding,
    rescue, reshape, set_time, superblock, wipe_superblock,
};
pub use version::{rewrite_0_90, with_superblock_in_front};

use crate::{Forged, ForgedArray};
use anyhow::Context;
use std::fs::File;

/// The data array a disk belongs to.
fn array_of(forged: &Forged, disk: usize) -> anyhow::Result<&ForgedArray> {
    forged.arrays.iter().find(|array| array.disks.contains(&disk)).with_context(|| format!("there is no disk {disk}"))
}

/// A disk's file, to be changed.
fn open(forged: &Forged, disk: usize) -> anyhow::Result<File> {
    let path = forged.disks.get(disk).with_context(|| format!("there is no disk {disk}"))?;
    File::options().read(true).write(true).open(path).with_context(|| path.display().to_string())
}
