//! The tail that newer QNAP firmware's DRBD leaves at the end of an md array ("docs/disk-layout").
//!
//! DRBD passes every sector through unchanged, so for reading only one thing matters: that the magic is there, because other
//! tools then call the array "drbd" and do not see the physical volume at its start. The numbers are big-endian.

use crate::DecodeError;
use crate::field::{Fields, put};
use crate::units::Sectors;

/// Bytes of the metadata block.
pub const BLOCK_BYTES: usize = 4096;

const MAGIC: u32 = 0x8374_026b;
const MAGIC_UNCLEAN: u32 = 0x8374_026c;

/// What the block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Size of the data in front of the tail.
    pub data_size: Sectors,
    /// Size of the tail.
    pub tail_size: u32,
    /// DRBD was not shut down cleanly; of no importance for reading.
    pub unclean: bool,
}

/// First sector of the metadata block of a device of this size; `None` when the device is too small.
pub fn place(device: Sectors) -> Option<Sectors> {
    (device.0 & !7).checked_sub(8).map(Sectors)
}

/// Size of the whole tail as QNAP's DRBD makes it (one bitmap bit for 512 KiB).
pub fn tail_size(device: Sectors) -> Sectors {
    Sectors(device.0.div_ceil(1 << 22).div_ceil(1024).saturating_mul(1024).saturating_add(72))
}

impl Tail {
    /// Reads the metadata block.
    ///
    /// # Errors
    /// When the bytes are too few or the magic is missing.
    pub fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new("DRBD metadata", block);
        let magic = fields.u32_be("magic", 60)?;
        if magic != MAGIC && magic != MAGIC_UNCLEAN {
            return Err(fields.error("magic", 60, format!("{MAGIC:08x}"), format!("{magic:08x}")));
        }
        Ok(Self {
            data_size: Sectors(fields.u64_be("size", 0)?),
            tail_size: fields.u32_be("size of metadata", 64)?,
            unclean: magic == MAGIC_UNCLEAN,
        })
    }

    /// Writes the block.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        put(&mut block, 0, &self.data_size.0.to_be_bytes());
        put(&mut block, 60, &if self.unclean { MAGIC_UNCLEAN } else { MAGIC }.to_be_bytes());
        put(&mut block, 64, &self.tail_size.to_be_bytes());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_comes_back() {
        let tail = Tail { data_size: Sectors(7_795_127_688), tail_size: 1096, unclean: true };
        assert_eq!(Tail::decode(&tail.encode()).unwrap(), tail);
        assert!(Tail::decode(&[0; BLOCK_BYTES]).is_err());
        assert!(Tail::decode(&[0; 10]).is_err());
    }

    #[test]
    fn it_lies_where_it_was_seen() {
        // A rescuer's wipe of the magic was printed as byte 3990593138748 of an array of 3990593142784 bytes.
        let device = Sectors(3_990_593_142_784 / 512);
        assert_eq!(place(device).unwrap().0 * 512 + 60, 3_990_593_138_748);
        assert_eq!(place(Sectors(7)), None);
        assert_eq!(tail_size(Sectors(4_000_000_000)), Sectors(1096));
        assert_eq!(tail_size(device), Sectors(2120));
    }
}
