//! The sound pools that inputs are edits of: genuine ones, and small simulated ones with deep trees and a past.

use crate::device::Device;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use tierlift_forge::Fixture;
use tierlift_forge::damage::Layout;
use tierlift_forge::simulator::{Population, Shape, Size};
use tierlift_ondisk::thin::{BlockSize, MappingValue, identify};
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::{Pool, Step};

/// Genuine pools of every layout.
const GENUINE: [&str; 6] = ["F1-plain-ext4", "F2-snaps", "F3-3tiers", "F4-thick-clone", "F5-v2-4k", "F7-tier-crash-1"];

/// Simulated pools: leaves enough for inner nodes, history enough for generations.
const SIMULATED: [(&str, Shape, Population); 6] = [
    ("mainline", Shape::MAINLINE, Population::Growing),
    ("tiers", Shape::QNAP_TIERS, Population::Growing),
    ("bypass", Shape::QNAP_BYPASS, Population::Shrinking),
    ("plain", Shape::QNAP_PLAIN, Population::Foreign),
    ("v2", Shape::QNAP_V2, Population::Compact),
    ("v3", Shape::QNAP_V3, Population::Growing),
];

/// Mappings by device and virtual chunk.
pub type Mappings = BTreeMap<(u64, u64), MappingValue>;

/// A sound pool.
#[derive(Debug)]
pub struct Base {
    /// Its name.
    pub name: &'static str,
    /// Its metadata device.
    pub device: Device,
    /// Its block size.
    pub block_size: BlockSize,
    /// Blocks worth editing: what is in use, what was, and some of the ring.
    pub spots: Vec<MetaBlock>,
    /// What is true.
    pub truth: Mappings,
}

impl Base {
    fn new(name: &'static str, image: &[u8]) -> anyhow::Result<Self> {
        let layout = Layout::read(image)?;
        let size = layout.block_size;
        let in_ring = |block: &MetaBlock| layout.ring.contains(block);
        let sound = (0..).zip(image.chunks_exact(size.bytes())).filter(|(_, block)| identify(block).is_some());
        let mut spots: Vec<_> = sound.map(|(block, _)| MetaBlock(block)).filter(|block| !in_ring(block)).collect();
        spots.extend(layout.ring.iter().take(4).chain(layout.ring.iter().rev().take(4)));
        let truth = mappings(&Pool::open(Arc::new(image.to_vec()))?);
        Ok(Self { name, device: Device::new(image), block_size: size, spots, truth })
    }

    fn genuine(name: &'static str) -> anyhow::Result<Self> {
        let fixture = Fixture::named(name)?;
        let mut image = vec![0; fixture.images["tmeta.img"].bytes as usize];
        fixture.stream("tmeta.img", |offset, block| {
            image[offset as usize..][..block.len()].copy_from_slice(block);
            Ok(())
        })?;
        Self::new(name, &image)
    }

    fn simulated(name: &'static str, shape: Shape, population: Population) -> anyhow::Result<Self> {
        let shape = Shape { metadata_blocks: 700, chunks: 20_000, ..shape };
        let made = population.make(shape, Size { writes: 2500, commits: 20 }, 11)?;
        Self::new(name, &made.image)
    }

    /// One of all bases.
    pub fn pick(number: u8) -> &'static Self {
        let all = &*ALL;
        &all[number as usize % all.len()]
    }

    /// The block that a number in an edit means: mostly one worth editing, also any other.
    pub fn block(&self, number: u16) -> MetaBlock {
        let any = u64::from(number & 0x7FFF);
        if number & 0x8000 != 0 {
            return MetaBlock(any % self.block_size.blocks_in(self.device.length()).max(1));
        }
        self.spots[any as usize % self.spots.len()]
    }
}

/// How many bases there are.
pub const COUNT: usize = GENUINE.len() + SIMULATED.len();

static ALL: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let genuine = GENUINE.into_iter().map(Base::genuine);
    let simulated = SIMULATED.into_iter().map(|(name, shape, population)| Base::simulated(name, shape, population));
    let all: anyhow::Result<Vec<_>> = genuine.chain(simulated).collect();
    all.expect("the bases are sound")
});

/// Everything the mapping trees of a pool say.
pub fn mappings(pool: &Pool) -> Mappings {
    let mut found = Mappings::new();
    for (device, root) in pool.roots().found {
        let done: Result<(), Infallible> = pool.mappings(root, |step| {
            if let Step::Found(chunk, value) = step {
                found.insert((device, chunk), value);
            }
            Ok(())
        });
        let Ok(()) = done;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_small_and_have_much_to_edit() {
        for number in 0..COUNT {
            let base = Base::pick(number as u8);
            println!("{}: {} spots, {} mappings", base.name, base.spots.len(), base.truth.len());
            assert!(base.spots.len() > 15 && base.truth.len() > 20, "{}", base.name);
            assert!(base.spots.contains(&MetaBlock(0)) && base.device.length() <= 8 << 20, "{}", base.name);
        }
    }
}
