//! Which generation to salvage: block 0, a copy of it, or one found by scanning.

use super::choose::{self, Candidate};
use super::options::{Generation, SalvageOptions};
use super::scan::Scan;
use super::{debris, from_index, newer, succession};
use crate::blocks::Blocks;
use crate::pool::Pool;
use crate::ring::Ring;
use tierlift_ondisk::thin::Superblock;

/// The candidate to use and how often its space map contradicts its trees.
pub(super) fn pick(blocks: &Blocks, scan: &Scan, ring: &Ring, options: &SalvageOptions) -> Option<(Candidate, u64)> {
    let by_superblock = choose::candidates(scan, ring);
    let template = by_superblock.first().map(|candidate| candidate.superblock.clone());
    let from_index = || from_index::candidates(blocks, scan, template.as_ref(), &options.hints);
    if let Some(wanted) = options.generation {
        return named(blocks, scan, ring, wanted, from_index());
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
    // What a space map says against trees that are whole may as well be damage of its own.
    let is_current = |(best, contradictions): &&(Candidate, u64)| {
        let is_block0 = !best.doubtful && best.generation == Generation::Block0;
        is_block0 && (*contradictions == 0 || succession::is_whole(blocks, scan, &best.superblock))
    };
    if let Some((block0, contradictions)) = best.as_ref().filter(is_current) {
        // Nothing to compare with but the clocks, which only ever rise, and what the generations use.
        if !found.iter().any(|(other, _)| choose::is_later(blocks, scan, &other.superblock, &block0.superblock)) {
            return Some(successor(blocks, scan, (block0.clone(), *contradictions), found));
        }
    }
    let found: Vec<_> = found.into_iter().map(|(candidate, _)| candidate).collect();
    let newest = debris::newest_of_pool(blocks, scan, found, options.hints.transaction);
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
    let newest = newest.filter(|found| !is_known(found) && is_akin(found));
    // Without any superblock the last commit may have left no space map either.
    let newest = newest.map(|found| match best {
        None => newer(blocks, scan, &found).unwrap_or(found),
        Some(_) => found,
    });
    let doubtful = || best.map(|(best, contradictions)| (best.with_doubt(may_be_newer), contradictions));
    newest.map(|newest| (newest, 0)).or_else(doubtful)
}

/// The generation that was asked for.
fn named(
    blocks: &Blocks,
    scan: &Scan,
    ring: &Ring,
    wanted: Generation,
    found: Vec<(Candidate, u64)>,
) -> Option<(Candidate, u64)> {
    if let Some(given) = choose::all(scan, ring).into_iter().find(|candidate| candidate.generation == wanted) {
        let contradictions = choose::contradictions(blocks, scan, &given.superblock);
        return Some((given, contradictions));
    }
    // One known by its trees alone is later than one that has an index, or than the state the pool was made with.
    if let Generation::Trees { .. } = wanted {
        let mut later = found.iter().filter_map(|(known, _)| newer(blocks, scan, known));
        return later.find(|later| later.generation == wanted).map(|later| (later, 0));
    }
    found.into_iter().find(|(candidate, _)| candidate.generation == wanted)
}

/// What followed the state in block 0, or that state, with what may have followed it.
fn successor(
    blocks: &Blocks,
    scan: &Scan,
    (block0, contradictions): (Candidate, u64),
    found: Vec<(Candidate, u64)>,
) -> (Candidate, u64) {
    let found: Vec<_> = found.into_iter().map(|(candidate, _)| candidate).collect();
    let others: Vec<_> = found.iter().map(|other| other.superblock.clone()).collect();
    let later = succession::of(blocks, scan, &block0.superblock, &others);
    let candidate = later.and_then(|later| found.iter().find(|found| found.superblock == *later.superblock));
    let Some((later, candidate)) = later.zip(candidate.cloned()) else {
        let rival = found.first().filter(|_| contradictions > 0).map(|found| found.generation);
        return (Candidate { rival, ..block0 }, contradictions);
    };
    if later.proven {
        let reason = "it followed the state that block 0 has: block 0 is stale".to_owned();
        return (Candidate { reason, ..candidate }, 0);
    }
    if succession::is_empty(blocks, &block0.superblock) {
        let reason = "block 0 has no devices: it is older than this, or the pool was made anew over it".to_owned();
        return (Candidate { reason, rival: Some(Generation::Block0), ..candidate }, 0);
    }
    (Candidate { rival: Some(candidate.generation), ..block0 }, contradictions)
}

/// A commit later than one found by its index, when its trees are all that is left of it.
fn newer(blocks: &Blocks, scan: &Scan, found: &Candidate) -> Option<Candidate> {
    let family = Pool::with_blocks(blocks.clone(), found.superblock.clone()).ok()?.family();
    newer::than(blocks, scan, &found.superblock, family)
}
