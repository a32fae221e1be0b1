//! Measuring salvage: pools whose truth is known, damaged in every way of the model, and what comes back.
// The test and the full form use different parts.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod peer;
mod sample;
mod score;
mod table;

pub use peer::Peer;
pub use sample::{Sample, large, simulated};
pub use score::Score;
pub use table::{Row, Table};

use std::collections::BTreeSet;
use std::sync::Arc;
use tierlift_forge::damage::Accident;
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::{Hints, SalvageOptions, salvage};

/// Far less than one mapping of the largest pool.
const ROUNDING: f64 = 1e-9;

/// What one accident to one pool led to.
pub struct Trial {
    /// The live-leaf bound, as a share.
    pub bound: f64,
    /// The device records were not touched: how much there was is known.
    pub has_records: bool,
    /// What salvage got.
    pub score: Score,
    /// What each peer got; none where they cannot read such pools at all.
    pub peers: Vec<Score>,
}

impl Trial {
    /// Whether this peer got more, counted as recovered less wrong.
    pub fn is_worse_than(&self, peer: &Score) -> bool {
        self.score.net() < peer.net() - ROUNDING
    }

    /// Everything that came out is true, and nothing is gone without a word.
    pub fn is_true(&self) -> bool {
        self.score.lies() == 0 && self.score.tier_wrong == 0
    }
}

/// Lets the accident happen; `None` when it cannot happen to this pool.
pub fn trial(sample: &Sample, accident: &Accident, seed: u64, peers: &[Peer]) -> Option<Trial> {
    let mut image = sample.image.clone();
    let touched = accident.apply(&mut image, &sample.layout, seed)?;
    let peers = peers.iter().filter(|_| sample.is_mainline).map(|peer| peer.score(sample, &image)).collect();
    let has_records = sample.layout.details.nodes().all(|node| !touched.contains(&node));
    Some(Trial { bound: bound(sample, &touched), has_records, score: salvaged(sample, image), peers })
}

/// The live-leaf bound: mappings stated by leaves that the accident did not touch.
fn bound(sample: &Sample, touched: &BTreeSet<MetaBlock>) -> f64 {
    sample.layout.live_mappings(touched) as f64 / sample.truth.count.max(1) as f64
}

/// Salvages with what the volume group's text would say.
fn salvaged(sample: &Sample, image: Vec<u8>) -> Score {
    let superblock = &sample.layout.superblock;
    let hints = Hints {
        chunk_size: Some(superblock.chunk_size),
        chunks: Some(superblock.data_map.nr_blocks),
        transaction: Some(superblock.transaction),
    };
    match salvage(Arc::new(image), &SalvageOptions { hints, ..SalvageOptions::default() }, &mut |_| {}) {
        Err(_) => Score::nothing(&sample.truth),
        Ok(salvaged) => {
            let (report, score) = (&salvaged.report, Score::of(&salvaged.pool, &sample.truth));
            let said = report.lost_mappings > 0 || report.lost_blocks > 0 || report.rival.is_some();
            let lost = score.has_holes || said;
            let exit = if lost { 2 } else { u8::from(!report.is_untouched()) };
            Score { exit, predicted: Some(report.lost_mappings), ..score }
        }
    }
}
