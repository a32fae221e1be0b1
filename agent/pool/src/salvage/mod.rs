//! Salvage: everything that is still on a damaged metadata device, as a pool that can be read, dumped and rebuilt.
//!
//! The device is scanned once, whatever any pointer says. Then one generation is chosen, and what of its inner nodes is lost
//! is put together again from the nodes that its own space map counts but that nothing points at any more. All of it is laid
//! over the device as patches in memory: the result is an ordinary [`Pool`]. What could not be decided stays a hole.

mod adopt;
mod ages;
mod bit_flip;
mod borrow;
mod choose;
mod classify;
mod committed;
mod common;
mod debris;
mod from_index;
mod generations;
mod graft;
mod hidden;
mod history;
mod lineage;
mod maps;
mod matching;
mod newer;
mod options;
mod orphan;
mod pick;
mod plan;
mod reach;
mod roots;
mod sample;
mod scan;
mod stale_chunks;
mod succession;
mod synthesize;
mod unattributed;
mod upper_level;

pub use generations::{GenerationView, generations};
pub use options::{
    Adopted, DeviceChoice, Generation, Hints, Origin, SalvageOptions, SalvageReport, SalvagedDevice, UNKNOWN_LENGTH,
    Unattributed,
};

use crate::blocks::{Blocks, View};
use crate::error::PoolError;
use crate::pool::Pool;
use crate::probe;
use crate::ring::Ring;
use scan::Scan;
use tierlift_ondisk::thin::BlockSize;
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
    let (candidate, contradictions) =
        pick::pick(&blocks, &scan, &ring, options).ok_or_else(|| missing(&metadata, &scan, &ring, options))?;
    let wishes = borrow::wishes(&blocks, &scan, &ring, &candidate, options)?;
    plan::carry_out(&blocks, &mut scan, &ring, candidate, contradictions, &wishes, options)
}

/// Why there is no generation to use: the one asked for is missing, or all are.
fn missing(metadata: &View, scan: &Scan, ring: &Ring, options: &SalvageOptions) -> PoolError {
    let is_pool = !choose::all(scan, ring).is_empty() || !scan.indexes.is_empty();
    options.generation.filter(|_| is_pool).map_or_else(|| diagnose(metadata), PoolError::NoSuchGeneration)
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
