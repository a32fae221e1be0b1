//! Packing.

use super::{
    END, HEADER, MAGIC, MOST_UNITS, PackError, PackSummary, RECORD, UNIT, UNIT_BYTES, UNITS, UNREADABLE, VERSION,
    WINDOW_LOG,
};
use std::io::Write;
use tierlift_ondisk::field::put;
use tierlift_ondisk::thin::identify;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// How much is read at once: a record's worth.
const PIECE: usize = UNIT * MOST_UNITS;
/// The larger size of a metadata block.
const PAIR: usize = 2 * UNIT;
const PAIR_BYTES: u64 = PAIR as u64;
/// As much may be no metadata whatever the rest is: damage, and remains of an earlier use.
const FOREIGN_AT_LEAST: u64 = 16 << 20;
/// Metadata compress well; more gains little and costs much.
const LEVEL: i32 = 6;

struct Packer<'a, W: Write> {
    device: &'a dyn ReadAt,
    out: zstd::stream::write::Encoder<'static, W>,
    summary: PackSummary,
}

/// Packs a metadata device.
///
/// # Errors
/// When the device holds something else than metadata, or the output fails. What cannot be read is no error: it is recorded.
pub fn pack<W: Write>(device: &dyn ReadAt, mut out: W) -> Result<PackSummary, PackError> {
    let size = device.size();
    out.write_all(&header(size)).map_err(PackError::Write)?;
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL).map_err(PackError::Write)?;
    encoder.window_log(WINDOW_LOG).and_then(|()| encoder.include_checksum(true)).map_err(PackError::Write)?;
    let summary = PackSummary { device: size, ..PackSummary::default() };
    let mut packer = Packer { device, out: encoder, summary };
    let mut offset = 0;
    while let Some(found) = device.next_data(Bytes(offset)) {
        let start = offset.max(found.0.saturating_sub(found.0 % PAIR_BYTES));
        let end = start.saturating_add(PIECE as u64).min(size.0);
        packer.piece(start, end)?;
        packer.check_kind(FOREIGN_AT_LEAST)?;
        offset = end;
    }
    packer.check_kind(0)?;
    packer.finish()
}

fn header(size: Bytes) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    put(&mut header, 8, &VERSION.to_le_bytes());
    put(&mut header, 12, &(UNIT as u32).to_le_bytes());
    put(&mut header, 16, &size.0.to_le_bytes());
    put(&mut header, 24, &[0; 4]);
    let sum = crc32c::crc32c(&header);
    put(&mut header, HEADER.saturating_sub(4), &sum.to_le_bytes());
    header
}

fn record(kind: u32, count: u32, first: u64, payload: &[u8]) -> Vec<u8> {
    let mut record = kind.to_le_bytes().to_vec();
    put(&mut record, 4, &count.to_le_bytes());
    put(&mut record, 8, &first.to_le_bytes());
    put(&mut record, 16, &crc32c::crc32c(payload).to_le_bytes());
    let sum = crc32c::crc32c(&record);
    put(&mut record, RECORD.saturating_sub(4), &sum.to_le_bytes());
    record
}

impl<W: Write> Packer<'_, W> {
    /// Packs what is not zero from `start` up to `end`.
    fn piece(&mut self, start: u64, end: u64) -> Result<(), PackError> {
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(PIECE);
        // The last unit of a device may be shorter; what is missing is packed as zeros.
        let mut bytes = vec![0; length.next_multiple_of(UNIT)];
        let first = start / UNIT_BYTES;
        if self.device.read_at(Bytes(start), bytes.get_mut(..length).unwrap_or_default()).is_ok() {
            return self.units(first, &bytes);
        }
        for (number, unit) in (first..).zip(bytes.chunks_mut(UNIT)) {
            let at = number.saturating_mul(UNIT_BYTES);
            let length = usize::try_from(end.saturating_sub(at)).unwrap_or(UNIT).min(UNIT);
            match self.device.read_at(Bytes(at), unit.get_mut(..length).unwrap_or_default()) {
                Ok(()) => self.units(number, unit)?,
                Err(_) => self.unreadable(number)?,
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, unit: u64) -> Result<(), PackError> {
        self.summary.unreadable = more(self.summary.unreadable, UNIT);
        self.out.write_all(&record(UNREADABLE, 1, unit, &[])).map_err(PackError::Write)
    }

    /// Packs the stretches of units that are not zero.
    fn units(&mut self, first: u64, bytes: &[u8]) -> Result<(), PackError> {
        self.count(bytes);
        let used: Vec<bool> = bytes.chunks(UNIT).map(|unit| unit.iter().any(|byte| *byte != 0)).collect();
        let mut at: usize = 0;
        for stretch in used.chunk_by(|one, other| one == other) {
            let end = at.saturating_add(stretch.len());
            let payload = bytes.get(at.saturating_mul(UNIT)..end.saturating_mul(UNIT)).unwrap_or_default();
            if stretch.first() == Some(&true) {
                self.summary.packed = more(self.summary.packed, payload.len());
                let record = record(UNITS, stretch.len() as u32, first.saturating_add(at as u64), payload);
                self.out.write_all(&record).and_then(|()| self.out.write_all(payload)).map_err(PackError::Write)?;
            }
            at = end;
        }
        Ok(())
    }

    /// Counts what is no sound metadata block of either size.
    fn count(&mut self, bytes: &[u8]) {
        let foreign = |unit: &&[u8]| unit.iter().any(|byte| *byte != 0) && identify(unit).is_none();
        for pair in bytes.chunks(PAIR).filter(|pair| identify(pair).is_none()) {
            let count = pair.chunks(UNIT).filter(foreign).count();
            self.summary.foreign = more(self.summary.foreign, count.saturating_mul(UNIT));
        }
    }

    /// Refuses what is mostly no metadata.
    fn check_kind(&self, at_least: u64) -> Result<(), PackError> {
        let foreign = self.summary.foreign.0;
        let metadata = self.summary.packed.0.saturating_sub(foreign);
        let suspicious = metadata == 0 && at_least == 0 || foreign > metadata && foreign > FOREIGN_AT_LEAST;
        if suspicious { Err(PackError::NotMetadata { metadata, foreign }) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<PackSummary, PackError> {
        let units = self.summary.packed.0 / UNIT_BYTES;
        self.out.write_all(&record(END, 0, units, &[])).map_err(PackError::Write)?;
        self.out.finish().and_then(|mut out| out.flush()).map_err(PackError::Write)?;
        Ok(self.summary)
    }
}

fn more(sum: Bytes, length: usize) -> Bytes {
    Bytes(sum.0.saturating_add(length as u64))
}
