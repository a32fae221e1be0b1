//! Single flipped bits: a CRC is linear, so each bit of a block has its own unmistakable effect on the checksum.

use crate::blocks::Patch;
use std::collections::HashMap;
use tierlift_ondisk::thin::{BlockKind, BlockSize, checksum, identify, stored_checksum};

/// CRC-32C, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// Bytes of the stored checksum, which the checksum does not cover.
const COVERED_FROM: usize = 4;

/// What each bit of a block does to the checksum when it flips. CRC-32C keeps all of them apart up to far longer blocks.
#[derive(Debug)]
pub(super) struct BitFlips {
    by_effect: HashMap<u32, (usize, u8)>,
}

impl BitFlips {
    pub(super) fn new(size: BlockSize) -> Self {
        let mut by_effect = HashMap::new();
        // The effect of each bit of the last byte; one byte further from the end each round.
        let mut effects: [u32; 8] = std::array::from_fn(|bit| step_byte(1 << bit));
        for byte in (COVERED_FROM..size.bytes()).rev() {
            for (bit, effect) in effects.iter_mut().enumerate() {
                by_effect.insert(*effect, (byte, 1 << bit));
                *effect = step_byte(*effect);
            }
        }
        for bit in 0..32_usize {
            by_effect.insert(1 << bit, (bit / 8, 1 << (bit % 8)));
        }
        Self { by_effect }
    }

    /// The one bit whose flip makes the block sound, and the kind of block it then is. `None` when no single bit does.
    pub(super) fn find(&self, block: &mut [u8]) -> Option<(Patch, BlockKind)> {
        let [first, ..] = BlockKind::ALL;
        // Kinds differ in a constant only, so the bytes are added up once for all of them.
        let effect_of_none = checksum(first, block) ^ stored_checksum(block) ^ first.constant();
        BlockKind::ALL.into_iter().find_map(|kind| {
            let effect = effect_of_none ^ kind.constant();
            let (byte, mask) = *self.by_effect.get(&effect)?;
            *block.get_mut(byte)? ^= mask;
            (identify(block) == Some(kind)).then_some((Patch::Flip { byte, mask }, kind))
        })
    }
}

/// The register after one more byte of zeros.
fn step_byte(register: u32) -> u32 {
    (0..8).fold(register, |register, _| if register & 1 == 1 { register >> 1 ^ POLYNOMIAL } else { register >> 1 })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use tierlift_ondisk::thin::seal;

    #[test]
    fn every_single_bit_is_found_and_two_are_not() {
        for size in BlockSize::PROBE_ORDER {
            let flips = BitFlips::new(size);
            assert_eq!(flips.by_effect.len(), size.bytes() * 8);
            let mut sound = vec![3; size.bytes()];
            seal(BlockKind::Node, &mut sound);
            for byte in (0..size.bytes()).step_by(37).chain(0..16) {
                let mut hurt = sound.clone();
                hurt[byte] ^= 1 << (byte % 8);
                assert_eq!(flips.find(&mut hurt), Some((Patch::Flip { byte, mask: 1 << (byte % 8) }, BlockKind::Node)));
                assert_eq!(hurt, sound);
                hurt[byte] ^= 1 << (byte % 8);
                hurt[size.bytes() / 2 + 1] ^= 0x10;
                if byte != size.bytes() / 2 + 1 {
                    assert_eq!(flips.find(&mut hurt), None);
                }
            }
        }
    }
}
