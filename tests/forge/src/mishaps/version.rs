//! Members under superblocks of other versions.

use super::image::copy_range;
use super::{array_of, member, open};
use crate::Forged;
use anyhow::Context;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::md::{Legacy, Superblock, place_0_90};
use tierlift_ondisk::md_legacy::LegacyDisk;
use tierlift_ondisk::units::Sectors;

const SECTOR: u64 = 512;
/// First sector of data under superblocks 1.1 and 1.2.
const DATA_OFFSET: u64 = 2048;
/// State of a member in a superblock 0.90: active and in sync.
const IN_SYNC: u32 = 6;

/// Puts superblocks of version 0.90 in place of those of a whole array: legacy firmware.
///
/// # Errors
/// When a disk cannot be read or written.
pub fn rewrite_0_90(forged: &Forged, disk: usize) -> anyhow::Result<()> {
    let array = array_of(forged, disk)?;
    for member in &array.disks {
        let block = member::superblock(forged, *member)?;
        let place = place_0_90(Sectors(array.partition.1)).context("partition too small for md")?;
        member::wipe_superblock(forged, *member)?;
        let at = (array.partition.0 + place.0) * SECTOR;
        open(forged, *member)?.write_all_at(&legacy(&block).encode(), at)?;
    }
    Ok(())
}

fn legacy(block: &Superblock) -> Legacy {
    let disk = |number: u32| LegacyDisk { number, major: 8, minor: 3, raid_disk: number, state: IN_SYNC };
    Legacy {
        version: 90,
        array_uuid: block.array_uuid,
        created: block.created as u32,
        level: block.level,
        size: (block.size.0 / 2) as u32,
        nr_disks: block.raid_disks,
        raid_disks: block.raid_disks,
        updated: block.updated as u32,
        state: 1,
        events: block.events,
        layout: block.layout as u32,
        chunk: block.chunk * 512,
        disks: (0..block.raid_disks).map(disk).collect(),
        this_disk: disk(block.device_number),
        ..Legacy::default()
    }
}

/// Writes a disk's data member to `path` as an image of a partition whose superblock lies in front of the data: at sector 0
/// (version 1.1) or 8 (version 1.2).
///
/// # Errors
/// When the disk cannot be read, or the image not be written.
pub fn with_superblock_in_front(forged: &Forged, disk: usize, sector: u64, path: &Path) -> anyhow::Result<PathBuf> {
    let start = array_of(forged, disk)?.partition.0;
    let block = member::superblock(forged, disk)?;
    let file = File::create(path)?;
    file.set_len((DATA_OFFSET + block.data_size.0) * SECTOR)?;
    copy_range(&open(forged, disk)?, start * SECTOR, block.data_size.0 * SECTOR, &file, DATA_OFFSET * SECTOR)?;
    let (super_offset, data_offset) = (Sectors(sector), Sectors(DATA_OFFSET));
    let moved = Superblock { super_offset, data_offset, bad_blocks_offset: 0, bad_blocks_size: 0, ..block };
    file.write_all_at(&moved.encode(), sector * SECTOR)?;
    Ok(path.to_owned())
}
