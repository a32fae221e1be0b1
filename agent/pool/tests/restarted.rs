//! Kernels allocate in a circle that begins anew at each activation, so that what an older commit left can lie as if it came
//! later. The state in block 0 of a sound pool is the newest all the same.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::sync::Arc;
use tierlift_forge::Dice;
use tierlift_forge::simulator::{Shape, SimulatedPool, Simulator};
use tierlift_ondisk::units::DeviceId;
use tierlift_pool::{Generation, SalvageOptions, salvage};

/// A few volumes, of which each commit changes some chunks of one or of all, and now and then the pool is activated anew.
fn restarted(seed: u64) -> SimulatedPool {
    let (mut pool, mut dice) = (Simulator::format(Shape::MAINLINE).unwrap(), Dice::new(seed));
    let volumes = 1 + dice.below(4);
    let chunks = 1 << (3 + dice.below(12));
    let (restarts, runs) = (1 + dice.below(6), 1 + dice.below(5));
    for id in (1..=volumes).map(DeviceId) {
        pool.create(id).unwrap();
        (0..chunks).step_by(2).for_each(|chunk| pool.write(id, chunk).unwrap());
        if dice.below(2) == 0 {
            pool.commit().unwrap();
        }
    }
    for commit in 0..dice.below(60) {
        for _ in 0..runs {
            let (volume, first) = (DeviceId(1 + dice.below(volumes)), dice.below(chunks));
            let run = first..first + dice.below(6);
            if dice.below(3) == 0 {
                run.clone().for_each(|chunk| pool.discard(volume, chunk).unwrap());
            } else {
                run.clone().for_each(|chunk| pool.write(volume, chunk).unwrap());
            }
        }
        if dice.below(20) == 0 {
            pool.snapshot(DeviceId(100 + commit), DeviceId(1)).unwrap();
        }
        pool.commit().unwrap();
        if dice.below(restarts) == 0 {
            pool.restart();
        }
    }
    pool.finish().unwrap()
}

#[test]
fn what_an_activation_left_behind_is_never_taken_for_newer() {
    let mut in_doubt = 0;
    let seeds = 150;
    for seed in 0..seeds {
        let made = restarted(seed);
        let report = salvage(Arc::new(made.image), &SalvageOptions::default(), &mut |_| {}).unwrap().report;
        assert_eq!(report.generation, Generation::Block0, "seed {seed}: {}", report.reason);
        in_doubt += u64::from(report.rival.is_some());
    }
    // Of pools so small the last commits can be told apart by nothing at all, and then that is said.
    assert!(in_doubt * 10 <= seeds, "{in_doubt} of {seeds} sound pools are in doubt");
}
