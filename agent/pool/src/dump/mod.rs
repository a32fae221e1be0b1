//! Everything the trees say, streamed: one walk, three forms.

mod human;
mod json;
mod xml;

use crate::fault::Lost;
use crate::pool::{DeviceTable, Pool, Step, ThinDevice};
use crate::run::{Run, Runs};
use std::fmt;
use std::io::{self, Write};
use tierlift_ondisk::thin::{MappingValue, TierValue};
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// The form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// thin_dump's XML: QNAP's dialect for QNAP's pools, the stock one for stock pools.
    Xml,
    /// One JSON object.
    Json,
    /// Text for people.
    Human,
}

/// What a dump could not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap<'a> {
    /// Device records.
    Details(&'a Lost),
    /// Roots of device mapping trees.
    Roots(&'a Lost),
    /// Mappings of a device.
    Mappings(DeviceId, &'a Lost),
    /// Tier mappings.
    Tiers(&'a Lost),
    /// A device with mappings but without a record; XML has no form for it.
    NoRecord(DeviceId),
    /// A device with a record but without a mapping tree.
    NoTree(DeviceId),
}

impl fmt::Display for Gap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Details(lost) => write!(f, "records of device ids {} are lost", lost.keys)?,
            Self::Roots(lost) => write!(f, "mapping trees of device ids {} are lost", lost.keys)?,
            Self::Mappings(device, lost) => write!(f, "device {device}: mappings of chunks {} are lost", lost.keys)?,
            Self::Tiers(lost) => write!(f, "tier mappings of pool pieces {} are lost", lost.keys)?,
            Self::NoRecord(device) => write!(f, "device {device} has mappings but its record is lost or missing")?,
            Self::NoTree(device) => write!(f, "device {device} has a record but its mapping tree is lost or missing")?,
        }
        match self {
            Self::Details(lost) | Self::Roots(lost) | Self::Mappings(_, lost) | Self::Tiers(lost) => {
                write!(f, " (block {}: {})", lost.block, lost.fault)
            }
            Self::NoRecord(_) | Self::NoTree(_) => Ok(()),
        }
    }
}

/// Zeroed flag and time of a run of mappings.
type MappingKind = (u8, u32);

/// One form of dump. Calls come in the order of the trees: begin, then for each device `device`, its mappings and gaps,
/// `device_end`; then, when there are tiers, `tiering`, tiers and gaps, `tiering_end`; then end.
trait Sink {
    fn begin(&mut self, pool: &Pool) -> io::Result<()>;
    /// `false` when this form cannot tell such a device; its mappings are then left out.
    fn device(&mut self, id: DeviceId, device: &ThinDevice) -> io::Result<bool>;
    fn mapping(&mut self, run: &Run<MappingKind>) -> io::Result<()>;
    fn device_end(&mut self) -> io::Result<()>;
    fn tiering(&mut self) -> io::Result<()>;
    fn tier(&mut self, run: &Run<u8>) -> io::Result<()>;
    fn tiering_end(&mut self) -> io::Result<()>;
    fn gap(&mut self, gap: Gap<'_>) -> io::Result<()>;
    fn end(&mut self) -> io::Result<()>;
}

/// Writes the dump of a pool; `on_gap` is told each thing the dump could not say, as it is met. Needs memory for the list of
/// devices and one node a tree level.
///
/// # Errors
/// When `out` cannot be written.
pub fn dump(pool: &Pool, format: Format, out: &mut dyn Write, on_gap: &mut dyn FnMut(Gap<'_>)) -> io::Result<()> {
    match format {
        Format::Xml => Dumper { pool, sink: &mut xml::Xml::new(out), on_gap }.run(),
        Format::Json => Dumper { pool, sink: &mut json::Json::new(out), on_gap }.run(),
        Format::Human => Dumper { pool, sink: &mut human::Human::new(out), on_gap }.run(),
    }
}

struct Dumper<'a, S: ?Sized> {
    pool: &'a Pool,
    sink: &'a mut S,
    on_gap: &'a mut dyn FnMut(Gap<'_>),
}

impl<S: Sink> Dumper<'_, S> {
    fn run(mut self) -> io::Result<()> {
        let table = self.pool.devices();
        self.sink.begin(self.pool)?;
        self.table_gaps(&table)?;
        for (id, device) in &table.devices {
            self.device(*id, device)?;
        }
        if self.pool.superblock().tier_num > 0 {
            self.tiers()?;
        }
        self.sink.end()
    }

    fn gap(&mut self, gap: Gap<'_>) -> io::Result<()> {
        (self.on_gap)(gap);
        self.sink.gap(gap)
    }

    fn table_gaps(&mut self, table: &DeviceTable) -> io::Result<()> {
        table.lost_details.iter().try_for_each(|lost| self.gap(Gap::Details(lost)))?;
        table.lost_roots.iter().try_for_each(|lost| self.gap(Gap::Roots(lost)))
    }

    fn device(&mut self, id: DeviceId, device: &ThinDevice) -> io::Result<()> {
        if device.details.is_none() {
            self.gap(Gap::NoRecord(id))?;
        }
        if !self.sink.device(id, device)? {
            return Ok(());
        }
        match device.root {
            Some(root) => self.mappings(id, root)?,
            None => self.gap(Gap::NoTree(id))?,
        }
        self.sink.device_end()
    }

    fn mappings(&mut self, id: DeviceId, root: MetaBlock) -> io::Result<()> {
        let mut runs = Runs::default();
        self.pool.mappings(root, |step| match step {
            Step::Found(key, MappingValue { chunk, zeroed, time }) => {
                runs.push(key, chunk.0, (zeroed, time)).iter().try_for_each(|run| self.sink.mapping(run))
            }
            Step::Lost(lost) => {
                runs.finish().iter().try_for_each(|run| self.sink.mapping(run))?;
                self.gap(Gap::Mappings(id, &lost))
            }
        })?;
        runs.finish().iter().try_for_each(|run| self.sink.mapping(run))
    }

    fn tiers(&mut self) -> io::Result<()> {
        self.sink.tiering()?;
        let mut runs = Runs::default();
        self.pool.tiers(|step| match step {
            Step::Found(key, TierValue { tier, block, .. }) => {
                runs.push(key, block.0, tier).iter().try_for_each(|run| self.sink.tier(run))
            }
            Step::Lost(lost) => {
                runs.finish().iter().try_for_each(|run| self.sink.tier(run))?;
                self.gap(Gap::Tiers(&lost))
            }
        })?;
        runs.finish().iter().try_for_each(|run| self.sink.tier(run))?;
        self.sink.tiering_end()
    }
}
