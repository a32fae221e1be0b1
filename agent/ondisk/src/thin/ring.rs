//! The ring of superblock copies: the last 128 blocks of the metadata device.
//!
//! Each commit writes the superblock to the next slot with the next `backup_id`, from the end of the device downwards, and
//! begins again at the end after 128. Slots not used yet hold a placeholder: magic and own number, nothing else.

use super::bytes::put_u64;
use super::{BlockKind, BlockSize, MAGIC, Superblock, flags, identify, seal};
use crate::units::MetaBlock;

/// Slots in the ring.
pub const SLOTS: u64 = 128;

/// Block of slot 1 to 128 on a device of `end` blocks.
pub fn slot_block(end: u64, slot: u64) -> Option<MetaBlock> {
    (1..=SLOTS).contains(&slot).then(|| end.checked_sub(slot)).flatten().filter(|block| *block > 0).map(MetaBlock)
}

/// Sizes, in blocks, beyond which kernels or LVM never used a longer device: where else the end of the ring may be.
pub fn other_ends(block_size: BlockSize) -> &'static [u64] {
    match block_size {
        BlockSize::K4 => &[4_145_152, 4_161_600],
        BlockSize::K8 => &[2_072_576, 16_711_680, 16_711_744],
    }
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A copy of a committed superblock.
    Copy(Box<Superblock>),
    /// Never used.
    Placeholder,
}

/// Decodes the block found at `place`: `None` when it is neither a copy nor a placeholder that belongs there.
pub fn decode_slot(block: &[u8], place: MetaBlock) -> Option<Slot> {
    if identify(block) != Some(BlockKind::Superblock) {
        return None;
    }
    let found = Superblock::decode(block).ok()?;
    if found.magic != MAGIC || found.number != place || place.0 == 0 {
        return None;
    }
    if found.version == 0 && found.mapping_root.0 == 0 {
        return Some(Slot::Placeholder);
    }
    let sound = (1..=4).contains(&found.version)
        && found.has(flags::SUPERBLOCK_BACKUP)
        && found.mapping_root.0 != 0
        && found.details_root.0 != 0;
    sound.then(|| Slot::Copy(Box::new(found)))
}

/// A placeholder for the slot at `place`.
pub fn placeholder(block_size: BlockSize, place: MetaBlock) -> Vec<u8> {
    let mut out = vec![0; block_size.bytes()];
    put_u64(&mut out, 8, place.0);
    put_u64(&mut out, 32, MAGIC);
    seal(BlockKind::Superblock, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::stored_checksum;

    #[test]
    fn slots_run_down_from_the_end() {
        assert_eq!(slot_block(1024, 1), Some(MetaBlock(1023)));
        assert_eq!(slot_block(1024, 128), Some(MetaBlock(896)));
        for (end, slot) in [(1024, 0), (1024, 129), (100, 100), (100, 101), (0, 1)] {
            assert_eq!(slot_block(end, slot), None, "end {end}, slot {slot}");
        }
    }

    #[test]
    fn a_placeholder_has_the_known_checksum_and_is_none_elsewhere() {
        let place = MetaBlock(2047);
        let sums = [BlockSize::K4, BlockSize::K8].map(|size| stored_checksum(&placeholder(size, place)));
        assert_eq!(sums, [0x542E_D86C, 0xD777_81A1]);
        let block = placeholder(BlockSize::K8, place);
        assert_eq!(decode_slot(&block, place), Some(Slot::Placeholder));
        assert_eq!(decode_slot(&block, MetaBlock(2046)), None);
    }
}
