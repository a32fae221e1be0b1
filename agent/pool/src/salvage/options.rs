//! What a salvage can be told, and what it tells.

use crate::ring::CopyPlace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use tierlift_ondisk::thin::{BlockSize, Family};
use tierlift_ondisk::units::{DeviceId, MetaBlock, Sectors};

/// Length of a pool in chunks, when no superblock is left to tell: the largest address space there is, so that what bounds a
/// chunk is only what devices hold. Nothing can be rebuilt with it.
pub const UNKNOWN_LENGTH: u64 = 1 << 40;

/// Facts about the pool from elsewhere (the volume group's text), for when no superblock is left.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints {
    /// Chunk size.
    pub chunk_size: Option<Sectors>,
    /// Length of the pool in chunks.
    pub chunks: Option<u64>,
    /// Transaction id.
    pub transaction: Option<u64>,
}

/// How a salvage is to be done.
#[derive(Debug, Clone, Default)]
pub struct SalvageOptions {
    /// Metadata block size; probed when not given.
    pub block_size: Option<BlockSize>,
    /// Who wrote the pool; probed when not given.
    pub family: Option<Family>,
    /// Facts from elsewhere.
    pub hints: Hints,
    /// Use this generation instead of the one that would be chosen.
    pub generation: Option<Generation>,
    /// Devices to be taken from other generations than all the rest.
    pub devices: BTreeMap<DeviceId, Generation>,
    /// Hand out parts of mapping trees whose device cannot be told as devices of their own.
    pub unattributed: bool,
}

/// Where a generation's superblock comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Generation {
    /// Block 0.
    Block0,
    /// A copy in the ring, or one found elsewhere.
    Copy {
        /// Its block.
        block: MetaBlock,
    },
    /// Put together from a space-map index and the trees it counts.
    Index {
        /// The index block.
        block: MetaBlock,
    },
    /// Only its trees are left.
    Trees {
        /// The list of device roots.
        block: MetaBlock,
    },
}

impl Generation {
    /// As it is asked for on the command line: what `from_str` reads.
    #[must_use]
    pub fn to_argument(self) -> String {
        match self {
            Self::Block0 => "block0".to_owned(),
            Self::Copy { block } => format!("copy:{block}"),
            Self::Index { block } => format!("index:{block}"),
            Self::Trees { block } => format!("trees:{block}"),
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block0 => f.write_str("block 0"),
            Self::Copy { block } => write!(f, "the superblock copy in block {block}"),
            Self::Index { block } => write!(f, "the trees counted by the space-map index in block {block}"),
            Self::Trees { block } => write!(f, "the trees of the list of devices in block {block}"),
        }
    }
}

impl std::str::FromStr for Generation {
    type Err = String;

    /// `block0`, `copy:BLOCK`, `index:BLOCK` or `trees:BLOCK`, as `pool generations` prints them.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse().map(MetaBlock).map_err(|_| format!("{digits:?} is no block number"));
        match text.split_once(':') {
            None if text == "block0" => Ok(Self::Block0),
            Some(("copy", block)) => Ok(Self::Copy { block: number(block)? }),
            Some(("index", block)) => Ok(Self::Index { block: number(block)? }),
            Some(("trees", block)) => Ok(Self::Trees { block: number(block)? }),
            _ => Err(format!("{text:?} is no generation: expected block0, copy:BLOCK, index:BLOCK or trees:BLOCK")),
        }
    }
}

/// A lost node put together again.
#[derive(Debug, Clone, Serialize)]
pub struct Adopted {
    /// The lost block.
    pub block: MetaBlock,
    /// Subtrees given back to it.
    pub children: usize,
    /// The devices' recorded counts prove that nothing is missing below it.
    pub complete: bool,
}

/// How a lost device record or root was found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// As committed.
    Committed,
    /// By an older generation, its size, or what it shares with its former tree.
    History,
    /// One of several trees; what all of them agree on.
    Common,
    /// Made anew, with times that treat every chunk as shared.
    Blank,
    /// Of the generation that was asked for.
    Chosen,
    /// Not found.
    Lost,
}

/// What came of one device.
#[derive(Debug, Clone, Serialize)]
pub struct SalvagedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Mappings by its committed record; `None` when that is lost.
    pub recorded: Option<u64>,
    /// Mappings found.
    pub found: u64,
    /// Where its record comes from.
    pub record: Origin,
    /// Where the root of its mapping tree comes from.
    pub root: Origin,
}

/// A part of a mapping tree whose device cannot be told, handed out as a device of its own.
#[derive(Debug, Clone, Serialize)]
pub struct Unattributed {
    /// The id it is handed out under; no device of the pool has it.
    pub device: DeviceId,
    /// Its topmost node.
    pub block: MetaBlock,
    /// Mappings.
    pub mappings: u64,
    /// First chunk of the device that it maps.
    pub first: u64,
    /// Last one.
    pub last: u64,
    /// Lost nodes that pointed at it, each of another tree.
    pub pointers: Option<u32>,
}

/// What came of a device that was taken from another generation than the rest.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceChoice {
    /// The device.
    pub device: DeviceId,
    /// The generation it was taken from.
    pub generation: Generation,
    /// Blocks of its tree that are used: they are proven to be the same as then.
    pub nodes: u64,
    /// Blocks of its tree that may have been written over since: what they held is lost.
    pub unproven: u64,
    /// Blocks of its tree that cannot be read: what they held is lost.
    pub unusable: u64,
    /// Mappings handed out.
    pub mappings: u64,
    /// Of these, mappings that the rest of the pool still has.
    pub kept: u64,
    /// Of these, mappings to chunks that are free now: their data may be others'.
    pub free: u64,
    /// Of these, mappings to chunks in use of which nothing more is known.
    pub unknown: u64,
    /// Mappings to chunks that hold other data now: lost.
    pub reused: u64,
    /// Mappings to chunks that have no place on any tier any more: lost.
    pub gone: u64,
}

impl DeviceChoice {
    pub(super) fn new(device: DeviceId, generation: Generation) -> Self {
        Self {
            device,
            generation,
            nodes: 0,
            unproven: 0,
            unusable: 0,
            mappings: 0,
            kept: 0,
            free: 0,
            unknown: 0,
            reused: 0,
            gone: 0,
        }
    }

    /// Whether anything is lost, or may hold other data than it did.
    pub fn is_doubtful(&self) -> bool {
        [self.unproven, self.unusable, self.free, self.unknown, self.reused, self.gone].iter().any(|count| *count > 0)
    }
}

/// What was done and what is missing.
#[derive(Debug, Clone, Serialize)]
pub struct SalvageReport {
    /// The generation used.
    pub generation: Generation,
    /// Why this one.
    pub reason: String,
    /// A generation that may be newer than the one used; nothing that is left tells which is.
    pub rival: Option<Generation>,
    /// The newest copy in the ring.
    pub newest_copy: Option<CopyPlace>,
    /// Nodes that this generation's own space map calls free or counts too low: above 0 blocks were reused, and only what
    /// the trees state directly is used.
    pub contradictions: u64,
    /// Bits turned back.
    pub flipped_bits: usize,
    /// Blocks found at a wrong place.
    pub displaced: usize,
    /// Blocks that are neither zeros nor sound.
    pub broken: u64,
    /// Blocks that the device gives an error for.
    pub unreadable: u64,
    /// Lost nodes put together again.
    pub adopted: Vec<Adopted>,
    /// Committed nodes whose parent could not be told: what they hold is lost though it is still there.
    pub undecided: usize,
    /// Those of them that were handed out as devices, when that was asked for.
    pub unattributed: Vec<Unattributed>,
    /// By id.
    pub devices: Vec<SalvagedDevice>,
    /// Devices taken from other generations.
    pub chosen_devices: Vec<DeviceChoice>,
    /// Mappings that must be missing: by the devices' records, or where these are lost by what no device was found for.
    pub lost_mappings: u64,
    /// Blocks of mapping trees, device records and the tier tree that stay lost.
    pub lost_blocks: usize,
    /// Blocks of space maps that are lost. They hold no data: a rebuild counts anew.
    pub lost_map_blocks: usize,
    /// Noteworthy.
    pub notes: Vec<String>,
}

impl SalvageReport {
    /// Whether the trees were whole and current as they stood.
    pub fn is_untouched(&self) -> bool {
        self.generation == Generation::Block0
            && self.flipped_bits == 0
            && self.lost_blocks == 0
            && self.lost_map_blocks == 0
            && self.adopted.is_empty()
            && self.contradictions == 0
            && self.rival.is_none()
            && self.chosen_devices.is_empty()
            && self.devices.iter().all(|device| (device.record, device.root) == (Origin::Committed, Origin::Committed))
    }
}
