//! The GUID partition table ("docs/disk-layout").
//!
//! One header near each end of the disk, each with its own copy of the entries. Numbers count in the disk's logical sectors,
//! which may be 512 or 4096 bytes: whoever reads a 4Kn disk through a 512e bridge finds the header at byte 4096.

use crate::DecodeError;
use crate::field::{Fields, put};
use byteorder::{ByteOrder, LittleEndian};

/// Type of QNAP's partitions: "Microsoft basic data", in on-disk byte order.
pub const BASIC_DATA: [u8; 16] =
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7];
/// The disk GUID of every boot medium of the appliance, in on-disk byte order: how it knows what it was booted from.
pub const APPLIANCE_DISK: [u8; 16] = *b"Tierlift bootdsk";
/// Bytes of an encoded header.
pub const HEADER_BYTES: usize = 92;
/// Bytes of one entry as everybody writes it.
pub const ENTRY_BYTES: usize = 128;
/// Entries as everybody writes them.
pub const ENTRY_COUNT: usize = 128;

const MAGIC: &[u8] = b"EFI PART";
/// More than any table has; keeps the array of entries below 4 MiB.
const MAX_ENTRIES: u32 = 4096;
const MAX_ENTRY_BYTES: u32 = 1024;

/// A header whose own checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where this header lies.
    pub own_lba: u64,
    /// Where the other header lies.
    pub other_lba: u64,
    /// First sector partitions may use.
    pub first_usable: u64,
    /// Last sector partitions may use.
    pub last_usable: u64,
    /// Identity of the disk.
    pub disk_guid: [u8; 16],
    /// Where this header's entries begin.
    pub entries_lba: u64,
    /// Number of entries, used or not.
    pub entry_count: u32,
    /// Bytes of one entry.
    pub entry_bytes: u32,
    /// Checksum of the array of entries.
    pub entries_crc: u32,
}

/// One used entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Place in the table, from 1.
    pub number: u32,
    /// What the partition is for.
    pub type_guid: [u8; 16],
    /// Identity of the partition.
    pub guid: [u8; 16],
    /// First sector.
    pub first: u64,
    /// Last sector, included.
    pub last: u64,
    /// Name; not known to be used by QNAP.
    pub name: String,
}

impl Header {
    /// Reads a header and checks its checksum.
    ///
    /// # Errors
    /// When it is no header, its checksum is wrong, or it promises an absurd number of entries.
    pub fn decode(sector: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("GPT header", sector);
        fields.magic("signature", 0, MAGIC)?;
        let size = fields.u32("header size", 12)?;
        if !(HEADER_BYTES..=512).contains(&(size as usize)) {
            return Err(fields.error("header size", 12, "92 to 512", size));
        }
        let mut header = fields.bytes("header", 0, size as usize)?.to_vec();
        put(&mut header, 16, &[0; 4]);
        let (stored, computed) = (fields.u32("checksum", 16)?, checksum(&header));
        if stored != computed {
            return Err(fields.error("checksum", 16, format!("{computed:08x}"), format!("{stored:08x}")));
        }
        Self::decode_body(&fields)
    }

    fn decode_body(fields: &Fields<'_>) -> Result<Self, DecodeError> {
        let (entry_count, entry_bytes) = (fields.u32("number of entries", 80)?, fields.u32("entry size", 84)?);
        if entry_count > MAX_ENTRIES {
            return Err(fields.error("number of entries", 80, format!("at most {MAX_ENTRIES}"), entry_count));
        }
        if !(ENTRY_BYTES as u32..=MAX_ENTRY_BYTES).contains(&entry_bytes) {
            return Err(fields.error("entry size", 84, format!("128 to {MAX_ENTRY_BYTES}"), entry_bytes));
        }
        Ok(Self {
            own_lba: fields.u64("own place", 24)?,
            other_lba: fields.u64("other header", 32)?,
            first_usable: fields.u64("first usable", 40)?,
            last_usable: fields.u64("last usable", 48)?,
            disk_guid: fields.array("disk guid", 56)?,
            entries_lba: fields.u64("entries", 72)?,
            entry_count,
            entry_bytes,
            entries_crc: fields.u32("checksum of entries", 88)?,
        })
    }

    /// Bytes of the whole array of entries.
    pub fn entries_bytes(&self) -> usize {
        (self.entry_count as usize).saturating_mul(self.entry_bytes as usize)
    }

    /// Reads the used entries out of the array of them.
    ///
    /// # Errors
    /// When the array is too short or its checksum is not the header's.
    pub fn decode_entries(&self, array: &[u8]) -> Result<Vec<Entry>, DecodeError> {
        let fields = Fields::new("GPT entries", array);
        let array = fields.bytes("entries", 0, self.entries_bytes())?;
        let computed = checksum(array);
        if computed != self.entries_crc {
            return Err(fields.error("checksum", 0, format!("{:08x}", self.entries_crc), format!("{computed:08x}")));
        }
        let entries = array.chunks_exact(self.entry_bytes.max(1) as usize).zip(1u32..);
        entries.filter_map(|(bytes, number)| decode_entry(bytes, number).transpose()).collect()
    }

    /// Writes the header (92 bytes, checksum set).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &0x0001_0000u32.to_le_bytes());
        put(&mut out, 12, &(HEADER_BYTES as u32).to_le_bytes());
        put(&mut out, 24, &self.own_lba.to_le_bytes());
        put(&mut out, 32, &self.other_lba.to_le_bytes());
        put(&mut out, 40, &self.first_usable.to_le_bytes());
        put(&mut out, 48, &self.last_usable.to_le_bytes());
        put(&mut out, 56, &self.disk_guid);
        put(&mut out, 72, &self.entries_lba.to_le_bytes());
        put(&mut out, 80, &self.entry_count.to_le_bytes());
        put(&mut out, 84, &self.entry_bytes.to_le_bytes());
        put(&mut out, 88, &self.entries_crc.to_le_bytes());
        let crc = checksum(&out);
        put(&mut out, 16, &crc.to_le_bytes());
        out
    }
}

fn decode_entry(bytes: &[u8], number: u32) -> Result<Option<Entry>, DecodeError> {
    let fields = Fields::new("GPT entry", bytes);
    let type_guid = fields.array("type", 0)?;
    if type_guid == [0; 16] {
        return Ok(None);
    }
    let (first, last) = (fields.u64("first", 32)?, fields.u64("last", 40)?);
    let units: Vec<u16> = fields.bytes("name", 56, 72)?.chunks_exact(2).map(LittleEndian::read_u16).collect();
    let name = String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned();
    Ok(Some(Entry { number, type_guid, guid: fields.array("guid", 16)?, first, last, name }))
}

/// The checksum of headers and of the array of entries.
pub fn checksum(array: &[u8]) -> u32 {
    crc32fast::hash(array)
}

/// Writes the array of 128 entries of 128 bytes; entries with other numbers are left out.
pub fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let mut array = vec![0; ENTRY_COUNT.saturating_mul(ENTRY_BYTES)];
    for entry in entries.iter().filter(|entry| (1..=ENTRY_COUNT as u32).contains(&entry.number)) {
        let at = (entry.number as usize).saturating_sub(1).saturating_mul(ENTRY_BYTES);
        put(&mut array, at, &entry.type_guid);
        put(&mut array, at.saturating_add(16), &entry.guid);
        put(&mut array, at.saturating_add(32), &entry.first.to_le_bytes());
        put(&mut array, at.saturating_add(40), &entry.last.to_le_bytes());
        let name: Vec<u8> = entry.name.encode_utf16().take(36).flat_map(u16::to_le_bytes).collect();
        put(&mut array, at.saturating_add(56), &name);
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (Header, Vec<u8>) {
        let entry = |number, first, last| Entry {
            number,
            type_guid: BASIC_DATA,
            guid: [number as u8; 16],
            first,
            last,
            name: "data".into(),
        };
        let array = encode_entries(&[entry(1, 40, 1_060_289), entry(3, 2_120_584, 5_000_000)]);
        let header = Header {
            own_lba: 1,
            other_lba: 5_000_100,
            first_usable: 34,
            last_usable: 5_000_067,
            disk_guid: [7; 16],
            entries_lba: 2,
            entry_count: ENTRY_COUNT as u32,
            entry_bytes: ENTRY_BYTES as u32,
            entries_crc: checksum(&array),
        };
        (header, array)
    }

    #[test]
    fn a_table_comes_back() {
        let (header, array) = sample();
        let read = Header::decode(&header.encode()).unwrap();
        assert_eq!(read, header);
        let entries = read.decode_entries(&array).unwrap();
        assert_eq!(
            entries.iter().map(|e| (e.number, e.first, e.last)).collect::<Vec<_>>(),
            [(1, 40, 1_060_289), (3, 2_120_584, 5_000_000)]
        );
        assert_eq!(entries[1].name, "data");
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let (header, array) = sample();
        let encoded = header.encode();
        for byte in 0..HEADER_BYTES {
            let mut broken = encoded.clone();
            broken[byte] ^= 4;
            // Bytes 8..12 (revision) and 20..24 (reserved) are covered by the checksum like all others.
            assert!(Header::decode(&broken).is_err(), "byte {byte}");
        }
        let mut broken = array;
        broken[300] ^= 1;
        assert!(header.decode_entries(&broken).unwrap_err().to_string().contains("checksum"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), fix in any::<bool>()) {
            if fix && bytes.len() >= HEADER_BYTES {
                put(&mut bytes, 0, MAGIC);
                put(&mut bytes, 12, &92u32.to_le_bytes());
                put(&mut bytes, 16, &[0; 4]);
                let crc = checksum(&bytes[..HEADER_BYTES]);
                put(&mut bytes, 16, &crc.to_le_bytes());
            }
            if let Ok(header) = Header::decode(&bytes) {
                let _ = header.decode_entries(&bytes);
            }
        }
    }
}
