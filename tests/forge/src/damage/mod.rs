//! A damage model: seeded accidents to the metadata of a pool whose layout is known.

mod accidents;
mod apply;
mod layout;

pub use accidents::{ACCIDENTS, Accident};
pub use layout::{Layout, MapLayout, TreeLayout};

/// One kind of damage. What is lost is zeroed or overwritten with noise, as the seed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Block 0 is lost.
    SuperblockLost,
    /// Block 0 no longer matches its checksum.
    SuperblockChecksum,
    /// Block 0 is that of so many commits before.
    SuperblockStale(usize),
    /// All superblock copies are lost.
    RingLost,
    /// The root of the mapping tree's upper level is lost.
    TopLevelRoot,
    /// The root of the details tree is lost.
    DetailsRoot,
    /// The root of one device's mapping tree is lost.
    DeviceRoot,
    /// The roots of all devices' mapping trees are lost.
    DeviceRoots,
    /// One leaf of a mapping tree is lost.
    OneLeaf,
    /// Used blocks here and there are lost, not block 0.
    Random {
        /// Share of the used blocks.
        per_mille: usize,
    },
    /// Everything in one range is lost.
    Contiguous {
        /// Length.
        bytes: usize,
        /// From block 0 on; else somewhere among the used blocks.
        at_head: bool,
    },
    /// Inner nodes of mapping trees are lost.
    InnerNodes {
        /// Share of them.
        percent: usize,
    },
    /// Leaves of mapping trees are lost.
    Leaves {
        /// Share of them.
        percent: usize,
    },
    /// Blocks hold what belongs to other places, as after a misdirected write.
    Overwritten {
        /// Share of the used blocks.
        percent: usize,
    },
    /// The second half of blocks is zeros, as after a torn write.
    Torn {
        /// Share of the used blocks.
        percent: usize,
    },
    /// One bit is flipped in each of some blocks.
    BitFlips {
        /// How many.
        blocks: usize,
    },
    /// A stretch of blocks lies a constant number of places too far on, as in an array put together wrongly.
    Displaced,
    /// What the superblock points at for the space maps of metadata and chunks is lost.
    SpaceMapRoots,
    /// A quarter of the nodes of these maps is lost, at least one.
    SpaceMapNodes,
    /// Half of the bitmaps of these maps is lost.
    SpaceMapBitmaps,
    /// Every block of these maps is lost.
    SpaceMaps,
    /// The root of the tier tree is lost.
    TierRoot,
    /// An inner node of the tier tree that is not its root is lost, or its root when it has no other.
    TierInner,
    /// A leaf of the tier tree that is not its root is lost.
    TierLeaf,
    /// Every block of the tiers' space maps is lost.
    TierMaps,
    /// The flag is set.
    NeedsCheck,
}
