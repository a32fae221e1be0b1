//! Mirrors: RAID 1, and RAID 10 with its near, far and offset copies.

use super::{GeometryError, Place, Run, Target, whole_chunks};
use crate::units::Sectors;

/// Layout bit: far copies lie one chunk on, not in another half of the member.
const FAR_OFFSET: u32 = 1 << 16;
/// Bits that say how far copies are spread over the members.
const FAR_SETS_SHIFT: u32 = 17;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copies {
    members: u64,
    chunk: u64,
    near: u64,
    far: u64,
    offset: bool,
    /// Members a far copy moves among.
    set: u64,
    /// Sectors between far copies on a member.
    stride: u64,
    size: u64,
}

impl Copies {
    /// RAID 1: all members have everything.
    pub(super) fn mirror(members: usize, size: Sectors) -> Self {
        let members = members as u64;
        Self { members, chunk: size.0, near: members, far: 1, offset: false, set: members, stride: 0, size: size.0 }
    }

    /// RAID 10 by its layout word: near copies in byte 0, far copies in byte 1.
    pub(super) fn new(layout: u32, chunk: u64, members: usize, component: Sectors) -> Result<Self, GeometryError> {
        let unknown = GeometryError::Layout { level: 10, layout };
        let count = members as u64;
        let (near, far) = (u64::from(layout & 255), u64::from(layout >> 8 & 255));
        let all = near.saturating_mul(far);
        if all == 0 || all > count {
            return Err(unknown);
        }
        let set = match layout >> FAR_SETS_SHIFT {
            0 => count,
            1 => count.checked_div(far).unwrap_or(count),
            2 => all,
            _ => return Err(unknown),
        };
        let offset = layout & FAR_OFFSET != 0;
        let component = whole_chunks(component.0, chunk).checked_div(chunk).unwrap_or(0);
        let array = component.checked_div(far).unwrap_or(0).saturating_mul(count).checked_div(near).unwrap_or(0);
        if array == 0 {
            return Err(GeometryError::Component(component));
        }
        // As many chunks of each member as the copies of the whole array need.
        let used = array.saturating_mul(all).div_ceil(count);
        let stride = if offset { 1 } else { used.checked_div(far).unwrap_or(0) };
        let size = array.saturating_mul(chunk);
        Ok(Self { members: count, chunk, near, far, offset, set, stride: stride.saturating_mul(chunk), size })
    }

    pub(super) fn size(&self) -> Sectors {
        Sectors(self.size)
    }

    pub(super) fn locate(&self, sector: Sectors) -> Option<Run> {
        let in_chunk = sector.0.checked_rem(self.chunk)?;
        let first = sector.0.checked_div(self.chunk)?.checked_mul(self.near)?;
        let mut member = first.checked_rem(self.members)?;
        let mut row = first.checked_div(self.members)?;
        if self.offset {
            row = row.checked_mul(self.far)?;
        }
        let mut at = row.checked_mul(self.chunk)?.checked_add(in_chunk)?;
        let mut places = Vec::new();
        for _ in 0..self.near {
            self.far_copies(member, at, &mut places)?;
            member = member.checked_add(1)?;
            if member >= self.members {
                member = 0;
                at = at.checked_add(self.chunk)?;
            }
        }
        // The near copies first: they are what md itself reads.
        places.sort_by_key(|(far, _)| *far);
        let places = places.into_iter().map(|(_, place)| place).collect();
        Some(Run { length: Sectors(self.chunk.checked_sub(in_chunk)?), target: Target::Copies(places) })
    }

    /// A near copy and its far copies, each with how far it is.
    fn far_copies(&self, mut member: u64, mut at: u64, places: &mut Vec<(u64, Place)>) -> Option<()> {
        // When the sets do not divide the members, the last set takes the rest.
        let rest = self.members.checked_rem(self.set)?;
        let last_start = self.members.checked_div(self.set)?.checked_sub(1)?.checked_mul(self.set)?;
        let last_size = self.set.checked_add(rest)?;
        for far in 0..self.far {
            places.push((far, Place { role: usize::try_from(member).ok()?, sector: Sectors(at) }));
            let set = member.checked_div(self.set)?;
            member = member.checked_add(self.near)?;
            member = if rest > 0 && member > last_start {
                member.checked_sub(last_start)?.checked_rem(last_size)?.checked_add(last_start)?
            } else {
                member.checked_rem(self.set)?.checked_add(self.set.checked_mul(set)?)?
            };
            at = at.checked_add(self.stride)?;
        }
        Some(())
    }

    /// The pattern of copies repeats after as many chunks as there are members.
    pub(super) fn can_start(&self, present: &[bool]) -> bool {
        let has = |place: &Place| present.get(place.role).copied().unwrap_or(false);
        (0..self.members).all(|index| {
            let sector = Sectors(index.saturating_mul(self.chunk));
            match self.locate(sector) {
                Some(Run { target: Target::Copies(places), .. }) => sector.0 >= self.size || places.iter().any(has),
                _ => true,
            }
        })
    }
}
