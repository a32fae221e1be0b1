//! Levels without redundancy: linear, one member after the other, and RAID 0, chunk by chunk over all members that still
//! have room (a "zone" for each size of member).

use super::{GeometryError, Place, Run, Target, whole_chunks};
use crate::units::Sectors;

/// RAID 0 as kernels before 3.14 wrote it: the member of a later zone is counted from the start of the array.
const ORIGINAL_LAYOUT: u32 = 1;

/// A stretch of the array that the same members share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Zone {
    /// First array sector, and the one behind the last.
    start: u64,
    end: u64,
    /// First sector on each member.
    member_start: u64,
    /// The roles that have room, in order.
    roles: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Zones {
    chunk: u64,
    /// Whether the member of a chunk is counted from the start of the array, not of the zone.
    original: bool,
    /// Of a linear array, one for each member.
    zones: Vec<Zone>,
}

impl Zones {
    pub(super) fn new(level: i32, layout: u32, chunk: u64, components: &[Sectors]) -> Result<Self, GeometryError> {
        let sizes: Vec<u64> = components.iter().map(|component| whole_chunks(component.0, chunk)).collect();
        if let Some(component) = components.iter().zip(&sizes).find_map(|(whole, size)| (*size == 0).then_some(whole)) {
            return Err(GeometryError::Component(component.0));
        }
        let zones = if level == 0 { striped(&sizes) } else { concatenated(&sizes) };
        Ok(Self { chunk, original: layout == ORIGINAL_LAYOUT, zones })
    }

    /// Whether later sectors of the array never lie before earlier ones on the members.
    pub(super) fn rises(&self) -> bool {
        self.zones.is_sorted_by_key(|zone| zone.member_start)
            && self.zones.iter().skip(1).all(|zone| zone.member_start > 0)
    }

    pub(super) fn size(&self) -> Sectors {
        Sectors(self.zones.last().map_or(0, |zone| zone.end))
    }

    pub(super) fn locate(&self, sector: Sectors) -> Option<Run> {
        let next = self.zones.partition_point(|zone| zone.end <= sector.0);
        let zone = self.zones.get(next)?;
        let inside = sector.0.checked_sub(zone.start)?;
        let (role, at, length) = match zone.roles.as_slice() {
            [role] => (*role, inside, zone.end.checked_sub(sector.0)?),
            roles => {
                let counted = if self.original { sector.0 } else { inside };
                let index = counted.checked_div(self.chunk)?.checked_rem(roles.len() as u64)?;
                let row = inside.checked_div(self.chunk)?.checked_div(roles.len() as u64)?;
                let in_chunk = counted.checked_rem(self.chunk)?;
                let at = row.checked_mul(self.chunk)?.checked_add(in_chunk)?;
                (*roles.get(usize::try_from(index).ok()?)?, at, self.chunk.checked_sub(in_chunk)?)
            }
        };
        let place = Place { role, sector: Sectors(zone.member_start.checked_add(at)?) };
        Some(Run { length: Sectors(length), target: Target::Copies(vec![place]) })
    }
}

fn concatenated(sizes: &[u64]) -> Vec<Zone> {
    let mut start = 0u64;
    let zone = |(role, size): (usize, &u64)| {
        let end = start.saturating_add(*size);
        let zone = Zone { start, end, member_start: 0, roles: vec![role] };
        start = end;
        zone
    };
    sizes.iter().enumerate().map(zone).collect()
}

fn striped(sizes: &[u64]) -> Vec<Zone> {
    let mut levels: Vec<u64> = sizes.to_vec();
    levels.sort_unstable();
    levels.dedup();
    let (mut start, mut member_start) = (0u64, 0u64);
    let mut zones = Vec::new();
    for level in levels {
        let larger = sizes.iter().enumerate().filter(|(_, size)| **size > member_start);
        let roles: Vec<usize> = larger.map(|(role, _)| role).collect();
        let length = level.saturating_sub(member_start).saturating_mul(roles.len() as u64);
        let end = start.saturating_add(length);
        zones.push(Zone { start, end, member_start, roles });
        (start, member_start) = (end, level);
    }
    zones
}
