//! What is written anew says exactly what could be read of the source, whatever happened to the source, and is well formed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::{Content, content, rebuilt};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierlift_forge::Dice;
use tierlift_forge::simulator::{Population, Shape, SimulatedPool, Size};
use tierlift_ondisk::thin::{
    BlockKind, BlockSize, DeviceDetails, Family, MappingValue, NO_ORIGIN, Node, NodeKind, Superblock, TierValue,
    encode_node, max_entries, seal,
};
use tierlift_ondisk::units::{Chunk, DeviceId, MetaBlock, Sectors, TierBlock};
use tierlift_pool::check::{Kind, check};
use tierlift_pool::rebuild::{Format, LossReason, PieceReason, RebuildError, RebuildOptions, Rebuilt, Target};
use tierlift_pool::{Blocks, Fault, Mode, Patch, Patches, Pool};

fn simulated(shape: Shape, population: Population, seed: u64) -> SimulatedPool {
    population.make(shape, Size { writes: 20_000, commits: 40 }, seed).unwrap()
}

fn options(format: Format) -> RebuildOptions {
    RebuildOptions { format, ..RebuildOptions::default() }
}

fn open(image: Vec<u8>) -> Pool {
    Pool::open(Arc::new(image)).unwrap()
}

fn used_bytes(pool: &Pool) -> u64 {
    pool.superblock().metadata_map.nr_allocated * pool.blocks().size().bytes() as u64
}

/// What new metadata take over as it was: none of it is for a rebuild to judge.
fn was_there_before(kind: &Kind) -> bool {
    use Kind::{ChunkSize, DeviceId, ReadOnlyFeatures, TierBlockSize, UnknownFlags, UnusedTier};
    matches!(
        kind,
        ChunkSize { .. }
            | DeviceId { .. }
            | ReadOnlyFeatures { .. }
            | TierBlockSize { .. }
            | UnknownFlags { .. }
            | UnusedTier { .. }
    )
}

/// Every count agrees, every tree has all its leaves at one depth, and no node below a root is less than a third full.
fn assert_well_formed(pool: &Pool) {
    let findings = check(pool, &mut |_| {}).findings;
    let wrong: Vec<_> = findings.iter().filter(|finding| !was_there_before(&finding.kind)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let superblock = pool.superblock();
    shape_of(pool, superblock.details_root, true);
    shape_of(pool, superblock.mapping_root, true);
    for device in pool.devices().devices.values() {
        shape_of(pool, device.root.unwrap(), true);
    }
    if superblock.tier_num > 0 {
        shape_of(pool, superblock.tier_root, true);
    }
}

/// Height of a sound tree.
fn shape_of(pool: &Pool, block: MetaBlock, is_root: bool) -> usize {
    let mut buffer = Vec::new();
    pool.blocks().read(block, BlockKind::Node, &mut buffer).unwrap();
    let node = Node::decode(&buffer).unwrap();
    assert_eq!(node.max_entries(), max_entries(pool.blocks().size(), node.value_size()));
    assert!(is_root || node.len() >= node.max_entries() / 3, "block {block} has {} entries", node.len());
    if node.kind() == NodeKind::Leaf {
        return 0;
    }
    assert!(node.len() > 1, "block {block} has one child");
    let heights: BTreeSet<_> = node.entries_u64().map(|(_, child)| shape_of(pool, MetaBlock(child), false)).collect();
    assert_eq!(heights.len(), 1, "block {block}: leaves at different depths");
    heights.first().unwrap() + 1
}

#[test]
fn pools_of_every_kind_say_the_same_in_both_forms() {
    for (name, shape) in Shape::ALL {
        for population in Population::ALL {
            let old = open(simulated(shape, population, 3).image);
            let said = content(&old);
            let (new, report) = rebuilt(&old, &options(Format::Own));
            assert!(report.is_whole() && !report.is_changed(), "{name} {}: {report:?}", population.name());
            assert_eq!(content(&new), said, "{name} {}", population.name());
            assert_eq!(new.superblock().data_map.nr_allocated, old.superblock().data_map.nr_allocated, "{name}");
            let (is, was) = (used_bytes(&new), used_bytes(&old));
            assert!(is * 10 <= was * 11, "{name} {}: {is} of {was}", population.name());
            assert_well_formed(&new);
            let (new, report) = rebuilt(&old, &options(Format::Mainline));
            assert!(report.is_whole() && report.error_chunk.is_none(), "{name}: {report:?}");
            let mappings = said.mappings.into_iter().filter(|(_, value)| value.zeroed == 0).collect();
            assert_eq!(content(&new), Content { mappings, ..Content::default() }, "{name} {}", population.name());
            let is = used_bytes(&new);
            assert!(is * 10 <= was * 13, "{name} {}: {is} of {was}", population.name());
            assert_well_formed(&new);
        }
    }
}

/// A fifth of all blocks gone or spoilt.
fn spoil(image: &mut [u8], size: BlockSize, seed: u64) {
    let mut dice = Dice::new(seed);
    for (number, block) in image.chunks_mut(size.bytes()).enumerate().skip(1) {
        match dice.below(40) {
            0..=1 => block.fill(0),
            2..=3 => block[dice.below(size.bytes() as u64) as usize] ^= 1 << dice.below(8),
            // A sound block of this very place that no longer says what its parent thinks.
            4 if number % 2 == 0 => {
                let key = block[32..40].to_vec();
                block[32..40].copy_from_slice(&[&key[..2], &[0; 6]].concat());
                seal(BlockKind::Node, block);
            }
            _ => {}
        }
    }
}

fn check_own(old: &Pool) {
    let said = content(old);
    let (new, report) = rebuilt(old, &options(Format::Own));
    let is = content(&new);
    let dropped = |chunk: Chunk| chunk.0 >= old.chunks();
    let expected: BTreeMap<_, _> = said.mappings.into_iter().filter(|(_, value)| !dropped(value.chunk)).collect();
    assert_eq!(is.mappings, expected);
    assert!(is.tiers.iter().all(|(key, value)| said.tiers.get(key) == Some(value)));
    let gone = said.tiers.len() - is.tiers.len();
    assert!(gone as u64 <= report.tiers.lost_ranges);
    assert!(is.holes.is_empty() && is.tier_holes.is_empty() && is.lost_roots.is_empty());
    for (id, holes) in &said.holes {
        let told = &report.devices.iter().find(|device| device.id.0 == *id).unwrap().lost;
        assert!(holes.iter().all(|hole| told.iter().any(|lost| lost.keys == *hole)), "device {id}: {told:?} {holes:?}");
    }
    assert_eq!(
        report.is_whole(),
        report.devices.iter().all(|device| device.lost.is_empty())
            && said.tier_holes.is_empty()
            && gone == 0
            && report.unknown_devices.is_empty()
            && report.chunks_unaccounted == 0
    );
    assert_well_formed(&new);
}

fn check_mainline(old: &Pool) {
    let said = content(old);
    let ends = old.devices().devices.keys().map(|id| (*id, Sectors(30_000 * old.chunk_size().0))).collect();
    let mode = Some(if old.superblock().tier_num > 0 { Mode::TierMap } else { Mode::Plain });
    let (new, report) = rebuilt(old, &RebuildOptions { device_sizes: ends, mode, format: Format::Mainline });
    let is = content(&new);
    let error = report.error_chunk;
    for (key, value) in &is.mappings {
        if Some(value.chunk) == error {
            let hole = said.holes.get(&key.0).is_some_and(|holes| holes.iter().any(|hole| hole.contains(key.1)));
            let lost_root = old.devices().devices[&DeviceId(key.0)].root.is_none();
            let beyond = said.mappings.get(key).is_some_and(|value| value.chunk.0 >= old.chunks());
            assert!(hole || lost_root || beyond, "{key:?} is marked as lost, but is not");
        } else {
            assert_eq!(said.mappings.get(key), Some(value), "{key:?} is made up");
        }
    }
    let kept = said.mappings.iter().filter(|(_, value)| value.zeroed == 0);
    assert!(kept.clone().all(|(key, _)| is.mappings.contains_key(key)), "a mapping is missing");
    // What is lost must not read as zeros.
    for (id, holes) in &said.holes {
        for hole in holes {
            let keys = hole.first..=hole.last.min(29_999);
            assert!(keys.clone().all(|key| is.mappings[&(*id, key)].chunk == error.unwrap()), "device {id}: {keys:?}");
        }
    }
    let written: u64 = report.devices.iter().map(|device| device.written).sum();
    assert_eq!(written, is.mappings.len() as u64);
    assert_eq!(new.superblock().data_map.nr_blocks, old.chunks() + u64::from(error.is_some()));
    assert_well_formed(&new);
}

#[test]
fn what_is_left_of_damaged_pools_is_written_and_nothing_else() {
    let mut holes = 0;
    for (_, shape) in Shape::ALL {
        let made = simulated(shape, Population::Shrinking, 5);
        for seed in 0..4 {
            let mut image = made.image.clone();
            spoil(&mut image, shape.block_size, seed);
            let old = open(image);
            holes += content(&old).holes.len();
            check_own(&old);
            check_mainline(&old);
        }
    }
    assert!(holes > 20, "{holes}: this tested nothing");
}

/// A damaged part that snapshots share costs each of them the same keys, and is reported for each.
#[test]
fn genuine_damage() {
    for name in ["F8-F2-rand20", "F8-F3-poolmap-root", "F8-F3-stale-valid"] {
        let old = open(common::metadata(name));
        check_own(&old);
        check_mainline(&old);
    }
}

/// A pool whose superblock is changed, over blocks of which some are replaced.
fn patched(pool: &Pool, patches: Patches, change: impl Fn(&mut Superblock)) -> Pool {
    let mut superblock = pool.superblock().clone();
    change(&mut superblock);
    let blocks = Blocks::new(pool.blocks().view().clone(), pool.blocks().size()).with_patches(patches);
    Pool::with_blocks(blocks, superblock).unwrap()
}

#[test]
fn mappings_beyond_the_pool_are_named_and_never_written() {
    let whole = open(common::metadata("F2-snaps"));
    let end = whole.superblock().data_map.nr_allocated / 2;
    let old = patched(&whole, Patches::new(), |superblock| superblock.data_map.nr_blocks = end);
    let beyond = content(&whole).mappings.values().filter(|value| value.chunk.0 >= end).count();
    assert!(beyond > 50);
    let (new, report) = rebuilt(&old, &options(Format::Own));
    assert!(content(&new).mappings.values().all(|value| value.chunk.0 < end));
    assert_eq!(content(&new).mappings.len() + beyond, content(&whole).mappings.len());
    let reasons = report.devices.iter().flat_map(|device| &device.lost);
    let lost: u64 = reasons
        .map(|lost| {
            assert!(matches!(lost.reason, LossReason::BeyondPool { chunks, .. } if chunks == end), "{lost:?}");
            lost.keys.last - lost.keys.first + 1
        })
        .sum();
    assert_eq!(lost, beyond as u64);
    let (new, report) = rebuilt(&old, &options(Format::Mainline));
    let errors = content(&new).mappings.values().filter(|value| Some(value.chunk) == report.error_chunk).count();
    assert_eq!((errors, new.superblock().data_map.nr_blocks), (beyond, end + 1));
    assert_eq!(report.layout.unwrap().last().unwrap().target, Target::Error);
}

/// The tier tree's root leaf with its entries changed.
fn with_tiers(whole: &Pool, change: impl Fn(&mut Vec<(u64, TierValue)>)) -> Pool {
    let mut entries: Vec<_> = content(whole).tiers.into_iter().collect();
    change(&mut entries);
    let raw: Vec<_> = entries.into_iter().map(|(key, value)| (key, value.encode().to_le_bytes())).collect();
    let root = whole.superblock().tier_root;
    let node = encode_node(whole.blocks().size(), root, NodeKind::Leaf, 8, &raw);
    patched(whole, Patches::from([(root, Patch::Whole(node))]), |_| {})
}

#[test]
fn impossible_and_contested_tier_entries_are_lost_not_guessed() {
    let whole = open(common::metadata("F3-3tiers"));
    let tiers = whole.superblock().tier_maps;
    let old = with_tiers(&whole, |entries| {
        entries[3].1 = entries[7].1;
        entries[4].1.tier = 3;
        entries[5].1.block = TierBlock(tiers[usize::from(entries[5].1.tier)].nr_blocks);
        entries[6].1.reserved = 0xABCDEF;
        entries.push((1 << 40, TierValue { tier: 2, block: TierBlock(0), reserved: 0 }));
    });
    let said = content(&old).tiers;
    let key = |at: usize| *said.keys().nth(at).unwrap();
    let (new, report) = rebuilt(&old, &options(Format::Own));
    let kept = content(&new).tiers;
    let lost: Vec<_> = said.keys().filter(|key| !kept.contains_key(key)).copied().collect();
    assert_eq!(lost, [key(3), key(4), key(5), key(7), 1 << 40]);
    assert_eq!(kept[&key(6)].reserved, 0xABCDEF, "no part of the address, but kept");
    let reasons: Vec<_> = report.tiers.lost.iter().map(|lost| &lost.reason).collect();
    assert!(
        matches!(
            reasons[..],
            [
                PieceReason::NamedTwice { .. },
                PieceReason::NoSuchBlock { tier: 3, .. },
                PieceReason::NoSuchBlock { .. },
                PieceReason::NamedTwice { .. },
                PieceReason::BeyondPool { .. }
            ]
        ),
        "{reasons:?}"
    );
    assert!(report.devices.iter().flat_map(|device| &device.lost).any(|lost| lost.reason == LossReason::Piece));
    let (_, report) = rebuilt(&old, &options(Format::Mainline));
    let size = old.superblock().tier_block_size.0;
    let layout = report.layout.unwrap();
    for lost in &lost[..4] {
        let sector = lost * size;
        let segment =
            layout.iter().find(|segment| (segment.start.0..segment.start.0 + segment.length.0).contains(&sector));
        assert_eq!(segment.unwrap().target, Target::Error, "piece {lost}");
    }
}

#[test]
fn what_cannot_fit_is_refused_before_it_is_written() {
    let whole = open(common::metadata("F2-snaps"));
    let old = patched(&whole, Patches::new(), |superblock| superblock.data_map.nr_blocks = 1 << 40);
    for format in [Format::Own, Format::Mainline] {
        let mut out = Vec::new();
        let error = tierlift_pool::rebuild::rebuild(&old, &options(format), &mut out).unwrap_err();
        assert!(matches!(error, RebuildError::NoRoom { .. }), "{error}");
        assert!(out.is_empty());
    }
    // The bitmaps alone would fit.
    let room = whole.superblock().metadata_map.nr_blocks - 128;
    let chunks = (room - 3) * 32_704;
    let old = patched(&whole, Patches::new(), |superblock| superblock.data_map.nr_blocks = chunks);
    let mut out = Vec::new();
    let error = tierlift_pool::rebuild::rebuild(&old, &options(Format::Own), &mut out).unwrap_err();
    assert!(matches!(error, RebuildError::NoRoom { room: told, .. } if told == room), "{error}");
    assert!(out[..8192].iter().all(|byte| *byte == 0), "without block 0 it is no pool");
}

/// Records lost with their tree: made up so that nothing shared is ever overwritten.
#[test]
fn lost_records_are_made_up_cautiously() {
    let whole = open(common::metadata("F2-snaps"));
    let details = whole.superblock().details_root;
    let old = patched(&whole, Patches::from([(details, Patch::Whole(vec![0; 8192]))]), |_| {});
    let (new, report) = rebuilt(&old, &options(Format::Own));
    assert!(report.is_whole() && report.is_changed());
    assert!(report.devices.iter().all(|device| device.record_made_up && device.recorded.is_none()));
    assert_eq!(content(&new).mappings, content(&whole).mappings);
    for (id, device) in new.devices().devices {
        let record = device.details.unwrap();
        let mapped = content(&whole).mappings.range((id.0, 0)..=(id.0, u64::MAX)).count();
        assert_eq!(record.mapped, Chunk(mapped as u64));
        let time = whole.superblock().time;
        assert_eq!((record.snapshot_time, record.clone.unwrap().time, record.origin), (time, time, Some(NO_ORIGIN)));
    }
}

/// A superblock older than its trees. With such times kernels would overwrite what snapshots hold.
#[test]
fn times_from_the_future_are_mended_on_the_safe_side() {
    let whole = open(common::metadata("F2-snaps"));
    let records = whole.devices().devices;
    let newest = records.values().map(|device| device.details.unwrap().snapshot_time).max().unwrap();
    let old = patched(&whole, Patches::new(), |superblock| superblock.time = 1);
    let (new, report) = rebuilt(&old, &options(Format::Own));
    assert_eq!((new.superblock().time, report.left_behind.future_times), (newest, 0), "the records tell the time");
    assert_eq!(content(&new), content(&whole));
    let details = whole.superblock().details_root;
    let old =
        patched(&whole, Patches::from([(details, Patch::Whole(vec![0; 8192]))]), |superblock| superblock.time = 1);
    let (new, report) = rebuilt(&old, &options(Format::Own));
    assert!(report.is_changed() && report.left_behind.future_times > 0);
    for (key, value) in content(&whole).mappings {
        let time = if value.time > 1 { 0 } else { value.time };
        assert_eq!(content(&new).mappings[&key], MappingValue { time, ..value });
    }
    assert_well_formed(&new);
}

/// Trees by hand: nodes beyond the end of an empty pool's device.
struct Forest {
    size: BlockSize,
    next: u64,
    patches: Patches,
}

impl Forest {
    fn new(pool: &Pool) -> Self {
        Self { size: pool.blocks().size(), next: pool.blocks().present() + 1000, patches: Patches::new() }
    }

    fn node(&mut self, kind: NodeKind, value_size: usize, entries: &[(u64, Vec<u8>)]) -> MetaBlock {
        let block = MetaBlock(self.next);
        self.next += 1;
        self.patches.insert(block, Patch::Whole(encode_node(self.size, block, kind, value_size, entries)));
        block
    }

    fn leaf(&mut self, keys: impl Iterator<Item = u64>) -> MetaBlock {
        let value = |key: u64| MappingValue { chunk: Chunk(key % 100_000), zeroed: 0, time: 0 };
        let entries: Vec<_> = keys.map(|key| (key, value(key).encode(Family::Qnap).to_le_bytes().to_vec())).collect();
        self.node(NodeKind::Leaf, 8, &entries)
    }

    fn inner(&mut self, children: &[(u64, MetaBlock)]) -> MetaBlock {
        let entries: Vec<_> = children.iter().map(|(key, child)| (*key, child.0.to_le_bytes().to_vec())).collect();
        self.node(NodeKind::Internal, 8, &entries)
    }

    /// The pool with devices 1, 2, … of these roots.
    fn pool(mut self, base: &Pool, roots: &[MetaBlock]) -> Pool {
        let devices: Vec<_> = (1..).zip(roots.iter().copied()).collect();
        let record = DeviceDetails {
            mapped: Chunk(0),
            transaction: 0,
            creation_time: 0,
            snapshot_time: 0,
            clone: None,
            origin: Some(NO_ORIGIN),
        };
        let records: Vec<_> = devices.iter().map(|(id, _)| (*id, record.encode())).collect();
        let (mapping, details) = (self.inner_as_leaf(&devices), self.node(NodeKind::Leaf, 32, &records));
        patched(base, self.patches, |superblock| {
            superblock.mapping_root = mapping;
            superblock.details_root = details;
        })
    }

    fn inner_as_leaf(&mut self, roots: &[(u64, MetaBlock)]) -> MetaBlock {
        let entries: Vec<_> = roots.iter().map(|(key, root)| (*key, root.0.to_le_bytes().to_vec())).collect();
        self.node(NodeKind::Leaf, 8, &entries)
    }
}

fn empty_v2() -> Pool {
    let shape = Shape { metadata_blocks: 16_384, ..Shape::QNAP_V2 };
    open(tierlift_forge::simulator::Simulator::format(shape).unwrap().finish().unwrap().image)
}

/// One damaged subtree under two parents that allow it different keys: how far the hole reaches is each parent's to say.
#[test]
fn a_shared_hole_reaches_as_far_as_each_parent_allows() {
    let base = empty_v2();
    let mut forest = Forest::new(&base);
    let good = forest.leaf(0..100);
    let bad = MetaBlock(forest.next + 500);
    let shared = forest.inner(&[(0, good), (100, bad)]);
    let (near, far) = (forest.leaf(150..250), forest.leaf(9000..9100));
    let roots = [forest.inner(&[(0, shared), (150, near)]), forest.inner(&[(0, shared), (9000, far)]), shared];
    let old = forest.pool(&base, &roots);
    let (new, report) = rebuilt(&old, &options(Format::Own));
    assert_eq!(content(&new).mappings, content(&old).mappings);
    let last: Vec<_> = report.devices.iter().map(|device| device.lost[0].keys.last).collect();
    assert_eq!(last, [149, 8999, u64::MAX]);
    assert!(report.devices.iter().all(|device| device.lost.len() == 1 && device.lost[0].keys.first == 100));
    let ends = BTreeMap::from([(DeviceId(3), Sectors(1000 * base.chunk_size().0))]);
    let (new, report) =
        rebuilt(&old, &RebuildOptions { format: Format::Mainline, device_sizes: ends, mode: Some(Mode::Plain) });
    let errors = |id: u64| {
        let is = content(&new).mappings;
        is.range((id, 0)..=(id, u64::MAX)).filter(|(_, value)| Some(value.chunk) == report.error_chunk).count()
    };
    assert_eq!([errors(1), errors(2), errors(3)], [50, 8900, 900]);
    assert_well_formed(&new);
}

/// A hole that would need more marks than any metadata hold: the device is left out, the others are not.
#[test]
fn a_hole_too_long_to_be_marked_leaves_its_device_out() {
    let base = empty_v2();
    let mut forest = Forest::new(&base);
    let good = forest.leaf(0..100);
    let far = forest.leaf((1 << 40)..(1 << 40) + 100);
    let bad = MetaBlock(forest.next + 500);
    let roots = [forest.inner(&[(0, good), (100, bad), (1 << 40, far)]), good];
    let old = forest.pool(&base, &roots);
    let (new, report) = rebuilt(&old, &RebuildOptions { mode: Some(Mode::Plain), ..options(Format::Mainline) });
    assert_eq!(report.devices.iter().map(|device| device.left_out).collect::<Vec<_>>(), [true, false]);
    assert_eq!(new.devices().devices.keys().copied().collect::<Vec<_>>(), [DeviceId(2)]);
    assert!(!report.is_whole());
    assert_well_formed(&new);
}

/// Trees that stand on each other, device by device, without end: cut off, not followed.
#[test]
fn towers_and_circles_end() {
    let base = empty_v2();
    let mut forest = Forest::new(&base);
    let mut roots = vec![forest.leaf(0..100)];
    for _ in 0..40 {
        let below = *roots.last().unwrap();
        roots.push(forest.inner(&[(0, below)]));
    }
    let circle = MetaBlock(forest.next);
    let leaf = MetaBlock(forest.next + 1);
    forest.inner(&[(0, leaf), (500, circle)]);
    forest.leaf(0..100);
    roots.push(circle);
    let old = forest.pool(&base, &roots);
    for format in [Format::Own, Format::Mainline] {
        let (new, report) = rebuilt(&old, &RebuildOptions { mode: Some(Mode::Plain), ..options(format) });
        let faults: Vec<_> = report.devices.iter().flat_map(|device| &device.lost).collect();
        let of = |wanted: Fault| {
            faults
                .iter()
                .filter(|lost| matches!(&lost.reason, LossReason::Block { fault, .. } if *fault == wanted))
                .count()
        };
        assert!(of(Fault::TooDeep) > 10 && of(Fault::Loop) == 1, "{faults:?}");
        assert_eq!(content(&new).mappings.range((1, 0)..(2, 0)).count(), 100);
        assert_well_formed(&new);
    }
}

/// A tree of any shape over ascending keys, its nodes as empty as can be and its leaves at any depth.
fn grow(forest: &mut Forest, dice: &mut Dice, key: &mut u64, levels: u64) -> (u64, MetaBlock) {
    let first = *key;
    if levels == 0 || dice.below(8) == 0 {
        let count = 1 + if dice.below(3) == 0 { dice.below(10) } else { dice.below(252) };
        let keys: Vec<_> = (0..count)
            .map(|_| {
                *key += 1 + dice.below(2);
                *key
            })
            .collect();
        *key += 1;
        return (first, forest.leaf(keys.into_iter()));
    }
    let count = 1 + dice.below(12);
    let children: Vec<_> = (0..count).map(|_| grow(forest, dice, key, levels - 1)).collect();
    (first, forest.inner(&children))
}

fn blocks_reached(old: &Pool) -> usize {
    fn visit(pool: &Pool, block: MetaBlock, seen: &mut BTreeSet<u64>) {
        let mut buffer = Vec::new();
        if !seen.insert(block.0) || pool.blocks().read(block, BlockKind::Node, &mut buffer).is_err() {
            return;
        }
        let node = Node::decode(&buffer).unwrap();
        if node.kind() == NodeKind::Internal {
            node.entries_u64().for_each(|(_, child)| visit(pool, MetaBlock(child), seen));
        }
    }
    let mut seen = BTreeSet::new();
    old.devices().devices.values().filter_map(|device| device.root).for_each(|root| visit(old, root, &mut seen));
    seen.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever the shape of the trees and whatever of them is missing: the same mappings come out, in trees of the
    /// right shape, and what is shared stays shared.
    #[test]
    fn trees_of_any_shape_come_back_in_the_right_shape(seed: u64, levels in 0..4_u64, lost in 0..4_usize, mainline: bool) {
        let base = empty_v2();
        let (mut forest, mut dice) = (Forest::new(&base), Dice::new(seed));
        let mut key = 0;
        let (_, tree) = grow(&mut forest, &mut dice, &mut key, levels);
        let (_, extra) = grow(&mut forest, &mut dice, &mut key, 0);
        let mut roots = vec![tree; 5];
        roots.push(forest.inner(&[(0, tree), (key - 1, extra)]));
        let blocks: Vec<_> = forest.patches.keys().copied().collect();
        for block in dice.choose(&blocks, lost) {
            forest.patches.insert(block, Patch::Whole(Vec::new()));
        }
        let old = forest.pool(&base, &roots);
        if mainline { check_mainline(&old) } else { check_own(&old) }
        let (new, _) = rebuilt(&old, &RebuildOptions { mode: Some(Mode::Plain), ..options(Format::Own) });
        prop_assert!(blocks_reached(&new) <= blocks_reached(&old) + 6);
    }

    /// Bytes changed under right checksums: it ends, without a panic, in well-formed metadata.
    #[test]
    fn tampered_pools_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u16>(), any::<u8>()), 1..60), mainline: bool) {
        let mut image = SMALL.image.clone();
        let size = SMALL.shape.block_size.bytes();
        let used: Vec<usize> = (1..image.len() / size).filter(|block| image[block * size..][..size].iter().any(|byte| *byte != 0)).collect();
        for (block, at, byte) in changes {
            let block = &mut image[used[block.index(used.len())] * size..][..size];
            block[4 + usize::from(at) % (size - 4)] = byte;
            seal(BlockKind::Node, block);
        }
        let old = open(image);
        let mode = Some(Mode::TierMap);
        let format = if mainline { Format::Mainline } else { Format::Own };
        let (new, report) = rebuilt(&old, &RebuildOptions { mode, ..options(format) });
        let again: Rebuilt = rebuilt(&new, &RebuildOptions { mode: mode.filter(|_| !mainline), ..RebuildOptions::default() }).1;
        prop_assert!(again.is_whole(), "what was written must be whole: {:?}\nafter {:?}", again, report);
        assert_well_formed(&new);
    }
}

static SMALL: std::sync::LazyLock<SimulatedPool> = std::sync::LazyLock::new(|| {
    let shape = Shape { metadata_blocks: 512, ..Shape::QNAP_TIERS };
    Population::Growing.make(shape, Size { writes: 1500, commits: 12 }, 9).unwrap()
});
