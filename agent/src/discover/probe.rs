//! What a partition or a bare disk holds.

use super::{Search, arrays, physical, read, signature};
use crate::block::View;
use crate::inventory::{Extents, MemberRange, PvPlace};
use crate::volume::array::assembled;
use tierlift_ondisk::drbd;
use tierlift_ondisk::md::{self, Legacy, SUPERBLOCK_BYTES, Superblock};
use tierlift_ondisk::md_log::{BadRange, MAX_LOG_BYTES, bad_blocks};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// How far before its place a superblock is looked for, when the image is longer than the partition was.
const SEARCH_BACK: u64 = 1 << 20;

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
        let direct = || PvPlace::Direct(place.clone());
        let mut found = physical::find(&view, direct());
        if found.is_none() {
            if let Some(text) = signature::at_start(&view) {
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

    /// Looks into each data array that can be used: DRBD tail, physical volume, another array. Members of further
    /// arrays found on them wait to be grouped.
    pub(super) fn probe_arrays(&mut self, from: usize) {
        for index in from..self.inventory.arrays.len() {
            if self.inventory.arrays.get(index).is_none_or(|array| array.system) {
                continue;
            }
            let Some(view) = self.open_array(index) else { continue };
            let mut found = self.best_physical_volume(index, &view);
            let nested = self.nested(index, &view).filter(|_| found.is_none());
            let other = if found.is_none() && nested.is_none() { signature::at_start(&view) } else { None };
            if found.is_none() && nested.is_none() && other.is_none() {
                found = physical::find_damaged(&view, PvPlace::Array(index));
            }
            if let (Some(found), Some(view)) = (&mut found, self.open_array(index)) {
                found.search_rings(&view, self.every_text);
            }
            let Some(array) = self.inventory.arrays.get_mut(index) else { continue };
            array.carries.extend(drbd_note(&view, array.size));
            array.carries.push(match (&found, &nested) {
                (Some(found), _) => found.describe(),
                (None, Some(nested)) => nested.describe(),
                (None, None) => other.unwrap_or_else(|| "nothing known".into()),
            });
            self.volumes.extend(found);
            self.members.extend(nested);
        }
    }

    /// A member of another array on this array: RAID 50, RAID 60.
    fn nested(&self, index: usize, view: &View) -> Option<arrays::Found> {
        // One array on another is all that anybody makes.
        let below = self.inventory.arrays.get(index)?;
        if below.members.iter().any(|member| member.on_array.is_some()) {
            return None;
        }
        let place = Extents { disk: usize::MAX, start: Sectors(0), length: view.size().to_sectors() };
        let found = find_member(view, &place)?;
        Some(arrays::Found { on_array: Some(index), ..found })
    }

    /// The data of an array.
    pub(super) fn open_array(&self, index: usize) -> Option<View> {
        if self.inventory.arrays.get(index)?.needs_assembly() {
            return assembled(&self.inventory, index, &|disk| self.views.get(disk)?.clone()).ok();
        }
        let base = self.inventory.base_of(&PvPlace::Array(index))?;
        let start = base.partition.start.checked_add(base.offset)?;
        self.open(&Extents { disk: base.partition.disk, start, length: base.length })
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
            let found = self.open_array(index).and_then(|view| physical::find(&view, PvPlace::Array(index)));
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

/// A superblock of any place: 1.0 at the end, 1.1 at the start, 1.2 at byte 4096, 0.90 in the last 128 KiB.
fn find_member(view: &dyn ReadAt, place: &Extents) -> Option<arrays::Found> {
    let at_end = md::place_1_0(place.length).map(|sector| (sector, "1.0"));
    let places = [at_end, Some((Sectors(0), "1.1")), Some((Sectors(8), "1.2"))];
    let found = places.into_iter().flatten().find_map(|(sector, version)| {
        let block = read_superblock(view, sector)?;
        Some(member(view, place.clone(), version, block))
    });
    found.or_else(|| find_legacy(view, place)).or_else(|| find_before_the_end(view, place))
}

fn member(view: &dyn ReadAt, place: Extents, version: &'static str, block: Superblock) -> arrays::Found {
    let bad_blocks = read_bad_blocks(view, &block);
    arrays::Found { place, on_array: None, version, block, shift: Sectors(0), swapped: false, bad_blocks }
}

/// The bad-block log, in sectors of the member's data. One that is damaged or cannot be read is taken as empty: what it would
/// say is lost, and the data are all there is.
fn read_bad_blocks(view: &dyn ReadAt, block: &Superblock) -> Vec<MemberRange> {
    if block.features & md::FEATURE_BAD_BLOCKS == 0 || block.bad_blocks_offset == 0 {
        return Vec::new();
    }
    let log = || {
        let at = block.super_offset.0.checked_add_signed(block.bad_blocks_offset.into())?;
        let bytes = usize::from(block.bad_blocks_size).checked_mul(512)?.min(MAX_LOG_BYTES);
        let log = read(view, Sectors(at).to_bytes()?.0, bytes)?;
        bad_blocks(&log, block.bad_blocks_shift).ok()
    };
    let in_data = |range: BadRange| {
        let end = range.start.checked_add(range.length)?.checked_sub(block.data_offset)?;
        let start = Sectors(range.start.0.saturating_sub(block.data_offset.0));
        Some(MemberRange { start, length: end.checked_sub(start)? })
    };
    log().unwrap_or_default().into_iter().filter_map(in_data).collect()
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
            return Some(arrays::Found { shift, ..member(view, place, "1.0", block) });
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

fn find_legacy(view: &dyn ReadAt, place: &Extents) -> Option<arrays::Found> {
    let offset = md::place_0_90(place.length)?.to_bytes()?.0;
    let legacy = Legacy::decode(&read(view, offset, SUPERBLOCK_BYTES)?).ok()?;
    let found = member(view, place.clone(), "0.90", legacy.to_superblock(place.length));
    Some(arrays::Found { swapped: legacy.swapped, ..found })
}
