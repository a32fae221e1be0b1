//! The damage matrix in full: every accident to every population, several times. `cargo xtask matrix` runs it.
//!
//! Prints a line for each accident and population, then one for each accident and one for all. Percent of the mappings that
//! the last commit holds. *bound*: those in untouched leaves of the last commit; *silent*: neither found nor said to be lost;
//! *prediction*: by how much the predicted loss is off; *false*: trials said to be whole that are not; *exits*: 0 whole, 1 put
//! right, 2 damaged but usable, 4 nothing; *thin_repair*: what that tool recovers, less what is not true.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

#[path = "../tests/matrix/mod.rs"]
mod matrix;

use matrix::{Peer, Row, Sample, large, simulated, trial};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tierlift_forge::damage::ACCIDENTS;
use tierlift_forge::simulator::Size;

/// Genuine pools that are whole.
const GENUINE: [&str; 9] = [
    "F1-plain-ext4",
    "F2-snaps",
    "F3-3tiers",
    "F4-thick-clone",
    "F4c-zeroflag",
    "F5-v2-4k",
    "F6a-data-full",
    "F7-crash-1",
    "F7-tier-crash-1",
];

const SIZE: Size = Size { writes: 40_000, commits: 260 };

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let seeds = std::env::args().nth(2).and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    println!("{:55} {}", "accident, population", Row::HEAD);
    let mut by_accident: BTreeMap<usize, Row> = BTreeMap::new();
    let mut all = Row::default();
    let small =
        simulated(SIZE, 1).chain(GENUINE.iter().map(|name| Sample::genuine(name))).map(|sample| (sample, seeds));
    // Made only when its turn comes, and once through: each trial takes seconds.
    let large = std::iter::once_with(|| (large(1), 1));
    for (sample, seeds) in small.chain(large) {
        let label = |index: usize| format!("{}, {}", ACCIDENTS[index].name, sample.name);
        let chosen: Vec<_> = (0..ACCIDENTS.len()).filter(|index| label(*index).contains(&wanted)).collect();
        for (index, row) in measure(&sample, &chosen, seeds) {
            println!("{:55} {}", label(index), row.iter().fold(Row::default(), add));
            row.iter().for_each(|trial| by_accident.entry(index).or_default().add(trial));
            row.iter().for_each(|trial| all.add(trial));
        }
    }
    println!();
    by_accident.iter().for_each(|(index, row)| println!("{:55} {row}", ACCIDENTS[*index].name));
    println!("{:55} {all}", "all");
}

fn add(mut row: Row, trial: &matrix::Trial) -> Row {
    row.add(trial);
    row
}

/// All trials of one pool, on every processor.
fn measure(sample: &Sample, accidents: &[usize], seeds: u64) -> BTreeMap<usize, Vec<matrix::Trial>> {
    let jobs: Vec<_> = accidents.iter().flat_map(|index| (0..seeds).map(|seed| (*index, seed))).collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        let peer = Peer::find();
        while let Some((index, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(result) = trial(sample, &ACCIDENTS[*index], seed * 1000 + *index as u64, peer.as_ref()) {
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.entry(*index).or_insert_with(Vec::new).push(result);
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
