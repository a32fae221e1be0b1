//! The MBR partition table: four entries at the end of sector 0 ("docs/disk-layout").
//!
//! Older QNAP firmware on disks up to 2 TB used it; a disk with a GPT has one too, with a single "protective" entry.

use crate::DecodeError;
use crate::field::{Fields, put};
use crate::units::Sectors;

/// Type byte of the entry that says "this disk has a GPT".
pub const PROTECTIVE: u8 = 0xee;

const ENTRIES_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const SIGNATURE_AT: usize = 510;

/// One used entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Place in the table, from 1.
    pub number: u32,
    /// Type byte; QNAP's data partitions are 0x83.
    pub kind: u8,
    /// First sector, in units of the disk's sector size.
    pub start: u32,
    /// Length in the same units.
    pub length: u32,
}

/// Reads the used entries of sector 0.
///
/// # Errors
/// When the bytes are too few or the signature `55 aa` is missing.
pub fn decode(sector: &[u8]) -> Result<Vec<Entry>, DecodeError> {
    let fields = Fields::new("MBR", sector);
    fields.magic("signature", SIGNATURE_AT, &[0x55, 0xaa])?;
    let mut entries = Vec::new();
    for number in 1..=4u32 {
        let at = entry_offset(number);
        let [kind] = fields.array("type", at.saturating_add(4))?;
        let start = fields.u32("start", at.saturating_add(8))?;
        let length = fields.u32("length", at.saturating_add(12))?;
        if kind != 0 && length != 0 {
            entries.push(Entry { number, kind, start, length });
        }
    }
    Ok(entries)
}

fn entry_offset(number: u32) -> usize {
    ENTRIES_AT.saturating_add(ENTRY_BYTES.saturating_mul(number.saturating_sub(1) as usize))
}

/// Writes a sector 0 with these entries and no boot code.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut sector = vec![0; 512];
    for entry in entries.iter().filter(|entry| (1..=4).contains(&entry.number)) {
        let at = entry_offset(entry.number);
        put(&mut sector, at.saturating_add(4), &[entry.kind]);
        put(&mut sector, at.saturating_add(8), &entry.start.to_le_bytes());
        put(&mut sector, at.saturating_add(12), &entry.length.to_le_bytes());
    }
    put(&mut sector, SIGNATURE_AT, &[0x55, 0xaa]);
    sector
}

/// The sector 0 that protects a GPT on a disk of this size.
pub fn protective(disk: Sectors) -> Vec<u8> {
    let length = u32::try_from(disk.0.saturating_sub(1)).unwrap_or(u32::MAX);
    encode(&[Entry { number: 1, kind: PROTECTIVE, start: 1, length }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_come_back() {
        let entries = [
            Entry { number: 1, kind: 0x83, start: 63, length: 1_060_250 },
            Entry { number: 3, kind: 0x83, start: 2_120_580, length: 9 },
        ];
        assert_eq!(decode(&encode(&entries)).unwrap(), entries);
    }

    #[test]
    fn a_sector_without_signature_is_no_table() {
        let error = decode(&[0; 512]).unwrap_err();
        assert_eq!(error.to_string(), "MBR: signature at byte 510: expected 55aa, found 0000");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes);
        }
    }
}
