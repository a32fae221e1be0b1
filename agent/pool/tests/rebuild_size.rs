//! New metadata preserve sharing: at most 1.3 times the bytes the healthy pool had in use. The places of the superblock copies,
//! which are most of a small pool, are left out on both sides.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::rebuilt;
use std::sync::Arc;
use tierlift_forge::damage::{ACCIDENTS, Layout};
use tierlift_forge::simulator::{Population, Shape, Size};
use tierlift_ondisk::thin::flags;
use tierlift_ondisk::thin::ring::SLOTS;
use tierlift_pool::rebuild::{Format, RebuildOptions};
use tierlift_pool::{Mode, Pool, SalvageOptions, salvage};

/// Bytes in use but for the ring.
fn used(pool: &Pool) -> u64 {
    let superblock = pool.superblock();
    let ring = if superblock.has(flags::SUPERBLOCK_BACKUP) { SLOTS } else { 0 };
    (superblock.metadata_map.nr_allocated - ring) * pool.blocks().size().bytes() as u64
}

/// Hundredths of the healthy pool's bytes, in its own form and in stock Linux's.
fn ratios(pool: &Pool, healthy: u64) -> [u64; 2] {
    [Format::Own, Format::Mainline].map(|format| {
        let mode = Some(if pool.superblock().tier_num > 0 { Mode::TierMap } else { Mode::Plain });
        let (new, _) = rebuilt(pool, &RebuildOptions { format, mode, ..RebuildOptions::default() });
        used(&new) * 100 / healthy
    })
}

fn assert_small(name: &str, ratios: [u64; 2]) {
    println!("{name}: {ratios:?} %");
    assert!(ratios.iter().all(|ratio| *ratio <= 130), "{name}: {ratios:?} %");
}

#[test]
fn genuine_pools() {
    for name in common::HEALTHY {
        let pool = Pool::open(Arc::new(common::metadata(name))).unwrap();
        assert_small(name, ratios(&pool, used(&pool)));
    }
}

#[test]
fn simulated_pools_healthy_and_damaged() {
    for (name, shape) in Shape::ALL {
        for population in Population::ALL {
            let made = population.make(shape, Size { writes: 30_000, commits: 60 }, 7).unwrap();
            let pool = Pool::open(Arc::new(made.image.clone())).unwrap();
            let healthy = used(&pool);
            assert_small(&format!("{name} {}", population.name()), ratios(&pool, healthy));
            let accident = ACCIDENTS.iter().find(|accident| accident.name == "leaves 5 %").unwrap();
            let mut image = made.image;
            let layout = Layout::read(&image).unwrap();
            accident.apply(&mut image, &layout, 3).unwrap();
            let found = salvage(Arc::new(image), &SalvageOptions::default(), &mut |_| {}).unwrap();
            assert_small(&format!("{name} {}, damaged", population.name()), ratios(&found.pool, healthy));
        }
    }
}
