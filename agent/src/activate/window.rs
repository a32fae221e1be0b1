//! Windows on the sources: exactly what of a disk an overlay is laid over.
//!
//! Three kinds of sectors give errors in a window, never zeros: those a map of ddrescue calls unread, those in the bad-block log
//! of an array's member, and those of a member that the image no longer has. Behind a member that will be part of an array
//! lie zeros with room for a superblock: the array is assembled from superblocks written to the overlay
//! ([`super::array`]), so that mdadm sees what was decided here and not what lies on the disk.

use super::plan::{PlanError, Table};
use super::wire::TargetLine;
use crate::inventory::{Array, Disk, Extents, Inventory, Member};
use std::ops::Range;

/// Room behind the data of a member: bad-block log, superblock, and rounding. Both lie in grains of the overlay that are
/// zeros below, so that writing them never needs to read the disk.
const TAIL: u64 = 64;
/// More pieces than this are no map of a disk that could still be read in this way.
const MAX_LINES: usize = 200_000;

/// The window on a place.
///
/// # Errors
/// When the disk ends before the place begins, or it has too many unread parts.
pub fn window(inventory: &Inventory, place: &Extents) -> Result<Vec<TargetLine>, PlanError> {
    let disk = disk_of(inventory, place)?;
    let there = place.length.0.min(disk.size.to_sectors().0.saturating_sub(place.start.0));
    if there == 0 {
        let path = disk.path.display();
        return Err(PlanError(format!("{path} ends before sector {}, where its data should begin", place.start)));
    }
    let member = member_at(inventory, place);
    let data_end = member.filter(|(array, _)| array.needs_assembly()).map(|(array, member)| array.data_end(member));
    let mut table = Table::default();
    readable(&mut table, disk, place, &bad(disk, place, member), there.min(data_end.unwrap_or(there)));
    if let Some(data_end) = data_end {
        table.add(data_end.saturating_sub(table.end()), "error", "");
        table.add(array_length(data_end).saturating_sub(table.end()), "zero", "");
    }
    let lines = table.into_lines();
    if lines.len() > MAX_LINES {
        return Err(PlanError(format!(
            "{} has more than {MAX_LINES} unread parts: let ddrescue finish, or read the volume with `tierlift pool read`",
            disk.path.display()
        )));
    }
    Ok(lines)
}

/// Length in sectors of the overlay of a member whose data end at `data_end`.
pub fn array_length(data_end: u64) -> u64 {
    data_end.checked_next_multiple_of(16).unwrap_or(data_end).saturating_add(TAIL)
}

/// The disk of a place.
///
/// # Errors
/// When there is none: the inventory contradicts itself.
pub fn disk_of<'a>(inventory: &'a Inventory, place: &Extents) -> Result<&'a Disk, PlanError> {
    let disk = inventory.disks.get(place.disk);
    disk.ok_or_else(|| PlanError(format!("the inventory names disk number {}, which does not exist", place.disk)))
}

fn member_at<'a>(inventory: &'a Inventory, place: &Extents) -> Option<(&'a Array, &'a Member)> {
    let members = inventory.arrays.iter().flat_map(|array| array.members.iter().map(move |member| (array, member)));
    members.into_iter().find(|(_, member)| member.on_array.is_none() && member.place == *place)
}

fn readable(table: &mut Table, disk: &Disk, place: &Extents, bad: &[Range<u64>], end: u64) {
    let linear = |table: &mut Table, to: u64| {
        let from = table.end();
        let start = place.start.0.saturating_add(from);
        table.add(to.saturating_sub(from), "linear", format!("{} {start}", disk.path.display()));
    };
    for part in bad.iter().filter(|part| part.start < end) {
        linear(table, part.start);
        table.add(part.end.min(end).saturating_sub(table.end()), "error", "");
    }
    linear(table, end);
}

/// Sectors of a place without valid data: in order, apart from each other.
fn bad(disk: &Disk, place: &Extents, member: Option<(&Array, &Member)>) -> Vec<Range<u64>> {
    let unread = disk.rescue_map.iter().flat_map(|map| &map.unread);
    let unread = unread.map(|part| part.start / 512..part.end.div_ceil(512));
    let unread = unread.map(|part| part.start.saturating_sub(place.start.0)..part.end.saturating_sub(place.start.0));
    let logged = member.into_iter().flat_map(|(_, member)| {
        member.bad_blocks.iter().map(|bad| {
            let start = member.data_offset.0.saturating_add(bad.start.0);
            start..start.saturating_add(bad.length.0)
        })
    });
    let mut all: Vec<Range<u64>> = unread.chain(logged).filter(|part| part.start < part.end).collect();
    all.sort_by_key(|part| part.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for part in all {
        match joined.last_mut().filter(|last| last.end >= part.start) {
            Some(last) => last.end = last.end.max(part.end),
            None => joined.push(part),
        }
    }
    joined
}

/// Sectors of an array's member that give errors in its window, from the start of the member.
pub fn bad_sectors(inventory: &Inventory, place: &Extents) -> Vec<Range<u64>> {
    disk_of(inventory, place).map(|disk| bad(disk, place, member_at(inventory, place))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::test_inventory::inventory;
    use crate::inventory::{MemberRange, RescueMap};
    use tierlift_ondisk::units::Sectors;

    fn text(inventory: &Inventory) -> Vec<String> {
        let place = inventory.arrays[0].members[0].place.clone();
        window(inventory, &place).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_never_read_and_what_the_log_names_are_errors() {
        let mut inventory = inventory();
        let start = 2_120_584 * 512;
        inventory.disks[0].rescue_map = Some(RescueMap::new("m".into(), vec![0..512, start + 51_200..start + 52_224]));
        inventory.arrays[0].members[0].data_offset = Sectors(8);
        inventory.arrays[0].members[0].bad_blocks = vec![
            MemberRange { start: Sectors(94), length: Sectors(2) },
            MemberRange { start: Sectors(1000), length: Sectors(8) },
        ];
        assert_eq!(
            text(&inventory),
            [
                "0 100 linear /dev/vda 2120584",
                "100 4 error",
                "104 904 linear /dev/vda 2120688",
                "1008 8 error",
                "1016 398984 linear /dev/vda 2121600"
            ]
        );
    }

    #[test]
    fn behind_a_member_of_an_array_is_room_for_a_superblock() {
        let mut inventory = crate::activate::test_inventory::striped();
        assert_eq!(text(&inventory), ["0 399000 linear /dev/vda 2120584", "399000 72 zero"]);
        inventory.disks[0].size = tierlift_ondisk::units::Bytes((2_120_584 + 1000) * 512);
        assert_eq!(
            text(&inventory),
            ["0 1000 linear /dev/vda 2120584", "1000 398000 error", "399000 72 zero"],
            "an image that is cut short"
        );
    }
}
