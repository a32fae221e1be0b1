//! Finding the superblock, and saying what is there when there is none.

use crate::blocks::{Blocks, View};
use crate::error::PoolError;
use crate::format::{self, FormatEvidence};
use crate::looks_like::looks_like;
use crate::ring::Ring;
use tierlift_ondisk::DecodeError;
use tierlift_ondisk::thin::{
    BlockKind, BlockSize, MAGIC, MAX_TIERS, Superblock, checksum, identify, own_number, stored_checksum,
};
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;

/// What was found at the start of a metadata device.
#[derive(Debug)]
pub(crate) struct Probed {
    pub blocks: Blocks,
    pub superblock: Superblock,
    /// Why the blocks have that size.
    pub evidence: FormatEvidence,
}

/// Blocks and superblock, as probed.
///
/// # Errors
/// As [`probe_as`].
pub(crate) fn probe(view: &View) -> Result<(Blocks, Superblock), PoolError> {
    probe_as(view, None).map(|found| (found.blocks, found.superblock))
}

/// Looks for the superblock in the first 8192 bytes and the first 4096, as QNAP's kernel does, and settles the block size.
///
/// # Errors
/// What is there instead of a superblock, and which copies of it exist.
pub(crate) fn probe_as(view: &View, told: Option<BlockSize>) -> Result<Probed, PoolError> {
    let size = view.size().0;
    if size < BlockSize::K4.bytes() as u64 {
        return Err(PoolError::TooShort(size));
    }
    let head = read_head(view)?;
    let is_valid = |size: &BlockSize| head.get(..size.bytes()).is_some_and(is_superblock);
    let valid: Vec<_> = BlockSize::PROBE_ORDER.into_iter().filter(is_valid).collect();
    match Superblock::decode(&head) {
        Ok(superblock) if !valid.is_empty() => {
            let (size, evidence) = format::block_size(view, &superblock, &valid, told);
            Ok(Probed { blocks: Blocks::new(view.clone(), size), superblock, evidence })
        }
        _ => Err(diagnose(view, &head)),
    }
}

fn is_superblock(block: &[u8]) -> bool {
    let magic = Superblock::decode(block).is_ok_and(|superblock| superblock.magic == MAGIC);
    magic && own_number(block) == Some(MetaBlock(0)) && identify(block) == Some(BlockKind::Superblock)
}

/// The first 8192 bytes, or what there is of them.
fn read_head(view: &View) -> Result<Vec<u8>, PoolError> {
    let length = BlockSize::K8.bytes().min(usize::try_from(view.size().0).unwrap_or(usize::MAX));
    let mut head = vec![0; length];
    match view.read_at(Bytes(0), &mut head) {
        Ok(()) => Ok(head),
        Err(error) => Err(PoolError::Unreadable { error: error.to_string(), copies: (&find_ring(view)).into() }),
    }
}

/// The ring under whichever block size it verifies.
pub(crate) fn find_ring(view: &View) -> Ring {
    let rings = BlockSize::PROBE_ORDER.map(|size| Ring::find(&Blocks::new(view.clone(), size)));
    rings.into_iter().max_by_key(|ring| ring.copies.len()).unwrap_or_default()
}

fn diagnose(view: &View, head: &[u8]) -> PoolError {
    let ring = find_ring(view);
    let copies = (&ring).into();
    let found = Superblock::decode(head).ok();
    if head.iter().all(|byte| *byte == 0) {
        match looks_like(view) {
            _ if !ring.copies.is_empty() || has_metadata_near(view) => PoolError::Zeroed(copies),
            None => PoolError::Blank,
            name => PoolError::NotMetadata(name),
        }
    } else if let Some(found) = found.filter(|found| found.magic == MAGIC) {
        PoolError::Damaged { what: describe(head, &found), copies }
    } else if ring.copies.is_empty() {
        PoolError::NotMetadata(looks_like(view))
    } else {
        PoolError::Damaged { what: "it was overwritten with something else".into(), copies }
    }
}

/// Whether a metadata block lies in the first MiB: pools begin to fill at the start.
fn has_metadata_near(view: &View) -> bool {
    let mut buffer = Vec::new();
    BlockSize::PROBE_ORDER.into_iter().any(|size| {
        let blocks = Blocks::new(view.clone(), size);
        let near = blocks.present().min(size.blocks_in(1 << 20));
        (1..near).map(MetaBlock).any(|place| {
            blocks.read_raw(place, &mut buffer).is_ok()
                && identify(&buffer).is_some()
                && own_number(&buffer) == Some(place)
        })
    })
}

/// What is wrong with a block that carries the magic number.
fn describe(head: &[u8], found: &Superblock) -> String {
    if found.number != MetaBlock(0) {
        return format!(
            "it carries block number {}, not 0: a block from another place, or a copy put here unchanged",
            found.number
        );
    }
    let expected: Vec<_> = BlockSize::PROBE_ORDER
        .into_iter()
        .filter_map(|size| head.get(..size.bytes()))
        .map(|block| format!("{:08x} for {}-byte blocks", checksum(BlockKind::Superblock, block), block.len()))
        .collect();
    format!("its checksum is {:08x}, but should be {}", stored_checksum(head), expected.join(" or "))
}

/// Refuses what must not be read with guesses.
///
/// # Errors
/// Unknown versions and features, and values under which nothing can be computed.
pub(crate) fn accept(superblock: &Superblock) -> Result<(), PoolError> {
    let impossible = |field, offset, expected: &str, found: &dyn ToString| {
        Err(PoolError::Impossible(DecodeError::new("superblock", field, offset, expected, found.to_string())))
    };
    if !(1..=4).contains(&superblock.version) {
        return Err(PoolError::Version(superblock.version));
    }
    if superblock.incompat_flags != 0 {
        return Err(PoolError::Incompatible(superblock.incompat_flags));
    }
    if superblock.chunk_size.0 == 0 {
        return impossible("data_block_size", 336, "at least 1 sector", &superblock.chunk_size);
    }
    if superblock.tier_num > MAX_TIERS as u32 {
        return impossible("tier_num", 388, "0 to 3", &superblock.tier_num);
    }
    if superblock.tier_num > 0 && superblock.tier_block_size.0 == 0 {
        return impossible("tier_block_size", 400, "at least 1 sector", &superblock.tier_block_size);
    }
    Ok(())
}
