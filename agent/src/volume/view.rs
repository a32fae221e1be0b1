//! From a logical volume to bytes: the userland view, and the places the guest's device-mapper lines are built on.

use super::array::assembled;
use super::choice::means;
use super::generation::short_id;
use crate::block::ddrescue::HoledView;
use crate::block::{ConcatView, FileView, Piece, SubView, View};
use crate::inventory::{
    Array, Extents, Inventory, LogicalVolume, LogicalVolumeKind, PvPlace, StretchTarget, VolumeGroup,
};
use anyhow::{Context, bail};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// A place on a member partition (or a direct one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPlace {
    /// The array, when the place is on one; its `usable_member` is the member meant.
    pub array: Option<usize>,
    /// The partition or disk: what an overlay is built on.
    pub partition: Extents,
    /// Sector from the start of that partition.
    pub sector: Sectors,
}

/// What lies behind a piece of a logical volume, down to the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskTarget {
    /// On a disk.
    Place(DiskPlace),
    /// On an array of several members, so at no single place of any disk.
    Array {
        /// Index into [`Inventory::arrays`]; its `assembly` says how it is put together.
        array: usize,
        /// Sector of the array.
        sector: Sectors,
    },
    /// Zeros by definition.
    Zero,
    /// Cannot be read: missing disks or extents, or beyond the end of what is there.
    Error,
}

/// Finds a volume by `VG/LV` (or with the group's id, or the beginning of it, in place of its name), or by `LV` alone where only
/// one group has it. Answers with the index of the group and the volume.
///
/// # Errors
/// When there is none, or more than one; the message lists what there is.
pub fn find<'a>(inventory: &'a Inventory, name: &str) -> anyhow::Result<(usize, &'a LogicalVolume)> {
    let (group, volume) = name.split_once('/').map_or((None, name), |(group, volume)| (Some(group), volume));
    let mut hits = Vec::new();
    for (index, candidate) in inventory.volume_groups.iter().enumerate() {
        if group.is_none_or(|group| means(group, &candidate.name, &candidate.id)) {
            hits.extend(candidate.logical_volumes.iter().filter(|lv| lv.name == volume).map(|lv| (index, lv)));
        }
    }
    match hits.as_slice() {
        [hit] => Ok(*hit),
        [] => bail!("there is no volume {name}; there are: {}", known(inventory)),
        _ => {
            let groups: Vec<usize> = hits.iter().map(|(index, _)| *index).collect();
            bail!("{name} is not unique: {}", told_apart(inventory, &groups, &format!("/{volume}")))
        }
    }
}

/// Finds a group by its name, its id, or the beginning of it.
///
/// # Errors
/// When there is none, or more than one; the message lists them.
pub fn find_group_index(inventory: &Inventory, name: &str) -> anyhow::Result<usize> {
    let groups = inventory.volume_groups.iter().enumerate();
    let hits: Vec<usize> =
        groups.filter(|(_, group)| means(name, &group.name, &group.id)).map(|(index, _)| index).collect();
    match hits.as_slice() {
        [index] => Ok(*index),
        [] => bail!("there is no volume group {name}"),
        _ => bail!("{name} is not unique: {}", told_apart(inventory, &hits, "")),
    }
}

/// Groups of one name: their ids, the disks each lies on, and what to type.
fn told_apart(inventory: &Inventory, groups: &[usize], rest: &str) -> String {
    let tell = |index: &usize| {
        let group = inventory.volume_groups.get(*index)?;
        let disks = disks_of(inventory, group);
        let disks = if disks.is_empty() { "no disk that is here".into() } else { disks.join(", ") };
        Some(format!("{} (id {}) on {disks}", group.name, group.id))
    };
    let told: Vec<String> = groups.iter().filter_map(tell).collect();
    let typed: Vec<String> = groups.iter().map(|index| spoken_name(inventory, *index) + rest).collect();
    format!("{}; name it by the beginning of the id: {}", told.join("; "), typed.join(" or "))
}

/// The disks a group lies on.
fn disks_of(inventory: &Inventory, group: &VolumeGroup) -> Vec<String> {
    let mut numbers = BTreeSet::new();
    for place in group.physical_volumes.iter().filter_map(|pv| pv.place.as_ref()) {
        match place {
            PvPlace::Direct(place) => numbers.extend([place.disk]),
            PvPlace::Array(index) => {
                let members = inventory.arrays.get(*index).map(|array| array.members.as_slice()).unwrap_or_default();
                numbers.extend(members.iter().map(|member| member.place.disk));
            }
        }
    }
    numbers.into_iter().filter_map(|disk| Some(inventory.disks.get(disk)?.path.display().to_string())).collect()
}

/// What to type for a group: its name, or the beginning of its id where the name is not its alone.
pub fn spoken_name(inventory: &Inventory, index: usize) -> String {
    let Some(group) = inventory.volume_groups.get(index) else { return "?".into() };
    let same = inventory.volume_groups.iter().filter(|other| other.name == group.name).count();
    if same > 1 && !group.id.is_empty() { short_id(&group.id) } else { group.name.clone() }
}

fn known(inventory: &Inventory) -> String {
    let visible = |(index, group): (usize, &VolumeGroup)| {
        let name = spoken_name(inventory, index);
        let volumes: Vec<String> =
            group.logical_volumes.iter().filter(|lv| lv.visible).map(|lv| lv.name.clone()).collect();
        volumes.into_iter().map(move |volume| format!("{name}/{volume}"))
    };
    let all: Vec<String> = inventory.volume_groups.iter().enumerate().flat_map(visible).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

/// The pieces of a mapped volume in order, each with its length and its place on the disks.
///
/// What the text places beyond the end of a partition, or on a disk that is cut short, is [`DiskTarget::Error`].
///
/// # Errors
/// When there is no such volume, or it is no mapped one (a pool, a thin volume, a type that cannot be mapped).
pub fn stretches_on_disks(
    inventory: &Inventory,
    group: usize,
    volume: &str,
) -> anyhow::Result<Vec<(Sectors, DiskTarget)>> {
    let group = inventory.volume_groups.get(group).context("no such volume group")?;
    let found = group.logical_volumes.iter().find(|lv| lv.name == volume);
    let found = found.with_context(|| format!("{}: there is no volume {volume}", group.name))?;
    let stretches = match &found.kind {
        LogicalVolumeKind::Mapped(stretches) => stretches,
        LogicalVolumeKind::Pool(_) => bail!("{}/{volume} is a pool: its parts are volumes of their own", group.name),
        LogicalVolumeKind::Thin { pool, device, .. } => {
            bail!("{}/{volume} is device {device} of pool {pool}: it is read through the pool", group.name)
        }
        LogicalVolumeKind::Opaque(kind) => bail!("{}/{volume} cannot be mapped: {kind}", group.name),
    };
    let mut pieces = Vec::new();
    for stretch in stretches {
        match &stretch.target {
            StretchTarget::Zero => pieces.push((stretch.length, DiskTarget::Zero)),
            StretchTarget::Error => pieces.push((stretch.length, DiskTarget::Error)),
            StretchTarget::Pv(pv, sector) => on_disk(inventory, group, *pv, *sector, stretch.length, &mut pieces),
        }
    }
    Ok(pieces)
}

/// One stretch of a physical volume, cut where what is there ends.
fn on_disk(
    inventory: &Inventory,
    group: &VolumeGroup,
    pv: usize,
    sector: Sectors,
    length: Sectors,
    pieces: &mut Vec<(Sectors, DiskTarget)>,
) {
    let place = group.physical_volumes.get(pv).and_then(|pv| pv.place.as_ref());
    if let Some((array, size)) = place.and_then(|place| striped(inventory, place)) {
        let there = Sectors(size.0.saturating_sub(sector.0).min(length.0));
        pieces.push((there, DiskTarget::Array { array, sector }));
        pieces.push((Sectors(length.0.saturating_sub(there.0)), DiskTarget::Error));
        pieces.retain(|(length, _)| length.0 > 0);
        return;
    }
    let base = place.and_then(|place| inventory.base_of(place));
    let found = base.and_then(|base| {
        let there = Sectors(base.length.0.saturating_sub(sector.0).min(length.0));
        let sector = base.offset.checked_add(sector)?;
        Some((there, DiskPlace { array: base.array, partition: base.partition, sector }))
    });
    let there = found.as_ref().map_or(Sectors(0), |(there, _)| *there);
    if let Some((there, place)) = found.filter(|(there, _)| there.0 > 0) {
        pieces.push((there, DiskTarget::Place(place)));
    }
    let rest = Sectors(length.0.saturating_sub(there.0));
    if rest.0 > 0 {
        pieces.push((rest, DiskTarget::Error));
    }
}

/// The array a place lies on, with its size, when it can only be read through several members.
fn striped(inventory: &Inventory, place: &PvPlace) -> Option<(usize, Sectors)> {
    let PvPlace::Array(index) = place else { return None };
    let array = inventory.arrays.get(*index)?;
    (array.usable_member.is_none() && array.needs_assembly()).then_some((*index, array.size))
}

/// A mapped volume as bytes. Missing parts read as errors.
///
/// # Errors
/// As [`stretches_on_disks`], and when a disk cannot be opened again.
pub fn view(inventory: &Inventory, group: usize, volume: &str) -> anyhow::Result<View> {
    let mut whole = ConcatView::new();
    let ground = Ground::new(inventory);
    for (length, target) in stretches_on_disks(inventory, group, volume)? {
        let piece = match target {
            DiskTarget::Zero => Piece::Zeros,
            DiskTarget::Error => {
                Piece::Missing(format!("{volume}: this part lies on a disk or extents that are missing"))
            }
            DiskTarget::Array { array, sector } => part(ground.array(array)?, sector)?,
            DiskTarget::Place(place) => ground.place(&place)?,
        };
        whole.push(length.to_bytes().context("volume larger than any disk")?, piece)?;
    }
    Ok(Arc::new(whole))
}

fn part(view: View, sector: Sectors) -> anyhow::Result<Piece> {
    Ok(Piece::Part(view, sector.to_bytes().context("sector beyond all disks")?))
}

/// The disks and arrays of an inventory, each opened once.
struct Ground<'a> {
    inventory: &'a Inventory,
    disks: RefCell<BTreeMap<usize, View>>,
    arrays: RefCell<BTreeMap<usize, View>>,
}

impl<'a> Ground<'a> {
    fn new(inventory: &'a Inventory) -> Self {
        Self { inventory, disks: RefCell::default(), arrays: RefCell::default() }
    }

    fn disk(&self, index: usize) -> anyhow::Result<View> {
        if let Some(view) = self.disks.borrow().get(&index) {
            return Ok(view.clone());
        }
        let view = open_disk(self.inventory, index)?;
        self.disks.borrow_mut().insert(index, view.clone());
        Ok(view)
    }

    fn array(&self, index: usize) -> anyhow::Result<View> {
        if let Some(view) = self.arrays.borrow().get(&index) {
            return Ok(view.clone());
        }
        let view = assembled(self.inventory, index, &|disk| self.disk(disk).ok())?;
        self.arrays.borrow_mut().insert(index, view.clone());
        Ok(view)
    }

    /// A place on one disk. On a mirror with more halves these are read where the first cannot be.
    fn place(&self, place: &DiskPlace) -> anyhow::Result<Piece> {
        let array = place.array.and_then(|index| Some((index, self.inventory.arrays.get(index)?)));
        if let Some((index, array)) = array.filter(|(_, array)| array.needs_assembly()) {
            let member = array.usable_member.and_then(|member| array.members.get(member)).context("no such member")?;
            let sector = place.sector.checked_sub(member.data_offset).context("sector before the array's data")?;
            return part(self.array(index)?, sector);
        }
        let sector = place.partition.start.checked_add(place.sector).context("sector beyond all disks")?;
        part(self.disk(place.partition.disk)?, sector)
    }
}

fn open_disk(inventory: &Inventory, disk: usize) -> anyhow::Result<View> {
    let disk = inventory.disks.get(disk).context("no such disk in the inventory")?;
    let file: View = Arc::new(FileView::open(&disk.path)?);
    Ok(match &disk.rescue_map {
        Some(map) => Arc::new(HoledView::new(file, map.unread.clone(), disk.path.display().to_string())),
        None => file,
    })
}

/// A physical volume, partition or array as bytes, as far as it is there.
///
/// # Errors
/// When the disk cannot be opened, or the array cannot be used.
pub fn open_extents(inventory: &Inventory, place: &PvPlace) -> anyhow::Result<View> {
    let ground = Ground::new(inventory);
    if let PvPlace::Array(index) = place {
        if inventory.arrays.get(*index).is_some_and(Array::needs_assembly) {
            return ground.array(*index);
        }
    }
    let base = inventory.base_of(place).context("the array cannot be used through one member")?;
    let disk = ground.disk(base.partition.disk)?;
    let start = base.partition.start.checked_add(base.offset).and_then(Sectors::to_bytes);
    let (start, length) = start.zip(base.length.to_bytes()).context("beyond all disks")?;
    let length = length.0.min(disk.size().0.saturating_sub(start.0));
    Ok(Arc::new(SubView::new(disk, start, tierlift_ondisk::units::Bytes(length))?))
}
