//! Disks as large as they are today, from small ones: only the holes grow.

use super::image::copy_range;
use super::member::superblock;
use super::open;
use crate::Forged;
use anyhow::{Context, ensure};
use std::os::unix::fs::FileExt;
use tierlift_ondisk::gpt;
use tierlift_ondisk::md::{Superblock, place_1_0};
use tierlift_ondisk::units::Sectors;

const SECTOR: u64 = 512;
/// Sectors at the end of a member that hold no data: superblock, bad-block log, bitmap.
const RESERVED: u64 = 280;

/// The forge's system partitions hold nothing but what lies at their ends.
const SYSTEM_TAIL: u64 = 1 << 20;

/// Gives the data partition of every disk of array `index` a length of `sectors`, as if the disks had always been so large. The
/// pool stays as it is; the array is longer than its physical volume then. Not for linear arrays.
///
/// # Errors
/// When a disk cannot be read or written.
pub fn grow(forged: &mut Forged, index: usize, sectors: u64) -> anyhow::Result<()> {
    let array = forged.arrays.get(index).context("no such array")?.clone();
    ensure!(sectors > array.partition.1, "an array can only grow");
    let longer = (sectors - array.partition.1).next_multiple_of(2048);
    let length = array.partition.1 + longer;
    for disk in &array.disks {
        let block = superblock(forged, *disk)?;
        ensure!(block.level >= 0, "the members of a linear array cannot grow");
        behind_the_data(forged, *disk, array.partition, longer)?;
        let chunk = u64::from(block.chunk.max(8));
        let data = (length - RESERVED) / chunk * chunk;
        let place = place_1_0(Sectors(length)).context("partition too small for md")?;
        let block = Superblock { size: Sectors(data), data_size: Sectors(data), super_offset: place, ..block };
        let file = open(forged, *disk)?;
        file.write_all_at(&[0xff; 4096], (array.partition.0 + place.0 - 8) * SECTOR)?;
        file.write_all_at(&block.encode(), (array.partition.0 + place.0) * SECTOR)?;
    }
    forged.arrays[index].partition.1 = length;
    Ok(())
}

/// Moves the partitions behind the data partition, and the end of the disk with the copy of the table.
fn behind_the_data(forged: &Forged, disk: usize, data: (u64, u64), longer: u64) -> anyhow::Result<()> {
    let file = open(forged, disk)?;
    let old_sectors = file.metadata()?.len() / SECTOR;
    let mut sector = vec![0; SECTOR as usize];
    file.read_exact_at(&mut sector, SECTOR)?;
    let header = gpt::Header::decode(&sector)?;
    let mut table = vec![0; header.entries_bytes()];
    file.read_exact_at(&mut table, header.entries_lba * SECTOR)?;
    let mut entries = header.decode_entries(&table)?;
    file.set_len((old_sectors + longer) * SECTOR)?;
    for entry in &mut entries {
        if entry.first > data.0 {
            let end = (entry.last + 1) * SECTOR - SYSTEM_TAIL;
            copy_range(&file, end, SYSTEM_TAIL, &file, end + longer * SECTOR)?;
            entry.first += longer;
        }
        if entry.last > data.0 {
            entry.last += longer;
        }
    }
    let array = gpt::encode_entries(&entries);
    let last = old_sectors + longer - 1;
    let primary = gpt::Header { other_lba: last, last_usable: last - 33, entries_crc: gpt::checksum(&array), ..header };
    let backup = gpt::Header { own_lba: last, other_lba: 1, entries_lba: last - 32, ..primary.clone() };
    for header in [primary, backup] {
        file.write_all_at(&header.encode(), header.own_lba * SECTOR)?;
        file.write_all_at(&array, header.entries_lba * SECTOR)?;
    }
    Ok(())
}
