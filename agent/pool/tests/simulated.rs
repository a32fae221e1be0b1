//! Simulated pools are sound: what damage and repair are measured on is right to begin with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tierlift_forge::Dice;
use tierlift_forge::simulator::{Shape, SimulatedPool, Simulator, Truth};
use tierlift_ondisk::thin::{Bitmap, BlockKind, IndexBlock, IndexEntry, MappingValue, Node, NodeKind, SpaceMapRoot};
use tierlift_ondisk::units::{DeviceId, MetaBlock};
use tierlift_pool::{Blocks, Item, Pool, RingState, Step, ValueSize, walk};

/// Everything that can be done to a pool, in seeded disorder.
fn busy(shape: Shape, seed: u64, commits: u64) -> SimulatedPool {
    let (mut pool, mut dice, mut next) = (Simulator::format(shape).unwrap(), Dice::new(seed), 1);
    for _ in 0..commits {
        for _ in 0..dice.below(6) {
            one_step(&mut pool, &mut dice, &mut next);
        }
        pool.commit().unwrap();
    }
    pool.finish().unwrap()
}

fn one_step(pool: &mut Simulator, dice: &mut Dice, next: &mut u64) {
    let devices: Vec<_> = pool.truth().details.keys().copied().collect();
    let id = DeviceId(*next);
    let Some(device) = dice.pick(&devices).copied() else {
        *next += 1;
        return pool.create(id).unwrap();
    };
    let first = dice.below(20_000);
    match dice.below(24) {
        0 => {
            *next += 1;
            pool.create(id).unwrap();
        }
        1..=2 => {
            *next += 1;
            pool.snapshot(id, device).unwrap();
        }
        3 if pool.shape().has_clones() => {
            *next += 1;
            pool.clone_device(id, device).unwrap();
        }
        4 if devices.len() > 4 => pool.delete(device).unwrap(),
        5..=8 => (first..first + dice.below(1500)).for_each(|chunk| pool.discard(device, chunk).unwrap()),
        9 => (first..first + dice.below(40)).for_each(|chunk| pool.map_zeroed(device, chunk).unwrap()),
        10 if pool.shape().has_tier_map() => {
            let pieces: Vec<_> = pool.truth().tiers.keys().copied().collect();
            for piece in dice.choose(&pieces, 20) {
                pool.migrate(piece, dice.below(3) as u8).unwrap();
            }
        }
        11 if pool.shape().has_tier_map() => pool.collect_pieces().unwrap(),
        12..=17 => (0..dice.below(60)).for_each(|_| pool.write(device, dice.below(20_000)).unwrap()),
        _ => (first..first + dice.below(900)).for_each(|chunk| pool.write(device, chunk).unwrap()),
    }
}

fn read(pool: &Pool) -> Truth {
    let mut found = Truth::default();
    for (id, device) in pool.devices().devices {
        found.details.insert(id, device.details.unwrap());
        let chunks = found.mappings.entry(id).or_default();
        let done: Result<(), Infallible> = pool.mappings(device.root.unwrap(), |step| {
            let Step::Found(chunk, value) = step else { panic!("{step:?}") };
            chunks.insert(chunk, value);
            Ok(())
        });
        let Ok(()) = done;
    }
    let done: Result<(), Infallible> = pool.tiers(|step| {
        let Step::Found(piece, value) = step else { panic!("{step:?}") };
        found.tiers.insert(piece, value);
        Ok(())
    });
    let Ok(()) = done;
    found
}

/// Equal; says what is not without printing all of it.
fn assert_same(found: &Truth, truth: &Truth, name: &str) {
    assert_eq!(found.details, truth.details, "{name}");
    assert_eq!(found.tiers, truth.tiers, "{name}");
    for (id, chunks) in &truth.mappings {
        let differs = chunks.iter().find(|(chunk, value)| found.mappings[id].get(chunk) != Some(value));
        assert_eq!(differs, None, "{name}, device {id}");
    }
    assert!(found == truth, "{name}: mappings too many");
}

#[test]
fn the_trees_say_what_was_done() {
    for (name, shape) in Shape::ALL {
        let made = busy(shape, 11, 120);
        assert!(made.truth.count() > 10_000, "{name}: {}", made.truth.count());
        let pool = Pool::open(Arc::new(made.image)).unwrap();
        assert_same(&read(&pool), &made.truth, name);
        assert_eq!(pool.family(), shape.family, "{name}");
        let stat = pool.stat();
        assert!(stat.damage.is_empty() && stat.warnings.is_empty(), "{name}: {:?} {:?}", stat.damage, stat.warnings);
        let expected = if shape.ring { RingState::Agrees } else { pool.ring_state() };
        assert_eq!(pool.ring_state(), expected, "{name}");
        assert_eq!(pool.ring().copies.len() as u64, if shape.ring { 120 } else { 0 }, "{name}");
    }
}

#[test]
fn the_ring_turns_and_keeps_the_newest() {
    let made = busy(Shape::QNAP_PLAIN, 3, 200);
    let pool = Pool::open(Arc::new(made.image)).unwrap();
    assert_eq!((pool.ring_state(), pool.ring().copies.len()), (RingState::Agrees, 128));
    assert_eq!(pool.ring().newest_place().unwrap().backup_id, 199);
}

/// The previous commit's state is whole as long as the next has not begun to reuse what it freed: nothing that the last
/// commit needs is overwritten by the changes that come after it.
#[test]
fn what_the_last_commit_needs_is_not_overwritten() {
    for (name, shape) in Shape::ALL {
        let (mut pool, mut dice, mut next) = (Simulator::format(shape).unwrap(), Dice::new(5), 1);
        for round in 0..16 {
            (0..4).for_each(|_| one_step(&mut pool, &mut dice, &mut next));
            pool.commit().unwrap();
            let (truth, superblock) = (pool.truth().clone(), pool.commits().last().unwrap().clone());
            (0..4).for_each(|_| one_step(&mut pool, &mut dice, &mut next));
            pool.commit().unwrap();
            let mut image = pool.image().to_vec();
            let block0 = superblock.encode(shape.block_size);
            image[..block0.len()].copy_from_slice(&block0);
            assert_same(&read(&Pool::open(Arc::new(image)).unwrap()), &truth, &format!("{name}, round {round}"));
        }
    }
}

/// Counts pointers the slow way and holds them against every space map.
#[test]
fn the_space_maps_count_every_pointer() {
    for (name, shape) in Shape::ALL {
        let made = busy(shape, 17, 80);
        let pool = Pool::open(Arc::new(made.image)).unwrap();
        let sb = pool.superblock();
        let mut count = Pointers { pool: &pool, metadata: BTreeMap::from([(0, 1)]), data: BTreeMap::new() };
        if shape.ring {
            count.metadata.extend((1..=128).map(|slot| (shape.metadata_blocks - slot, 1)));
        }
        count.tree(sb.mapping_root, Leaves::Roots);
        count.tree(sb.details_root, Leaves::Values);
        let mut maps = vec![(sb.data_map, BTreeMap::new())];
        for tier in 0..shape.tiers as usize {
            let of_tier = made.truth.tiers.values().filter(|value| usize::from(value.tier) == tier);
            maps.push((sb.tier_maps[tier], of_tier.map(|value| (value.block.0, 1)).collect()));
        }
        if shape.tiers > 0 {
            count.tree(sb.tier_root, Leaves::Values);
        }
        for (map, _) in &maps {
            count.tree(map.bitmap_root, Leaves::Bitmaps);
            count.tree(map.ref_count_root, Leaves::Values);
        }
        count.index(sb.metadata_map);
        count.tree(sb.metadata_map.ref_count_root, Leaves::Values);
        let (metadata, data) = (std::mem::take(&mut count.metadata), std::mem::take(&mut count.data));
        maps[0].1 = data;
        for (map, expected) in maps {
            assert!(disk_counts(&pool, map, &tree_index(&pool, map)) == expected, "{name}: {map:?}");
            assert_eq!(map.nr_allocated, expected.len() as u64, "{name}");
        }
        let index = block_index(&pool, sb.metadata_map);
        assert!(disk_counts(&pool, sb.metadata_map, &index) == metadata, "{name}: metadata");
        assert_eq!(sb.metadata_map.nr_allocated, metadata.len() as u64, "{name}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Leaves {
    Values,
    Roots,
    Chunks,
    Bitmaps,
}

struct Pointers<'a> {
    pool: &'a Pool,
    metadata: BTreeMap<u64, u32>,
    data: BTreeMap<u64, u32>,
}

impl Pointers<'_> {
    fn tree(&mut self, block: MetaBlock, leaves: Leaves) {
        let count = self.metadata.entry(block.0).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        let mut buffer = Vec::new();
        self.pool.blocks().read(block, BlockKind::Node, &mut buffer).unwrap();
        let node = Node::decode(&buffer).unwrap();
        if node.kind() == NodeKind::Internal {
            for (_, child) in node.entries_u64() {
                self.tree(MetaBlock(child), leaves);
                self.assert_filled(MetaBlock(child));
            }
            return;
        }
        match leaves {
            Leaves::Values => {}
            Leaves::Roots => node.entries_u64().for_each(|(_, root)| self.tree(MetaBlock(root), Leaves::Chunks)),
            Leaves::Chunks => {
                for (_, value) in node.entries_u64() {
                    *self.data.entry(MappingValue::decode(value, self.pool.family()).chunk.0).or_default() += 1;
                }
            }
            Leaves::Bitmaps => {
                for (_, value) in node.entries() {
                    *self.metadata.entry(IndexEntry::decode(value).unwrap().block.0).or_default() += 1;
                }
            }
        }
    }

    /// Only a root may have fewer entries than a third.
    fn assert_filled(&self, child: MetaBlock) {
        let mut buffer = Vec::new();
        self.pool.blocks().read(child, BlockKind::Node, &mut buffer).unwrap();
        let node = Node::decode(&buffer).unwrap();
        assert!(node.len() >= node.max_entries() / 3, "block {child} has {} entries", node.len());
    }

    fn index(&mut self, map: SpaceMapRoot) {
        *self.metadata.entry(map.bitmap_root.0).or_default() += 1;
        for entry in block_index(self.pool, map) {
            *self.metadata.entry(entry.block.0).or_default() += 1;
        }
    }
}

fn block_index(pool: &Pool, map: SpaceMapRoot) -> Vec<IndexEntry> {
    let mut buffer = Vec::new();
    pool.blocks().read(map.bitmap_root, BlockKind::Index, &mut buffer).unwrap();
    let entries = IndexBlock::decode(&buffer).unwrap().entries;
    entries.into_iter().filter(|entry| entry.block.0 != 0).collect()
}

/// Keys and raw values of a tree.
fn entries(blocks: &Blocks, root: MetaBlock, values: ValueSize) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    let done: Result<(), Infallible> = walk(blocks, root, values, |item| {
        let Item::Leaf(leaf) = item else { panic!("{item:?}") };
        found.extend(leaf.entries().map(|(key, value)| (key, value.to_vec())));
        Ok(())
    });
    let Ok(()) = done;
    found
}

fn tree_index(pool: &Pool, map: SpaceMapRoot) -> Vec<IndexEntry> {
    let found = entries(pool.blocks(), map.bitmap_root, ValueSize::INDEX);
    assert!(found.iter().enumerate().all(|(index, (key, _))| *key == index as u64));
    found.iter().map(|(_, value)| IndexEntry::decode(value).unwrap()).collect()
}

/// All counts above 0 that a space map on disk holds.
fn disk_counts(pool: &Pool, map: SpaceMapRoot, index: &[IndexEntry]) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    let each = Bitmap::entries(pool.blocks().size()) as u64;
    assert_eq!(index.len() as u64, map.nr_blocks.div_ceil(each));
    for (number, entry) in (0..).zip(index) {
        let mut buffer = Vec::new();
        pool.blocks().read(entry.block, BlockKind::Bitmap, &mut buffer).unwrap();
        let bitmap = Bitmap::decode(&buffer).unwrap();
        let used = (0..each).filter(|at| bitmap.count(*at as usize) != Some(0));
        let here: Vec<_> = used.map(|at| (at, u32::from(bitmap.count(at as usize).unwrap()))).collect();
        assert_eq!(u64::from(entry.nr_free), each - here.len() as u64);
        let first_free =
            here.iter().zip(0..).find(|((at, _), place)| at != place).map_or(here.len() as u64, |(_, place)| place);
        assert!(u64::from(entry.none_free_before) <= first_free);
        counts.extend(here.into_iter().map(|(at, count)| (number * each + at, count)));
    }
    for (block, value) in entries(pool.blocks(), map.ref_count_root, ValueSize::COUNTS) {
        let count = u32::from_le_bytes(value.try_into().unwrap());
        assert_eq!(counts.insert(block, count), Some(3), "block {block}");
        assert!(count >= 3);
    }
    assert!(
        counts.values().filter(|count| **count >= 3).count()
            == entries(pool.blocks(), map.ref_count_root, ValueSize::COUNTS).len()
    );
    counts
}
