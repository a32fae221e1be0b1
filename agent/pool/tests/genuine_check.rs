//! Genuine pools under the full check: whole ones are clean, damaged ones tell what is lost of which device.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;
use tierlift_ondisk::units::DeviceId;
use tierlift_pool::Pool;
use tierlift_pool::check::{Check, Cost, Kind, Severity, Verdict, check};

fn checked(bytes: Vec<u8>) -> Check {
    let pool = Pool::open(Arc::new(bytes)).unwrap();
    let (mut last, mut calls) = (0, 0);
    let found = check(&pool, &mut |progress| {
        assert!(progress.done >= last, "progress goes forward");
        (last, calls) = (progress.done, calls + 1);
    });
    assert!(calls > 0);
    serde_json::to_string(&found).unwrap();
    found
}

fn texts(found: &Check) -> Vec<String> {
    found.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn whole_pools_are_clean() {
    for name in common::HEALTHY {
        let found = checked(common::metadata(name));
        if name == "F6a-data-full" {
            assert!(matches!(found.findings[..], [ref only] if only.kind == Kind::NeedsCheck), "{:?}", texts(&found));
            assert_eq!(found.verdict, Verdict::Reported);
        } else {
            assert_eq!((found.verdict, texts(&found)), (Verdict::Clean, vec![]), "{name}");
        }
        assert!(found.figures.mappings >= 56 && found.devices.iter().all(|d| d.counted == d.recorded), "{name}");
    }
}

fn costs(found: &Check) -> Vec<Cost> {
    found.findings.iter().filter_map(|finding| finding.cost).collect()
}

/// Four devices have lost the only node of their tree; the other five are whole.
#[test]
fn lost_blocks_are_told_with_the_devices_they_hurt() {
    let found = checked(common::metadata("F8-F2-rand20"));
    assert_eq!(found.verdict, Verdict::Damaged);
    let mut hurt: Vec<_> = costs(&found).iter().map(|cost| cost.device.unwrap().0).collect();
    hurt.dedup();
    assert_eq!(hurt, [4, 6, 8, 9], "{:?}", texts(&found));
    let lost = |device: u64| {
        let of_device = |kind: &Kind| matches!(kind, Kind::ChunksLost { device: DeviceId(id), .. } if *id == device);
        found.findings.iter().filter(|finding| of_device(&finding.kind)).map(|f| f.cost.unwrap()).collect::<Vec<_>>()
    };
    for (device, chunks) in [(4, 35), (6, 40), (8, 30), (9, 40)] {
        let [cost] = lost(device)[..] else { panic!("device {device}: {:?}", texts(&found)) };
        assert_eq!(cost.chunks_at_most, Some(chunks), "device {device}");
    }
    let leaks: Vec<_> = found.findings.iter().filter(|finding| finding.severity == Severity::Leak).collect();
    assert!(matches!(leaks[..], [only] if matches!(only.kind, Kind::CountTooHigh { holes: true, .. })));
}

#[test]
fn a_lost_tier_tree_costs_every_device_its_chunks() {
    let found = checked(common::metadata("F8-F3-poolmap-root"));
    assert_eq!(found.verdict, Verdict::Damaged);
    let of_devices: Vec<_> = costs(&found)
        .iter()
        .filter_map(|cost| Some((cost.device?.0, cost.first_chunk, cost.last_chunk?, cost.chunks_at_most?)))
        .collect();
    assert_eq!(of_devices, [(1, 0, 191, 81), (2, 0, 175, 131), (3, 0, 175, 147)]);
}

#[test]
fn a_stale_superblock_is_damage_even_when_its_trees_are_sound() {
    let found = checked(common::metadata("F8-F3-stale-valid"));
    assert_eq!(found.verdict, Verdict::Damaged);
    assert!(matches!(found.findings[..], [ref only] if matches!(only.kind, Kind::Stale { commits: Some(69), .. })));
}

/// Written by stock Linux's thin_restore 0.9, which leaves one free metadata block counted as used.
#[test]
fn a_restored_pool_of_stock_linux_is_clean() {
    let packed = include_bytes!("data/mainline-v2.tmeta.img.zst");
    let found = checked(zstd::decode_all(&packed[..]).unwrap());
    assert_eq!((found.verdict, texts(&found)), (Verdict::Clean, vec![]));
    assert!(found.figures.mappings > 0);
}
