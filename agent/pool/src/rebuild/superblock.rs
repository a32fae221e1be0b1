//! The new superblock and its copies.

use super::RebuildOptions;
use super::error::RebuildError;
use super::output::Writer;
use crate::pool::Pool;
use tierlift_ondisk::thin::ring::{SLOTS, placeholder, slot_block};
use tierlift_ondisk::thin::{BlockSize, Family, MAGIC, MAX_TIERS, SpaceMapRoot, Superblock, flags};
use tierlift_ondisk::units::{MetaBlock, Sectors};

/// The longest metadata device stock Linux uses, in blocks of 4096 bytes.
const MAINLINE_BLOCKS: u64 = 255 * (16_384 - 64);
/// Version of a superblock in stock Linux's form.
const MAINLINE_VERSION: u32 = 2;
/// The roots of everything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Roots {
    pub mapping: MetaBlock,
    pub details: MetaBlock,
    pub tiers: MetaBlock,
    pub data: SpaceMapRoot,
    pub tier_maps: [SpaceMapRoot; MAX_TIERS],
    pub metadata: SpaceMapRoot,
}

/// Whether the new pool keeps copies of its superblock.
pub(super) fn keeps_copies(pool: &Pool, options: &RebuildOptions) -> bool {
    !options.mainline() && pool.family() == Family::Qnap && pool.superblock().has(flags::SUPERBLOCK_BACKUP)
}

/// The first block that trees and maps must not use.
pub(super) fn room(pool: &Pool, options: &RebuildOptions) -> u64 {
    match (options.mainline(), keeps_copies(pool, options)) {
        (true, _) => MAINLINE_BLOCKS,
        (false, true) => pool.blocks().count().saturating_sub(SLOTS),
        (false, false) => pool.blocks().count(),
    }
}

/// The length of the source's metadata in blocks of the new form.
pub(super) fn recorded_blocks(pool: &Pool, size: BlockSize) -> u64 {
    let bytes = pool.blocks().count().saturating_mul(pool.blocks().size().bytes() as u64);
    size.blocks_in(bytes)
}

/// The new superblock.
pub(super) fn superblock(pool: &Pool, options: &RebuildOptions, size: BlockSize, roots: &Roots) -> Superblock {
    let old = pool.superblock();
    let own = Superblock {
        flags: old.flags & !flags::NEEDS_CHECK,
        number: MetaBlock(0),
        magic: MAGIC,
        held_root: MetaBlock(0),
        data_map: roots.data,
        tier_maps: roots.tier_maps,
        metadata_map: roots.metadata,
        mapping_root: roots.mapping,
        details_root: roots.details,
        metadata_block_size: Sectors(size.bytes() as u64 / 512),
        backup_id: 0,
        reserve_block_count: 0,
        clone_root: MetaBlock(0),
        tier_root: roots.tiers,
        ..old.clone()
    };
    if !options.mainline() {
        return own;
    }
    Superblock {
        flags: 0,
        version: MAINLINE_VERSION,
        rescan_needed: 0,
        metadata_nr_blocks: roots.metadata.nr_blocks,
        compat_flags: 0,
        compat_ro_flags: 0,
        tier_num: 0,
        tier_block_size: Sectors(0),
        ..own
    }
}

/// Blocks of all the slots of a device of `blocks` blocks.
pub(super) fn slots(blocks: u64) -> impl Iterator<Item = MetaBlock> {
    (1..=SLOTS).rev().filter_map(move |slot| slot_block(blocks, slot))
}

/// Fills the slots: a copy of `superblock` in the first, where kernels begin, and placeholders in the rest. The copy's number
/// follows the newest one found, so that kernels count on from it.
pub(super) fn write_copies(
    writer: &mut Writer<'_>,
    pool: &Pool,
    superblock: &Superblock,
    blocks: u64,
) -> Result<u64, RebuildError> {
    let backup_id = pool.ring().newest().map_or(0, |(_, newest)| newest.backup_id.saturating_add(1));
    for place in slots(blocks) {
        let bytes = if Some(place) == slot_block(blocks, 1) {
            Superblock { number: place, backup_id, ..superblock.clone() }.encode(writer.size)
        } else {
            placeholder(writer.size, place)
        };
        writer.write(place, &bytes)?;
    }
    Ok(backup_id)
}
