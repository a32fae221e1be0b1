//! A pool simulator: what a kernel's thin-pool target does to a metadata device, in memory.
//!
//! The trees are real and copied on write like the kernel's: blocks that the last commit needs are never overwritten, freed
//! ones keep their old contents until they are used again. That history is what salvage lives on and what misleads it.
//! [`Truth`] is kept beside the trees in plain maps, so that neither is derived from the other.

mod commit;
mod counts;
mod devices;
mod node;
mod population;
mod shape;
mod space_map;
mod store;
mod tiers;
mod tree;
mod truth;

pub use population::{Population, Size};
pub use shape::Shape;
pub use truth::Truth;

use crate::dice::Dice;
use space_map::{DiskMap, MetadataMap};
use std::collections::BTreeSet;
use store::{Holds, Store};
use tierlift_ondisk::thin::Superblock;
use tierlift_ondisk::thin::ring::{SLOTS, placeholder, slot_block};
use tierlift_ondisk::units::DeviceId;
use tree::Tree;

/// A pool with its metadata device.
#[derive(Debug)]
pub struct Simulator {
    shape: Shape,
    store: Store,
    metadata_map: MetadataMap,
    data_map: DiskMap,
    tier_maps: tiers::TierMaps,
    top_level: Tree,
    details: Tree,
    tier_tree: Option<Tree>,
    changed_details: BTreeSet<DeviceId>,
    truth: Truth,
    time: u32,
    transaction: u64,
    commits: Vec<Superblock>,
    dirty: bool,
    dice: Dice,
}

/// A pool whose work is done.
#[derive(Debug, Clone)]
pub struct SimulatedPool {
    /// Its kind.
    pub shape: Shape,
    /// The metadata device.
    pub image: Vec<u8>,
    /// What is true as of the last commit.
    pub truth: Truth,
    /// The superblock of every commit since formatting, that of formatting first.
    pub commits: Vec<Superblock>,
}

impl Simulator {
    /// Formats an empty device.
    ///
    /// # Errors
    /// When there is no such pool, or the device is too small.
    pub fn format(shape: Shape) -> anyhow::Result<Self> {
        let bytes = shape.metadata_blocks as usize * shape.block_size.bytes();
        Self::format_over(shape, vec![0; bytes])
    }

    /// Formats a device on which something else lies; what is not used is not wiped.
    ///
    /// # Errors
    /// As [`Simulator::format`], and when the device has another length than the shape says.
    pub fn format_over(shape: Shape, image: Vec<u8>) -> anyhow::Result<Self> {
        shape.check()?;
        anyhow::ensure!(shape.block_size.blocks_in(image.len() as u64) == shape.metadata_blocks, "another length");
        let mut store = Store::new(shape.block_size, image, shape.chunks);
        store.metadata.allocate()?;
        if shape.ring {
            reserve_ring(&mut store)?;
        }
        let metadata_map = MetadataMap::create(&mut store)?;
        let counts = store.data.clone();
        let data_map = DiskMap::create(&mut store, &counts)?;
        let top_level = Tree::create(&mut store, 8, Holds::Roots)?;
        let details = Tree::create(&mut store, shape.details_size().bytes(), Holds::Values)?;
        let (tier_maps, tier_tree) = tiers::create(&mut store, &shape)?;
        let mut pool = Self {
            shape,
            store,
            metadata_map,
            data_map,
            tier_maps,
            top_level,
            details,
            tier_tree,
            changed_details: BTreeSet::new(),
            truth: Truth::default(),
            time: shape.first_time(),
            transaction: 0,
            commits: Vec::new(),
            dirty: true,
            dice: Dice::new(shape.seed),
        };
        pool.commit()?;
        Ok(pool)
    }

    /// The kind of pool.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the pool holds now, whether or not it is committed.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Pool time.
    pub fn time(&self) -> u32 {
        self.time
    }

    /// The metadata device as the last commit left it.
    pub fn image(&self) -> &[u8] {
        &self.store.image
    }

    /// The superblocks committed so far.
    pub fn commits(&self) -> &[Superblock] {
        &self.commits
    }

    /// Metadata blocks in use.
    pub fn metadata_used(&self) -> u64 {
        self.store.metadata.used()
    }

    /// Activates the pool anew: what is allocated next is the first that is free. To be done between transactions.
    pub fn restart(&mut self) {
        self.store.metadata.restart();
        self.store.data.restart();
    }

    /// Commits what is not committed yet and hands everything over.
    ///
    /// # Errors
    /// When the metadata device is full.
    pub fn finish(mut self) -> anyhow::Result<SimulatedPool> {
        if self.dirty {
            self.commit()?;
        }
        Ok(SimulatedPool { shape: self.shape, image: self.store.image, truth: self.truth, commits: self.commits })
    }
}

/// The kernel reserves all slots at formatting and fills them with placeholders.
fn reserve_ring(store: &mut Store) -> anyhow::Result<()> {
    let end = store.metadata.blocks();
    anyhow::ensure!(end > 2 * SLOTS, "the metadata device is too small for the ring");
    for place in (1..=SLOTS).filter_map(|slot| slot_block(end, slot)) {
        store.metadata.hold(place.0);
        store.write(place.0, &placeholder(store.size, place));
    }
    Ok(())
}
