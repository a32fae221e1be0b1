//! The value of a mapping: which chunk of the pool, since when, and whether it must read as zeros.

use super::Family;
use crate::units::Chunk;

/// One value of a device's mapping tree (key: the virtual chunk).
///
/// Bits 63..24 are the pool chunk. QNAP took the two upper bits of mainline's 24-bit time for a *zeroed* flag: the chunk is
/// allocated, what lies on the data device is stale, and it must read as zeros until the first real write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MappingValue {
    /// The pool chunk.
    pub chunk: Chunk,
    /// Not 0: must read as zeros. Kernels write 0 or 1; 2 and 3 are legal to read. Always 0 in mainline pools.
    pub zeroed: u8,
    /// Pool time at which the mapping was made (22 bits; mainline 24).
    pub time: u32,
}

impl MappingValue {
    /// Takes a value apart. Every value is legal here: whether the chunk exists is for the pool to say.
    pub const fn decode(value: u64, family: Family) -> Self {
        let chunk = Chunk(value >> 24);
        match family {
            Family::Qnap => Self { chunk, zeroed: (value >> 22 & 3) as u8, time: (value & 0x3F_FFFF) as u32 },
            Family::Mainline => Self { chunk, zeroed: 0, time: (value & 0xFF_FFFF) as u32 },
        }
    }

    /// Puts a value together; bits that do not fit are dropped.
    pub const fn encode(self, family: Family) -> u64 {
        let low = match family {
            Family::Qnap => (self.zeroed as u64 & 3) << 22 | self.time as u64 & 0x3F_FFFF,
            Family::Mainline => self.time as u64 & 0xFF_FFFF,
        };
        self.chunk.0 << 24 | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_worked_example() {
        let value = MappingValue { chunk: Chunk(10_000), zeroed: 1, time: 1 };
        assert_eq!(value.encode(Family::Qnap), 0x0000_0027_1040_0001);
        assert_eq!(MappingValue::decode(0x0000_0027_1040_0001, Family::Qnap), value);
        assert_eq!(MappingValue::decode(0x0000_0027_1040_0001, Family::Mainline).time, 0x40_0001);
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value: u64) {
            for family in [Family::Qnap, Family::Mainline] {
                prop_assert_eq!(MappingValue::decode(value, family).encode(family), value);
            }
        }
    }
}
