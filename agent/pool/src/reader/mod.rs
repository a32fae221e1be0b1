//! A thin device put together from the pool and its data devices, without a kernel.
//!
//! The device's mappings are loaded once as runs, the tier tree too when it is used; after that reading is arithmetic.
//! What was never mapped reads as zeros, as the kernel would answer; what is lost is an error.

mod address;
mod segment;

pub use segment::{LossReason, Segment, Source};

use crate::blocks::View;
use crate::fault::Lost;
use crate::mode::Mode;
use crate::pool::{DeviceTable, Pool, Step};
use crate::run::{Lookup, Run, RunMap};
use address::AddressSpace;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};
use tierlift_ondisk::view::ReadAt;

/// Why a thin device cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// No such device, and no damage that could hide it.
    #[error("the pool has no thin device {wanted}; it has: {}", list(.known))]
    UnknownDevice {
        /// The id asked for.
        wanted: DeviceId,
        /// The ids there are.
        known: Vec<DeviceId>,
    },
    /// The mapping tree of the device cannot be found.
    #[error(
        "the mapping tree of device {device} is lost{}; nothing of it can be read this way. The repair verbs search for it",
        .hole.as_ref().map(|lost| format!(": block {} of the tree above it: {}", lost.block, lost.fault)).unwrap_or_default()
    )]
    DeviceLost {
        /// The device.
        device: DeviceId,
        /// The hole that hides it.
        hole: Option<Box<Lost>>,
    },
    /// The mode must be known.
    #[error(
        "how the pool's data lie on its tiers is undecided; say it (bypass or tier map) as the volume group has it"
    )]
    ModeUndecided,
    /// The mode does not fit the pool.
    #[error("the pool has no tier tree: it cannot be read through one")]
    NoTierTree,
    /// The size is neither given nor to be seen.
    #[error(
        "the end of device {0} cannot be seen, because the last part of its mapping tree is lost; give its size (the volume \
         group has it)"
    )]
    SizeUnknown(DeviceId),
    /// A size that no device can have.
    #[error("the device would be longer than 64 bits can say: mapped up to chunk {0}")]
    TooLong(u64),
}

pub(crate) fn list(ids: &[DeviceId]) -> String {
    if ids.is_empty() {
        return "none".into();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A thin device as a read-only view.
#[derive(Debug)]
pub struct ThinReader {
    size: Bytes,
    chunk: u64,
    /// Virtual chunks to pool chunks; the attribute says that they must read as zeros.
    map: RunMap<bool>,
    space: AddressSpace,
}

impl ThinReader {
    /// Loads the device's mappings. `tiers` are the data devices by tier number (a plain pool's one is number 0); a missing
    /// one makes what lies on it an error. `size` is the device's size, which the metadata does not record: `None` for up
    /// to the end of the highest mapped chunk.
    ///
    /// # Errors
    /// When the device is unknown or its tree cannot be found, or the mode cannot be used; without `size` also when a hole
    /// hides where the highest mapped chunk is.
    pub fn new(
        pool: &Pool,
        tiers: BTreeMap<u8, View>,
        device: DeviceId,
        mode: Mode,
        size: Option<Bytes>,
    ) -> Result<Self, ReaderError> {
        let root = find_root(&pool.devices(), device)?;
        let space = AddressSpace::new(pool, tiers, mode)?;
        let mut map = RunMap::default();
        let done: Result<(), Infallible> = pool.mappings(root, |step| {
            match step {
                Step::Found(key, value) => map.push(key, value.chunk.0, value.zeroed != 0),
                Step::Lost(hole) => map.push_lost(hole),
            }
            Ok(())
        });
        let Ok(()) = done;
        map.finish();
        let mut reader = Self { size: Bytes(0), chunk: pool.chunk_bytes().0, map, space };
        reader.size = match size {
            Some(size) => size,
            None => reader.mapped_end(device)?,
        };
        Ok(reader)
    }

    /// End of the highest chunk known to be mapped.
    fn mapped_end(&self, device: DeviceId) -> Result<Bytes, ReaderError> {
        let end = self.map.runs.last().map_or(0, Run::end);
        if self.map.lost.last().is_some_and(|hole| hole.keys.last >= end) {
            return Err(ReaderError::SizeUnknown(device));
        }
        end.checked_mul(self.chunk).map(Bytes).ok_or(ReaderError::TooLong(end))
    }

    /// Holes in the device's mapping tree, in virtual chunks; some may lie beyond the device's size.
    pub fn lost_chunks(&self) -> &[Lost] {
        &self.map.lost
    }

    /// Where the bytes from `offset` on come from, as far as they come from one place; `None` at the end of the device.
    pub fn segment_at(&self, offset: Bytes) -> Option<Segment> {
        let left = self.size.0.checked_sub(offset.0).filter(|left| *left > 0)?;
        let (source, length) = self.source_at(offset.0, left)?;
        Some(Segment { offset, length: Bytes(length.clamp(1, left)), source })
    }

    /// All segments from the start to the end; together they are exactly the device.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let mut next = Bytes(0);
        std::iter::from_fn(move || {
            let segment = self.segment_at(next)?;
            next = segment.end();
            Some(segment)
        })
    }

    fn source_at(&self, offset: u64, left: u64) -> Option<(Source, u64)> {
        let (found, next) = self.map.lookup(offset.checked_div(self.chunk)?);
        let next = next.and_then(|next| next.checked_mul(self.chunk));
        let length = next.map_or(left, |next| next.saturating_sub(offset).min(left));
        let source = match found {
            Lookup::Nothing => Source::Zeros,
            Lookup::Run(run) if run.attribute => Source::Zeros,
            Lookup::Hole(hole) => Source::Lost(LossReason::Mapping { block: hole.block, fault: hole.fault.clone() }),
            Lookup::Run(run) => {
                let inside = offset.checked_sub(run.key.checked_mul(self.chunk)?)?;
                return Some(self.space.source(run.target, inside, length));
            }
        };
        Some((source, length))
    }
}

fn find_root(table: &DeviceTable, device: DeviceId) -> Result<MetaBlock, ReaderError> {
    let known = table.devices.get(&device);
    if let Some(root) = known.and_then(|device| device.root) {
        return Ok(root);
    }
    let hole = table.root_hole(device).cloned().map(Box::new);
    if known.is_some() || hole.is_some() {
        return Err(ReaderError::DeviceLost { device, hole });
    }
    Err(ReaderError::UnknownDevice { wanted: device, known: table.devices.keys().copied().collect() })
}

impl ReadAt for ThinReader {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read_at(&self, mut offset: Bytes, mut buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(Bytes(buffer.len() as u64));
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buffer.is_empty() {
            let segment = self.segment_at(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
            let count = usize::try_from(segment.length.0).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(count);
            match segment.source {
                Source::Zeros => now.fill(0),
                Source::Data { tier, offset } => self.space.read(tier, offset, now)?,
                Source::Lost(reason) => return Err(io::Error::other(reason)),
            }
            buffer = rest;
            offset = Bytes(offset.0.saturating_add(count as u64));
        }
        Ok(())
    }
}
