//! What can happen to metadata, by name.

use super::Damage::{self, *};

/// Something that happens to a pool: one damage or several at once.
#[derive(Debug, Clone, Copy)]
pub struct Accident {
    /// Its name in tables.
    pub name: &'static str,
    /// What is damaged, in this order.
    pub damages: &'static [Damage],
}

const MIB: usize = 1 << 20;

macro_rules! accidents {
    ($($name:literal: $($damage:expr),*;)*) => {
        /// Every accident of the damage model. Those that a pool is too small or too plain for do not apply to it.
        pub const ACCIDENTS: &[Accident] = &[$(Accident { name: $name, damages: &[$($damage),*] }),*];
    };
}

accidents! {
    "none": ;
    "superblock zeroed": SuperblockLost;
    "superblock zeroed, ring lost": SuperblockLost, RingLost;
    "superblock checksum": SuperblockChecksum;
    "superblock checksum, ring lost": SuperblockChecksum, RingLost;
    "stale by 1": SuperblockStale(1);
    "stale by 20": SuperblockStale(20);
    "stale by 200": SuperblockStale(200);
    "stale by 1, ring lost": SuperblockStale(1), RingLost;
    "stale by 20, ring lost": SuperblockStale(20), RingLost;
    "stale by 200, ring lost": SuperblockStale(200), RingLost;
    "mapping root": TopLevelRoot;
    "details root": DetailsRoot;
    "mapping and details root": TopLevelRoot, DetailsRoot;
    "superblock and details root": SuperblockLost, DetailsRoot;
    "superblock, both roots, ring": SuperblockLost, TopLevelRoot, DetailsRoot, RingLost;
    "one device root": DeviceRoot;
    "all device roots": DeviceRoots;
    "one leaf": OneLeaf;
    "random 0.1 %": Random { per_mille: 1 };
    "random 1 %": Random { per_mille: 10 };
    "random 5 %": Random { per_mille: 50 };
    "random 20 %": Random { per_mille: 200 };
    "random 5 %, superblock": Random { per_mille: 50 }, SuperblockLost;
    "1 MiB at the head": Contiguous { bytes: MIB, at_head: true };
    "1 MiB elsewhere": Contiguous { bytes: MIB, at_head: false };
    "16 MiB at the head": Contiguous { bytes: 16 * MIB, at_head: true };
    "16 MiB elsewhere": Contiguous { bytes: 16 * MIB, at_head: false };
    "inner nodes 25 %": InnerNodes { percent: 25 };
    "inner nodes 100 %": InnerNodes { percent: 100 };
    "leaves 5 %": Leaves { percent: 5 };
    "overwritten by another": Overwritten { percent: 1 };
    "torn": Torn { percent: 1 };
    "one bit": BitFlips { blocks: 1 };
    "one bit in each of 20": BitFlips { blocks: 20 };
    "displaced": Displaced;
    "space-map roots": SpaceMapRoots;
    "space-map nodes": SpaceMapNodes;
    "space-map bitmaps": SpaceMapBitmaps;
    "space maps": SpaceMaps;
    "space maps, superblock": SpaceMaps, SuperblockLost;
    "tier tree root": TierRoot;
    "tier tree inner node": TierInner;
    "tier tree leaf": TierLeaf;
    "tier space maps": TierMaps;
    "needs_check": NeedsCheck;
}
