//! An md array read through its members, without the kernel.
//!
//! What one member cannot give is rebuilt from the others, sector by sector, so that bad sectors of several members hurt only
//! where they meet. What cannot be rebuilt is an error that names the sector and says why: never zeros, never a guess.

use super::View;
use std::io;
use tierlift_ondisk::raid::{Geometry, Place, Row, Run, Target};
use tierlift_ondisk::units::{Bytes, SECTOR_BYTES, Sectors};
use tierlift_ondisk::view::ReadAt;

/// An array over views of its members' data.
pub struct RaidView {
    geometry: Geometry,
    /// By role; `None` where a member is missing.
    members: Vec<Option<View>>,
    /// The role that is read first where several have the same.
    first: Option<usize>,
}

impl RaidView {
    /// An array of these members, by role, each view beginning where the member's data begin. A view may be shorter than the
    /// member was: what lies beyond its end counts as unreadable.
    ///
    /// # Errors
    /// When the geometry has another number of members.
    pub fn new(geometry: Geometry, members: Vec<Option<View>>) -> io::Result<Self> {
        if geometry.members() != members.len() {
            let message = format!("{} members given for an array of {}", members.len(), geometry.members());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self { geometry, members, first: None })
    }

    /// The same, reading role `first` before its copies.
    pub fn reading_first(self, first: Option<usize>) -> Self {
        Self { first, ..self }
    }

    /// The layout.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// A stretch within one run, from `skip` bytes into it.
    fn read_run(&self, sector: Sectors, run: &Run, skip: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.read_piece(run, skip, buffer).is_ok() {
            return Ok(());
        }
        // Something in it cannot be read in one go; each sector has its own fate.
        let (mut skip, mut rest) = (skip, buffer);
        while !rest.is_empty() {
            let to_end = SECTOR_BYTES.saturating_sub(skip.checked_rem(SECTOR_BYTES).unwrap_or(0));
            let count = usize::try_from(to_end).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            self.read_piece(run, skip, now).map_err(|why| {
                let sector = sector.0.saturating_add(skip.checked_div(SECTOR_BYTES).unwrap_or(0));
                io::Error::other(format!("array sector {sector} cannot be read or rebuilt: {why}"))
            })?;
            skip = skip.saturating_add(count as u64);
            rest = later;
        }
        Ok(())
    }

    fn read_piece(&self, run: &Run, skip: u64, buffer: &mut [u8]) -> Result<(), String> {
        match &run.target {
            Target::Copies(places) => self.read_copies(places, skip, buffer),
            Target::Parity(place, row) => match self.read_member(*place, skip, buffer) {
                Ok(()) => Ok(()),
                Err(why) => self.rebuild(*place, row, skip, buffer).map_err(|others| format!("{why}; {others}")),
            },
        }
    }

    fn read_copies(&self, places: &[Place], skip: u64, buffer: &mut [u8]) -> Result<(), String> {
        let mut failed = Vec::new();
        let preferred = places.iter().filter(|place| Some(place.role) == self.first);
        let others = places.iter().filter(|place| Some(place.role) != self.first);
        for place in preferred.chain(others) {
            match self.read_member(*place, skip, buffer) {
                Ok(()) => return Ok(()),
                Err(why) => failed.push(why),
            }
        }
        Err(failed.join("; "))
    }

    fn read_member(&self, place: Place, skip: u64, buffer: &mut [u8]) -> Result<(), String> {
        let role = place.role;
        let Some(Some(member)) = self.members.get(role) else { return Err(format!("role {role} is missing")) };
        let offset = place.sector.to_bytes().and_then(|start| start.checked_add(Bytes(skip)));
        let offset = offset.ok_or_else(|| format!("role {role}: beyond all disks"))?;
        member.read_at(offset, buffer).map_err(|error| format!("role {role}: {error}"))
    }

    fn rebuild(&self, place: Place, row: &Row, skip: u64, buffer: &mut [u8]) -> Result<(), String> {
        let mut failed = Vec::new();
        let mut read = Vec::new();
        for role in 0..row.members {
            let mut bytes = vec![0; buffer.len()];
            let outcome = if role == place.role {
                None
            } else {
                match self.read_member(Place { role, ..place }, skip, &mut bytes) {
                    Ok(()) => Some(bytes),
                    Err(why) => {
                        failed.push(why);
                        None
                    }
                }
            };
            read.push(outcome);
        }
        let known: Vec<Option<&[u8]>> = read.iter().map(Option::as_deref).collect();
        let rebuilt = row.rebuild(place.role, &known).ok_or_else(|| failed.join("; "))?;
        buffer.copy_from_slice(rebuilt.get(..buffer.len()).ok_or("nothing to rebuild it from")?);
        Ok(())
    }

    /// Bytes into the run at which something may be that is not zeros; `None` when the whole run is a hole.
    fn data_in(&self, run: &Run) -> Option<u64> {
        match &run.target {
            // Another copy is read only where this one cannot be.
            Target::Copies(places) => {
                let preferred = places.iter().find(|place| Some(place.role) == self.first).or(places.first())?;
                self.data_on_member(*preferred, run.length)
            }
            Target::Parity(place, row) if !self.has(*place, run.length) => {
                let others = (0..row.members).filter(|role| *role != place.role);
                others.filter_map(|role| self.data_on_member(Place { role, ..*place }, run.length)).min()
            }
            Target::Parity(place, _) => self.data_on_member(*place, run.length),
        }
    }

    /// Whether the member is there and reaches so far.
    fn has(&self, place: Place, length: Sectors) -> bool {
        let end = place.sector.checked_add(length).and_then(Sectors::to_bytes);
        let member = self.members.get(place.role).and_then(Option::as_ref);
        member.zip(end).is_some_and(|(member, end)| end <= member.size())
    }

    /// The same for the stretch of one member; what is not there is no hole.
    fn data_on_member(&self, place: Place, length: Sectors) -> Option<u64> {
        let Some(Some(member)) = self.members.get(place.role).filter(|_| self.has(place, length)) else {
            return Some(0);
        };
        let start = place.sector.to_bytes()?;
        let inside = member.next_data(start)?.checked_sub(start)?;
        (inside < length.to_bytes()?).then_some(inside.0)
    }

    /// The first byte on any member from `sector` of it on that is not known to be a hole, in sectors; the end of the
    /// shortest where all are. `None` when a member is missing that would have to be rebuilt from others.
    fn next_on_members(&self, sector: Sectors) -> Option<Sectors> {
        let start = sector.to_bytes()?;
        let mut next = Sectors(u64::MAX);
        for member in &self.members {
            let member = member.as_ref()?;
            let data = member.next_data(start).unwrap_or(member.size());
            next = next.min(data.to_sectors());
        }
        Some(next)
    }
}

impl ReadAt for RaidView {
    fn size(&self) -> Bytes {
        self.geometry.size().to_bytes().unwrap_or_default()
    }

    fn read_at(&self, mut offset: Bytes, mut buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(Bytes(buffer.len() as u64));
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buffer.is_empty() {
            let sector = offset.to_sectors();
            let run = self.geometry.locate(sector).ok_or(io::ErrorKind::UnexpectedEof)?;
            let skip = offset.0.checked_rem(SECTOR_BYTES).unwrap_or(0);
            let left = run.length.to_bytes().unwrap_or_default().0.saturating_sub(skip);
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(count);
            self.read_run(sector, &run, skip, now)?;
            buffer = rest;
            offset = Bytes(offset.0.saturating_add(count as u64));
        }
        Ok(())
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        let mut sector = offset.to_sectors();
        loop {
            let run = self.geometry.locate(sector)?;
            if let Some(inside) = self.data_in(&run) {
                return sector.to_bytes()?.checked_add(Bytes(inside)).map(|data| data.max(offset));
            }
            sector = sector.checked_add(run.length)?;
            let first = match self.geometry.locate(sector)?.target {
                Target::Copies(places) => places.first()?.sector,
                Target::Parity(place, _) => place.sector,
            };
            if let Some(beyond) = self.next_on_members(first).and_then(|next| self.geometry.skip_to(sector, next)) {
                sector = beyond;
            }
        }
    }
}

#[cfg(test)]
#[path = "raid_tests.rs"]
mod tests;
