//! Salvage of genuine pools: whatever is lost, what comes out is true, and what does not come out is named.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::{Content, assert_partial, content};
use std::sync::Arc;
use tierlift_ondisk::thin::{BlockKind, BlockSize, Node, NodeKind, identify, own_number};
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::{Generation, Hints, Pool, Salvage, SalvageOptions, salvage};

fn truth_of(pool: &str) -> (Vec<u8>, Content) {
    let bytes = common::metadata(pool);
    let content = content(&Pool::open(Arc::new(bytes.clone())).unwrap());
    (bytes, content)
}

fn salvaged(bytes: &[u8]) -> Salvage {
    salvage(Arc::new(bytes.to_vec()), &SalvageOptions::default(), &mut |_| {}).unwrap()
}

#[test]
fn a_healthy_pool_is_left_as_it_is() {
    for name in common::HEALTHY {
        let (bytes, truth) = truth_of(name);
        let result = salvaged(&bytes);
        assert_eq!(content(&result.pool), truth, "{name}");
        assert!(result.report.is_untouched(), "{name}: {:#?}", result.report);
        assert_eq!(result.report.lost_mappings, 0, "{name}");
    }
}

#[test]
fn damaged_genuine_pools() {
    let cases = [
        ("F8-F2-rand20", "F2-snaps", 0.0),
        ("F8-F2-sb-and-details", "F2-snaps", 1.0),
        ("F8-F3-sbzero", "F3-3tiers", 1.0),
        ("F8-F3-stale-valid", "F3-3tiers", 1.0),
        ("F8-F3-poolmap-root", "F3-3tiers", 1.0),
    ];
    for (name, base, least) in cases {
        let truth = truth_of(base).1;
        let result = salvaged(&common::metadata(name));
        let found = content(&result.pool);
        assert_partial(&found, &truth);
        let recall = found.mappings.len() as f64 / truth.mappings.len() as f64;
        let lost = truth.mappings.len() - found.mappings.len();
        println!(
            "{name}: recall {recall:.4}, lost {lost}, predicted {}, {:?}",
            result.report.lost_mappings, result.report.generation
        );
        assert!(recall >= least, "{name}: {recall}\n{:#?}", result.report);
    }
}

/// Block 0, or a block the newest superblock needs: everything that is neither free nor a slot of the ring.
fn used_blocks(bytes: &[u8], size: BlockSize) -> Vec<MetaBlock> {
    let blocks = bytes.chunks_exact(size.bytes());
    let used = (0..)
        .map(MetaBlock)
        .zip(blocks)
        .filter(|(place, block)| identify(block).is_some() && own_number(block) == Some(*place));
    used.map(|(place, _)| place).collect()
}

fn is_mapping_leaf(block: &[u8]) -> bool {
    let eight = |node: Node<'_>| node.kind() == NodeKind::Leaf && node.value_size() == 8;
    identify(block) == Some(BlockKind::Node) && Node::decode(block).is_ok_and(eight)
}

/// Every block of small genuine pools lost once: nothing is ever made up, and only a lost leaf costs mappings.
#[test]
fn each_block_lost_once() {
    for name in ["F1-plain-ext4", "F2-snaps", "F3-3tiers", "F4-thick-clone", "F5-v2-4k"] {
        let (bytes, truth) = truth_of(name);
        let size = Pool::open(Arc::new(bytes.clone())).unwrap().blocks().size();
        for place in used_blocks(&bytes, size) {
            let at = place.0 as usize * size.bytes();
            let mut hurt = bytes.clone();
            hurt[at..at + size.bytes()].fill(0);
            let Ok(result) = salvage(Arc::new(hurt), &SalvageOptions::default(), &mut |_| {}) else {
                println!("{name}: nothing without block {place}");
                assert_eq!((name, place.0), ("F5-v2-4k", 0), "only a pool without copies may need its superblock");
                continue;
            };
            let found = content(&result.pool);
            assert_partial(&found, &truth);
            if found.mappings.len() < truth.mappings.len() {
                let lost = truth.mappings.len() - found.mappings.len();
                println!(
                    "{name}: without block {place} {lost} of {} mappings are lost: {:?}",
                    truth.mappings.len(),
                    result.report
                );
                assert!(is_mapping_leaf(&bytes[at..at + size.bytes()]), "{name}: block {place}");
                assert_eq!(result.report.lost_mappings, lost as u64, "{name}: block {place}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_turned_back() {
    let (bytes, truth) = truth_of("F5-v2-4k");
    for place in used_blocks(&bytes, BlockSize::K4) {
        let mut hurt = bytes.clone();
        hurt[place.0 as usize * 4096 + (place.0 as usize * 977) % 4096] ^= 1 << (place.0 % 8);
        let result = salvaged(&hurt);
        assert_eq!(content(&result.pool), truth, "block {place}");
        assert_eq!(result.report.flipped_bits, 1);
        assert_eq!(result.report.generation, Generation::Block0);
    }
}

/// Version 2 keeps no copies: without the superblock only the scan is left, and what the volume group says of the pool.
#[test]
fn a_pool_without_copies_and_superblock_is_found_by_scanning() {
    let (bytes, truth) = truth_of("F5-v2-4k");
    let mut hurt = bytes.clone();
    hurt[..4096].fill(0);
    let pool = Pool::open(Arc::new(bytes)).unwrap();
    let hints = Hints { chunk_size: Some(pool.chunk_size()), ..Hints::default() };
    let options = SalvageOptions { hints, ..SalvageOptions::default() };
    let result = salvage(Arc::new(hurt), &options, &mut |_| {}).unwrap();
    assert_eq!(content(&result.pool), truth, "{:#?}", result.report);
    assert!(matches!(result.report.generation, Generation::Index { .. }));
}
