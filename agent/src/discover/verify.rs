//! Accepts no array whose members do not fit together: samples are taken once the volumes on it are known, and what they
//! contradict is taken back before anything is read through it.

use super::Search;
use super::sampling::{Block, Findings, Remembered, Sampler};
use crate::block::{RaidView, View};
use crate::inventory::{Extents, Inventory, LogicalVolumeKind, PvPlace};
use crate::volume::array::members;
use crate::volume::{DiskTarget, stretches_on_disks};
use std::collections::BTreeMap;
use std::sync::Arc;
use tierlift_ondisk::thin::BlockSize;
use tierlift_ondisk::thin::identify;
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// Blocks of metadata that are looked at on an array of four; fewer on larger ones. Half of them are the first ones, the
/// rest is spread.
const MOST_BLOCKS: usize = 256;
/// Places on each data volume.
const DATA_PLACES: u64 = 24;

/// What the samples said of an array, by its UUID.
#[derive(Debug, Clone, Default)]
pub(super) struct Decision {
    /// Members that must not be used, by their place, with the reason.
    pub(super) excluded: Vec<(Extents, String)>,
    /// Why the array must not be used at all.
    pub(super) refused: Option<String>,
}

/// Decisions by array UUID.
pub(super) type Decisions = BTreeMap<String, Decision>;

impl Search {
    /// Samples every array that is put together. True when something was decided that changes what can be read.
    pub(super) fn verify(&mut self) -> bool {
        let mut changed = false;
        for index in 0..self.inventory.arrays.len() {
            let Some(mut findings) = self.sample(index) else { continue };
            let Some(array) = self.inventory.arrays.get_mut(index) else { continue };
            if self.given.contains_key(&array.uuid) {
                // The user's word stands; what speaks against it is said.
                let against = findings.exclude.take().map(|(role, why)| format!("the member of role {role}: {why}"));
                let against = against.into_iter().chain(findings.refuse.take());
                findings.notes.extend(against.map(|why| format!("samples speak against your choice: {why}")));
            }
            let decision = self.decisions.entry(array.uuid.clone()).or_default();
            if let Some((role, why)) = findings.exclude {
                let member = array.assembly.as_ref().and_then(|assembly| *assembly.roles.get(role)?);
                let place = member.and_then(|member| array.members.get(member)).map(|member| member.place.clone());
                decision.excluded.extend(place.map(|place| (place, why)));
                changed = true;
            } else if findings.refuse.is_some() {
                decision.refused = findings.refuse;
                changed = true;
            }
            array.notes.extend(findings.notes);
            array.assembly.iter_mut().for_each(|assembly| assembly.evidence.extend(findings.evidence.iter().cloned()));
        }
        changed
    }

    fn sample(&self, index: usize) -> Option<Findings> {
        let array = self.inventory.arrays.get(index)?;
        if array.level_number() == 1 || array.raid_disks == 1 || array.system {
            return None;
        }
        let assembly = array.assembly.as_ref()?;
        let geometry = array.geometry().ok()?;
        let members = members(&self.inventory, index, &|disk| self.views.get(disk)?.clone()).ok()?;
        let known = is_known(&self.inventory, index);
        let places = Places::of(&self.inventory, index);
        // Many orders of the members are tried, but each sample is read once.
        let members: Vec<Option<View>> =
            members.into_iter().map(|member| member.map(|member| Arc::new(Remembered::new(member)) as View)).collect();
        let view = RaidView::new(geometry.clone(), members.clone()).ok()?;
        let blocks = places.blocks(&view, members.len());
        let wanted = blocks.iter().map(|block| block.sector).chain(places.data()).collect();
        Some(Sampler { geometry: &geometry, members, wanted, blocks, dirty: assembly.dirty, known }.look())
    }
}

/// Whether a volume group names the array, or what it carries directly has a name.
fn is_known(inventory: &Inventory, index: usize) -> bool {
    let volumes = inventory.volume_groups.iter().flat_map(|group| &group.physical_volumes);
    let named = volumes
        .filter_map(|pv| pv.place.as_ref())
        .any(|place| matches!(place, PvPlace::Array(array) if *array == index));
    let nested = inventory.arrays.iter().flat_map(|array| &array.members).any(|member| member.on_array == Some(index));
    let direct = inventory
        .arrays
        .get(index)
        .is_some_and(|array| array.carries.iter().any(|line| line.contains("file system") || line.contains("LUKS")));
    named || nested || direct
}

/// A stretch of a volume on the array: where in the volume, where on the array, how long.
type Part = (Sectors, Sectors, Sectors);

/// Where pools lie on an array.
#[derive(Default)]
struct Places {
    /// One list for each metadata volume.
    metadata: Vec<Vec<Part>>,
    data: Vec<Vec<Part>>,
}

impl Places {
    fn of(inventory: &Inventory, array: usize) -> Self {
        let mut places = Self::default();
        for (index, group) in inventory.volume_groups.iter().enumerate() {
            for volume in &group.logical_volumes {
                let LogicalVolumeKind::Pool(pool) = &volume.kind else { continue };
                places.metadata.push(parts(inventory, index, &pool.metadata, array));
                places.data.extend(pool.tiers.iter().flatten().map(|tier| parts(inventory, index, tier, array)));
            }
        }
        places
    }

    /// The metadata blocks worth a look, in the size in which more of them make sense.
    fn blocks(&self, view: &dyn ReadAt, members: usize) -> Vec<Block> {
        // A block costs as much as its row has members.
        let limit = MOST_BLOCKS.checked_mul(4).and_then(|most| most.checked_div(members.max(4))).unwrap_or(0);
        let all = |size| {
            let each = limit.checked_div(self.metadata.len().max(1)).unwrap_or(0).max(16);
            self.metadata.iter().flat_map(|parts| blocks_of(parts, size, each)).collect::<Vec<Block>>()
        };
        let sound = |blocks: &[Block]| blocks.iter().filter(|block| is_sound(view, block)).count();
        let sizes = BlockSize::PROBE_ORDER.map(all);
        sizes.into_iter().rev().max_by_key(|blocks| sound(blocks)).unwrap_or_default()
    }

    /// Places on data volumes, spread.
    fn data(&self) -> impl Iterator<Item = Sectors> + '_ {
        self.data.iter().flatten().flat_map(|(_, sector, length)| {
            let step = length.0.checked_div(DATA_PLACES).unwrap_or(0).max(16);
            let places = (0..DATA_PLACES).map(move |number| number.saturating_mul(step));
            places.filter(|place| *place < length.0).map(|place| Sectors(sector.0.saturating_add(place)))
        })
    }
}

fn parts(inventory: &Inventory, group: usize, volume: &str, wanted: usize) -> Vec<Part> {
    let mut start = Sectors(0);
    let mut parts = Vec::new();
    for (length, target) in stretches_on_disks(inventory, group, volume).unwrap_or_default() {
        if let DiskTarget::Array { array, sector } = target {
            parts.extend((array == wanted).then_some((start, sector, length)));
        }
        start = Sectors(start.0.saturating_add(length.0));
    }
    parts
}

/// The blocks of a metadata volume that are worth a look: the first ones, and ever fewer behind them.
pub(super) fn blocks_of(parts: &[Part], size: BlockSize, limit: usize) -> Vec<Block> {
    let sectors = (size.bytes() / 512) as u64;
    let end = parts.last().map_or(0, |(start, _, length)| start.0.saturating_add(length.0));
    let count = end.checked_div(sectors).unwrap_or(0);
    // How much of the volume is in use is not known: later blocks ever farther apart reach every member in any case.
    let (first, later) = ((limit / 2) as u64, (limit / 2) as u64);
    let spread = (1..=later).map(|number| {
        let share = u128::from(count).saturating_mul(u128::from(number).saturating_pow(3));
        let place = share.checked_div(u128::from(later).saturating_pow(3)).unwrap_or(0);
        u64::try_from(place).unwrap_or(count).saturating_sub(1)
    });
    let numbers: std::collections::BTreeSet<u64> = (0..first).chain(spread).filter(|number| *number < count).collect();
    let place = |number: u64| {
        let at = number.checked_mul(sectors)?;
        let (start, sector, _) = parts.iter().find(|(start, _, length)| {
            at >= start.0 && at.saturating_add(sectors) <= start.0.saturating_add(length.0)
        })?;
        let sector = Sectors(sector.0.checked_add(at.checked_sub(start.0)?)?);
        Some(Block { number, sector, size })
    };
    numbers.into_iter().filter_map(place).collect()
}

fn is_sound(view: &dyn ReadAt, block: &Block) -> bool {
    let mut bytes = vec![0; block.size.bytes()];
    let read = block.sector.to_bytes().is_some_and(|offset| view.read_at(offset, &mut bytes).is_ok());
    read && identify(&bytes).is_some()
}
