//! A disk that lost its partition table: its partitions are found again ("docs/disk-layout, section 1.6").
//!
//! QNAP's partitions follow each other, and each ends with an md superblock that knows how far from its start it lies. So the
//! last one leads to the one before it, down to the first. Where that fails, the data partition's usual start is tried.

use super::{read, table::partition};
use crate::inventory::Partition;
use tierlift_ondisk::lvm_label::{LABEL_BYTES, Label};
use tierlift_ondisk::md::{MAGIC, SUPERBLOCK_BYTES, Superblock};
use tierlift_ondisk::units::{Bytes, SECTOR_BYTES, Sectors};
use tierlift_ondisk::view::ReadAt;

/// The last partition ends so near the end of the disk.
const TAIL: u64 = 4 << 20;
/// Between one partition and the next lies no more than this, the superblock included.
const GAP: u64 = 64 << 10;
/// QNAP's disks have four or five.
const MAX_PARTITIONS: usize = 5;
/// Where the data partition begins: under a GPT, and under an MBR.
const DATA_STARTS: [u64; 2] = [2_120_584, 2_120_580];
/// Sectors from a superblock 1.0 to the end of its partition, or a few more.
const BEHIND_SUPERBLOCK: u64 = 16;

/// The partitions, in order; none when nothing tells of any.
pub(super) fn find(disk: &dyn ReadAt) -> Vec<Partition> {
    // A volume on the whole disk needs no table.
    if has_label(disk, 0) {
        return Vec::new();
    }
    let by_superblocks = chain(disk);
    if by_superblocks.is_empty() { by_usual_start(disk) } else { by_superblocks }
}

fn chain(disk: &dyn ReadAt) -> Vec<Partition> {
    let mut places = Vec::new();
    let (mut end, mut reach) = (disk.size(), TAIL);
    while places.len() < MAX_PARTITIONS {
        let Some((start, length)) = last_member(disk, end, reach).filter(|(start, _)| start.0 > 0) else { break };
        let Some(start_bytes) = start.to_bytes() else { break };
        places.push((start, length));
        (end, reach) = (start_bytes, GAP);
    }
    places.reverse();
    (1..).zip(places).map(|(number, (start, length))| partition(number, start.0, length.0)).collect()
}

/// Start and length of the partition whose superblock is the last one in the `reach` bytes before `end`.
fn last_member(disk: &dyn ReadAt, end: Bytes, reach: u64) -> Option<(Sectors, Sectors)> {
    let from = end.0.checked_sub(reach.min(end.0))?.next_multiple_of(SECTOR_BYTES);
    let bytes = read(disk, from, usize::try_from(end.0.checked_sub(from)?).ok()?)?;
    for (index, sector) in (0u64..).zip(bytes.chunks_exact(512)).collect::<Vec<_>>().into_iter().rev() {
        if !sector.starts_with(&MAGIC.to_le_bytes()) {
            continue;
        }
        let place = Bytes(from).to_sectors().checked_add(Sectors(index))?;
        let block = read(disk, place.to_bytes()?.0, SUPERBLOCK_BYTES).and_then(|bytes| Superblock::decode(&bytes).ok());
        let Some(block) = block.filter(|block| block.checksum_ok && block.super_offset.0 >= BEHIND_SUPERBLOCK) else {
            continue;
        };
        if let Some(start) = place.0.checked_sub(block.super_offset.0) {
            return Some((Sectors(start), block.super_offset.checked_add(Sectors(BEHIND_SUPERBLOCK))?));
        }
    }
    None
}

/// The data partition by its usual start, when LVM's label is there. It is taken to reach to the end of the disk.
fn by_usual_start(disk: &dyn ReadAt) -> Vec<Partition> {
    let start = DATA_STARTS.into_iter().find(|start| has_label(disk, *start));
    let length = |start: u64| disk.size().to_sectors().0.saturating_sub(start);
    start.map(|start| partition(3, start, length(start))).into_iter().collect()
}

fn has_label(disk: &dyn ReadAt, start: u64) -> bool {
    let place = Sectors(start).checked_add(Sectors(1)).and_then(Sectors::to_bytes);
    let bytes = place.and_then(|place| read(disk, place.0, LABEL_BYTES));
    bytes.is_some_and(|bytes| Label::decode(&bytes).is_ok_and(|label| label.checksum_ok))
}
