//! The dump as text for people.

use super::{Gap, MappingKind, Sink};
use crate::pool::{Pool, ThinDevice};
use crate::run::Run;
use std::io::{self, Write};
use tierlift_ondisk::units::DeviceId;

pub(super) struct Human<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Human<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out }
    }
}

/// "5" or "5 to 9".
fn span(first: u64, length: u64) -> String {
    let last = first.saturating_add(length.saturating_sub(1));
    if length == 1 { first.to_string() } else { format!("{first} to {last}") }
}

impl Sink for Human<'_> {
    fn begin(&mut self, pool: &Pool) -> io::Result<()> {
        let sb = pool.superblock();
        writeln!(
            self.out,
            "Pool of {}, version {}, transaction {}, time {}",
            pool.family().name(),
            sb.version,
            sb.transaction,
            sb.time
        )?;
        let size = pool.chunk_bytes().human();
        writeln!(self.out, "{} chunks of {size}, {} in use", sb.data_map.nr_blocks, sb.data_map.nr_allocated)
    }

    fn device(&mut self, id: DeviceId, device: &ThinDevice) -> io::Result<bool> {
        write!(self.out, "\nDevice {id}")?;
        if let Some(details) = device.details {
            write!(self.out, ": {} chunks mapped, made in transaction {}", details.mapped, details.transaction)?;
            if let Some(origin) = details.snapshot_of() {
                write!(self.out, ", a snapshot of device {origin}")?;
            }
        }
        writeln!(self.out)?;
        Ok(true)
    }

    fn mapping(&mut self, run: &Run<MappingKind>) -> io::Result<()> {
        let (zeroed, time) = run.attribute;
        let (from, to) = (span(run.key, run.length), span(run.target, run.length));
        let zeroed = if zeroed == 0 { "" } else { ", reads as zeros" };
        writeln!(self.out, "  chunks {from} -> pool chunks {to}, time {time}{zeroed}")
    }

    fn device_end(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn tiering(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nTier tree")
    }

    fn tier(&mut self, run: &Run<u8>) -> io::Result<()> {
        let (from, to) = (span(run.key, run.length), span(run.target, run.length));
        writeln!(self.out, "  pieces {from} -> tier {}, blocks {to}", run.attribute)
    }

    fn tiering_end(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn gap(&mut self, gap: Gap<'_>) -> io::Result<()> {
        writeln!(self.out, "  LOST: {gap}")
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}
