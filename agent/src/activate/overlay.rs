//! Overlays: over every member a copy-on-write layer, before anything else touches it.
//!
//! Three devices per member: `tierlift-source-N`, a read-only window on exactly the member's place; `tierlift-store-N`, where
//! changed blocks go; `tierlift-member-N`, a transient snapshot of the first that writes to the second. The snapshot target
//! opens its origin for reading only, so that nothing above can reach a source with a write.

use super::dm::table_mark;
use super::names;
use super::plan::{Backing, Choice, PlanError, PlannedDevice, Scratch, device_path, line};
use super::window::{disk_of, window};
use super::wire::TargetLine;
use crate::inventory::{Array, Extents, Inventory, PvPlace, VolumeGroup};
use std::collections::BTreeSet;
use tierlift_ondisk::units::{Bytes, Sectors};

/// Sectors the overlay copies at a time: 8 KiB, small against the chunks above, large against a page.
const GRAIN: u64 = 16;
/// Slices of the scratch disk begin at multiples of 1 MiB; the first MiB stays empty, so that the disk keeps looking blank.
const ALIGN: u64 = 2048;
/// A slice smaller than this (8 MiB) is of no use.
const MIN_SLICE: u64 = 16384;

/// A member that will have, or has, an overlay.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its place on its disk.
    pub place: Extents,
    /// Number of its overlay.
    pub number: u32,
    /// The devices to make.
    pub devices: Vec<PlannedDevice>,
}

/// Plans the overlays of all `places`, keeping those that exist.
///
/// # Errors
/// When the scratch disk has no room left, or the inventory contradicts itself.
pub fn plan(inventory: &Inventory, places: &[Extents], choice: &Choice) -> Result<Vec<Member>, PlanError> {
    let mut slices = Slices::new(inventory, choice);
    let mut members: Vec<Member> = Vec::new();
    for place in places {
        let window = window(inventory, place)?;
        let known = existing(choice, &window);
        let taken: Vec<u32> = members.iter().map(|member| member.number).collect();
        let number = known.unwrap_or_else(|| free_number(choice, &taken));
        let devices = match known {
            Some(_) => Vec::new(),
            None => member_devices(inventory, place, number, window, slices.next(place)?)?,
        };
        members.push(Member { place: place.clone(), number, devices });
    }
    Ok(members)
}

/// All places that physical volumes lie on, each once: what overlays will be needed for sooner or later.
pub fn all_places(inventory: &Inventory) -> Vec<Extents> {
    places(inventory, inventory.volume_groups.iter())
}

/// The places that these groups' physical volumes lie on, each once.
pub fn places<'a>(inventory: &Inventory, groups: impl Iterator<Item = &'a VolumeGroup>) -> Vec<Extents> {
    let mut places = Vec::new();
    let found = groups.flat_map(|group| &group.physical_volumes).filter_map(|pv| pv.place.as_ref());
    for place in found.flat_map(|place| below(inventory, place)) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// The places a physical volume lies on: all members of an array that needs several, else the one that is read.
fn below(inventory: &Inventory, place: &PvPlace) -> Vec<Extents> {
    let array = match place {
        PvPlace::Array(index) => inventory.arrays.get(*index).filter(|array| array.needs_assembly()),
        PvPlace::Direct(_) => None,
    };
    match array {
        Some(array) => array.present().map(|(_, member)| member.place.clone()).collect(),
        None => inventory.base_of(place).into_iter().map(|base| base.partition).collect(),
    }
}

/// The arrays (index into [`Inventory::arrays`]) of a group that must be assembled from several members, each once.
pub fn arrays(inventory: &Inventory, group: &VolumeGroup) -> BTreeSet<usize> {
    let places = group.physical_volumes.iter().filter_map(|pv| pv.place.as_ref());
    let arrays = places.filter_map(|place| match place {
        PvPlace::Array(index) => Some(*index),
        PvPlace::Direct(_) => None,
    });
    arrays.filter(|index| inventory.arrays.get(*index).is_some_and(Array::needs_assembly)).collect()
}

fn existing(choice: &Choice, window: &[TargetLine]) -> Option<u32> {
    let mark = table_mark(true, window);
    choice.existing.iter().find(|member| member.mark == mark).map(|member| member.number)
}

fn free_number(choice: &Choice, taken: &[u32]) -> u32 {
    let used = |number: &u32| taken.contains(number) || choice.existing.iter().any(|member| member.number == *number);
    (0..u32::MAX).find(|number| !used(number)).unwrap_or(u32::MAX)
}

fn member_devices(
    inventory: &Inventory,
    place: &Extents,
    number: u32,
    window: Vec<TargetLine>,
    store: Store,
) -> Result<Vec<PlannedDevice>, PlanError> {
    let disk = &disk_of(inventory, place)?.path;
    let length = window.iter().map(|line| line.length).fold(0, u64::saturating_add);
    let snapshot = format!("{} {} N {GRAIN}", device_path(&names::source(number)), device_path(&names::store(number)),);
    Ok(vec![
        PlannedDevice {
            name: names::source(number),
            purpose: format!("read-only window on {} from sector {}", disk.display(), place.start),
            read_only: true,
            backing: Some(Backing::Source(disk.clone())),
            table: window,
        },
        PlannedDevice {
            name: names::store(number),
            purpose: store.purpose(),
            read_only: false,
            table: vec![line(0, store.length, "linear", format!("{} {}", store.ground(), store.start))],
            backing: Some(store.backing),
        },
        PlannedDevice {
            name: names::member(number),
            purpose: "overlay: writes go to the store, never to the disk".to_owned(),
            read_only: false,
            backing: None,
            table: vec![line(0, length, "snapshot", snapshot)],
        },
    ])
}

/// Where one overlay's writes go.
struct Store {
    backing: Backing,
    start: u64,
    length: u64,
}

impl Store {
    fn ground(&self) -> String {
        match &self.backing {
            Backing::Source(path) | Backing::Scratch(path) => path.display().to_string(),
            Backing::Memory(_) => "memory".to_owned(),
        }
    }

    fn purpose(&self) -> String {
        let size = Bytes(self.length.saturating_mul(512)).human();
        match &self.backing {
            Backing::Memory(cap) => {
                format!("store for writes, in memory ({size} at most; all such stores together {})", cap.human())
            }
            Backing::Source(path) | Backing::Scratch(path) => {
                format!("store for writes, {size} of scratch disk {}", path.display())
            }
        }
    }
}

/// Deals out the stores.
enum Slices {
    Memory(Bytes),
    Scratch {
        scratch: Scratch,
        /// Sectors free when dealing began.
        free: u64,
        /// Sum of the lengths of all members without an overlay.
        waiting: u64,
    },
}

impl Slices {
    fn new(inventory: &Inventory, choice: &Choice) -> Self {
        let Some(scratch) = choice.scratch.clone() else { return Self::Memory(choice.memory_cap) };
        let waits = |place: &Extents| window(inventory, place).is_ok_and(|window| existing(choice, &window).is_none());
        let lengths = all_places(inventory).into_iter().filter(waits).map(|place| place.length.0);
        let waiting = lengths.fold(0, u64::saturating_add);
        // The other half is for overlays over volumes: what repairs of file systems write goes there.
        let free = scratch.size.0.saturating_sub(scratch.free_from.0.max(ALIGN)) / 2;
        Self::Scratch { scratch, free, waiting }
    }

    /// A store for `place`: on scratch its fair share, in both cases never more than a store can use.
    fn next(&mut self, place: &Extents) -> Result<Store, PlanError> {
        let enough = whole_member(place.length.0);
        match self {
            Self::Memory(cap) => {
                Ok(Store { backing: Backing::Memory(*cap), start: 0, length: enough.min(cap.to_sectors().0) })
            }
            Self::Scratch { scratch, free, waiting } => {
                let share = share(*free, place.length.0, *waiting).min(enough);
                let length = round_down(share);
                if length < MIN_SLICE {
                    return Err(too_small(scratch));
                }
                let start = scratch.free_from.0.max(ALIGN).next_multiple_of(ALIGN);
                scratch.free_from = Sectors(start.saturating_add(length));
                Ok(Store { backing: Backing::Scratch(scratch.path.clone()), start, length })
            }
        }
    }
}

fn too_small(scratch: &Scratch) -> PlanError {
    PlanError(format!(
        "scratch disk {} has no room for another overlay: {} of it are free, and each overlay needs 8 MiB at least; name a \
         larger disk, or deactivate what is no longer needed",
        scratch.path.display(),
        Bytes(scratch.size.0.saturating_sub(scratch.free_from.0).saturating_mul(512)).human()
    ))
}

/// Room in which a whole member could be rewritten: its data, one 16-byte note per grain, and some for rounding.
fn whole_member(length: u64) -> u64 {
    round_down(length.saturating_add(length / 256).saturating_add(2 * ALIGN))
}

/// `free * part / all` without overflow; rounding may only shrink it.
fn share(free: u64, part: u64, all: u64) -> u64 {
    let product = u128::from(free).saturating_mul(u128::from(part));
    u64::try_from(product.checked_div(u128::from(all)).unwrap_or(0)).unwrap_or(free)
}

fn round_down(sectors: u64) -> u64 {
    sectors.saturating_sub(sectors % ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::plan::ExistingMember;
    use crate::activate::test_inventory::{inventory, two_disks};

    fn cap(mib: u64) -> Choice {
        Choice { memory_cap: Bytes(mib << 20), ..Choice::default() }
    }

    #[test]
    fn an_overlay_in_memory_has_three_devices() {
        let inventory = inventory();
        let members = plan(&inventory, &all_places(&inventory), &cap(128)).unwrap();
        let tables: Vec<String> = members[0]
            .devices
            .iter()
            .flat_map(|device| device.table.iter().map(move |line| format!("{}: {line}", device.name)))
            .collect();
        assert_eq!(
            tables,
            [
                "tierlift-source-0: 0 400000 linear /dev/vda 2120584",
                "tierlift-store-0: 0 262144 linear memory 0",
                "tierlift-member-0: 0 400000 snapshot /dev/mapper/tierlift-source-0 /dev/mapper/tierlift-store-0 N 16",
            ]
        );
        let writable: Vec<bool> = members[0].devices.iter().map(|device| !device.read_only).collect();
        assert_eq!(writable, [false, true, true]);
    }

    #[test]
    fn scratch_is_shared_fairly_and_slices_never_overlap() {
        let inventory = two_disks();
        let scratch = Scratch { path: "/dev/vdz".into(), size: Sectors(409_600), free_from: Sectors(0) };
        let choice = Choice { scratch: Some(scratch), ..Choice::default() };
        let members = plan(&inventory, &all_places(&inventory), &choice).unwrap();
        let stores: Vec<String> = members.iter().map(|member| member.devices[1].table[0].to_string()).collect();
        assert_eq!(stores, ["0 100352 linear /dev/vdz 2048", "0 100352 linear /dev/vdz 102400"]);
    }

    #[test]
    fn a_later_member_begins_behind_the_slices_in_use() {
        let inventory = two_disks();
        let places = all_places(&inventory);
        let mark = table_mark(true, &window(&inventory, &places[0]).unwrap());
        let scratch = Scratch { path: "/dev/vdz".into(), size: Sectors(409_600), free_from: Sectors(204_800) };
        let existing = vec![ExistingMember { number: 3, mark }];
        let choice = Choice { scratch: Some(scratch), existing, ..Choice::default() };
        let members = plan(&inventory, &places, &choice).unwrap();
        assert_eq!((members[0].number, members[0].devices.len()), (3, 0));
        assert_eq!(members[1].number, 0);
        assert_eq!(members[1].devices[1].table[0].to_string(), "0 102400 linear /dev/vdz 204800");
    }

    #[test]
    fn a_full_scratch_disk_is_refused_with_advice() {
        let inventory = inventory();
        let scratch = Scratch { path: "/dev/vdz".into(), size: Sectors(10_000), free_from: Sectors(0) };
        let choice = Choice { scratch: Some(scratch), ..Choice::default() };
        let error = plan(&inventory, &all_places(&inventory), &choice).unwrap_err().to_string();
        assert!(error.contains("/dev/vdz") && error.contains("larger disk"), "{error}");
    }
}
