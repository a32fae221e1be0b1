//! What is fuzzed: each target takes any bytes, and fails when something does not hold that must.
//!
//! An input for the pool engine is a short list of edits to a sound pool, genuine or simulated, after which checksums are
//! repaired ([`Edit`], [`Case`]); a decoder's input is its bytes, with checksums repaired where one would end the matter.
//! `fuzz/` runs these targets under libFuzzer, `tests/short.rs` runs a bounded number of seeded inputs through them.

mod base;
mod case;
mod decoders;
mod device;
mod edit;
mod engine;
mod seeds;

pub use base::{Base, COUNT};
pub use case::{Case, MOST_EDITS};
pub use edit::{Action, Edit};
pub use seeds::random_case;

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Fails when something does not hold that must for this input.
    pub run: fn(&[u8]),
    /// Where to begin.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Its inputs are edits to a pool.
    pub is_engine: bool,
}

impl Target {
    const fn decoder(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Self {
        Self { name, run, seeds, is_engine: false }
    }

    const fn engine(name: &'static str, run: fn(&[u8])) -> Self {
        Self { name, run, seeds: seeds::engine, is_engine: true }
    }

    /// The target of this name.
    ///
    /// # Panics
    /// When there is none: a fuzz target is named wrongly.
    pub fn named(name: &str) -> Self {
        *TARGETS.iter().find(|target| target.name == name).expect("a target has this name")
    }
}

/// Makes what all inputs begin with, so that none is charged for it.
pub fn warm_up() {
    Base::pick(0);
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target::decoder("thin", decoders::thin, seeds::thin),
    Target::decoder("lvm", decoders::lvm, seeds::lvm),
    Target::decoder("layers", decoders::layers, seeds::layers),
    Target::decoder("frames", decoders::frames, seeds::frames),
    Target::decoder("unpack", decoders::unpack, seeds::unpack),
    Target::engine("check", engine::check),
    Target::engine("generations", engine::generations),
    Target::engine("salvage", engine::salvage),
    Target::engine("rebuild", engine::rebuild),
    Target::engine("dump", engine::dump),
];
