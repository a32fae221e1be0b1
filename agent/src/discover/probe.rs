//! What a partition or a bare disk holds.

use super::{Search, arrays, physical, read};
use crate::block::View;
use crate::inventory::{Extents, PvPlace};
use tierlift_ondisk::drbd;
use tierlift_ondisk::md::{self, Legacy, SUPERBLOCK_BYTES, Superblock};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// How far before its place a superblock is looked for, when the image is longer than the partition was.
const SEARCH_BACK: u64 = 1 << 20;

/// Signatures that are told but not followed: byte offset, bytes, what they are.
const SIGNATURES: [(u64, &[u8], &str); 7] = [
    (0, b"LUKS\xba\xbe", "LUKS encrypted volume"),
    (1080, &[0x53, 0xef], "ext file system"),
    (4086, b"SWAPSPACE2", "swap"),
    (0, b"XFSB", "XFS file system"),
    (65600, b"_BHRfS_M", "Btrfs file system"),
    (3, b"NTFS    ", "NTFS file system"),
    (
        131_072,
        &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0],
        "ZFS: QuTS hero, not supported here; try an OpenZFS read-only import",
    ),
];

impl Search {
    /// Looks into a stretch of a disk, remembers members and physical volumes, and says what it is.
    pub(super) fn probe(&mut self, place: &Extents) -> String {
        let Some(view) = self.open(place) else {
            return "lies beyond the end of what is here".into();
        };
        if view.size().0 == 0 {
            return "empty: nothing to recover here; was the copy finished?".into();
        }
        if let Some(found) = find_member(&view, place) {
            let text = found.describe();
            self.members.push(found);
            return text;
        }
        if let Some(legacy) = find_legacy(&view, place.length) {
            return legacy;
        }
        let direct = || PvPlace::Direct(place.clone());
        let mut found = physical::find(&view, direct());
        if found.is_none() {
            if let Some(text) = signature(&view) {
                return text;
            }
            found = physical::find_damaged(&view, direct());
        }
        let Some(mut found) = found else { return "nothing known".into() };
        found.search_rings(&view, self.every_text);
        let text = found.describe();
        self.volumes.push(found);
        text
    }

    /// Looks into each data array that can be used: DRBD tail, physical volume, another array.
    pub(super) fn probe_arrays(&mut self) {
        for index in 0..self.inventory.arrays.len() {
            if self.inventory.arrays.get(index).is_none_or(|array| array.system) {
                continue;
            }
            let Some((place, view)) = self.open_array(index) else { continue };
            let mut found = self.best_physical_volume(index, &view);
            let nested = found.is_none() && find_member(&view, &place).is_some();
            let other = if found.is_none() && !nested { signature(&view) } else { None };
            if found.is_none() && !nested && other.is_none() {
                found = physical::find_damaged(&view, PvPlace::Array(index));
            }
            if let (Some(found), Some((_, view))) = (&mut found, self.open_array(index)) {
                found.search_rings(&view, self.every_text);
            }
            let Some(array) = self.inventory.arrays.get_mut(index) else { continue };
            array.carries.extend(drbd_note(&view, array.size));
            array.carries.push(match &found {
                Some(found) => found.describe(),
                None if nested => "another md array (nested RAID); assembling the second level comes later".into(),
                None => other.unwrap_or_else(|| "nothing known".into()),
            });
            self.volumes.extend(found);
        }
    }

    /// The data of an array through its usable member.
    fn open_array(&self, index: usize) -> Option<(Extents, View)> {
        let base = self.inventory.base_of(&PvPlace::Array(index))?;
        let start = base.partition.start.checked_add(base.offset)?;
        let place = Extents { disk: base.partition.disk, start, length: base.length };
        let view = self.open(&place)?;
        Some((place, view))
    }

    /// The physical volume of an array. Where its label or text is damaged on the member that would be read, another member
    /// that is just as current is read instead.
    fn best_physical_volume(&mut self, index: usize, view: &View) -> Option<physical::Found> {
        let mut best = physical::find(view, PvPlace::Array(index));
        let array = self.inventory.arrays.get(index)?;
        let first = array.usable_member;
        let members = array.members.iter().enumerate();
        let current: Vec<usize> = members.filter(|(_, member)| member.current).map(|(number, _)| number).collect();
        let mut chosen = first;
        for member in current {
            if soundness(&best) == physical::Found::SOUND {
                break;
            }
            self.choose(index, Some(member));
            let found = self.open_array(index).and_then(|(_, view)| physical::find(&view, PvPlace::Array(index)));
            if soundness(&found) > soundness(&best) {
                (best, chosen) = (found, Some(member));
            }
        }
        self.choose(index, chosen);
        if chosen != first {
            let note = "LVM's label or text is damaged on one half of this mirror; the other half is read instead";
            self.inventory.arrays.get_mut(index)?.notes.push(note.into());
        }
        best
    }

    fn choose(&mut self, index: usize, member: Option<usize>) {
        if let Some(array) = self.inventory.arrays.get_mut(index) {
            array.usable_member = member;
        }
    }
}

/// How much of a physical volume is sound; nothing when there is none.
fn soundness(found: &Option<physical::Found>) -> u8 {
    found.as_ref().map_or(0, physical::Found::soundness)
}

fn drbd_note(view: &dyn ReadAt, size: Sectors) -> Option<String> {
    let place = drbd::place(size)?.to_bytes()?;
    drbd::Tail::decode(&read(view, place.0, drbd::BLOCK_BYTES)?).ok()?;
    Some("a DRBD tail at its end (newer QTS); it does not move the data and is ignored".into())
}

/// A version 1 superblock of any place: 1.0 at the end, 1.1 at the start, 1.2 at byte 4096.
fn find_member(view: &dyn ReadAt, place: &Extents) -> Option<arrays::Found> {
    let at_end = md::place_1_0(place.length).map(|sector| (sector, "1.0"));
    let places = [at_end, Some((Sectors(0), "1.1")), Some((Sectors(8), "1.2"))];
    let found = places.into_iter().flatten().find_map(|(sector, version)| {
        let block = read_superblock(view, sector)?;
        Some(arrays::Found { place: place.clone(), version, block, shift: Sectors(0) })
    });
    found.or_else(|| find_before_the_end(view, place))
}

/// A 1.0 superblock that is not at its place because the image is longer than the partition was (padding, a grown disk). It
/// knows its own place, which proves where the member began and how long it was.
fn find_before_the_end(view: &dyn ReadAt, place: &Extents) -> Option<arrays::Found> {
    let back = SEARCH_BACK.min(view.size().0);
    let start = view.size().0.checked_sub(back)?.next_multiple_of(4096);
    let tail = read(view, start, usize::try_from(view.size().0.checked_sub(start)?).ok()?)?;
    for (index, bytes) in tail.chunks(512).enumerate().rev() {
        if !bytes.starts_with(&md::MAGIC.to_le_bytes()) {
            continue;
        }
        let sector = Bytes(start).to_sectors().checked_add(Sectors(index as u64))?;
        let block = read_superblock(view, sector).filter(|block| block.super_offset == sector && block.checksum_ok);
        if let Some(block) = block {
            let length = sector.checked_add(Sectors(16))?;
            let shift = Sectors(place.length.0.saturating_sub(length.0));
            let place = Extents { length, ..place.clone() };
            return Some(arrays::Found { place, version: "1.0", block, shift });
        }
    }
    None
}

fn read_superblock(view: &dyn ReadAt, sector: Sectors) -> Option<Superblock> {
    let offset = sector.to_bytes()?.0;
    // The last superblock of a cut image may be shorter than the usual 4096 bytes.
    let there = view.size().0.checked_sub(offset)?.min(SUPERBLOCK_BYTES as u64);
    let bytes = read(view, offset, usize::try_from(there).ok()?)?;
    Superblock::decode(&bytes).ok().filter(|block| block.super_offset == sector)
}

fn find_legacy(view: &dyn ReadAt, length: Sectors) -> Option<String> {
    let offset = md::place_0_90(length)?.to_bytes()?.0;
    let legacy = Legacy::decode(&read(view, offset, SUPERBLOCK_BYTES)?).ok()?;
    Some(format!(
        "md member of array md{} ({} of {} members, superblock version 0.90: assembly of these comes later)",
        legacy.minor,
        arrays::level_name(legacy.level),
        legacy.raid_disks
    ))
}

fn signature(view: &dyn ReadAt) -> Option<String> {
    let known = SIGNATURES
        .iter()
        .find(|(offset, bytes, _)| read(view, *offset, bytes.len()).is_some_and(|found| found == *bytes));
    if let Some((_, _, what)) = known {
        return Some((*what).to_owned());
    }
    let start = read(view, 0, usize::try_from(view.size().0.min(1 << 20)).ok()?)?;
    start.iter().all(|byte| *byte == 0).then(|| "zeros (at its start)".into())
}
