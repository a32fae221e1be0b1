//! The value of the tier tree: where a tier-block-sized piece of the pool's address space lies.

use crate::units::TierBlock;

/// One value of the tier tree (key: pool sector divided by the tier block size).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TierValue {
    /// Tier, 0 to 7 by its bits; only 0 to 2, and only those below the pool's count, are legal.
    pub tier: u8,
    /// Block on that tier's device (37 bits).
    pub block: TierBlock,
    /// 24 bits that are no part of the address: a placement wish in the oldest kernel, and left uninitialised by one of
    /// QNAP's tools. Kept, never judged.
    pub reserved: u32,
}

impl TierValue {
    /// Takes a value apart; every value is legal here.
    pub const fn decode(value: u64) -> Self {
        Self {
            tier: (value >> 61) as u8,
            block: TierBlock(value >> 24 & 0x1F_FFFF_FFFF),
            reserved: (value & 0xFF_FFFF) as u32,
        }
    }

    /// Puts a value together; bits that do not fit are dropped.
    pub const fn encode(self) -> u64 {
        (self.tier as u64 & 7) << 61 | (self.block.0 & 0x1F_FFFF_FFFF) << 24 | self.reserved as u64 & 0xFF_FFFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_worked_example() {
        let value = TierValue { tier: 1, block: TierBlock(500), reserved: 0 };
        assert_eq!(value.encode(), 0x2000_0001_F400_0000);
        assert_eq!(TierValue::decode(0x2000_0001_F400_0000), value);
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value: u64) {
            prop_assert_eq!(TierValue::decode(value).encode(), value);
        }
    }
}
