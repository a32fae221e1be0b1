//! The superblock's fields, and what the ring of its copies says of it.

use super::findings::Findings;
use super::kind::Kind;
use super::structure::Structure;
use crate::pool::Pool;
use crate::ring::RingState;
use tierlift_ondisk::thin::{Bitmap, SpaceMapRoot, Superblock, flags, index_entries};
use tierlift_ondisk::units::MetaBlock;

const KNOWN_FLAGS: u32 = flags::NEEDS_CHECK | flags::FAST_BLOCK_CLONE | flags::SUPERBLOCK_BACKUP;

pub(super) fn check(pool: &Pool, findings: &mut Findings) {
    let superblock = pool.superblock();
    for kind in flag_findings(superblock).into_iter().chain(sizes(pool)).chain(tiers(superblock)).chain(ring(pool)) {
        findings.add(Structure::Superblock, superblock.number, kind);
    }
}

fn flag_findings(superblock: &Superblock) -> Vec<Kind> {
    let (unknown, read_only) = (superblock.flags & !KNOWN_FLAGS, superblock.compat_ro_flags);
    let found = [
        superblock.has(flags::NEEDS_CHECK).then_some(Kind::NeedsCheck),
        (unknown != 0).then_some(Kind::UnknownFlags { found: unknown }),
        (read_only != 0).then_some(Kind::ReadOnlyFeatures { found: read_only }),
    ];
    found.into_iter().flatten().collect()
}

fn sizes(pool: &Pool) -> Vec<Kind> {
    let superblock = pool.superblock();
    let size = pool.blocks().size();
    let sectors = size.bytes() as u64 / tierlift_ondisk::units::SECTOR_BYTES;
    let (recorded, present) = (superblock.metadata_map.nr_blocks, pool.blocks().present());
    let most = (index_entries(size) as u64).saturating_mul(Bitmap::entries(size) as u64);
    let (chunk, said) = (superblock.chunk_size.0, superblock.metadata_block_size.0);
    let found = [
        (said != sectors).then_some(Kind::BlockSizeField { expected: sectors, found: said }),
        (chunk % 128 != 0).then_some(Kind::ChunkSize { found: chunk }),
        (recorded > most).then_some(Kind::TooLong { expected: most, found: recorded }),
        (present < recorded).then_some(Kind::CutShort { expected: recorded, found: present }),
    ];
    found.into_iter().flatten().collect()
}

fn tiers(superblock: &Superblock) -> Vec<Kind> {
    let Superblock { tier_num: tiers, tier_root: root, .. } = *superblock;
    let (chunk, piece) = (superblock.chunk_size.0, superblock.tier_block_size.0);
    let mut found = Vec::new();
    if tiers > 0 && piece.checked_rem(chunk).unwrap_or(0) != 0 {
        found.push(Kind::TierBlockSize { expected: chunk, found: piece });
    }
    if (tiers > 0) != (root != MetaBlock(0)) {
        found.push(Kind::TierRoot { tiers, root });
    }
    let unused = (0_u8..).zip(superblock.tier_maps).skip(tiers as usize);
    let set = unused.filter(|(_, map)| *map != SpaceMapRoot::default());
    found.extend(set.map(|(tier, _)| Kind::UnusedTier { tier, tiers }));
    found
}

fn ring(pool: &Pool) -> Option<Kind> {
    let newest = pool.ring().newest_place();
    match (pool.ring_state(), newest) {
        (RingState::Off | RingState::Agrees, _) => None,
        (RingState::NoCopies, _) | (_, None) => Some(Kind::NoCopies),
        (RingState::Behind { commits: Some(1) }, Some(newest)) => Some(Kind::OneCommitBehind { newest }),
        (RingState::Behind { commits }, Some(newest)) => Some(Kind::Stale { newest, commits }),
        (RingState::Differs, Some(newest)) => Some(Kind::CopyDiffers { newest }),
    }
}
