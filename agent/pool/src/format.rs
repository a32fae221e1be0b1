//! Which format a pool has: the size of its metadata blocks and the family that wrote it, each with the evidence.
//!
//! The block size cannot be read before it is known, and the field that tells it is wrong in some pools. Neither does the
//! superblock's own checksum settle it: stock Linux's tools rewrite the first 4096 bytes of a pool with 8192-byte blocks. So
//! the superblock, the roots and the field each have their say.

use crate::blocks::{Blocks, View};
use crate::walk::{Item, ValueSize, walk};
use serde::Serialize;
use tierlift_ondisk::thin::{BlockKind, BlockSize, DetailsSize, Family, Superblock, flags};

/// Why a pool was taken to have its format, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FormatEvidence(pub Vec<String>);

/// Points for a superblock whose checksum covers just such a block; for each root that is sound; for the field.
const SUPERBLOCK: u32 = 4;
const ROOT: u32 = 2;
const FIELD: u32 = 1;

/// The block size with the most evidence, among which are the sizes under which the superblock is `valid`.
pub(crate) fn block_size(
    view: &View,
    superblock: &Superblock,
    valid: &[BlockSize],
    told: Option<BlockSize>,
) -> (BlockSize, FormatEvidence) {
    let (mut best, mut lines) = ((BlockSize::K8, 0), Vec::new());
    for size in BlockSize::PROBE_ORDER {
        let (score, line) = speaks_for(view, superblock, valid, size);
        lines.push(line);
        if score > best.1 {
            best = (size, score);
        }
    }
    if let Some(size) = told {
        lines.push(format!("{}-byte blocks: told so by the user, which decides", size.bytes()));
    }
    (told.unwrap_or(best.0), FormatEvidence(lines))
}

fn speaks_for(view: &View, superblock: &Superblock, valid: &[BlockSize], size: BlockSize) -> (u32, String) {
    let blocks = Blocks::new(view.clone(), size);
    let roots = [
        (superblock.mapping_root, BlockKind::Node),
        (superblock.details_root, BlockKind::Node),
        (superblock.data_map.bitmap_root, BlockKind::Node),
        (superblock.metadata_map.bitmap_root, BlockKind::Index),
    ];
    let mut buffer = Vec::new();
    let sound = (0_u32..).zip(roots).filter(|(_, (root, kind))| blocks.read(*root, *kind, &mut buffer).is_ok()).count();
    let (covers, said) = (valid.contains(&size), superblock.metadata_block_size.to_bytes());
    let said = said.is_some_and(|said| said.0 == size.bytes() as u64);
    let points = [(covers, SUPERBLOCK), (said, FIELD)].into_iter().filter(|(yes, _)| *yes).map(|(_, points)| points);
    let score = points.fold(ROOT.saturating_mul(sound as u32), u32::saturating_add);
    let yes = |yes: bool, text: &str| if yes { text.to_owned() } else { format!("not: {text}") };
    let line = format!(
        "{}-byte blocks: {sound} of 4 roots are sound blocks of that size; {}; {}",
        size.bytes(),
        yes(covers, "the superblock's checksum covers as much"),
        yes(said, "its metadata_block_size says so")
    );
    (score, line)
}

/// Versions 1 and 2 with 4096-byte blocks are written by both families; only the length of a device record tells them apart.
/// When no record can be read it does not matter: without a record nothing but QNAP's two flag bits differ, and stock pools
/// never reach them.
pub(crate) fn family(blocks: &Blocks, superblock: &Superblock) -> (Family, String) {
    let only_qnap = [
        (blocks.size() == BlockSize::K8, "has 8192-byte blocks".to_owned()),
        (superblock.version > 2, format!("is of version {}", superblock.version)),
        (superblock.tier_num > 0, format!("declares {} tiers", superblock.tier_num)),
        (superblock.flags & !flags::NEEDS_CHECK != 0, format!("has flags {:#x}", superblock.flags)),
    ];
    let reasons: Vec<_> = only_qnap.into_iter().filter(|(yes, _)| *yes).map(|(_, reason)| reason).collect();
    if !reasons.is_empty() {
        return (Family::Qnap, format!("QNAP: the pool {}, which stock Linux's never does", reasons.join(", ")));
    }
    match record_size(blocks, superblock) {
        Some(DetailsSize::Mainline) => (Family::Mainline, "stock Linux: device records have 24 bytes".into()),
        Some(size) => (Family::Qnap, format!("QNAP: device records have {} bytes", size.bytes())),
        None => (Family::Qnap, "QNAP or stock Linux: there is no device record to tell, and no difference".into()),
    }
}

fn record_size(blocks: &Blocks, superblock: &Superblock) -> Option<DetailsSize> {
    let first_size = walk(blocks, superblock.details_root, ValueSize::DETAILS, |item| match item {
        Item::Leaf(node) => Err(node.value_size()),
        Item::Lost(_) => Ok(()),
    });
    first_size.err().and_then(DetailsSize::from_bytes)
}
