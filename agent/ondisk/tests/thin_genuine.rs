//! The decoders on metadata that QNAP's own kernel wrote: every block of every fixture.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::path::PathBuf;
use tierlift_ondisk::thin::ring::{self, Slot};
use tierlift_ondisk::thin::{
    Bitmap, BlockKind, BlockSize, DetailsSize, IndexBlock, Node, NodeKind, Superblock, identify, max_entries,
    own_number,
};
use tierlift_ondisk::units::MetaBlock;

const POOLS: [(&str, BlockSize); 14] = [
    ("F1-plain-ext4", BlockSize::K8),
    ("F2-snaps", BlockSize::K8),
    ("F3-3tiers", BlockSize::K8),
    ("F4-thick-clone", BlockSize::K8),
    ("F4c-zeroflag", BlockSize::K8),
    ("F5-v2-4k", BlockSize::K4),
    ("F6a-data-full", BlockSize::K8),
    ("F7-crash-1", BlockSize::K8),
    ("F7-tier-crash-1", BlockSize::K8),
    ("F8-F2-rand20", BlockSize::K8),
    ("F8-F2-sb-and-details", BlockSize::K8),
    ("F8-F3-poolmap-root", BlockSize::K8),
    ("F8-F3-sbzero", BlockSize::K8),
    ("F8-F3-stale-valid", BlockSize::K8),
];

fn metadata(pool: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(pool).join("tmeta.img.zst");
    zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap()
}

/// Calls `each` for every block of every pool that is not all zeros.
fn for_each_block(mut each: impl FnMut(&str, BlockSize, MetaBlock, &[u8])) {
    for (pool, size) in POOLS {
        for (number, block) in metadata(pool).chunks(size.bytes()).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                each(pool, size, MetaBlock(number as u64), block);
            }
        }
    }
}

#[test]
fn every_written_block_is_of_a_known_kind_and_in_its_place() {
    let mut counts = [0; 4];
    for_each_block(|pool, _, number, block| {
        let kind = identify(block).unwrap_or_else(|| panic!("{pool}: block {number} is of no known kind"));
        assert_eq!(own_number(block), Some(number), "{pool}");
        counts[kind as usize] += 1;
    });
    assert!(counts.iter().all(|count| *count > 100), "kinds met: {counts:?}");
}

#[test]
fn superblocks_indexes_and_bitmaps_encode_to_the_very_bytes() {
    for_each_block(|pool, size, number, block| {
        let again = match identify(block) {
            Some(BlockKind::Superblock) => Superblock::decode(block).unwrap().encode(size),
            Some(BlockKind::Index) => IndexBlock::decode(block).unwrap().encode(size),
            Some(BlockKind::Bitmap) => {
                let bitmap = Bitmap::decode(block).unwrap();
                let counts: Vec<_> = (0..Bitmap::entries(size)).map(|index| bitmap.count(index).unwrap()).collect();
                Bitmap::encode(size, number, &counts)
            }
            _ => return,
        };
        assert!(again == block, "{pool}: block {number} came back different");
    });
}

#[test]
fn every_node_decodes_with_the_capacity_of_the_format() {
    let mut leaves = 0;
    let mut inner = 0;
    for_each_block(|pool, size, number, block| {
        if identify(block) == Some(BlockKind::Node) {
            let node = Node::decode(block).unwrap_or_else(|error| panic!("{pool}: block {number}: {error}"));
            assert_eq!(node.number(), number);
            assert_eq!(node.max_entries(), max_entries(size, node.value_size()), "{pool}: block {number}");
            match node.kind() {
                NodeKind::Leaf => leaves += 1,
                NodeKind::Internal => inner += 1,
            }
        }
    });
    assert!(leaves > 500 && inner > 10, "{leaves} leaves, {inner} inner nodes");
}

#[test]
fn device_records_have_the_length_of_their_version() {
    for (pool, size) in POOLS {
        let metadata = metadata(pool);
        let superblock = Superblock::decode(&metadata).unwrap();
        let root = superblock.details_root.0 as usize * size.bytes();
        let expected = if superblock.version == 4 { DetailsSize::QnapClone } else { DetailsSize::Qnap };
        let block = &metadata[root..root + size.bytes()];
        if root != 0 && identify(block) == Some(BlockKind::Node) {
            let root = Node::decode(block).unwrap();
            assert_eq!(DetailsSize::from_bytes(root.value_size()), Some(expected), "{pool}");
        }
    }
}

#[test]
fn the_newest_copy_is_the_state_of_a_sound_block_0() {
    for (pool, size) in POOLS {
        let metadata = metadata(pool);
        let end = size.blocks_in(metadata.len() as u64);
        let copies = (1..=ring::SLOTS).filter_map(|slot| {
            let place = ring::slot_block(end, slot)?;
            match ring::decode_slot(metadata.chunks(size.bytes()).nth(place.0 as usize)?, place)? {
                Slot::Copy(copy) => Some(copy),
                Slot::Placeholder => None,
            }
        });
        let newest = copies.max_by_key(|copy| copy.backup_id);
        let block0 = Superblock::decode(&metadata).unwrap();
        match pool {
            "F5-v2-4k" => assert!(newest.is_none(), "version 2 has no ring"),
            "F8-F2-sb-and-details" | "F8-F3-sbzero" => assert_eq!((newest.unwrap().version, block0.version), (4, 0)),
            "F8-F3-stale-valid" => assert!(!newest.unwrap().same_state(&block0)),
            _ => assert!(newest.unwrap().same_state(&block0), "{pool}"),
        }
    }
}
