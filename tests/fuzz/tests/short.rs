//! Fuzzing in short: seeds, found cases and a bounded number of seeded inputs through every target, the same each time.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use tierlift_forge::Dice;
use tierlift_fuzz::{COUNT, MOST_EDITS, Target, random_case};

/// Inputs for a decoder, made of its seeds.
const DECODER_INPUTS: usize = 5000;
/// Inputs for each verb of the engine.
const ENGINE_INPUTS: usize = 400;

/// Runs an input; when it fails, the test's output has it.
fn run(target: &Target, input: &[u8]) {
    struct Told<'a>(&'a Target, &'a [u8]);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("{} fails with {:02x?}", self.0.name, self.1);
            }
        }
    }
    let told = Told(target, input);
    (target.run)(input);
    drop(told);
}

/// A seed with some bytes changed, taken out or put in.
fn changed(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = dice.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..=dice.below(6) {
        // Often in the first bytes, where headers are.
        let near = dice.below(2) == 0;
        let reach = if near { 512.min(input.len() + 1) } else { input.len() + 1 };
        let at = dice.below(reach as u64) as usize;
        match (dice.below(8), input.get_mut(at)) {
            (0, _) => input.truncate(at),
            (1, _) => input.insert(at, dice.roll() as u8),
            (2, Some(_)) => drop(input.remove(at)),
            (3, Some(byte)) => *byte = 0xFF,
            (4, Some(byte)) => *byte = 0,
            (_, Some(byte)) => *byte ^= 1 << dice.below(8),
            (_, None) => input.push(dice.roll() as u8),
        }
    }
    input
}

fn short(name: &str) {
    let target = Target::named(name);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    let mut dice = Dice::new(20);
    if target.is_engine {
        // Each target has a part of the seeds: they are the same for all.
        let part = tierlift_fuzz::TARGETS.iter().position(|other| other.name == name).unwrap() % 5;
        seeds.iter().skip(part).step_by(5).for_each(|seed| run(&target, seed));
        let mut dice = Dice::new(part as u64);
        for _ in 0..ENGINE_INPUTS {
            let edits = 1 + dice.below(MOST_EDITS as u64 / 4) as usize;
            let base = dice.below(COUNT as u64) as u8;
            let input = random_case(&mut dice, base, edits);
            run(&target, &input);
        }
    } else {
        seeds.iter().for_each(|seed| run(&target, seed));
        (0..DECODER_INPUTS).for_each(|_| run(&target, &changed(&mut dice, &seeds)));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            short(stringify!($name));
        })*

        #[test]
        fn every_target_is_here() {
            let names: Vec<_> = tierlift_fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(thin lvm layers frames unpack check generations salvage rebuild dump);

/// What fuzzing found once: `cases/TARGET/NAME`.
#[test]
fn found_cases_stay_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    for target in tierlift_fuzz::TARGETS {
        let Ok(cases) = fs::read_dir(folder.join(target.name)) else { continue };
        for case in cases {
            let path = case.unwrap().path();
            println!("{}", path.display());
            run(&target, &fs::read(path).unwrap());
        }
    }
}
