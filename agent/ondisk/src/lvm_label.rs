//! LVM's label and physical-volume header ("docs/lvm").
//!
//! The label is one of the first four sectors of a physical volume. It names the volume and says where its metadata areas
//! lie. A label with a wrong checksum or in the wrong sector is still read, and the caller told: after a rescue attempt it may
//! be all there is.

use crate::DecodeError;
use crate::field::{Fields, put};
use crate::lvm_crc::lvm_crc;
use crate::units::Bytes;

/// Bytes of a label: one sector.
pub const LABEL_BYTES: usize = 512;
/// Sectors a label may be in, from the start.
pub const LABEL_SECTORS: u64 = 4;

const MAGIC: &[u8] = b"LABELONE";
const TYPE: &[u8] = b"LVM2 001";
const CRC_FROM: usize = 20;
const HEADER_AT: usize = 32;

/// A stretch of the physical volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub offset: Bytes,
    /// Length; 0 for "to the end".
    pub size: Bytes,
}

/// A label with its physical-volume header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The sector the label says it is in.
    pub sector: u64,
    /// Whether its checksum is right.
    pub checksum_ok: bool,
    /// Identity of the physical volume, with dashes as in the text.
    pub id: String,
    /// Size of the device when the volume was made; informative.
    pub device_size: Bytes,
    /// Where extents lie; the text's `pe_start` wins when it differs.
    pub data_areas: Vec<Area>,
    /// Where metadata areas lie.
    pub metadata_areas: Vec<Area>,
    /// Version of the header's extension: 0 none, QNAP's LVM writes 1, newer ones 2.
    pub extension: u32,
}

impl Label {
    /// Reads one sector.
    ///
    /// # Errors
    /// When it is no LVM label or its header does not fit the sector.
    pub fn decode(sector: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("LVM label", sector);
        fields.magic("magic", 0, MAGIC)?;
        fields.magic("type", 24, TYPE)?;
        let covered = fields.bytes("label", CRC_FROM, LABEL_BYTES.saturating_sub(CRC_FROM))?;
        let header_at = fields.u32("header offset", 20)? as usize;
        let header = Fields::new("LVM physical volume header", sector.get(..LABEL_BYTES).unwrap_or(sector));
        let mut at = header_at.saturating_add(40);
        let data_areas = areas(&header, &mut at)?;
        let metadata_areas = areas(&header, &mut at)?;
        Ok(Self {
            sector: fields.u64("sector", 8)?,
            checksum_ok: fields.u32("checksum", 16)? == lvm_crc(covered),
            id: dashed(header.bytes("id", header_at, 32)?),
            device_size: Bytes(header.u64("device size", header_at.saturating_add(32))?),
            data_areas,
            metadata_areas,
            extension: header.u32("extension", at).unwrap_or(0),
        })
    }

    /// Writes the label for sector [`Label::sector`]. The areas must fit one sector (two of each do).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LABEL_BYTES];
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &self.sector.to_le_bytes());
        put(&mut out, 20, &(HEADER_AT as u32).to_le_bytes());
        put(&mut out, 24, TYPE);
        put(&mut out, HEADER_AT, self.id.replace('-', "").as_bytes());
        put(&mut out, HEADER_AT.saturating_add(32), &self.device_size.0.to_le_bytes());
        let mut at = HEADER_AT.saturating_add(40);
        for list in [&self.data_areas, &self.metadata_areas] {
            for area in list {
                put(&mut out, at, &area.offset.0.to_le_bytes());
                put(&mut out, at.saturating_add(8), &area.size.0.to_le_bytes());
                at = at.saturating_add(16);
            }
            at = at.saturating_add(16);
        }
        put(&mut out, at, &self.extension.to_le_bytes());
        let crc = lvm_crc(out.get(CRC_FROM..).unwrap_or_default());
        put(&mut out, 16, &crc.to_le_bytes());
        out
    }
}

/// A list of areas, ended by one at offset 0; leaves `at` behind the end mark. Bounded by the sector.
fn areas(fields: &Fields<'_>, at: &mut usize) -> Result<Vec<Area>, DecodeError> {
    let mut list = Vec::new();
    loop {
        let offset = Bytes(fields.u64("area offset", *at)?);
        let size = Bytes(fields.u64("area size", at.saturating_add(8))?);
        *at = at.saturating_add(16);
        if offset.0 == 0 {
            return Ok(list);
        }
        list.push(Area { offset, size });
    }
}

/// LVM's 32 characters, grouped as in the text (6-4-4-4-4-4-6). Anything that is no printable character shows as `?`.
pub fn dashed(id: &[u8]) -> String {
    let mut out = String::new();
    for (index, byte) in id.iter().enumerate() {
        if [6, 10, 14, 18, 22, 26].contains(&index) {
            out.push('-');
        }
        out.push(if byte.is_ascii_graphic() { char::from(*byte) } else { '?' });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Label {
        Label {
            sector: 1,
            checksum_ok: true,
            id: dashed(b"abcdefghijklmnopqrstuvwxyz012345"),
            device_size: Bytes(1 << 30),
            data_areas: vec![Area { offset: Bytes(1 << 20), size: Bytes(0) }],
            metadata_areas: vec![Area { offset: Bytes(4096), size: Bytes(1_044_480) }],
            extension: 1,
        }
    }

    #[test]
    fn a_label_comes_back() {
        assert_eq!(sample().id, "abcdef-ghij-klmn-opqr-stuv-wxyz-012345");
        assert_eq!(Label::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn a_wrong_checksum_is_told_not_hidden() {
        let mut bytes = sample().encode();
        bytes[100] ^= 1;
        assert!(!Label::decode(&bytes).unwrap().checksum_ok);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), fix in any::<bool>()) {
            if fix && bytes.len() >= 32 {
                put(&mut bytes, 0, MAGIC);
                put(&mut bytes, 24, TYPE);
            }
            let _ = Label::decode(&bytes);
        }
    }
}
