//! For each kind of finding, a pool that provokes it: a whole pool in which one thing is changed, under a right checksum.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::forged::{Forged, only, texts};
use std::sync::LazyLock;
use tierlift_ondisk::thin::ring::placeholder;
use tierlift_ondisk::thin::{BlockKind, BlockSize, NodeKind, Superblock, TierValue, encode_node};
use tierlift_ondisk::units::{DeviceId, MetaBlock, TierBlock};
use tierlift_pool::Fault;
use tierlift_pool::check::{Kind, Map, Severity, Spread, Structure, Verdict};

static F2: LazyLock<Forged> = LazyLock::new(|| Forged::new(common::metadata("F2-snaps")));
static F3: LazyLock<Forged> = LazyLock::new(|| Forged::new(common::metadata("F3-3tiers")));
static F5: LazyLock<Forged> = LazyLock::new(|| Forged::new(common::metadata("F5-v2-4k")));

/// Picks findings by pattern, giving what the pattern binds.
macro_rules! pick {
    ($found:expr, $pattern:pat => $value:expr) => {
        only(&$found, |kind| match kind {
            $pattern => Some($value),
            _ => None,
        })
    };
}

fn spread(first: u64, last: u64, count: u64) -> Spread {
    Spread { first, last, count }
}

mod superblock {
    use super::*;

    #[test]
    fn flags_and_features() {
        let mut pool = F3.clone();
        let flags = pool.superblock_now().flags;
        pool.superblock(4, &(flags | 5).to_le_bytes());
        pool.superblock(356, &8_u32.to_le_bytes());
        let found = pool.check();
        pick!(found, Kind::NeedsCheck => ());
        assert_eq!(pick!(found, Kind::UnknownFlags { found } => *found), 4);
        assert_eq!(pick!(found, Kind::ReadOnlyFeatures { found } => *found), 8);
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 3), "{:?}", texts(&found));
    }

    #[test]
    fn sizes() {
        let mut pool = F3.clone();
        pool.superblock(340, &8_u32.to_le_bytes());
        let found = pool.check();
        assert_eq!(pick!(found, Kind::BlockSizeField { expected, found } => (*expected, *found)), (16, 8));
        assert_eq!(found.findings.len(), 1);
        let mut pool = F3.clone();
        pool.superblock(336, &1000_u32.to_le_bytes());
        let found = pool.check();
        assert_eq!(pick!(found, Kind::ChunkSize { found } => *found), 1000);
        assert_eq!(pick!(found, Kind::TierBlockSize { expected, found } => (*expected, *found)), (1000, 8192));
    }

    /// Claims of sizes beyond all measure: told, and neither followed nor allocated.
    #[test]
    fn claims_of_great_length_cost_nothing() {
        let mut pool = F3.clone();
        for map in [64, 104, 144, 192, 232] {
            pool.superblock(map, &(1_u64 << 40).to_le_bytes());
        }
        let found = pool.check();
        let (expected, claimed) = pick!(found, Kind::TooLong { expected, found } => (*expected, *found));
        assert_eq!((expected, claimed), (511 * 32_704, 1 << 40));
        assert_eq!(pick!(found, Kind::CutShort { found, .. } => *found), 1024);
        let missing = found.findings.iter().filter(|finding| matches!(finding.kind, Kind::BitmapMissing { .. }));
        assert_eq!(missing.count(), 5, "all five maps: {:?}", texts(&found));
        assert!(found.findings.len() < 20, "{:?}", texts(&found));
    }

    #[test]
    fn cut_short() {
        let mut pool = F3.clone();
        pool.bytes.truncate(1000 * 8192);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::CutShort { expected, found } => (*expected, *found)), (1024, 1000));
    }

    #[test]
    fn tiers_that_do_not_fit() {
        let mut pool = F5.clone();
        pool.superblock(232, &[7; 32]);
        pool.superblock(392, &[5]);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::UnusedTier { tier, tiers } => (*tier, *tiers)), (2, 0));
        assert_eq!(pick!(found, Kind::TierRoot { root, .. } => *root), MetaBlock(5));
        let mut pool = F3.clone();
        pool.superblock(392, &[0; 8]);
        assert_eq!(pick!(pool.check(), Kind::TierRoot { tiers, .. } => *tiers), 3);
    }
}

mod ring {
    use super::*;

    fn slots(pool: &Forged) -> Vec<MetaBlock> {
        (1..=128).map(|slot| MetaBlock((pool.bytes.len() / pool.size) as u64 - slot)).collect()
    }

    #[test]
    fn no_copy_is_left() {
        let mut pool = F3.clone();
        slots(&pool).into_iter().for_each(|slot| pool.block(slot).fill(0));
        let found = pool.check();
        pick!(found, Kind::NoCopies => ());
        assert_eq!(pick!(found, Kind::ForeignSlots { slots } => *slots), spread(896, 1023, 128));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 2));
    }

    #[test]
    fn one_slot_is_damaged() {
        let mut pool = F3.clone();
        pool.block(MetaBlock(900))[100] ^= 1;
        let found = pool.check();
        assert_eq!(pick!(found, Kind::ForeignSlots { slots } => *slots), spread(900, 900, 1));
        assert_eq!(found.findings.len(), 1);
    }

    /// Block 0 as an older copy says it.
    fn behind(commits: usize) -> Forged {
        let mut pool = Forged::new(common::metadata("F7-tier-crash-1"));
        let ring = pool.open().ring().clone();
        let (_, older) = ring.copies.iter().rev().nth(commits).unwrap().clone();
        let block0 = Superblock { number: MetaBlock(0), backup_id: 0, ..older };
        pool.block(MetaBlock(0)).copy_from_slice(&block0.encode(BlockSize::K8));
        pool
    }

    #[test]
    fn one_commit_behind_is_reported_and_more_is_damage() {
        let found = behind(1).check();
        pick!(found, Kind::OneCommitBehind { .. } => ());
        assert_eq!(found.verdict, Verdict::Reported, "the state before is whole: {:?}", texts(&found));
        let found = behind(2).check();
        assert_eq!(pick!(found, Kind::Stale { commits, .. } => *commits), Some(2));
        assert_eq!(found.verdict, Verdict::Damaged);
    }

    #[test]
    fn another_state_of_the_same_age() {
        let mut pool = F3.clone();
        pool.put_u64(MetaBlock(0), 372, 77);
        let found = pool.check();
        pick!(found, Kind::CopyDiffers { .. } => ());
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 1));
    }

    /// The hazard of grown metadata: a tree node where the next copy will be written.
    #[test]
    fn a_tree_in_the_ring() {
        let mut pool = F3.clone();
        let (leaf, slot) = (pool.root(2), MetaBlock(901));
        let content = pool.block(leaf).to_vec();
        pool.place(slot, BlockKind::Node, &content);
        let top = pool.layout.superblock.mapping_root;
        let index = (0..3).find(|index| pool.value_u64(top, *index) == leaf.0).unwrap();
        pool.put_value(top, index, &slot.0.to_le_bytes());
        let found = pool.check();
        assert_eq!(pick!(found, Kind::RingInUse { slots } => *slots), spread(901, 901, 1));
        assert_eq!(found.verdict, Verdict::Damaged);
        assert_eq!(found.figures.mappings, 359, "the tree itself is whole");
    }

    #[test]
    fn slots_that_are_not_reserved() {
        let mut pool = F3.clone();
        let (bitmap, _) = pool.metadata_bitmap();
        pool.set_counts(bitmap, (900..910).map(|slot| (slot, 0)));
        let found = pool.check();
        assert_eq!(pick!(found, Kind::RingNotReserved { found } => *found), 118);
    }

    /// Metadata enlarged by a kernel: the old slots stay reserved, the new ones are not.
    #[test]
    fn an_old_ring_is_a_leak() {
        let mut pool = F3.clone();
        let newest = pool.open().ring().newest().unwrap().1.clone();
        pool.bytes.resize(1280 * 8192, 0);
        for slot in 1152..1280 {
            let block = placeholder(BlockSize::K8, MetaBlock(slot));
            pool.block(MetaBlock(slot)).copy_from_slice(&block);
        }
        let mut block0 = pool.superblock_now();
        block0.metadata_map.nr_blocks = 1280;
        pool.block(MetaBlock(0)).copy_from_slice(&block0.encode(BlockSize::K8));
        let copy = Superblock { number: MetaBlock(1279), backup_id: newest.backup_id + 1, ..block0 };
        pool.block(MetaBlock(1279)).copy_from_slice(&copy.encode(BlockSize::K8));
        let found = pool.check();
        assert_eq!(pick!(found, Kind::OldRing { blocks } => *blocks), spread(896, 1023, 128));
        assert_eq!(pick!(found, Kind::RingNotReserved { found } => *found), 0);
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 2), "{:?}", texts(&found));
    }
}

mod trees {
    use super::*;

    /// A pool whose device 2 has its one leaf below inner nodes made from these lists of (key, child).
    fn with_root(pool: &mut Forged, make: impl Fn(MetaBlock, MetaBlock) -> Vec<(u64, MetaBlock)>) -> MetaBlock {
        let (leaf, root) = (pool.root(2), pool.allocate());
        let top = pool.layout.superblock.mapping_root;
        let index = (0..3).find(|index| pool.value_u64(top, *index) == leaf.0).unwrap();
        let children: Vec<_> =
            make(leaf, root).iter().map(|(key, child)| (*key, child.0.to_le_bytes().to_vec())).collect();
        let node = encode_node(BlockSize::K8, root, NodeKind::Internal, 8, &children);
        pool.block(root).copy_from_slice(&node);
        pool.put_value(top, index, &root.0.to_le_bytes());
        root
    }

    #[test]
    fn an_inner_node_more_is_no_fault() {
        let mut pool = F3.clone();
        with_root(&mut pool, |leaf, _| vec![(0, leaf)]);
        let found = pool.check();
        assert_eq!((found.verdict, texts(&found)), (Verdict::Clean, vec![]));
    }

    fn lost(pool: &Forged) -> (Fault, Vec<String>) {
        let found = pool.check();
        let in_tree = |kind: &Kind| matches!(kind, Kind::Lost { .. });
        let lost: Vec<_> = found.findings.iter().filter(|finding| in_tree(&finding.kind)).collect();
        let [only] = lost[..] else { panic!("{:?}", texts(&found)) };
        let Kind::Lost { fault, .. } = &only.kind else { unreachable!() };
        (fault.clone(), texts(&found))
    }

    #[test]
    fn a_loop() {
        let mut pool = F3.clone();
        with_root(&mut pool, |leaf, root| vec![(0, leaf), (1000, root)]);
        assert_eq!(lost(&pool).0, Fault::Loop);
        let mut pool = F3.clone();
        with_root(&mut pool, |_, root| vec![(0, root)]);
        let found = pool.check();
        assert_eq!(
            pick!(found, Kind::ChunksLost { device, expected, found } => (device.0, *expected, *found)),
            (2, 131, 0)
        );
        assert_eq!(found.verdict, Verdict::Damaged);
    }

    #[test]
    fn pointers_to_nowhere() {
        for (wild, fault) in [(0, Fault::OutOfRange(1024)), (1 << 40, Fault::OutOfRange(1024)), (600, Fault::Zeroed)] {
            let mut pool = F3.clone();
            with_root(&mut pool, |leaf, _| vec![(0, leaf), (1000, MetaBlock(wild))]);
            assert_eq!(lost(&pool).0, fault);
        }
    }

    #[test]
    fn a_node_of_another_tree() {
        let mut pool = F3.clone();
        let tiers = pool.layout.superblock.tier_root;
        with_root(&mut pool, |leaf, _| vec![(0, leaf), (1 << 30, tiers)]);
        // Its keys are those of the tier tree: outside of the window, so it is not even taken for a mapping.
        assert!(matches!(lost(&pool).0, Fault::KeyOutside { .. }));
        let mut pool = F3.clone();
        pool.superblock(392, &pool.root(1).0.to_le_bytes());
        let (fault, texts) = lost(&pool);
        assert_eq!(fault, Fault::OtherTree("a mapping tree"), "{texts:?}");
    }

    /// A leaf shared by two parents is read once, but held against what each of them says.
    #[test]
    fn a_shared_node_under_a_parent_it_does_not_fit() {
        let mut pool = F3.clone();
        let other = pool.root(1);
        with_root(&mut pool, |leaf, _| vec![(0, leaf), (1 << 20, other)]);
        let (fault, texts) = lost(&pool);
        assert!(matches!(fault, Fault::KeyOutside { .. }), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("mapping tree of device 2")), "{texts:?}");
    }

    #[test]
    fn uneven_depth() {
        let mut pool = F3.clone();
        let deeper = pool.allocate();
        let root = with_root(&mut pool, |leaf, _| vec![(0, leaf), (1 << 20, deeper)]);
        let empty = pool.allocate();
        let far = |child: MetaBlock| vec![(1 << 20, child.0.to_le_bytes().to_vec())];
        let inner = encode_node(BlockSize::K8, deeper, NodeKind::Internal, 8, &far(empty));
        pool.block(deeper).copy_from_slice(&inner);
        let leaf = encode_node(BlockSize::K8, empty, NodeKind::Leaf, 8, &[(1 << 20, vec![0; 8])]);
        pool.block(empty).copy_from_slice(&leaf);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::UnevenDepth { expected, found } => (*expected, *found)), (0, 1));
        let uneven = found.findings.iter().find(|finding| matches!(finding.kind, Kind::UnevenDepth { .. })).unwrap();
        assert_eq!(uneven.place.block, Some(root));
        assert_eq!(uneven.place.structure, Structure::Mapping { device: DeviceId(2), held: false });
    }

    /// Thirty nodes, each pointing twice at the next: a thousand million paths. It ends, and says that it gave up.
    #[test]
    fn a_ladder_ends() {
        let mut pool = F3.clone();
        let steps: Vec<_> = (500..530).map(MetaBlock).collect();
        let first = steps[0];
        with_root(&mut pool, |_, _| vec![(0, first)]);
        for pair in steps.windows(2) {
            let twice = [(0, pair[1].0.to_le_bytes().to_vec()), (1, pair[1].0.to_le_bytes().to_vec())];
            let node = encode_node(BlockSize::K8, pair[0], NodeKind::Internal, 8, &twice);
            pool.block(pair[0]).copy_from_slice(&node);
        }
        let found = pool.check();
        assert_eq!(found.verdict, Verdict::Damaged);
        assert!(found.findings.len() < 3000);
    }
}

mod devices {
    use super::*;

    fn drop_last(pool: &mut Forged, node: MetaBlock) {
        let entries = u32::from_le_bytes(pool.block(node)[16..20].try_into().unwrap());
        pool.put_u32(node, 16, entries - 1);
    }

    #[test]
    fn a_tree_or_a_record_is_missing() {
        let mut pool = F3.clone();
        let top = pool.layout.superblock.mapping_root;
        drop_last(&mut pool, top);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::NoTree { device, mapped } => (device.0, *mapped)), (3, 147));
        let mut pool = F3.clone();
        let details = pool.layout.superblock.details_root;
        drop_last(&mut pool, details);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::NoRecord { device, mapped } => (device.0, *mapped)), (3, 147));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Damaged, 1));
    }

    #[test]
    fn a_record_is_wrong() {
        let mut pool = F3.clone();
        let details = pool.layout.superblock.details_root;
        pool.put_value(details, 0, &82_u64.to_le_bytes());
        let found = pool.check();
        let wrong = pick!(found, Kind::MappedCount { device, expected, found } => (device.0, *expected, *found));
        assert_eq!(wrong, (1, 81, 82));
        assert_eq!(found.findings.len(), 1);
        for (offset, field) in [(8, "transaction id"), (16, "creation time"), (20, "snapshot time"), (24, "clone time")]
        {
            let mut pool = F3.clone();
            let at = pool.value_at(details, 1) + offset;
            pool.put_u32(details, at, 1_000_000);
            let found = pool.check();
            let wrong = pick!(found, Kind::RecordAhead { device, field, .. } => (device.0, *field));
            assert_eq!((wrong, found.findings.len()), ((2, field), 1));
        }
    }

    #[test]
    fn an_id_that_is_too_large() {
        let mut pool = F3.clone();
        let superblock = pool.layout.superblock.clone();
        for node in [superblock.details_root, superblock.mapping_root] {
            pool.put_u64(node, 32 + 16, 1 << 24);
        }
        let found = pool.check();
        assert_eq!(pick!(found, Kind::DeviceId { found } => *found), 1 << 24);
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 1));
    }

    #[test]
    fn mappings_that_cannot_be() {
        let mut pool = F3.clone();
        let root = pool.root(2);
        for index in [3, 7] {
            pool.put_value(root, index, &(pool.layout.superblock.data_map.nr_blocks << 24).to_le_bytes());
        }
        let found = pool.check();
        let (keys, example) = pick!(found, Kind::ChunkBeyondEnd { keys, found, .. } => (*keys, *found));
        assert_eq!((keys.count, example), (2, pool.layout.superblock.data_map.nr_blocks));
        let cost = found.findings.iter().find_map(|finding| finding.cost).unwrap();
        assert_eq!((cost.device, cost.chunks_at_most), (Some(DeviceId(2)), Some(2)));
        let mut pool = F3.clone();
        let value = pool.value_u64(root, 5) | 0x3F_FFFF;
        pool.put_value(root, 5, &value.to_le_bytes());
        let found = pool.check();
        assert_eq!(pick!(found, Kind::MappingAhead { keys, found, .. } => (keys.count, *found)), (1, 0x3F_FFFF));
        assert_eq!(found.findings.len(), 1);
    }
}

/// The reserved metadata snapshot: its block, and the two trees it pins.
mod held {
    use super::*;

    fn reserve(pool: &mut Forged) -> MetaBlock {
        let block = pool.allocate();
        let mut held = Superblock { number: block, ..pool.superblock_now() };
        (held.held_root, held.data_map, held.metadata_map) = Default::default();
        let encoded = held.encode(BlockSize::K8);
        pool.block(block).copy_from_slice(&encoded);
        let (bitmap, _) = pool.metadata_bitmap();
        let roots = [held.mapping_root, held.details_root].map(|root| (root.0, 2));
        pool.set_counts(bitmap, roots);
        pool.superblock(56, &block.0.to_le_bytes());
        block
    }

    #[test]
    fn it_is_clean_and_its_trees_are_counted_once_more() {
        let mut pool = F3.clone();
        reserve(&mut pool);
        let found = pool.check();
        assert_eq!((found.verdict, texts(&found)), (Verdict::Clean, vec![]));
        assert_eq!((found.figures.mappings, found.devices.len()), (359, 3));
    }

    #[test]
    fn its_damage_is_told_as_its_own() {
        let mut pool = F3.clone();
        let block = reserve(&mut pool);
        pool.put_u64(block, 328, 700);
        let found = pool.check();
        let own = |structure| found.findings.iter().any(|finding| finding.place.structure == structure);
        assert!(
            own(Structure::Details { held: true }) && !own(Structure::Details { held: false }),
            "{:?}",
            texts(&found)
        );
        let mut pool = F3.clone();
        let block = reserve(&mut pool);
        pool.block(block).fill(0);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::Unusable { fault } => fault.clone()), Fault::Zeroed);
        assert_eq!(found.verdict, Verdict::Damaged);
    }
}

mod tiers {
    use super::*;

    fn change(index: usize, value: impl Fn(TierValue) -> TierValue) -> tierlift_pool::check::Check {
        let mut pool = F3.clone();
        let root = pool.layout.superblock.tier_root;
        let old = TierValue::decode(pool.value_u64(root, index));
        pool.put_value(root, index, &value(old).encode().to_le_bytes());
        pool.check()
    }

    #[test]
    fn places_that_cannot_be() {
        let found = change(2, |value| TierValue { tier: 3, ..value });
        assert_eq!(
            pick!(found, Kind::TierUnknown { keys, expected, found } => (keys.count, *expected, *found)),
            (1, 3, 3)
        );
        let found = change(2, |value| TierValue { block: TierBlock(1 << 30), ..value });
        assert_eq!(pick!(found, Kind::TierBlockBeyondEnd { found, .. } => *found), 1 << 30);
        let mut pool = F3.clone();
        let other = TierValue::decode(pool.value_u64(pool.layout.superblock.tier_root, 0));
        let found = change(2, |_| other);
        assert_eq!(pick!(found, Kind::TierBlockTwice { keys, found } => (keys.count, *found)), (1, other.block.0));
        pick!(found, Kind::CountTooLow { unit: "tier block", expected: 2, found: 1, .. } => ());
        assert_eq!(found.verdict, Verdict::Damaged);
        let cost = found.findings.iter().find_map(|finding| finding.cost).unwrap();
        assert_eq!((cost.device, cost.last_chunk.unwrap() - cost.first_chunk), (None, 7), "a piece is eight chunks");
    }

    /// The reserved bits are no part of the address.
    #[test]
    fn reserved_bits_are_not_judged() {
        let found = change(2, |value| TierValue { reserved: 0x55_5555, ..value });
        assert_eq!((found.verdict, texts(&found)), (Verdict::Clean, vec![]));
    }

    #[test]
    fn keys_beyond_the_end() {
        let mut pool = F3.clone();
        let root = pool.layout.superblock.tier_root;
        let last = pool.open().superblock().data_map.nr_blocks / 8;
        let entries = u32::from_le_bytes(pool.block(root)[16..20].try_into().unwrap()) as usize;
        pool.put_u64(root, 32 + 8 * (entries - 1), last);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::TierKeyBeyondEnd { keys, expected } => (keys.first, *expected)), (last, last));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Damaged, 1));
    }

    /// Blocks of tiers that are counted but not mapped, as after a crash during migration.
    #[test]
    fn zombies_are_leaks() {
        let mut pool = F3.clone();
        let map = pool.layout.superblock.tier_maps[2];
        let bitmap = pool.bitmap(map.bitmap_root);
        let free: Vec<_> = (0..map.nr_blocks).filter(|block| pool.count(bitmap, *block) == 0).take(2).collect();
        pool.set_counts(bitmap, free.iter().map(|block| (*block, 1)));
        let nr_free = pool.value_at(map.bitmap_root, 0) + 8;
        let old = u32::from_le_bytes(pool.block(map.bitmap_root)[nr_free..nr_free + 4].try_into().unwrap());
        pool.put_u32(map.bitmap_root, nr_free, old - 2);
        pool.superblock(232 + 8, &(map.nr_allocated + 2).to_le_bytes());
        let found = pool.check();
        assert_eq!(pick!(found, Kind::CountTooHigh { blocks, holes, .. } => (blocks.count, *holes)), (2, false));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 1));
        assert_eq!(found.findings[0].severity, Severity::Leak);
        assert_eq!(found.findings[0].place.structure, Structure::Bitmaps(Map::Tier(2)));
    }
}

mod maps {
    use super::*;

    #[test]
    fn counts_too_low_and_too_high() {
        for (root, unit, block) in [(64 + 16, "chunk", 20), (192 + 16, "metadata block", 0)] {
            let mut pool = F3.clone();
            let root = MetaBlock(pool.superblock_u64(root));
            let bitmap = if unit == "chunk" { pool.bitmap(root) } else { pool.metadata_bitmap().0 };
            assert_eq!(pool.count(bitmap, block), 1);
            pool.set_counts(bitmap, [(block, 0)]);
            let low = pool.check();
            let (found_unit, example) = pick!(low, Kind::CountTooLow { unit, example, .. } => (*unit, *example));
            assert_eq!((found_unit, example, low.verdict), (unit, block, Verdict::Damaged));
            pool.set_counts(bitmap, [(block, 2)]);
            let high = pool.check();
            assert_eq!(pick!(high, Kind::CountTooHigh { example, found, .. } => (*example, *found)), (block, 2));
            assert_eq!((high.verdict, high.findings.len()), (Verdict::Reported, 1), "{:?}", texts(&high));
        }
    }

    /// However many counts of a bitmap are wrong, it is one finding.
    #[test]
    fn a_bitmap_full_of_wrong_counts_is_told_once() {
        let mut pool = F5.clone();
        let root = pool.layout.superblock.data_map.bitmap_root;
        let (bitmap, blocks) = (pool.bitmap(root), pool.layout.superblock.data_map.nr_blocks.min(16_320));
        assert!(blocks > 2000);
        pool.set_counts(bitmap, (0..blocks).map(|block| (block, 2)));
        let found = pool.check();
        let high = pick!(found, Kind::CountTooHigh { blocks, .. } => blocks.count);
        assert!(high > 1200 && found.findings.len() <= 6, "{:?}", texts(&found));
    }

    #[test]
    fn index_entries() {
        let root = F3.layout.superblock.data_map.bitmap_root;
        let entry = |offset: usize, change: i32| {
            let mut pool = F3.clone();
            let at = pool.value_at(root, 0) + offset;
            let old = i32::from_le_bytes(pool.block(root)[at..at + 4].try_into().unwrap());
            pool.put_u32(root, at, (old + change) as u32);
            pool.check()
        };
        for change in [-1, 1, -7] {
            let found = entry(8, change);
            let (expected, told) = pick!(found, Kind::FreeCount { expected, found, .. } => (*expected, *found));
            assert_eq!((told as i64 - expected as i64, found.findings.len()), (i64::from(change), 1));
        }
        let found = entry(12, 5000);
        pick!(found, Kind::FreeHint { .. } => ());
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 1));
        let mut pool = F3.clone();
        pool.put_u64(root, 32, 1);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::BitmapMissing { bitmaps } => *bitmaps), spread(0, 0, 1));
        assert_eq!(pick!(found, Kind::BitmapBeyondEnd { bitmaps, .. } => *bitmaps), spread(1, 1, 1));
    }

    /// Both writers' ways to count the free entries of the last bitmap are right.
    #[test]
    fn free_entries_below_the_end_only_are_right_too() {
        let mut pool = F3.clone();
        let map = pool.layout.superblock.data_map;
        let at = pool.value_at(map.bitmap_root, 0) + 8;
        pool.put_u32(map.bitmap_root, at, (map.nr_blocks - map.nr_allocated) as u32);
        assert_eq!(texts(&pool.check()), Vec::<String>::new());
    }

    #[test]
    fn totals() {
        for (at, unit) in [(64, "chunk"), (104, "tier block"), (192, "metadata block")] {
            for change in [1, -1] {
                let mut pool = F3.clone();
                let total = pool.superblock_u64(at + 8);
                pool.superblock(at + 8, &total.wrapping_add_signed(change).to_le_bytes());
                let found = pool.check();
                let wrong = pick!(found, Kind::Allocated { unit, expected, found } => (*unit, *expected, *found));
                assert_eq!(wrong, (unit, total, total.wrapping_add_signed(change)));
                assert_eq!((found.verdict, found.findings.len()), (Verdict::Damaged, 1));
            }
        }
    }

    #[test]
    fn counts_beyond_the_end() {
        let mut pool = F3.clone();
        let map = pool.layout.superblock.data_map;
        let bitmap = pool.bitmap(map.bitmap_root);
        pool.set_counts(bitmap, [(map.nr_blocks, 1), (map.nr_blocks + 9, 3)]);
        let found = pool.check();
        let beyond = pick!(found, Kind::CountBeyondEnd { blocks } => *blocks);
        assert_eq!(beyond, spread(map.nr_blocks, map.nr_blocks + 9, 2));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Reported, 1));
    }

    /// F2 has chunks that are used three times and more.
    #[test]
    fn the_tree_of_counts() {
        let (mut pool, map) = (F2.clone(), F2.layout.superblock.data_map);
        let key = |pool: &mut Forged, index: usize| {
            u64::from_le_bytes(pool.block(map.ref_count_root)[32 + 8 * index..][..8].try_into().unwrap())
        };
        let first = key(&mut pool, 0);
        let at = pool.value_at(map.ref_count_root, 0);
        let count = u32::from_le_bytes(pool.block(map.ref_count_root)[at..at + 4].try_into().unwrap());
        assert!(count >= 3);
        pool.put_u32(map.ref_count_root, at, count + 4);
        let found = pool.check();
        let high = pick!(found, Kind::CountTooHigh { example, expected, found, .. } => (*example, *expected, *found));
        assert_eq!(high, (first, count, count + 4));
        pool.put_u32(map.ref_count_root, at, count - 1);
        assert_eq!(pick!(pool.check(), Kind::CountTooLow { example, .. } => *example), first);
        pool.put_u32(map.ref_count_root, at, count);
        let bitmap = pool.bitmap(map.bitmap_root);
        pool.set_counts(bitmap, [(first, 2)]);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::CountStray { blocks, .. } => *blocks), spread(first, first, 1));
        assert_eq!(pick!(found, Kind::CountTooLow { example, .. } => *example), first);
        let mut pool = F2.clone();
        let entries = u32::from_le_bytes(pool.block(map.ref_count_root)[16..20].try_into().unwrap());
        let last = key(&mut pool, entries as usize - 1);
        pool.put_u32(map.ref_count_root, 16, entries - 1);
        let found = pool.check();
        assert_eq!(pick!(found, Kind::CountMissing { blocks, .. } => *blocks), spread(last, last, 1));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Damaged, 1), "{:?}", texts(&found));
    }

    #[test]
    fn lost_bitmaps_and_indexes_cost_no_data() {
        let mut pool = F3.clone();
        let bitmap = pool.bitmap(pool.layout.superblock.data_map.bitmap_root);
        pool.block(bitmap).fill(0);
        let found = pool.check();
        let chunks = pool.layout.superblock.data_map.nr_blocks;
        assert_eq!(
            pick!(found, Kind::BitmapLost { bitmap, covers, .. } => (*bitmap, *covers)),
            (0, spread(0, chunks - 1, chunks))
        );
        assert!(found.findings.iter().all(|finding| finding.cost.is_none()));
        assert_eq!((found.verdict, found.findings.len()), (Verdict::Damaged, 1));
        let mut pool = F3.clone();
        let index = pool.layout.superblock.metadata_map.bitmap_root;
        pool.block(index)[1000] ^= 1;
        let found = pool.check();
        assert_eq!(pick!(found, Kind::Unusable { fault } => fault.clone()), Fault::Checksum);
        assert_eq!(found.findings.len(), 1, "{:?}", texts(&found));
    }

    /// thin_restore 0.9 leaves the metadata map with one free block that index and total call used. Every pool restored by
    /// it is like that and is no damaged pool; anything that looks only nearly like it is told.
    #[test]
    fn the_block_that_thin_restore_forgets() {
        let mut pool = F5.clone();
        let index = pool.layout.superblock.metadata_map.bitmap_root;
        let (_, entry) = pool.metadata_bitmap();
        let total = pool.superblock_u64(192 + 8);
        pool.put_u32(index, 16 + 8, entry.nr_free - 1);
        pool.superblock(192 + 8, &(total + 1).to_le_bytes());
        pool.put_u32(index, 16 + 12, 16_320);
        assert_eq!(texts(&pool.check()), Vec::<String>::new());
        pool.superblock(192 + 8, &(total + 2).to_le_bytes());
        assert_eq!(pool.check().verdict, Verdict::Damaged);
        pool.superblock(192 + 8, &total.to_le_bytes());
        assert_eq!(pool.check().verdict, Verdict::Damaged);
    }
}

#[test]
fn nothing_to_be_reached_is_unusable() {
    let mut pool = F3.clone();
    let top = pool.layout.superblock.mapping_root;
    pool.block(top).fill(0);
    let found = pool.check();
    assert_eq!(found.verdict, Verdict::Unusable, "{:?}", texts(&found));
    assert_eq!(found.devices.len(), 3);
    let told = found.findings.iter().filter(|finding| matches!(finding.kind, Kind::NoTree { .. })).count();
    assert_eq!(told, 3);
}
