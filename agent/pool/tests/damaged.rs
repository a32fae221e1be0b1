//! Damaged pools: what can be read is right, what cannot is named, and nothing is made up.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::{Content, assert_partial, content};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use tierlift_ondisk::thin::{BlockKind, BlockSize, Superblock, identify, seal};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::dump::{Format, dump};
use tierlift_pool::{KeyRange, Mode, Pool, PoolError, ReaderError, RingState, Source, ThinReader};

/// Opens, asks and reads everything; the point is that it ends without a panic.
fn exercise(pool: &Pool) {
    let stat = pool.stat();
    serde_json::to_string(&stat).unwrap();
    for format in [Format::Xml, Format::Json, Format::Human] {
        dump(pool, format, &mut std::io::sink(), &mut |_| {}).unwrap();
    }
    for device in &stat.devices {
        if let Ok(reader) = ThinReader::new(pool, BTreeMap::new(), device.id, Mode::TierMap, None) {
            let mut end = Bytes(0);
            for segment in reader.segments().take(10_000) {
                assert_eq!(segment.offset, end);
                assert!(segment.length.0 > 0);
                end = segment.end();
            }
        }
    }
}

static F2: LazyLock<(Vec<u8>, Content)> = LazyLock::new(|| whole("F2-snaps"));
static F3: LazyLock<(Vec<u8>, Content)> = LazyLock::new(|| whole("F3-3tiers"));
static F5: LazyLock<(Vec<u8>, Content)> = LazyLock::new(|| whole("F5-v2-4k"));

fn whole(name: &str) -> (Vec<u8>, Content) {
    let bytes = common::metadata(name);
    let content = content(&Pool::open(Arc::new(bytes.clone())).unwrap());
    assert!(content.holes.is_empty() && content.mappings.len() > 50);
    (bytes, content)
}

#[test]
fn a_fifth_of_all_blocks_gone_leaves_holes_but_no_lies() {
    let pool = Pool::open(Arc::new(common::metadata("F8-F2-rand20"))).unwrap();
    assert_eq!(pool.ring_state(), RingState::Agrees);
    let found = content(&pool);
    assert_partial(&found, &F2.1);
    assert!(!found.mappings.is_empty() && found.mappings.len() < F2.1.mappings.len());
    assert!(!pool.stat().damage.is_empty());
    exercise(&pool);
}

/// Byte for byte against the devices of the undamaged pool: what reads without error is right.
#[test]
fn what_is_read_from_a_damaged_pool_is_right() {
    let tiers = common::tiers("F2-snaps");
    let sound = Pool::open(Arc::new(F2.0.clone())).unwrap();
    let damaged = Pool::open(Arc::new(common::metadata("F8-F2-rand20"))).unwrap();
    let (mut right, mut lost) = (0, 0);
    for truth in common::truth("F8-F2-rand20") {
        let reader =
            |pool| ThinReader::new(pool, tiers.clone(), truth.device, Mode::Bypass { tier: 2 }, Some(truth.size));
        let expected = reader(&sound).unwrap();
        let Ok(found) = reader(&damaged) else {
            lost += truth.size.0;
            continue;
        };
        for segment in found.segments() {
            let mut buffer = vec![0; segment.length.0 as usize];
            if matches!(segment.source, Source::Lost(_)) {
                assert!(found.read_at(segment.offset, &mut buffer).is_err());
                lost += segment.length.0;
                continue;
            }
            found.read_at(segment.offset, &mut buffer).unwrap();
            let mut truth = vec![0; buffer.len()];
            expected.read_at(segment.offset, &mut truth).unwrap();
            assert!(buffer == truth, "{segment:?} is wrong");
            right += segment.length.0;
        }
    }
    assert!(right > 0 && lost > 0, "{right} bytes right, {lost} lost");
}

#[test]
fn a_lost_tier_tree_makes_errors_of_data_and_leaves_the_mode_known() {
    let pool = Pool::open(Arc::new(common::metadata("F8-F3-poolmap-root"))).unwrap();
    assert_partial(&content(&pool), &F3.1);
    let decision = pool.mode();
    assert_eq!(decision.mode, Mode::TierMap, "{:?}", decision.evidence);
    let tiers = common::tiers("F3-3tiers");
    let reader = ThinReader::new(&pool, tiers, DeviceId(1), decision.mode, None).unwrap();
    let mapped = |source: &Source| !matches!(source, Source::Zeros);
    assert!(reader.segments().filter(|segment| mapped(&segment.source)).all(|s| matches!(s.source, Source::Lost(_))));
}

#[test]
fn a_lost_superblock_is_refused_with_the_copies_named() {
    for (name, count, id) in [("F8-F3-sbzero", 78, 77), ("F8-F2-sb-and-details", 51, 50)] {
        let Err(PoolError::Zeroed(copies)) = Pool::open(Arc::new(common::metadata(name))) else { panic!("{name}") };
        assert_eq!((copies.count, copies.newest.unwrap().backup_id), (count, id), "{name}");
    }
}

#[test]
fn a_stale_superblock_is_noticed() {
    let pool = Pool::open(Arc::new(common::metadata("F8-F3-stale-valid"))).unwrap();
    assert!(pool.ring_state().is_stale(), "{:?}", pool.ring_state());
    assert!(pool.stat().warnings[0].starts_with("STALE SUPERBLOCK"));
    exercise(&pool);
}

/// A power cut between copy and block 0: the older state is whole and may be read.
#[test]
fn one_commit_behind_is_told_and_not_called_stale() {
    let mut bytes = common::metadata("F7-tier-crash-1");
    let pool = Pool::open(Arc::new(bytes.clone())).unwrap();
    let (_, earlier) = pool.ring().copies.iter().rev().nth(1).unwrap().clone();
    let block0 = Superblock { number: MetaBlock(0), backup_id: 0, ..earlier };
    bytes[..8192].copy_from_slice(&block0.encode(BlockSize::K8));
    let pool = Pool::open(Arc::new(bytes)).unwrap();
    assert_eq!(pool.ring_state(), RingState::Behind { commits: Some(1) });
    assert!(!pool.ring_state().is_stale());
    assert!(pool.warnings()[0].contains("normal after a power cut"), "{:?}", pool.warnings());
}

#[test]
fn a_file_cut_short_gives_what_is_there() {
    let whole = &F2.0;
    for blocks in [1, 2, 100, 200, 240, 246, 1000] {
        let short = whole[..blocks * 8192].to_vec();
        let pool = Pool::open(Arc::new(short)).unwrap();
        assert_partial(&content(&pool), &F2.1);
        assert!(pool.warnings().iter().any(|line| line.contains("cut short")), "{blocks}");
        exercise(&pool);
    }
    let Err(PoolError::TooShort(100)) = Pool::open(Arc::new(whole[..100].to_vec())) else { panic!() };
}

#[test]
fn an_unknown_device_is_refused_with_the_ids_there_are() {
    let pool = Pool::open(Arc::new(F3.0.clone())).unwrap();
    let refused = ThinReader::new(&pool, BTreeMap::new(), DeviceId(9), Mode::TierMap, None).unwrap_err();
    let ReaderError::UnknownDevice { known, .. } = refused else { panic!("{refused}") };
    assert_eq!(known, [1, 2, 3].map(DeviceId));
}

/// Rewrites fields of the superblock and seals it again.
fn with_superblock(bytes: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes[..8192]);
    seal(BlockKind::Superblock, &mut bytes[..8192]);
    bytes
}

#[test]
fn versions_and_features_of_the_future_are_refused() {
    let version = |number: u8| Pool::open(Arc::new(with_superblock(&F2.0, |block| block[40] = number)));
    for number in [0, 5, 255] {
        assert!(matches!(version(number), Err(PoolError::Version(found)) if found == u32::from(number)));
    }
    let future = with_superblock(&F2.0, |block| block[360] = 1);
    assert!(matches!(Pool::open(Arc::new(future)), Err(PoolError::Incompatible(1))));
    let tiers = with_superblock(&F2.0, |block| block[388] = 4);
    assert!(matches!(Pool::open(Arc::new(tiers)), Err(PoolError::Impossible(error)) if error.field == "tier_num"));
}

#[test]
fn a_damaged_superblock_is_told_from_what_is_no_pool() {
    let mut flipped = F2.0.clone();
    flipped[48] ^= 1;
    let error = Pool::open(Arc::new(flipped)).unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains("51 valid copies"), "{error}");
    let raw_copy = with_superblock(&F2.0, |block| block[8] = 7);
    let error = Pool::open(Arc::new(raw_copy)).unwrap_err().to_string();
    assert!(error.contains("block number 7"), "{error}");
    let mut ext4 = vec![0; 1 << 20];
    ext4[1080..1082].copy_from_slice(b"\x53\xef");
    assert!(matches!(Pool::open(Arc::new(ext4)), Err(PoolError::NotMetadata(Some(name))) if name.contains("ext4")));
    assert!(matches!(Pool::open(Arc::new(vec![1; 1 << 20])), Err(PoolError::NotMetadata(None))));
}

/// A tree that leads into itself, with right checksums: the walk ends and says so.
#[test]
fn a_tree_in_a_circle_ends() {
    use tierlift_ondisk::thin::{NodeKind, encode_node};
    let mut bytes = F2.0.clone();
    let pool = Pool::open(Arc::new(bytes.clone())).unwrap();
    let root = pool.devices().devices[&DeviceId(1)].root.unwrap();
    let entries = [(0, root.0.to_le_bytes().to_vec())];
    let node = encode_node(BlockSize::K8, root, NodeKind::Internal, 8, &entries);
    let at = root.0 as usize * 8192;
    bytes[at..at + 8192].copy_from_slice(&node);
    let pool = Pool::open(Arc::new(bytes.clone())).unwrap();
    let found = content(&pool);
    assert_eq!(found.holes[&1], [KeyRange::ALL]);
    exercise(&pool);
    // A ladder: each of many nodes points twice at the next.
    let free = (300..330).map(MetaBlock).collect::<Vec<_>>();
    for pair in free.windows(2) {
        let entries = [(0, pair[1].0.to_le_bytes().to_vec()), (1, pair[1].0.to_le_bytes().to_vec())];
        let node = encode_node(BlockSize::K8, pair[0], NodeKind::Internal, 8, &entries);
        bytes[pair[0].0 as usize * 8192..][..8192].copy_from_slice(&node);
    }
    let first = encode_node(BlockSize::K8, root, NodeKind::Internal, 8, &[(0, free[0].0.to_le_bytes().to_vec())]);
    bytes[at..at + 8192].copy_from_slice(&first);
    exercise(&Pool::open(Arc::new(bytes)).unwrap());
}

fn base(which: usize) -> &'static (Vec<u8>, Content) {
    [&*F2, &*F3, &*F5][which]
}

fn block_size(which: usize) -> usize {
    if which == 2 { 4096 } else { 8192 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Zeroed, flipped, torn and misplaced blocks anywhere but in block 0.
    #[test]
    fn whatever_is_damaged_nothing_is_made_up(which in 0..3_usize, share in 1..40_usize, kind in 0..4_u8, seed: u64) {
        let (bytes, truth) = base(which);
        let size = block_size(which);
        let (mut damaged, mut random) = (bytes.clone(), seed | 1);
        for number in 1..bytes.len() / size {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let dice = (random >> 33) as usize;
            let block = number * size..(number + 1) * size;
            if dice % 100 >= share || bytes[block.clone()].iter().all(|byte| *byte == 0) {
                continue;
            }
            match kind {
                0 => damaged[block].fill(0),
                1 => damaged[block][dice % size] ^= 1 << (dice % 8),
                2 => damaged[block][size / 2..].fill(0),
                _ => damaged[block].copy_from_slice(&bytes[(number / 2) * size..][..size]),
            }
        }
        let pool = Pool::open(Arc::new(damaged)).unwrap();
        assert_partial(&content(&pool), truth);
        exercise(&pool);
    }

    /// Bytes changed and sealed again: no promise about content, only that everything ends and nothing panics.
    #[test]
    fn forged_blocks_do_not_panic(which in 0..3_usize, changes in proptest::collection::vec(any::<(u16, u16, u64)>(), 1..60)) {
        let (bytes, _) = base(which);
        let size = block_size(which);
        let used: Vec<_> = bytes.chunks(size).enumerate().filter(|(_, block)| identify(block).is_some()).map(|(n, _)| n).collect();
        let mut forged = bytes.clone();
        for (place, at, value) in changes {
            let number = used[place as usize % used.len()];
            let block = &mut forged[number * size..(number + 1) * size];
            let Some(kind) = identify(block) else { continue };
            // Mostly where headers, keys and first values are; small values are the more dangerous ones.
            let at = 16 + (at as usize % 512) / 8 * 8;
            let value = if value % 3 == 0 { value } else { value % 1200 };
            block[at..at + 8].copy_from_slice(&value.to_le_bytes());
            seal(kind, block);
        }
        if let Ok(pool) = Pool::open(Arc::new(forged)) {
            exercise(&pool);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_pool(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        prop_assert!(Pool::open(Arc::new(bytes)).is_err());
    }
}
