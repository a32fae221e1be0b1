//! Which generation to use: block 0, or the newest copy in the ring when block 0 is lost or older.

use super::committed::Committed;
use super::options::Generation;
use super::reach::Reach;
use super::scan::Scan;
use crate::blocks::Blocks;
use crate::probe;
use crate::ring::{Ring, RingState};
use tierlift_ondisk::thin::{Superblock, flags};
use tierlift_ondisk::units::MetaBlock;

/// Copies looked at before giving up.
const MOST_COPIES: usize = 8;

/// A superblock that may be used.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub generation: Generation,
    pub superblock: Superblock,
    pub reason: String,
}

/// A copy as it must stand in block 0.
pub(crate) fn as_block0(copy: &Superblock) -> Superblock {
    Superblock { number: MetaBlock(0), backup_id: 0, ..copy.clone() }
}

/// The copies: those at plausible ends, and only when there are none those found anywhere.
pub(crate) fn ring(blocks: &Blocks, scan: &Scan) -> Ring {
    let ring = Ring::find(blocks);
    if !ring.copies.is_empty() {
        return ring;
    }
    let copies = scan.superblocks.iter().filter(|(block, copy)| {
        block.0 != 0 && copy.has(flags::SUPERBLOCK_BACKUP) && copy.data_map.nr_blocks > 0 && probe::accept(copy).is_ok()
    });
    let mut copies: Vec<_> = copies.map(|(block, copy)| (*block, copy.clone())).collect();
    copies.sort_by_key(|(_, copy)| copy.backup_id);
    Ring { copies, placeholders: ring.placeholders }
}

/// All candidates, the preferred one first.
pub(crate) fn candidates(scan: &Scan, ring: &Ring) -> Vec<Candidate> {
    let block0 = scan.superblocks.get(&MetaBlock(0)).filter(|found| probe::accept(found).is_ok());
    let copies = ring.copies.iter().rev().take(MOST_COPIES).map(|(block, copy)| Candidate {
        generation: Generation::Copy { block: *block },
        superblock: as_block0(copy),
        reason: format!("the newest usable copy in the ring, number {}", copy.backup_id),
    });
    let Some(block0) = block0 else { return copies.collect() };
    let state = ring.judge(block0);
    let of_block0 = |reason: &str| Candidate {
        generation: Generation::Block0,
        superblock: block0.clone(),
        reason: reason.to_owned(),
    };
    match state {
        RingState::Behind { .. } => copies.chain([of_block0("older than the newest copy in the ring")]).collect(),
        RingState::Agrees => vec![of_block0("its newest copy in the ring says the same")],
        RingState::Off => vec![of_block0("the pool keeps no copies")],
        RingState::NoCopies => vec![of_block0("no copy was found to compare with")],
        RingState::Differs => [of_block0("the ring shows nothing newer")].into_iter().chain(copies).collect(),
    }
}

/// The first candidate whose trees are not contradicted by its own space map, or else the least contradicted.
pub(crate) fn best(blocks: &Blocks, scan: &Scan, candidates: Vec<Candidate>) -> Option<(Candidate, u64)> {
    let mut best: Option<(Candidate, u64)> = None;
    for candidate in candidates {
        let contradictions = contradictions(blocks, scan, &candidate.superblock);
        if contradictions == 0 {
            return Some((candidate, 0));
        }
        if best.as_ref().is_none_or(|(_, least)| contradictions < *least) {
            best = Some((candidate, contradictions));
        }
    }
    best
}

/// How often the trees of a superblock contradict its space map.
pub(crate) fn contradictions(blocks: &Blocks, scan: &Scan, superblock: &Superblock) -> u64 {
    let blocks = blocks.clone().with_recorded_count(superblock.metadata_map.nr_blocks);
    let reach = Reach::from_superblock(&blocks, scan, superblock);
    Committed::load(&blocks, scan, &superblock.metadata_map, &reach).contradictions(&reach)
}
