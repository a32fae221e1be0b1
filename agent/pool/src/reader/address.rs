//! From the pool's address space to bytes of its devices: straight, or through the tier tree.

use super::{LossReason, ReaderError, Source};
use crate::blocks::View;
use crate::mode::Mode;
use crate::pool::{Pool, Step};
use crate::run::{Lookup, Run, RunMap};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use tierlift_ondisk::thin::{MAX_TIERS, TierValue};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// The tier tree in memory.
#[derive(Debug, Default)]
struct TierTree {
    /// Tier block size in bytes.
    block: u64,
    /// Pieces of the pool to tier blocks; the attribute is the tier.
    map: RunMap<u8>,
    /// Blocks each tier has, by its space map; 0 for a tier that is not declared.
    lengths: [u64; MAX_TIERS],
}

#[derive(Debug)]
enum Layout {
    Straight(u8),
    Tree(TierTree),
}

/// The pool's address space over its devices.
pub(super) struct AddressSpace {
    chunk: u64,
    chunks: u64,
    layout: Layout,
    tiers: BTreeMap<u8, View>,
}

impl std::fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AddressSpace({} chunks, tiers {:?})", self.chunks, self.tiers.keys())
    }
}

impl AddressSpace {
    pub(super) fn new(pool: &Pool, tiers: BTreeMap<u8, View>, mode: Mode) -> Result<Self, ReaderError> {
        // Where nothing is in use no device is needed, and a mapping that exists all the same cannot be trusted.
        let tiers = if mode == Mode::Empty { BTreeMap::new() } else { tiers };
        let layout = match mode {
            Mode::Plain | Mode::Empty => Layout::Straight(0),
            Mode::Bypass { tier } => Layout::Straight(tier),
            Mode::TierMap if pool.superblock().tier_num == 0 => return Err(ReaderError::NoTierTree),
            Mode::TierMap => Layout::Tree(TierTree::load(pool)),
            Mode::Undecided => return Err(ReaderError::ModeUndecided),
        };
        Ok(Self { chunk: pool.chunk_bytes().0, chunks: pool.chunks(), layout, tiers })
    }

    /// Where `length` bytes come from, `inside` bytes after the start of `chunk` (neighbouring chunks count on), and for how
    /// many of them that holds.
    pub(super) fn source(&self, chunk: u64, inside: u64, length: u64) -> (Source, u64) {
        let here = chunk.saturating_add(inside.checked_div(self.chunk).unwrap_or(0));
        if here >= self.chunks {
            return (Source::Lost(LossReason::BeyondPool { chunk: here, chunks: self.chunks }), length);
        }
        let start = chunk.checked_mul(self.chunk).and_then(|start| start.checked_add(inside));
        let Some(start) = start else {
            return (Source::Lost(LossReason::BeyondPool { chunk: here, chunks: self.chunks }), length);
        };
        let end = self.chunks.saturating_mul(self.chunk);
        let length = length.min(end.saturating_sub(start));
        let (source, length) = match &self.layout {
            Layout::Straight(tier) => (Source::Data { tier: *tier, offset: Bytes(start) }, length),
            Layout::Tree(tree) => tree.source(start, length),
        };
        self.clip(source, length)
    }

    /// Holds a place against the device that was given for it.
    fn clip(&self, source: Source, length: u64) -> (Source, u64) {
        let Source::Data { tier, offset } = source else { return (source, length) };
        let Some(view) = self.tiers.get(&tier) else {
            return (Source::Lost(LossReason::MissingTier(tier)), length);
        };
        match view.size().0.checked_sub(offset.0) {
            None | Some(0) => (Source::Lost(LossReason::TierTooShort(tier)), length),
            Some(left) => (source, length.min(left)),
        }
    }

    pub(super) fn read(&self, tier: u8, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let view = self.tiers.get(&tier).ok_or_else(|| io::Error::other(LossReason::MissingTier(tier)))?;
        view.read_at(offset, buffer)
    }
}

impl TierTree {
    fn load(pool: &Pool) -> Self {
        let superblock = pool.superblock();
        let mut tree = Self { block: superblock.tier_block_size.to_bytes().unwrap_or_default().0, ..Self::default() };
        let declared = superblock.tier_maps.iter().take(superblock.tier_num as usize);
        for (length, map) in tree.lengths.iter_mut().zip(declared) {
            *length = map.nr_blocks;
        }
        let done: Result<(), Infallible> = pool.tiers(|step| {
            match step {
                Step::Found(key, TierValue { tier, block, .. }) => tree.map.push(key, block.0, tier),
                Step::Lost(hole) => tree.map.push_lost(hole),
            }
            Ok(())
        });
        let Ok(()) = done;
        tree.map.finish();
        tree
    }

    fn source(&self, start: u64, length: u64) -> (Source, u64) {
        let key = start.checked_div(self.block).unwrap_or(0);
        let (found, next) = self.map.lookup(key);
        let next = next.and_then(|next| next.checked_mul(self.block));
        let length = next.map_or(length, |next| next.saturating_sub(start).min(length));
        let source = match found {
            Lookup::Nothing => Source::Zeros,
            Lookup::Hole(hole) => {
                Source::Lost(LossReason::TierMapping { block: hole.block, fault: hole.fault.clone() })
            }
            Lookup::Run(run) => return self.in_run(run, key, start, length),
        };
        (source, length)
    }

    fn in_run(&self, run: &Run<u8>, key: u64, start: u64, length: u64) -> (Source, u64) {
        let block = run.target.saturating_add(key.saturating_sub(run.key));
        let blocks = self.lengths.get(usize::from(run.attribute)).copied().unwrap_or(0);
        let inside = start.checked_rem(self.block).unwrap_or(0);
        let offset = block.checked_mul(self.block).and_then(|offset| offset.checked_add(inside));
        match offset {
            Some(offset) if block < blocks => {
                let end = blocks.saturating_mul(self.block);
                (Source::Data { tier: run.attribute, offset: Bytes(offset) }, length.min(end.saturating_sub(offset)))
            }
            _ => (Source::Lost(LossReason::BeyondTierMap { tier: run.attribute, block }), length),
        }
    }
}
