//! LVM's metadata area: a header sector and a ring of texts ("docs/lvm").
//!
//! The header says where in the ring the committed text lies. The ring is everything behind the header; a text that reaches
//! its end goes on at byte 512, behind the header.

use crate::DecodeError;
use crate::field::{Fields, put};
use crate::lvm_crc::lvm_crc;
use crate::units::Bytes;

/// Bytes of the header, and first byte of the ring.
pub const HEADER_BYTES: u64 = 512;

const MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
const LOCATIONS_AT: usize = 40;
const LOCATION_BYTES: usize = 24;

/// Where one text lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// First byte, from the start of the area.
    pub offset: Bytes,
    /// Length, closing NUL included.
    pub size: Bytes,
    /// Checksum of the text.
    pub checksum: u32,
    /// Bit 0: stock LVM is told to look away. A recovery looks anyway.
    pub flags: u32,
}

/// The header of a metadata area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AreaHeader {
    /// Whether its checksum is right.
    pub checksum_ok: bool,
    /// Where the area says it begins, from the start of the physical volume.
    pub start: Bytes,
    /// Size of the area, header included.
    pub size: Bytes,
    /// Committed text, when there is one.
    pub committed: Option<Location>,
    /// Text of an interrupted commit.
    pub precommitted: Option<Location>,
}

impl AreaHeader {
    /// Reads the header sector. A wrong checksum is told, not refused.
    ///
    /// # Errors
    /// When the bytes are too few, the magic is missing, or the version is not 1.
    pub fn decode(sector: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("LVM metadata area", sector);
        fields.magic("magic", 4, MAGIC)?;
        let version = fields.u32("version", 20)?;
        if version != 1 {
            return Err(fields.error("version", 20, 1, version));
        }
        let covered = fields.bytes("header", 4, 508)?;
        let committed = location(&fields, LOCATIONS_AT)?;
        // The list ends at the first empty place, so without a committed text there is no other either.
        let precommitted = match committed {
            Some(_) => location(&fields, LOCATIONS_AT.saturating_add(LOCATION_BYTES))?,
            None => None,
        };
        Ok(Self {
            checksum_ok: fields.u32("checksum", 0)? == lvm_crc(covered),
            start: Bytes(fields.u64("start", 24)?),
            size: Bytes(fields.u64("size", 32)?),
            committed,
            precommitted,
        })
    }

    /// Writes the header sector.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES as usize];
        put(&mut out, 4, MAGIC);
        put(&mut out, 20, &1u32.to_le_bytes());
        put(&mut out, 24, &self.start.0.to_le_bytes());
        put(&mut out, 32, &self.size.0.to_le_bytes());
        let mut at = LOCATIONS_AT;
        for location in [self.committed, self.precommitted].into_iter().flatten() {
            put(&mut out, at, &location.offset.0.to_le_bytes());
            put(&mut out, at.saturating_add(8), &location.size.0.to_le_bytes());
            put(&mut out, at.saturating_add(16), &location.checksum.to_le_bytes());
            put(&mut out, at.saturating_add(20), &location.flags.to_le_bytes());
            at = at.saturating_add(LOCATION_BYTES);
        }
        let crc = lvm_crc(out.get(4..).unwrap_or_default());
        put(&mut out, 0, &crc.to_le_bytes());
        out
    }
}

fn location(fields: &Fields<'_>, at: usize) -> Result<Option<Location>, DecodeError> {
    let found = Location {
        offset: Bytes(fields.u64("text offset", at)?),
        size: Bytes(fields.u64("text size", at.saturating_add(8))?),
        checksum: fields.u32("text checksum", at.saturating_add(16))?,
        flags: fields.u32("text flags", at.saturating_add(20))?,
    };
    Ok((found.offset.0 != 0).then_some(found))
}

/// The one or two stretches (offset in the area, length) of a text in the ring of an area of this size; `None` when the text
/// does not fit the ring.
pub fn ring_stretches(area: Bytes, offset: Bytes, size: Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let ring = area.0.checked_sub(HEADER_BYTES)?;
    if offset.0 < HEADER_BYTES || offset >= area || size.0 > ring {
        return None;
    }
    let first = size.0.min(area.0.checked_sub(offset.0)?);
    let rest = size.0.checked_sub(first)?;
    let mut stretches = vec![(offset, Bytes(first))];
    if rest > 0 {
        stretches.push((Bytes(HEADER_BYTES), Bytes(rest)));
    }
    Some(stretches)
}

/// Where LVM 2.02 puts the text after one of this place and size: on the next sector, a whole one left free when the text
/// ends with its sector. `None` when the area has no ring.
pub fn next_offset(area: Bytes, offset: Bytes, size: Bytes) -> Option<Bytes> {
    let gap = HEADER_BYTES.checked_sub(size.0.checked_rem(HEADER_BYTES)?)?;
    let next = offset.0.checked_add(size.0)?.checked_add(gap)?.checked_sub(HEADER_BYTES)?;
    next.checked_rem(area.0.checked_sub(HEADER_BYTES)?)?.checked_add(HEADER_BYTES).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_comes_back() {
        let committed = Location { offset: Bytes(5120), size: Bytes(1406), checksum: 0xb1be_cd88, flags: 0 };
        let header = AreaHeader {
            checksum_ok: true,
            start: Bytes(4096),
            size: Bytes(1_044_480),
            committed: Some(committed),
            precommitted: None,
        };
        let bytes = header.encode();
        // Checksum of an independent generator for these very fields.
        assert_eq!(bytes[..4], 0xbbbb_98edu32.to_le_bytes());
        assert_eq!(AreaHeader::decode(&bytes).unwrap(), header);
        let both = AreaHeader { precommitted: Some(committed), ..header };
        assert_eq!(AreaHeader::decode(&both.encode()).unwrap(), both);
    }

    #[test]
    fn a_text_wraps_to_the_byte_after_the_header() {
        let area = Bytes(4096);
        assert_eq!(ring_stretches(area, Bytes(512), Bytes(3584)).unwrap(), [(Bytes(512), Bytes(3584))]);
        let wrapped = ring_stretches(area, Bytes(3584), Bytes(1000)).unwrap();
        assert_eq!(wrapped, [(Bytes(3584), Bytes(512)), (Bytes(512), Bytes(488))]);
        assert_eq!(ring_stretches(area, Bytes(512), Bytes(3585)), None);
        assert_eq!(ring_stretches(area, Bytes(0), Bytes(1)), None);
        assert_eq!(ring_stretches(area, Bytes(4096), Bytes(1)), None);
        assert_eq!(ring_stretches(Bytes(100), Bytes(512), Bytes(1)), None);
    }

    #[test]
    fn the_next_text_begins_on_a_sector() {
        assert_eq!(next_offset(Bytes(1_044_480), Bytes(512), Bytes(1406)), Some(Bytes(2048)));
        assert_eq!(next_offset(Bytes(1_044_480), Bytes(512), Bytes(1024)), Some(Bytes(2048)));
        assert_eq!(next_offset(Bytes(4096), Bytes(3584), Bytes(600)), Some(Bytes(1024)));
        assert_eq!(next_offset(Bytes(512), Bytes(512), Bytes(1)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), fix in any::<bool>()) {
            if fix && bytes.len() >= 24 {
                put(&mut bytes, 4, MAGIC);
                put(&mut bytes, 20, &1u32.to_le_bytes());
            }
            let _ = AreaHeader::decode(&bytes);
        }

        #[test]
        fn stretches_stay_inside_the_ring(area: u64, offset: u64, size: u64) {
            for (start, length) in ring_stretches(Bytes(area), Bytes(offset), Bytes(size)).unwrap_or_default() {
                prop_assert!(start.0 >= HEADER_BYTES && start.checked_add(length).unwrap().0 <= area);
            }
            let _ = next_offset(Bytes(area), Bytes(offset), Bytes(size));
        }
    }
}
