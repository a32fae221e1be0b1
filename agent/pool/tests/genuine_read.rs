//! Every thin device of every genuine healthy pool, put together without a kernel, has the bytes that QNAP's kernel read.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::hash;
use std::sync::Arc;
use tierlift_pool::{Mode, Pool, ThinReader};

fn mode_of(pool: &str) -> Mode {
    match pool {
        "F5-v2-4k" => Mode::Plain,
        "F3-3tiers" | "F7-tier-crash-1" => Mode::TierMap,
        _ => Mode::Bypass { tier: 2 },
    }
}

fn check_pool(name: &str) {
    let pool = Pool::open(Arc::new(common::metadata(name))).unwrap();
    let tiers = common::tiers(name);
    let decision = pool.mode();
    assert_eq!(decision.mode, mode_of(name), "{name}: {:?}", decision.evidence);
    assert_eq!(pool.stat().damage, [""; 0], "{name}");
    for truth in common::truth(name) {
        let reader = ThinReader::new(&pool, tiers.clone(), truth.device, decision.mode, Some(truth.size)).unwrap();
        assert_eq!(hash(&reader), truth.sha256, "{name}: device {}", truth.device);
        assert!(reader.lost_chunks().is_empty());
    }
}

#[test]
fn plain_pool() {
    check_pool("F1-plain-ext4");
}

#[test]
fn snapshots() {
    check_pool("F2-snaps");
}

#[test]
fn three_tiers() {
    check_pool("F3-3tiers");
}

#[test]
fn thick_and_cloned() {
    check_pool("F4-thick-clone");
}

#[test]
fn zeroed_chunks_read_as_zeros() {
    check_pool("F4c-zeroflag");
}

#[test]
fn version_2_with_4096_byte_blocks() {
    check_pool("F5-v2-4k");
}

#[test]
fn full_pool() {
    check_pool("F6a-data-full");
}

#[test]
fn crashed() {
    check_pool("F7-crash-1");
}

#[test]
fn crashed_while_migrating() {
    check_pool("F7-tier-crash-1");
}
