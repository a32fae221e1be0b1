//! The damage matrix in full: every accident to every population, several times. `cargo xtask matrix` runs it.
//!
//! Prints a line for each accident and population, then one for each accident, one for each population and one for all; last,
//! every trial with something untrue in it, and every one in which a peer got more. Percent of the mappings that the last
//! commit holds. *bound*: those in untouched leaves of the last commit; *silent*: neither found nor said to be lost;
//! *prediction*: by how much the predicted loss is off; *false*: trials said to be whole that are not; *exits*: 0 whole, 1 put
//! right, 2 damaged but usable, 4 nothing. Where peers can read the pool: *ours* and each version of thin_repair, what is
//! recovered less what is not true; *worse*: trials in which one of them got more.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

#[path = "../tests/matrix/mod.rs"]
mod matrix;

use matrix::{Peer, Row, Sample, Score, Table, Trial, large, simulated, trial};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tierlift_forge::Fixture;
use tierlift_forge::damage::ACCIDENTS;
use tierlift_forge::simulator::Size;

const SIZE: Size = Size { writes: 40_000, commits: 260 };

/// What is asked for on the command line.
struct Wanted {
    filter: String,
    seeds: u64,
    peers: Vec<Peer>,
    table: Table,
}

impl Wanted {
    /// `[FILTER [SEEDS]] [--markdown] [--peer VERSION=FOLDER]...`
    fn read() -> Self {
        let (mut plain, mut peers, mut markdown) = (Vec::new(), Vec::new(), false);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--markdown" => markdown = true,
                "--peer" => peers.extend(words.next().and_then(|peer| Peer::parse(&peer))),
                _ => plain.push(word),
            }
        }
        let seeds = plain.get(1).and_then(|seeds| seeds.parse().ok()).unwrap_or(2);
        let table = Table { markdown, peers: peers.iter().map(|peer| peer.version.clone()).collect() };
        Self { filter: plain.first().cloned().unwrap_or_default(), seeds, peers, table }
    }

    fn is_wanted(&self, sample: &Sample, accident: usize) -> bool {
        label(sample, accident).contains(&self.filter)
    }
}

fn label(sample: &Sample, accident: usize) -> String {
    format!("{}, {}", ACCIDENTS[accident].name, sample.name)
}

/// Everything added up.
#[derive(Default)]
struct Sums {
    by_accident: BTreeMap<usize, Row>,
    by_sample: BTreeMap<String, Row>,
    all: Row,
    /// What must not be, trial by trial.
    faults: Vec<String>,
}

fn main() {
    let wanted = Wanted::read();
    let mut sums = Sums::default();
    let others = |seed| simulated(SIZE, seed).map(move |sample| (sample, seed..seed + 1));
    let genuine = Fixture::HEALTHY.iter().map(|name| (Sample::genuine(name), 1..wanted.seeds + 1));
    // Made only when its turn comes, and once through: each trial takes seconds.
    let large = std::iter::once_with(|| (large(1), 1..2));
    // Simulated pools are others for each seed, for much of what can happen to one happens in one way only.
    let samples = (1..=wanted.seeds).flat_map(others).chain(genuine).chain(large);
    // In Markdown only the sums are of use.
    if !wanted.table.markdown {
        println!("{}", wanted.table.head("accident, population"));
    }
    for (sample, seeds) in samples {
        for (accident, trials) in measure(&sample, &wanted, &seeds) {
            sums.add(&sample, accident, &trials, &wanted);
        }
    }
    sums.print(&wanted.table);
}

impl Sums {
    fn add(&mut self, sample: &Sample, accident: usize, trials: &[(u64, Trial)], wanted: &Wanted) {
        let mut row = Row::default();
        for (seed, trial) in trials {
            row.add(trial);
            self.by_accident.entry(accident).or_default().add(trial);
            self.by_sample.entry(sample.name.clone()).or_default().add(trial);
            self.all.add(trial);
            let name = format!("{}, seed {seed}", label(sample, accident));
            self.faults.extend(faults(trial, &wanted.peers).map(|fault| format!("{name}: {fault}")));
        }
        if !wanted.table.markdown {
            println!("{}", wanted.table.line(&label(sample, accident), &row));
        }
    }

    fn print(&self, table: &Table) {
        println!("\n{}", table.head("accident"));
        self.by_accident.iter().for_each(|(index, row)| println!("{}", table.line(ACCIDENTS[*index].name, row)));
        println!("\n{}", table.head("population"));
        self.by_sample.iter().for_each(|(name, row)| println!("{}", table.line(name, row)));
        println!("{}", table.line("all", &self.all));
        println!("\n{} trials went wrong{}", self.faults.len(), if self.faults.is_empty() { "." } else { ":" });
        self.faults.iter().for_each(|fault| println!("- {fault}"));
    }
}

/// What must not be.
fn faults(trial: &Trial, peers: &[Peer]) -> impl Iterator<Item = String> {
    let score = trial.score;
    let untrue = (!trial.is_true()).then(|| {
        let Score { wrong, extra, silent, tier_wrong, total, .. } = score;
        format!("UNTRUE: of {total} mappings {wrong} wrong, {extra} extra, {silent} silent; {tier_wrong} tier entries")
    });
    let clean = (trial.is_true() && score.is_falsely_clean()).then(|| format!("FALSELY WHOLE: exit {}", score.exit));
    let worse = peers.iter().zip(&trial.peers).filter(|(_, theirs)| trial.is_worse_than(theirs));
    let worse = worse.map(move |(peer, theirs)| {
        let [ours, theirs] = [score.net(), theirs.net()].map(|net| 100.0 * net);
        format!("WORSE: ours {ours:.3} %, {} {theirs:.3} %", peer.version)
    });
    untrue.into_iter().chain(clean).chain(worse.collect::<Vec<_>>())
}

/// All trials of one pool with their seeds, on every processor.
fn measure(sample: &Sample, wanted: &Wanted, seeds: &Range<u64>) -> BTreeMap<usize, Vec<(u64, Trial)>> {
    let accidents = (0..ACCIDENTS.len()).filter(|accident| wanted.is_wanted(sample, *accident));
    let jobs: Vec<_> = accidents.flat_map(|index| seeds.clone().map(move |seed| (index, seed))).collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<usize, Vec<_>>::new()));
    let work = || {
        while let Some((index, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seed = seed * 1000 + *index as u64;
            if let Some(result) = trial(sample, &ACCIDENTS[*index], seed, &wanted.peers) {
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.entry(*index).or_default().push((seed, result));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.values_mut().for_each(|trials| trials.sort_by_key(|(seed, _)| *seed));
    results
}
