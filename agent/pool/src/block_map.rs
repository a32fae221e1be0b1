//! Maps by block number, which are looked into for every pointer there is.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use tierlift_ondisk::units::MetaBlock;

/// A map by block number.
pub(crate) type BlockMap<V> = HashMap<MetaBlock, V, BuildHasherDefault<BlockHasher>>;
/// A set of block numbers.
pub(crate) type BlockSet = HashSet<MetaBlock, BuildHasherDefault<BlockHasher>>;

/// Scatters numbers with one multiplication. Unlike the standard library's hasher it can be foreseen, but whoever writes a
/// disk gains little from that: only blocks that the device has are ever keys, and most of them would have to be left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The upper half is the better one, but maps look at the lowest bits.
        self.0 = product ^ product >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn numbers_with_a_pattern_are_scattered() {
        for step in [1, 2, 128, 4096, 32_704, 1 << 20] {
            let hash = |number: u64| BuildHasherDefault::<BlockHasher>::default().hash_one(MetaBlock(number * step));
            let buckets: HashSet<_> = (0..4096).map(|number| hash(number) & 0xFFF).collect();
            assert!(buckets.len() > 2000, "step {step}: {} of 4096 buckets", buckets.len());
        }
    }
}
