//! The tier tree: every piece of the pool on one block of one tier, and no block twice.

use super::devices::{Odd, tell_lost};
use super::finding::Cost;
use super::findings::Findings;
use super::forest::Forest;
use super::kind::Kind;
use super::structure::Structure;
use crate::counts::Counts;
use crate::fault::KeyRange;
use crate::mode::Mode;
use crate::pool::{Pool, Step};
use crate::walk::ValueSize;
use tierlift_ondisk::thin::{MAX_TIERS, Node, TierValue};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};

/// What is gathered from the leaves of the tier tree.
#[derive(Debug)]
pub(super) struct Tiers {
    /// How often each block of each tier is named.
    pub blocks: [Counts; MAX_TIERS],
    /// Pieces whose place is lost.
    pub lost: Vec<KeyRange>,
    tiers: usize,
    keys: u64,
    unknown: Odd,
    beyond: [Odd; MAX_TIERS],
    far: Odd,
    twice: Odd,
}

/// Pieces the pool can have at most. Only whole chunks of the pool's length are recorded, so it may be up to one longer.
fn most_keys(pool: &Pool) -> u64 {
    let (chunk, piece) = (pool.chunk_size().0, pool.superblock().tier_block_size.0);
    let sectors = pool.chunks().saturating_add(1).saturating_mul(chunk).saturating_sub(1);
    sectors.checked_div(piece).unwrap_or(0)
}

/// Checks the tier tree, when the pool has one.
pub(super) fn check(forest: &mut Forest<'_>, pool: &Pool) -> Tiers {
    let superblock = pool.superblock();
    let mut tiers = Tiers {
        blocks: superblock.tier_maps.map(|map| Counts::new(map.nr_blocks)),
        lost: Vec::new(),
        tiers: superblock.tier_num as usize,
        keys: most_keys(pool),
        unknown: Odd::default(),
        beyond: [Odd::default(); MAX_TIERS],
        far: Odd::default(),
        twice: Odd::default(),
    };
    if superblock.tier_num > 0 {
        forest.refs.add(superblock.tier_root.0);
        let mut lost_keys = Vec::new();
        let lost = |findings: &mut Findings, _: &_, lost: crate::fault::Lost| {
            lost_keys.push(lost.keys);
            let cost = pool_cost(pool, lost.keys);
            findings.add_costly(Structure::Tiers, lost.block, Kind::Lost { keys: lost.keys, fault: lost.fault }, cost);
        };
        forest.tree(Structure::Tiers, superblock.tier_root, ValueSize::EIGHT, lost, |node, _| tiers.leaf(node));
        tiers.lost = lost_keys;
        tiers.tell(&mut forest.findings, pool);
    }
    tiers
}

/// Walks the clone counts for their blocks alone: no kernel keeps the values up to date.
pub(super) fn check_clones(forest: &mut Forest<'_>, root: MetaBlock) {
    if root.0 != 0 {
        forest.refs.add(root.0);
        let lost = |findings: &mut Findings, _: &_, lost| tell_lost(findings, Structure::Clones, lost);
        forest.tree(Structure::Clones, root, ValueSize::COUNTS, lost, |_, _| {});
    }
}

impl Tiers {
    fn leaf(&mut self, node: &Node<'_>) {
        let place = node.number();
        for (key, value) in node.entries_u64() {
            let TierValue { tier, block, .. } = TierValue::decode(value);
            if key >= self.keys {
                self.far.add(key, key, place);
            }
            let index = usize::from(tier);
            match (self.blocks.get_mut(index), self.beyond.get_mut(index)) {
                (Some(blocks), _) if index < self.tiers && block.0 < blocks.len() => {
                    if blocks.add(block.0) > 1 {
                        self.twice.add(key, block.0, place);
                    }
                }
                (_, Some(beyond)) if index < self.tiers => beyond.add(key, block.0, place),
                _ => self.unknown.add(key, tier.into(), place),
            }
        }
    }

    fn tell(&mut self, findings: &mut Findings, pool: &Pool) {
        let mut tell = |odd: &mut Odd, kind: &dyn Fn(Odd) -> Kind| {
            if let Some(odd) = odd.take() {
                let keys = KeyRange { first: odd.keys.first, last: odd.keys.last };
                findings.add_costly(Structure::Tiers, odd.block, kind(odd), pool_cost(pool, keys));
            }
        };
        let expected = self.tiers as u64;
        tell(&mut self.unknown, &|odd| Kind::TierUnknown { keys: odd.keys, expected, found: odd.example });
        for (beyond, blocks) in self.beyond.iter_mut().zip(&self.blocks) {
            let expected = blocks.len();
            tell(beyond, &|odd| Kind::TierBlockBeyondEnd { keys: odd.keys, expected, found: odd.example });
        }
        let expected = self.keys;
        tell(&mut self.far, &|odd| Kind::TierKeyBeyondEnd { keys: odd.keys, expected });
        tell(&mut self.twice, &|odd| Kind::TierBlockTwice { keys: odd.keys, found: odd.example });
    }
}

/// The pool's chunks in a range of pieces.
fn pool_chunks(pool: &Pool, keys: KeyRange) -> Option<KeyRange> {
    let (chunk, piece) = (pool.chunk_size().0, pool.superblock().tier_block_size.0);
    let first = keys.first.checked_mul(piece)?.checked_div(chunk)?;
    let end = keys.last.saturating_add(1).saturating_mul(piece);
    let last = end.saturating_sub(1).checked_div(chunk)?.min(pool.chunks().checked_sub(1)?);
    (first <= last).then_some(KeyRange { first, last })
}

fn pool_cost(pool: &Pool, keys: KeyRange) -> Option<Cost> {
    let chunks = pool_chunks(pool, keys)?;
    let count = chunks.last.saturating_sub(chunks.first).saturating_add(1).min(pool.superblock().data_map.nr_allocated);
    Some(Cost {
        device: None,
        first_chunk: chunks.first,
        last_chunk: Some(chunks.last),
        chunks_at_most: Some(count),
        bytes_at_most: count.checked_mul(pool.chunk_bytes().0).map(Bytes),
    })
}

/// What a damaged tier tree costs each device. Reads the mapping trees again, which only damage makes worth it, and gives up
/// when devices share so much that this would take long: the ranges of the pool are told anyway.
pub(super) fn tell_devices(findings: &mut Findings, pool: &Pool, tiers: &Tiers) {
    if tiers.lost.is_empty() || pool.mode().mode != Mode::TierMap {
        return;
    }
    let lost: Vec<_> = tiers.lost.iter().filter_map(|keys| pool_chunks(pool, *keys)).collect();
    let mut left = pool.superblock().data_map.nr_allocated.min(1 << 26).saturating_mul(8);
    for (device, thin) in pool.devices().devices {
        let Some(root) = thin.root else { continue };
        let mut cost: Option<Cost> = None;
        let counted: Result<(), ()> = pool.mappings(root, |step| {
            left = left.checked_sub(1).ok_or(())?;
            let Step::Found(key, value) = step else { return Ok(()) };
            if value.zeroed == 0 && is_in(&lost, value.chunk.0) {
                let cost = cost.get_or_insert_with(|| nothing(device, key));
                cost.last_chunk = Some(key);
                cost.chunks_at_most = cost.chunks_at_most.and_then(|count| count.checked_add(1));
            }
            Ok(())
        });
        if counted.is_err() {
            return;
        }
        if let Some(mut cost) = cost {
            let chunks = cost.chunks_at_most.unwrap_or(0);
            cost.bytes_at_most = chunks.checked_mul(pool.chunk_bytes().0).map(Bytes);
            findings.add_costly(Structure::Tiers, None, Kind::TierPlaceLost { device, chunks }, Some(cost));
        }
    }
}

/// Holes come in key order, so their chunks do too; two may share a chunk that lies on several pieces.
fn is_in(ranges: &[KeyRange], chunk: u64) -> bool {
    let next = ranges.partition_point(|range| range.last < chunk);
    ranges.get(next).is_some_and(|range| range.contains(chunk))
}

fn nothing(device: DeviceId, first_chunk: u64) -> Cost {
    Cost { device: Some(device), first_chunk, last_chunk: None, chunks_at_most: Some(0), bytes_at_most: None }
}
