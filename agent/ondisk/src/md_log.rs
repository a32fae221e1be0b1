//! md's bad-block log and the header of its write-intent bitmap ("docs/disk-layout", section 2.3).

use crate::DecodeError;
use crate::field::{Fields, put};
use crate::units::Sectors;
use byteorder::{ByteOrder, LittleEndian};

/// Bytes of a bitmap's header.
pub const BITMAP_HEADER_BYTES: usize = 256;
/// Bytes of a bad-block log that are read at most: 16 times the usual one.
pub const MAX_LOG_BYTES: usize = 1 << 16;
const BITMAP_MAGIC: &[u8] = b"bitm";
/// Bit of the bitmap's state: it was not up to date.
const STALE: u32 = 2;

/// Sectors of a member that hold no valid data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRange {
    /// First sector, from the start of the member.
    pub start: Sectors,
    /// Length.
    pub length: Sectors,
}

/// Reads a bad-block log. It ends with its first entry of all ones, or with the bytes.
///
/// # Errors
/// When the bytes are no whole number of entries, or an entry cannot be shifted by `shift`.
pub fn bad_blocks(bytes: &[u8], shift: u8) -> Result<Vec<BadRange>, DecodeError> {
    let fields = Fields::new("md bad-block log", bytes);
    let bytes = bytes.get(..MAX_LOG_BYTES).unwrap_or(bytes);
    if bytes.len() % 8 != 0 {
        return Err(fields.error("log", 0, "entries of 8 bytes", format!("{} bytes", bytes.len())));
    }
    let entries = bytes.chunks_exact(8).map(LittleEndian::read_u64).take_while(|entry| *entry != u64::MAX);
    let mut ranges = Vec::new();
    for (index, entry) in entries.enumerate() {
        let shifted = |value: u64| value.checked_mul(1u64.checked_shl(shift.into())?);
        let at = index.saturating_mul(8);
        let range = shifted(entry >> 10).zip(shifted(entry & 0x3ff));
        let (start, length) = range.ok_or_else(|| fields.error("entry", at, "a sector of a disk", entry))?;
        // The kernel skips entries of length 0, too.
        if length > 0 {
            ranges.push(BadRange { start: Sectors(start), length: Sectors(length) });
        }
    }
    Ok(ranges)
}

/// Header of a write-intent bitmap. Its set bits mark where members may differ after a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitmapHeader {
    /// Version, 4 or 5 (clustered).
    pub version: u32,
    /// Identity of the array.
    pub array_uuid: [u8; 16],
    /// Event counter when it was written.
    pub events: u64,
    /// Event counter when it was last complete.
    pub events_cleared: u64,
    /// Sectors of a member it covers.
    pub sync_size: Sectors,
    /// Whether it was not kept up to date.
    pub stale: bool,
    /// Bytes of a member that each bit stands for.
    pub chunk: u32,
    /// Seconds between its writes.
    pub sleep: u32,
}

impl BitmapHeader {
    /// Reads the header.
    ///
    /// # Errors
    /// When the bytes are too few or the magic is missing.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("md bitmap", bytes);
        fields.magic("magic", 0, BITMAP_MAGIC)?;
        fields.bytes("header", 0, BITMAP_HEADER_BYTES)?;
        Ok(Self {
            version: fields.u32("version", 4)?,
            array_uuid: fields.array("uuid", 8)?,
            events: fields.u64("events", 24)?,
            events_cleared: fields.u64("events cleared", 32)?,
            sync_size: Sectors(fields.u64("size", 40)?),
            stale: fields.u32("state", 48)? & STALE != 0,
            chunk: fields.u32("chunk size", 52)?,
            sleep: fields.u32("sleep", 56)?,
        })
    }

    /// Writes the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; BITMAP_HEADER_BYTES];
        put(&mut out, 0, BITMAP_MAGIC);
        put(&mut out, 4, &self.version.to_le_bytes());
        put(&mut out, 8, &self.array_uuid);
        put(&mut out, 24, &self.events.to_le_bytes());
        put(&mut out, 32, &self.events_cleared.to_le_bytes());
        put(&mut out, 40, &self.sync_size.0.to_le_bytes());
        put(&mut out, 48, &(if self.stale { STALE } else { 0 }).to_le_bytes());
        put(&mut out, 52, &self.chunk.to_le_bytes());
        put(&mut out, 56, &self.sleep.to_le_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log(entries: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        bytes.resize(4096, 0xff);
        bytes
    }

    fn range(start: u64, length: u64) -> BadRange {
        BadRange { start: Sectors(start), length: Sectors(length) }
    }

    #[test]
    fn a_log_ends_with_all_ones() {
        assert_eq!(bad_blocks(&log(&[]), 0).unwrap(), []);
        let entries = [1000 << 10 | 8, 5 << 10, 7 << 10 | 0x3ff];
        assert_eq!(bad_blocks(&log(&entries), 0).unwrap(), [range(1000, 8), range(7, 1023)]);
        assert_eq!(bad_blocks(&log(&entries), 3).unwrap(), [range(8000, 64), range(56, 8184)]);
        let full = vec![1u8; 4096];
        assert_eq!(bad_blocks(&full, 0).unwrap().len(), 512);
    }

    #[test]
    fn a_log_that_cannot_be_is_refused() {
        assert!(bad_blocks(&log(&[])[..4095], 0).is_err());
        assert!(bad_blocks(&log(&[u64::MAX - 5]), 40).is_err() && bad_blocks(&log(&[1]), 64).is_err());
    }

    #[test]
    fn a_bitmap_s_header_comes_back_whole_or_not_at_all() {
        let header = BitmapHeader {
            version: 4,
            array_uuid: *b"0123456789abcdef",
            events: 7,
            events_cleared: 6,
            sync_size: Sectors(99),
            stale: true,
            chunk: 64 << 20,
            sleep: 5,
        };
        let bytes = header.encode();
        assert_eq!(BitmapHeader::decode(&bytes).unwrap(), header);
        assert!((0..256).all(|length| BitmapHeader::decode(&bytes[..length]).is_err()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), shift: u8, fix: bool) {
            if fix && bytes.len() >= 4 {
                put(&mut bytes, 0, BITMAP_MAGIC);
            }
            let _ = (bad_blocks(&bytes, shift), BitmapHeader::decode(&bytes));
        }
    }
}
