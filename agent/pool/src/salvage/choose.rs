//! Which generation to use: block 0, or the newest copy in the ring when block 0 is lost or older.

use super::committed::Committed;
use super::options::Generation;
use super::reach::{Fact, Reach, Tree};
use super::scan::Scan;
use crate::blocks::Blocks;
use crate::probe;
use crate::ring::{Ring, RingState};
use tierlift_ondisk::thin::ring::SLOTS;
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
    /// Block 0 and the newest copy say the same: no other generation is newer.
    pub certain: bool,
    /// The pool keeps copies but none is left to compare with: an older state may have been put in block 0.
    pub doubtful: bool,
    /// A generation that may be newer; nothing that is left tells.
    pub rival: Option<Generation>,
}

impl Candidate {
    /// Says so when a newer copy may have existed.
    pub(crate) fn with_doubt(mut self, may_be_newer: bool) -> Self {
        if may_be_newer && matches!(self.generation, Generation::Copy { .. }) {
            self.reason.push_str(
                "; the slot after it is damaged, so a newer copy may be lost, and with it what the last commit changed",
            );
        }
        self
    }
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
        certain: false,
        doubtful: false,
        rival: None,
    });
    let Some(block0) = block0 else { return copies.collect() };
    let state = ring.judge(block0);
    // Where a file ends before the ring, that there are no copies says nothing.
    let is_cut = scan.present < block0.metadata_map.nr_blocks;
    let of_block0 = |reason: &str| Candidate {
        generation: Generation::Block0,
        superblock: block0.clone(),
        reason: reason.to_owned(),
        certain: state == RingState::Agrees,
        doubtful: state == RingState::NoCopies && !is_cut,
        rival: None,
    };
    match state {
        RingState::Behind { .. } => copies.chain([of_block0("older than the newest copy in the ring")]).collect(),
        RingState::Agrees => vec![of_block0("its newest copy in the ring says the same")],
        RingState::Off => vec![of_block0("the pool keeps no copies")],
        RingState::NoCopies => vec![of_block0("no copy was found to compare with")],
        RingState::Differs => [of_block0("the ring shows nothing newer")].into_iter().chain(copies).collect(),
    }
}

/// Every superblock there is, block 0 and all copies.
pub(crate) fn all(scan: &Scan, ring: &Ring) -> Vec<Candidate> {
    let block0 = scan.superblocks.get(&MetaBlock(0)).filter(|found| probe::accept(found).is_ok());
    let block0 = block0.map(|found| (Generation::Block0, found.clone()));
    let copies = ring.copies.iter().rev().map(|(block, copy)| (Generation::Copy { block: *block }, as_block0(copy)));
    let candidate = |(generation, superblock)| Candidate {
        generation,
        superblock,
        reason: "asked for".into(),
        certain: false,
        doubtful: false,
        rival: None,
    };
    block0.into_iter().chain(copies).map(candidate).collect()
}

/// The first candidate that nothing contradicts, or else the least contradicted.
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

/// How much speaks against a superblock being the newest: its trees against its space map, and blocks it needs that hold
/// something sound of another kind or place, as reused blocks do.
pub(crate) fn contradictions(blocks: &Blocks, scan: &Scan, superblock: &Superblock) -> u64 {
    let blocks = blocks.clone().with_recorded_count(superblock.metadata_map.nr_blocks);
    let reach = Reach::from_superblock(&blocks, scan, superblock);
    let committed = Committed::load(&blocks, scan, &superblock.metadata_map, &reach);
    let reused = reach.dangling.keys().filter(|block| scan.is_sound(**block)).count() as u64;
    committed.contradictions(&reach).saturating_add(reused).saturating_add(committed.reused)
}

/// Whether a generation found elsewhere shows a clock that is ahead of this superblock's, and is of the same pool: another
/// pool's debris shares no node with it.
pub(crate) fn is_later(blocks: &Blocks, scan: &Scan, other: &Superblock, than: &Superblock) -> bool {
    if other.time <= than.time && other.transaction <= than.transaction {
        return false;
    }
    let blocks = blocks.clone().with_recorded_count(than.metadata_map.nr_blocks);
    let [other, than] = [other, than].map(|superblock| Reach::from_superblock(&blocks, scan, superblock));
    let shared = |(block, fact): (&MetaBlock, &Fact)| fact.tree == Tree::Mapping && than.facts.contains_key(block);
    other.facts.iter().any(shared)
}

/// Whether two generations have most nodes of their mapping trees in common.
pub(crate) fn is_akin(blocks: &Blocks, scan: &Scan, one: &Superblock, other: &Superblock) -> bool {
    let [one, other] = [one, other].map(|superblock| {
        let blocks = blocks.clone().with_recorded_count(superblock.metadata_map.nr_blocks);
        Reach::from_superblock(&blocks, scan, superblock).facts
    });
    let shared = one.iter().filter(|(block, fact)| fact.tree == Tree::Mapping && other.contains_key(*block)).count();
    let nodes = one.values().filter(|fact| fact.tree == Tree::Mapping).count();
    shared.saturating_mul(2) > nodes
}

/// Whether a newer copy than the newest found may have been in the ring: the slot after it holds neither an older copy nor
/// a placeholder.
pub(crate) fn may_lack_newest(scan: &Scan, ring: &Ring) -> bool {
    let Some((newest, _)) = ring.newest() else { return true };
    let lowest = ring.copies.iter().map(|(block, _)| block.0).min().unwrap_or(0);
    let highest = ring.copies.iter().map(|(block, _)| block.0).max().unwrap_or(0);
    let below = newest.0.saturating_sub(1);
    // The ring goes on at its upper end after the last slot.
    let next =
        if below < lowest && highest.saturating_sub(lowest) >= SLOTS.saturating_sub(1) { highest } else { below };
    let next = MetaBlock(next);
    !scan.superblocks.contains_key(&next) && !scan.placeholders.contains(&next)
}
