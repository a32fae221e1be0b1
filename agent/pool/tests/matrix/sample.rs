//! The pools that are damaged: simulated ones of every past and shape, and genuine ones.

use super::score::Truth;
use std::sync::Arc;
use tierlift_forge::Fixture;
use tierlift_forge::damage::Layout;
use tierlift_forge::simulator::{Population, Shape, SimulatedPool, Size};
use tierlift_ondisk::thin::Family;
use tierlift_pool::Pool;

/// A pool that is whole, and all that is known of it.
pub struct Sample {
    pub name: String,
    pub image: Vec<u8>,
    pub layout: Layout,
    pub truth: Truth,
    /// Written by stock Linux: its tools can be held against ours.
    pub is_mainline: bool,
}

const SHAPES: [(&str, Shape); 6] = [
    ("stock 4K", Shape::MAINLINE),
    ("tier map 8K", Shape::QNAP_TIERS),
    ("bypass 8K", Shape::QNAP_BYPASS),
    ("plain 8K", Shape::QNAP_PLAIN),
    ("v2 4K", Shape::QNAP_V2),
    ("v3 4K", Shape::QNAP_V3),
];

/// Every past in every shape.
pub fn simulated(size: Size, seed: u64) -> impl Iterator<Item = Sample> {
    let every = SHAPES.into_iter().flat_map(|shape| Population::ALL.map(|population| (shape, population)));
    every.map(move |((name, shape), population)| {
        let made = population.make(shape, size, seed).unwrap();
        Sample::simulated(format!("{}, {name}", population.name()), made)
    })
}

/// A pool large enough for damage that would take all of a small one.
pub fn large(seed: u64) -> Sample {
    let shape = Shape { metadata_blocks: 24_000, chunks: 2_500_000, ..Shape::MAINLINE };
    let made = Population::Growing.make(shape, Size { writes: 1_600_000, commits: 300 }, seed).unwrap();
    Sample::simulated("growing, stock 4K, large".into(), made)
}

impl Sample {
    fn simulated(name: String, made: SimulatedPool) -> Self {
        let layout = Layout::read(&made.image).unwrap().with_history(made.commits);
        let truth = Truth::of_simulator(&made.truth);
        Self { name, layout, truth, is_mainline: made.shape.family == Family::Mainline, image: made.image }
    }

    /// A genuine pool: its truth is what is read while it is whole.
    pub fn genuine(name: &str) -> Self {
        let fixture = Fixture::named(name).unwrap();
        let mut image = vec![0; fixture.images["tmeta.img"].bytes as usize];
        let keep = |offset: u64, block: &[u8]| {
            image[offset as usize..][..block.len()].copy_from_slice(block);
            Ok(())
        };
        fixture.stream("tmeta.img", keep).unwrap();
        let truth = Truth::of_pool(&Pool::open(Arc::new(image.clone())).unwrap());
        let layout = Layout::read(&image).unwrap();
        Self { name: name.into(), image, layout, truth, is_mainline: false }
    }
}
