//! Unpacking. A pack file may come from anywhere: everything it says is bounded first.

use super::{
    END, HEADER, MAGIC, MOST_BYTES, MOST_UNITS, PackError, PackSummary, RECORD, UNIT, UNIT_BYTES, UNITS, UNREADABLE,
    VERSION, WINDOW_LOG,
};
use std::io::{self, BufReader, Read};
use tierlift_ondisk::field::Fields;
use tierlift_ondisk::units::Bytes;

/// Unpacks into `write`, which is called with ascending offsets for everything that is not zero. Only when this ends well is
/// the result whole.
///
/// # Errors
/// When the file is none of ours, damaged or cut short, or the output fails.
pub fn unpack(
    mut packed: impl Read,
    mut write: impl FnMut(Bytes, &[u8]) -> io::Result<()>,
) -> Result<PackSummary, PackError> {
    let device = read_header(&mut packed)?;
    let mut decoder = zstd::stream::read::Decoder::new(packed).map_err(PackError::Io)?;
    decoder.window_log_max(WINDOW_LOG).map_err(PackError::Io)?;
    let mut unpacker = Unpacker { stream: BufReader::new(decoder), next: 0, end: device.0.div_ceil(UNIT_BYTES) };
    let mut summary = PackSummary { device, ..PackSummary::default() };
    let mut payload = Vec::new();
    while let Some(record) = unpacker.record(&mut payload)? {
        let length = (record.count as usize).saturating_mul(UNIT) as u64;
        let offset = record.first.saturating_mul(UNIT_BYTES);
        if record.kind == UNREADABLE {
            summary.unreadable = Bytes(summary.unreadable.0.saturating_add(length));
            continue;
        }
        summary.packed = Bytes(summary.packed.0.saturating_add(length));
        // The device may end inside its last unit.
        let inside = usize::try_from(device.0.saturating_sub(offset)).unwrap_or(usize::MAX).min(payload.len());
        write(Bytes(offset), payload.get(..inside).unwrap_or_default()).map_err(PackError::Write)?;
    }
    unpacker.check_end(&summary)?;
    Ok(summary)
}

fn read_header(packed: &mut impl Read) -> Result<Bytes, PackError> {
    let mut header = [0; HEADER];
    let (start, rest) = header.split_at_mut(MAGIC.len());
    read(packed, start).map_err(|_| PackError::NotPacked)?;
    if start != MAGIC {
        return Err(PackError::NotPacked);
    }
    read(packed, rest)?;
    let fields = Fields::new("header", &header);
    let damaged = |error: tierlift_ondisk::DecodeError| PackError::Damaged(error.to_string());
    let sum = crc32c::crc32c(header.get(..HEADER.saturating_sub(4)).unwrap_or_default());
    if fields.u32("checksum", HEADER.saturating_sub(4)).map_err(damaged)? != sum {
        return Err(PackError::Damaged("the checksum of its header is wrong".into()));
    }
    match fields.u32("version", 8).map_err(damaged)? {
        VERSION => {}
        other => return Err(PackError::Version(other)),
    }
    let (unit, device) = (fields.u32("unit", 12).map_err(damaged)?, fields.u64("device length", 16).map_err(damaged)?);
    if unit as usize != UNIT || device > MOST_BYTES {
        return Err(PackError::Damaged(format!("a device of {device} bytes in units of {unit} cannot be")));
    }
    Ok(Bytes(device))
}

fn read(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), PackError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => PackError::CutShort,
        // What zstd says of damaged data.
        io::ErrorKind::Other | io::ErrorKind::InvalidData => PackError::Damaged(error.to_string()),
        _ => PackError::Io(error),
    })
}

struct Record {
    kind: u32,
    count: u32,
    first: u64,
}

struct Unpacker<R> {
    stream: R,
    /// The first unit that may still come.
    next: u64,
    /// Units the device has.
    end: u64,
}

impl<R: Read> Unpacker<R> {
    /// The next record, with its units in `payload`; `None` at the end record, whose sum is put into `next`.
    fn record(&mut self, payload: &mut Vec<u8>) -> Result<Option<Record>, PackError> {
        let mut bytes = [0; RECORD];
        read(&mut self.stream, &mut bytes)?;
        let (record, sum) = decode(&bytes)?;
        let damaged = |what: &str| Err(PackError::Damaged(what.into()));
        if record.kind == END {
            self.next = record.first;
            return Ok(None);
        }
        let end = record.first.checked_add(record.count.into());
        let inside = end.is_some_and(|end| end <= self.end) && record.first >= self.next;
        if !inside || record.count == 0 || record.count as usize > MOST_UNITS {
            return damaged("a record lies outside the device or is out of order");
        }
        self.next = end.unwrap_or(self.end);
        payload.clear();
        match record.kind {
            UNREADABLE => {}
            UNITS => {
                payload.resize((record.count as usize).saturating_mul(UNIT), 0);
                read(&mut self.stream, payload)?;
            }
            _ => return damaged("a record of an unknown kind"),
        }
        if crc32c::crc32c(payload) != sum {
            return damaged("the checksum of a record's bytes is wrong");
        }
        Ok(Some(record))
    }

    /// That nothing is missing and nothing follows.
    fn check_end(&mut self, summary: &PackSummary) -> Result<(), PackError> {
        if summary.packed.0 / UNIT_BYTES != self.next {
            return Err(PackError::Damaged(format!("it should hold {} units", self.next)));
        }
        let mut more = [0; 1];
        match self.stream.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(PackError::Damaged("something follows its end".into())),
            Err(error) => Err(PackError::Damaged(error.to_string())),
        }
    }
}

fn decode(bytes: &[u8; RECORD]) -> Result<(Record, u32), PackError> {
    let fields = Fields::new("record", bytes);
    let damaged = |error: tierlift_ondisk::DecodeError| PackError::Damaged(error.to_string());
    let sum = crc32c::crc32c(bytes.get(..RECORD.saturating_sub(4)).unwrap_or_default());
    if fields.u32("checksum", RECORD.saturating_sub(4)).map_err(damaged)? != sum {
        return Err(PackError::Damaged("the checksum of a record is wrong".into()));
    }
    let record = Record {
        kind: fields.u32("kind", 0).map_err(damaged)?,
        count: fields.u32("count", 4).map_err(damaged)?,
        first: fields.u64("first unit", 8).map_err(damaged)?,
    };
    Ok((record, fields.u32("payload checksum", 16).map_err(damaged)?))
}
