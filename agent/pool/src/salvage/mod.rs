//! Salvage: everything that is still on a damaged metadata device, as a pool that can be read, dumped and rebuilt.
//!
//! The device is scanned once, whatever any pointer says. Then one generation is chosen, and what of its inner nodes is lost
//! is put together again from the nodes that its own space map counts but that nothing points at any more. All of it is laid
//! over the device as patches in memory: the result is an ordinary [`Pool`]. What could not be decided stays a hole.

mod adopt;
mod ages;
mod bit_flip;
mod choose;
mod classify;
mod committed;
mod common;
mod from_index;
mod generations;
mod hidden;
mod history;
mod lineage;
mod matching;
mod newer;
mod options;
mod orphan;
mod plan;
mod reach;
mod roots;
mod sample;
mod scan;
mod succession;
mod synthesize;
mod unattributed;
mod upper_level;

pub use generations::{GenerationView, generations};
pub use options::{Adopted, Generation, Hints, Origin, SalvageOptions, SalvageReport, SalvagedDevice, Unattributed};

use crate::blocks::{Blocks, View};
use crate::error::PoolError;
use crate::pool::Pool;
use crate::probe;
use crate::ring::Ring;
use choose::Candidate;
use scan::Scan;
use tierlift_ondisk::thin::{BlockSize, Superblock};
use tierlift_ondisk::units::MetaBlock;
use tierlift_ondisk::view::ReadAt;

/// A salvaged pool.
#[derive(Debug, Clone)]
pub struct Salvage {
    /// The pool, over the device and what was put together again in memory.
    pub pool: Pool,
    /// What was done and what is missing.
    pub report: SalvageReport,
}

/// Salvages the pool on a metadata device. `progress` is told the bytes scanned.
///
/// # Errors
/// When no generation can be found at all: what is there instead, and what to do.
pub fn salvage(metadata: View, options: &SalvageOptions, progress: &mut dyn FnMut(u64)) -> Result<Salvage, PoolError> {
    let (blocks, mut scan) = scan_at_best_size(&metadata, options.block_size, progress)?;
    let ring = choose::ring(&blocks, &scan);
    let (candidate, contradictions) = pick(&blocks, &scan, &ring, options).ok_or_else(|| diagnose(&metadata))?;
    plan::carry_out(&blocks, &mut scan, &ring, candidate, contradictions, options)
}

/// The candidate to use and how often its space map contradicts its trees.
fn pick(blocks: &Blocks, scan: &Scan, ring: &Ring, options: &SalvageOptions) -> Option<(Candidate, u64)> {
    let by_superblock = choose::candidates(scan, ring);
    let template = by_superblock.first().map(|candidate| candidate.superblock.clone());
    let from_index = || from_index::candidates(blocks, scan, template.as_ref(), &options.hints);
    if let Some(wanted) = options.generation {
        let given = choose::all(scan, ring).into_iter().find(|candidate| candidate.generation == wanted);
        let given = given.map(|given| (choose::contradictions(blocks, scan, &given.superblock), given));
        let given = given.map(|(contradictions, given)| (given, contradictions));
        let mut found = from_index();
        found.extend(found.first().and_then(|(first, _)| Some((newer(blocks, scan, first)?, 0))));
        return given.or_else(|| found.into_iter().find(|(candidate, _)| candidate.generation == wanted));
    }
    if let Some(certain) = by_superblock.iter().find(|candidate| candidate.certain) {
        return Some((certain.clone(), choose::contradictions(blocks, scan, &certain.superblock)));
    }
    let best = choose::best(blocks, scan, by_superblock);
    let may_be_newer = best.as_ref().is_some_and(|(best, _)| {
        best.doubtful || matches!(best.generation, Generation::Copy { .. }) && choose::may_lack_newest(scan, ring)
    });
    let sound = best.as_ref().filter(|(_, contradictions)| *contradictions == 0);
    if sound.is_some_and(|(best, _)| best.generation != Generation::Block0) && !may_be_newer {
        return best;
    }
    let mut found = from_index();
    found.retain(|(_, contradictions)| *contradictions == 0);
    if let Some((block0, _)) = sound.filter(|(best, _)| !best.doubtful && best.generation == Generation::Block0) {
        // Nothing to compare with but the clocks, which only ever rise, and what the generations use.
        if !found.iter().any(|(other, _)| choose::is_later(blocks, scan, &other.superblock, &block0.superblock)) {
            return Some((successor(blocks, scan, block0.clone(), found), 0));
        }
    }
    let others: Vec<_> = found.iter().map(|(other, _)| other.superblock.clone()).collect();
    let newest = found.into_iter().next();
    // That of a copy is not newer than the newest copy.
    let is_known = |found: &Candidate| {
        let index = |superblock: &Superblock| superblock.metadata_map.bitmap_root;
        let best = best.iter().map(|(best, _)| &best.superblock);
        best.chain(ring.copies.iter().map(|(_, copy)| copy)).any(|known| index(known) == index(&found.superblock))
    };
    // Beside a sound copy only the same pool a few commits later can be meant, never the debris of another one.
    let is_copy = best
        .as_ref()
        .filter(|(best, contradictions)| *contradictions == 0 && matches!(best.generation, Generation::Copy { .. }));
    let is_akin = |found: &Candidate| {
        is_copy.is_none_or(|(copy, _)| choose::is_akin(blocks, scan, &copy.superblock, &found.superblock))
    };
    let newest = newest.filter(|(found, _)| !is_known(found) && is_akin(found));
    // Without any superblock the last commit may have left no space map either.
    let newest = newest.map(|(found, contradictions)| match best {
        None => (newer(blocks, scan, &found).unwrap_or(found), contradictions),
        Some(_) => (found, contradictions),
    });
    // A block 0 with whole trees that only its space map contradicts is stale, or it is the space map that is damaged.
    let newest = newest.map(|(found, contradictions)| match &best {
        Some((block0, 1..)) if is_rival(blocks, scan, block0, &found, &others) => {
            (Candidate { rival: Some(block0.generation), ..found }, contradictions)
        }
        _ => (found, contradictions),
    });
    newest.or_else(|| best.map(|(best, contradictions)| (best.with_doubt(may_be_newer), contradictions)))
}

/// Whether block 0, though contradicted, may be newer than what was found.
fn is_rival(blocks: &Blocks, scan: &Scan, block0: &Candidate, found: &Candidate, others: &[Superblock]) -> bool {
    let later = || succession::of(blocks, scan, &block0.superblock, others);
    block0.generation == Generation::Block0
        && succession::is_whole(blocks, scan, &block0.superblock)
        && !choose::is_later(blocks, scan, &found.superblock, &block0.superblock)
        && !later().is_some_and(|later| later.proven && *later.superblock == found.superblock)
}

/// What followed the state in block 0, or that state, with what may have followed it.
fn successor(blocks: &Blocks, scan: &Scan, block0: Candidate, found: Vec<(Candidate, u64)>) -> Candidate {
    let others: Vec<_> = found.iter().map(|(other, _)| other.superblock.clone()).collect();
    let Some(later) = succession::of(blocks, scan, &block0.superblock, &others) else { return block0 };
    let later = (later.superblock.clone(), later.proven);
    let candidate = found.into_iter().map(|(candidate, _)| candidate).find(|found| found.superblock == later.0);
    let Some(candidate) = candidate else { return block0 };
    if later.1 {
        return Candidate {
            reason: "it followed the state that block 0 has: block 0 is stale".to_owned(),
            ..candidate
        };
    }
    if succession::is_empty(blocks, &block0.superblock) {
        let reason = "block 0 has no devices: it is older than this, or the pool was made anew over it".to_owned();
        return Candidate { reason, rival: Some(Generation::Block0), ..candidate };
    }
    Candidate { rival: Some(candidate.generation), ..block0 }
}

/// A commit later than one found by its index, when its trees are all that is left of it.
fn newer(blocks: &Blocks, scan: &Scan, found: &Candidate) -> Option<Candidate> {
    let family = Pool::with_blocks(blocks.clone(), found.superblock.clone()).ok()?.family();
    newer::than(blocks, scan, &found.superblock, family)
}

/// Why there is nothing to salvage: as opening would say it.
fn diagnose(metadata: &View) -> PoolError {
    Pool::open(metadata.clone()).err().unwrap_or(PoolError::Blank)
}

/// Scans with the block size that was given, that block 0 has, that the ring has, that a sample shows, or that finds more.
fn scan_at_best_size(
    metadata: &View,
    given: Option<BlockSize>,
    progress: &mut dyn FnMut(u64),
) -> Result<(Blocks, Scan), PoolError> {
    let bytes = metadata.size().0;
    if bytes < BlockSize::K4.bytes() as u64 {
        return Err(PoolError::TooShort(bytes));
    }
    let known = given.or_else(|| probe::probe(metadata).ok().map(|(blocks, _)| blocks.size()));
    let by_ring = || {
        BlockSize::PROBE_ORDER
            .into_iter()
            .find(|size| !Ring::find(&Blocks::new(metadata.clone(), *size)).copies.is_empty())
    };
    let sizes = match known.or_else(by_ring).or_else(|| sample::block_size(metadata)) {
        Some(size) => vec![size],
        None => BlockSize::PROBE_ORDER.to_vec(),
    };
    let mut best: Option<(Blocks, Scan)> = None;
    for size in sizes {
        let blocks = Blocks::new(metadata.clone(), size);
        let scan = Scan::run(&blocks, progress);
        if best.as_ref().is_none_or(|(_, other)| scan.nodes.len() > other.nodes.len()) {
            best = Some((blocks.with_patches(scan.stand_ins.clone()), scan));
        }
    }
    best.ok_or(PoolError::Blank)
}

/// Whether a block number lies on the device and is not the superblock's.
fn is_ordinary(block: MetaBlock) -> bool {
    block.0 != 0
}
