//! Tiers: where pieces of the pool's address space lie, and moving them.

use super::Simulator;
use super::counts::Counts;
use super::node::number;
use super::shape::{Shape, TIER_BLOCK};
use super::space_map::DiskMap;
use super::store::{Holds, Store};
use super::tree::Tree;
use anyhow::Context;
use tierlift_ondisk::thin::TierValue;
use tierlift_ondisk::units::{Chunk, TierBlock};

/// The space map of each tier.
pub(super) type TierMaps = Vec<(Counts, DiskMap)>;

/// Maps of all tiers and the tier tree; nothing of it in a pool without tiers.
pub(super) fn create(store: &mut Store, shape: &Shape) -> anyhow::Result<(TierMaps, Option<Tree>)> {
    if shape.tiers == 0 {
        return Ok((Vec::new(), None));
    }
    let mut maps = Vec::new();
    for blocks in shape.tier_blocks() {
        let counts = Counts::new(blocks);
        let map = DiskMap::create(store, &counts)?;
        maps.push((counts, map));
    }
    Ok((maps, Some(Tree::create(store, 8, Holds::Values)?)))
}

impl Simulator {
    /// What the tier tree says of a piece of the pool.
    pub fn tier_of(&self, piece: u64) -> Option<TierValue> {
        let value = self.tier_tree?.get(&self.store, piece)?;
        Some(TierValue::decode(number(value)))
    }

    /// A first write gives every piece that the chunk touches a place.
    pub(super) fn place_on_tier(&mut self, chunk: Chunk) -> anyhow::Result<()> {
        if !self.shape.has_tier_map() {
            return Ok(());
        }
        let size = self.shape.chunk_size.0;
        let first = chunk.0 * size / TIER_BLOCK.0;
        let last = ((chunk.0 + 1) * size - 1) / TIER_BLOCK.0;
        for piece in first..=last {
            if self.tier_of(piece).is_none() {
                let tier = self.dice.below(8);
                self.put_on_tier(piece, [0, 1, 1, 2, 2, 2, 2, 2][tier as usize])?;
            }
        }
        Ok(())
    }

    /// Puts the piece on a tier, or on a slower one when that is full.
    fn put_on_tier(&mut self, piece: u64, tier: u8) -> anyhow::Result<()> {
        let tiers = usize::from(tier)..self.tier_maps.len();
        let (tier, block) = tiers
            .into_iter()
            .find_map(|tier| Some((tier, self.tier_maps[tier].0.allocate().ok()?)))
            .context("all tiers are full")?;
        let value = TierValue { tier: tier as u8, block: TierBlock(block), reserved: 0 };
        let tree = self.tier_tree.as_mut().context("a pool without tiers")?;
        tree.insert(&mut self.store, piece, &value.encode().to_le_bytes())?;
        self.truth.tiers.insert(piece, value);
        self.dirty = true;
        Ok(())
    }

    /// Moves a piece to another tier (a slower one when that is full): a new place first, then the old one is free.
    ///
    /// # Errors
    /// When the piece has no place yet, or everything is full.
    pub fn migrate(&mut self, piece: u64, tier: u8) -> anyhow::Result<()> {
        let before = self.tier_of(piece).with_context(|| format!("piece {piece} is on no tier"))?;
        self.put_on_tier(piece, tier)?;
        self.tier_maps[usize::from(before.tier)].0.release(before.block.0);
        Ok(())
    }

    /// What the kernel's collector does: pieces of which no chunk is in use any more lose their place.
    ///
    /// # Errors
    /// When the metadata device is full.
    pub fn collect_pieces(&mut self) -> anyhow::Result<()> {
        let chunk = self.shape.chunk_size.0;
        let last = self.store.data.blocks().saturating_sub(1);
        let unused = |piece: &u64| {
            let (first, end) = (piece * TIER_BLOCK.0 / chunk, ((piece + 1) * TIER_BLOCK.0 - 1) / chunk);
            (first..=end.min(last)).all(|chunk| self.store.data.get(chunk) == 0)
        };
        let pieces: Vec<_> = self.truth.tiers.keys().copied().filter(unused).collect();
        for piece in pieces {
            let tree = self.tier_tree.as_mut().context("a pool without tiers")?;
            tree.remove(&mut self.store, piece)?;
            if let Some(value) = self.truth.tiers.remove(&piece) {
                self.tier_maps[usize::from(value.tier)].0.release(value.block.0);
            }
            self.dirty = true;
        }
        Ok(())
    }
}
