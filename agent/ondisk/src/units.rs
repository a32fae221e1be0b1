//! Units as types: sectors, bytes and the block numbers of each address space cannot be mixed by accident.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes in one sector, whatever the disk's own sector size: every QNAP structure counts in these.
pub const SECTOR_BYTES: u64 = 512;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// Sum, or `None` when it does not fit 64 bits.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// Difference, or `None` when it would be negative.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }
        }
    };
}

unit!(
    /// A count or offset of bytes.
    Bytes
);
unit!(
    /// A count or offset of 512-byte sectors.
    Sectors
);
unit!(
    /// Number of a pool data block: the pool's address space in units of its chunk size.
    Chunk
);
unit!(
    /// Number of a block of the metadata device, in units of the metadata block size (4096 or 8192 bytes).
    MetaBlock
);
unit!(
    /// Number of a block of one tier device, in units of the tier block size.
    TierBlock
);
unit!(
    /// Number of an LVM extent.
    Extent
);
unit!(
    /// Identifier of a thin device inside its pool.
    DeviceId
);

impl Sectors {
    /// The same length in bytes, or `None` when it does not fit 64 bits.
    pub fn to_bytes(self) -> Option<Bytes> {
        self.0.checked_mul(SECTOR_BYTES).map(Bytes)
    }
}

impl Bytes {
    /// Whole sectors in this many bytes; a remainder is dropped.
    pub fn to_sectors(self) -> Sectors {
        Sectors(self.0 / SECTOR_BYTES)
    }

    /// A figure for people: "8.0 MiB".
    pub fn human(self) -> String {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut value = self.0 as f64;
        let mut unit = "bytes";
        for next in UNITS {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "bytes" { format!("{} bytes", self.0) } else { format!("{value:.1} {unit}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_like_people_write_them() {
        assert_eq!(Bytes(17).human(), "17 bytes");
        assert_eq!(Bytes(8 << 20).human(), "8.0 MiB");
        assert_eq!(Bytes(u64::MAX).human(), "16.0 EiB");
    }

    #[test]
    fn sectors_that_overflow_are_refused() {
        assert_eq!(Sectors(u64::MAX).to_bytes(), None);
        assert_eq!(Sectors(3).to_bytes(), Some(Bytes(1536)));
        assert_eq!(Bytes(1535).to_sectors(), Sectors(2));
    }
}
