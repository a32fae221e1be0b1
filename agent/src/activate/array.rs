//! md arrays over overlays: decided by our own reader, executed by mdadm.
//!
//! QNAP's role codes, frozen event counters and private words mislead mdadm, and stock kernels refuse some of them. So each
//! overlay gets a new superblock that says exactly what was decided: these members, in these roles, all current and clean.
//! Nothing of this reaches a disk. The array is read-only, so md neither rebuilds nor corrects anything.

use super::overlay;
use super::plan::{Choice, PlanError, device_path};
use super::{names, window};
use crate::inventory::{Array, Inventory, Member};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::ops::Range;
use tierlift_ondisk::md::{FEATURE_BAD_BLOCKS, FEATURE_RECOVERING, Role, SUPERBLOCK_BYTES, Superblock, place_1_0};
use tierlift_ondisk::units::Sectors;

/// Feature bit: the layout of a RAID 0 array is said in the superblock.
const FEATURE_RAID0_LAYOUT: u32 = 0x1000;
/// How kernels since 3.14 lay out RAID 0 arrays of unequal members.
const RAID0_LAYOUT: u32 = 2;
/// Entries of a bad-block log, and sectors in each, that every kernel takes.
const LOG_ENTRIES: usize = 512;
const LOG_SECTORS: u64 = 512;
/// First number given to an array: far from those of any other.
pub const FIRST_NUMBER: u32 = 100;

/// An array that will be assembled, or is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedArray {
    /// Index into [`Inventory::arrays`].
    pub array: usize,
    /// Its device: `/dev/md100`.
    pub path: String,
    /// Number of the md device.
    #[serde(skip)]
    pub number: u32,
    /// For people: "array 1, raid5, 3 of 4 members".
    pub purpose: String,
    /// Its members, in the order of their roles.
    pub members: Vec<PlannedMember>,
    /// Data sectors that must be there once it is assembled.
    #[serde(skip)]
    pub sectors: Sectors,
    /// The other members are read only where the first cannot be.
    #[serde(skip)]
    pub prefer_first: bool,
}

/// A member of a planned array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedMember {
    /// Role in the array.
    pub role: u32,
    /// Number of its overlay.
    pub overlay: u32,
    /// First sector of the superblock on the overlay.
    #[serde(skip)]
    pub superblock_at: Sectors,
    /// What is written there.
    #[serde(skip)]
    pub superblock: Vec<u8>,
    /// What is written in the 8 sectors before it.
    #[serde(skip)]
    pub log: Vec<u8>,
}

impl PlannedArray {
    /// Numbers of the overlays it stands on, sorted.
    pub fn overlays(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.members.iter().map(|member| member.overlay).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Plans the array with index `index` over the overlays `members`; `taken` are numbers other planned arrays have.
///
/// # Errors
/// When it cannot be assembled, or lies on another array.
pub fn plan(
    inventory: &Inventory,
    index: usize,
    members: &[overlay::Member],
    choice: &Choice,
    taken: &[u32],
) -> Result<PlannedArray, PlanError> {
    let array = inventory.arrays.get(index).ok_or_else(|| PlanError(format!("there is no array number {index}")))?;
    let mut planned = Vec::new();
    for (role, member) in array.present() {
        let overlay = members.iter().find(|overlay| member.on_array.is_none() && overlay.place == member.place);
        let overlay = overlay.ok_or_else(|| nested(array))?;
        planned.push(self::member(inventory, array, role, member, overlay.number)?);
    }
    let mut overlays: Vec<u32> = planned.iter().map(|member| member.overlay).collect();
    overlays.sort_unstable();
    let known = choice.existing_arrays.iter().find(|array| array.overlays == overlays).map(|array| array.number);
    let used =
        |number: &u32| taken.contains(number) || choice.existing_arrays.iter().any(|array| array.number == *number);
    let number = known.or_else(|| (FIRST_NUMBER..).find(|number| !used(number))).unwrap_or(FIRST_NUMBER);
    Ok(PlannedArray {
        array: index,
        path: names::array(number),
        number,
        purpose: format!("array {}, {}, {} of {} members", array.name, array.level, planned.len(), array.raid_disks),
        members: planned,
        sectors: array.size,
        prefer_first: array.level_number() == 1,
    })
}

fn nested(array: &Array) -> PlanError {
    PlanError(format!(
        "array {} lies on other arrays (RAID 50 or 60); devices on such arrays are not made yet. `tierlift pool read` reads \
         volumes on them",
        array.name
    ))
}

fn member(
    inventory: &Inventory,
    array: &Array,
    role: u32,
    member: &Member,
    overlay: u32,
) -> Result<PlannedMember, PlanError> {
    let length = Sectors(window::array_length(array.data_end(member)));
    let place = place_1_0(length).ok_or_else(|| PlanError(format!("array {} is too small", array.name)))?;
    let log = log(&window::bad_sectors(inventory, &member.place), array.data_end(member));
    let block = superblock(array, role, member, place, log.is_some());
    let log = log.unwrap_or_else(|| vec![0xff; SUPERBLOCK_BYTES]);
    Ok(PlannedMember { role, overlay, superblock_at: place, superblock: block.encode(), log })
}

fn superblock(array: &Array, role: u32, member: &Member, place: Sectors, log: bool) -> Superblock {
    let assembly = array.assembly.as_ref();
    let level = array.level_number();
    let rebuilding = member.rebuilt_to.map(|end| (FEATURE_RECOVERING, end.0)).unwrap_or_default();
    let said = assembly.map_or(0, |assembly| assembly.layout);
    let layout = if level == 0 && said == 0 { RAID0_LAYOUT } else { said };
    let features =
        [(level == 0, FEATURE_RAID0_LAYOUT), (log, FEATURE_BAD_BLOCKS), (member.rebuilt_to.is_some(), rebuilding.0)];
    let present: Vec<u32> = array.present().map(|(role, _)| role).collect();
    let roles = (0..array.raid_disks).map(|role| match u16::try_from(role) {
        Ok(number) if present.contains(&role) => Role::Active(number),
        _ => Role::Faulty,
    });
    Superblock {
        features: features.iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, bit)| all | bit),
        array_uuid: identity(&array.uuid),
        name: array.name.clone(),
        level,
        layout: i32::try_from(layout).unwrap_or_default(),
        size: assembly.map_or(array.size, |assembly| assembly.component),
        chunk: u32::try_from(assembly.map_or(0, |assembly| assembly.chunk.0)).unwrap_or_default(),
        raid_disks: array.raid_disks,
        data_offset: member.data_offset,
        data_size: Sectors(array.data_end(member).saturating_sub(member.data_offset.0)),
        super_offset: place,
        recovery_offset: rebuilding.1,
        device_number: role,
        device_uuid: identity(&format!("{} role {role}", array.uuid)),
        bad_blocks_size: 8,
        bad_blocks_offset: -8,
        updated: array.members.iter().map(|member| member.update_time).max().unwrap_or_default(),
        created: array.members.iter().map(|member| member.update_time).min().unwrap_or_default(),
        events: 1,
        resync_offset: u64::MAX,
        checksum_ok: true,
        roles: roles.collect(),
        ..Superblock::default()
    }
}

/// An identity of its own for each array and member: these superblocks must never be taken for those on the disks.
fn identity(of: &str) -> [u8; 16] {
    let mut identity = [0; 16];
    for (to, from) in identity.iter_mut().zip(Sha256::digest(format!("tierlift overlay of {of}"))) {
        *to = from;
    }
    identity
}

/// A bad-block log with these sectors, so that md reads them from other members at once. `None` when there are none, or too
/// many: then reading them fails, which leads to the other members too, only slower.
fn log(bad: &[Range<u64>], end: u64) -> Option<Vec<u8>> {
    let mut entries: Vec<u64> = Vec::new();
    for part in bad {
        let mut at = part.start;
        while at < part.end.min(end) {
            let length = part.end.min(end).saturating_sub(at).min(LOG_SECTORS);
            entries.push((at << 10) | length);
            if entries.len() > LOG_ENTRIES {
                return None;
            }
            at = at.saturating_add(length);
        }
    }
    if entries.is_empty() {
        return None;
    }
    entries.resize(LOG_ENTRIES, u64::MAX);
    Some(entries.iter().flat_map(|entry| entry.to_le_bytes()).collect())
}

/// The devices an array is assembled from, in the order of their roles.
pub fn member_paths(array: &PlannedArray) -> Vec<String> {
    array.members.iter().map(|member| device_path(&names::member(member.overlay))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::plan::ExistingArray;
    use crate::activate::test_inventory::striped;

    fn planned(inventory: &Inventory, choice: &Choice) -> PlannedArray {
        let members = overlay::plan(inventory, &overlay::all_places(inventory), choice).unwrap();
        plan(inventory, 0, &members, choice, &[]).unwrap()
    }

    #[test]
    fn superblocks_say_what_was_decided() {
        let mut inventory = striped();
        // Role 1 of 3 is left out.
        inventory.arrays[0].assembly.as_mut().unwrap().roles[1] = None;
        let array = planned(&inventory, &Choice::default());
        assert_eq!((array.path.as_str(), array.overlays()), ("/dev/md100", vec![0, 1]));
        let blocks: Vec<Superblock> =
            array.members.iter().map(|member| Superblock::decode(&member.superblock).unwrap()).collect();
        assert_eq!(blocks[0].roles, [Role::Active(0), Role::Faulty, Role::Active(2)]);
        assert_eq!(blocks.iter().map(Superblock::role).collect::<Vec<_>>(), [Role::Active(0), Role::Active(2)]);
        for (block, member) in blocks.iter().zip(&array.members) {
            assert!(block.checksum_ok && block.features == 0);
            assert_eq!((block.level, block.layout, block.chunk), (5, 2, 1024));
            assert_eq!((block.super_offset, block.data_size), (member.superblock_at, Sectors(399_000)));
            assert!(block.super_offset.0 >= 399_000 + 16);
        }
        assert_ne!(blocks[0].device_uuid, blocks[1].device_uuid);
    }

    #[test]
    fn an_array_that_exists_keeps_its_number() {
        let inventory = striped();
        let existing_arrays = vec![
            ExistingArray { number: 100, overlays: vec![7, 8] },
            ExistingArray { number: 101, overlays: vec![0, 1, 2] },
        ];
        assert_eq!(planned(&inventory, &Choice { existing_arrays, ..Choice::default() }).number, 101);
        let existing_arrays = vec![ExistingArray { number: 100, overlays: vec![7, 8] }];
        assert_eq!(planned(&inventory, &Choice { existing_arrays, ..Choice::default() }).number, 101);
    }

    #[test]
    fn bad_sectors_are_logged_while_they_fit() {
        assert_eq!(log(&[], 1000), None);
        let bytes = log(&[8..16, 100..1100], 1000).unwrap();
        let entries: Vec<u64> =
            bytes.chunks(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap())).take(4).collect();
        assert_eq!(entries, [8 << 10 | 8, 100 << 10 | 512, 612 << 10 | 388, u64::MAX]);
        let many: Vec<Range<u64>> = (0..600).map(|n| n * 2..n * 2 + 1).collect();
        assert_eq!(log(&many, 5000), None);
    }
}
