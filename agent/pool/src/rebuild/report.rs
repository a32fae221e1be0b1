//! What was written, and exactly what could not be.

use super::layout::Segment;
use crate::fault::{Fault, KeyRange, Lost};
use serde::Serialize;
use std::fmt;
use tierlift_ondisk::thin::BlockSize;
use tierlift_ondisk::units::{Chunk, DeviceId, MetaBlock, TierBlock};

/// More ranges than this are counted, not told one by one: damaged trees that share their nodes could otherwise fill memory.
pub const MOST_RANGES: usize = 100_000;

/// Why what a device holds at some virtual chunks is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum LossReason {
    /// A block of its mapping tree cannot be used.
    Block {
        /// The block.
        block: MetaBlock,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The pool has no such chunk.
    BeyondPool {
        /// Chunk the mapping names.
        chunk: Chunk,
        /// Chunks of the pool.
        chunks: u64,
    },
    /// The chunk is known, but not where the tiers hold it.
    Piece,
    /// The device has a record but no mapping tree.
    NoTree,
}

impl From<&Lost> for LossReason {
    fn from(lost: &Lost) -> Self {
        Self::Block { block: lost.block, fault: lost.fault.clone() }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { block, fault } => write!(f, "metadata block {block}: {fault}"),
            Self::BeyondPool { chunk, chunks } => {
                write!(f, "mapped to chunk {chunk}, but the pool has only {chunks}")
            }
            Self::Piece => f.write_str("the tier tree no longer says where the data lie"),
            Self::NoTree => f.write_str("the device has no mapping tree"),
        }
    }
}

/// Virtual chunks of a device that are lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// The virtual chunks that may have been mapped.
    pub keys: KeyRange,
    /// Why.
    pub reason: LossReason,
}

/// Why a piece of the pool's address space is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum PieceReason {
    /// A block of the tier tree cannot be used.
    Hole(Lost),
    /// It lies beyond the end of the pool.
    BeyondPool {
        /// Pieces of the pool.
        pieces: u64,
    },
    /// There is no such tier, or the tier has no such block.
    NoSuchBlock {
        /// The tier.
        tier: u8,
        /// The block.
        block: TierBlock,
    },
    /// Several pieces claim the same tier block. At most one is right and nothing tells which, so none is taken over.
    NamedTwice {
        /// The tier.
        tier: u8,
        /// The block.
        block: TierBlock,
    },
}

impl fmt::Display for PieceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole(lost) => write!(f, "metadata block {}: {}", lost.block, lost.fault),
            Self::BeyondPool { pieces } => write!(f, "beyond the end of the pool, which has {pieces} pieces"),
            Self::NoSuchBlock { tier, block } => {
                write!(f, "placed on tier {tier}, block {block}, which does not exist")
            }
            Self::NamedTwice { tier, block } => write!(f, "tier {tier}, block {block} is claimed by another piece too"),
        }
    }
}

/// Pieces of the pool's address space (tier tree keys) whose place is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostPiece {
    /// The pieces.
    pub keys: KeyRange,
    /// Why.
    pub reason: PieceReason,
}

/// What was written of a thin device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RebuiltDevice {
    /// Its id.
    pub id: DeviceId,
    /// Mappings its record promised; none when the record is lost.
    pub recorded: Option<u64>,
    /// Mappings found in the source.
    pub found: u64,
    /// Mappings written, those that read as errors included.
    pub written: u64,
    /// Whether its record had to be made up: with the pool's own time, so that every mapping counts as shared.
    pub record_made_up: bool,
    /// What is lost; not more than [`MOST_RANGES`] in all devices together.
    pub lost: Vec<LostRange>,
    /// Number of lost ranges, told or not.
    pub lost_ranges: u64,
    /// In stock Linux's form: the last virtual chunk marked as an error where the end of a lost range is not known.
    pub marked_up_to: Option<u64>,
    /// Not written, because its lost ranges are too long to be marked.
    pub left_out: bool,
}

impl RebuiltDevice {
    /// Whether anything of it is lost.
    pub fn is_whole(&self) -> bool {
        self.lost_ranges == 0 && !self.left_out
    }

    /// Its record and its tree tell different numbers though no damage is known that would explain it.
    pub fn disagrees(&self) -> bool {
        self.is_whole() && self.recorded.is_some_and(|recorded| recorded != self.found)
    }
}

/// What was written of the tier tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RebuiltTiers {
    /// Pieces taken over.
    pub pieces: u64,
    /// Pieces lost; not more than [`MOST_RANGES`].
    pub lost: Vec<LostPiece>,
    /// Number of lost stretches, told or not.
    pub lost_ranges: u64,
}

/// What else of the source was not taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftBehind {
    /// The reserved metadata snapshot. Devices that only it knows are gone with it.
    pub metadata_snapshot: Option<MetaBlock>,
    /// The tree of clone counts, which no kernel reads.
    pub clone_counts: bool,
    /// The mark that the metadata must be checked.
    pub needs_check: bool,
    /// Times from the future of so many mappings (each counted once however many devices share it), which would have let
    /// snapshots be overwritten.
    pub future_times: u64,
}

/// The outcome of a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rebuilt {
    /// Block size of the new metadata.
    pub block_size: BlockSize,
    /// Length of the new metadata device in blocks.
    pub blocks: u64,
    /// Blocks in use.
    pub blocks_used: u64,
    /// Chunks in use.
    pub chunks_used: u64,
    /// Chunks that were in use by the superblock's own count, but that no mapping found names: leaked, or of devices and
    /// ranges that are lost. The one witness when whole devices vanished without a trace.
    pub chunks_unaccounted: u64,
    /// The sequence number of the superblock copy written, where copies are kept.
    pub copy: Option<u64>,
    /// The devices.
    pub devices: Vec<RebuiltDevice>,
    /// Device ids of which neither record nor mapping tree is known: devices may be missing here.
    pub unknown_devices: Vec<Lost>,
    /// The tier tree.
    pub tiers: RebuiltTiers,
    /// Left behind.
    pub left_behind: LeftBehind,
    /// In stock Linux's form: the chunk, behind the pool's own, that reads as errors; none when it is not needed.
    pub error_chunk: Option<Chunk>,
    /// In stock Linux's form: the data device.
    pub layout: Option<Vec<Segment>>,
}

impl Rebuilt {
    /// Whether everything the source said was found, as far as anyone can tell, and taken over.
    pub fn is_whole(&self) -> bool {
        // A metadata snapshot holds chunks of its own.
        let accounted = self.chunks_unaccounted == 0 || self.left_behind.metadata_snapshot.is_some();
        accounted
            && self.unknown_devices.is_empty()
            && self.tiers.lost_ranges == 0
            && self.devices.iter().all(RebuiltDevice::is_whole)
    }

    /// Whether the new metadata say something else than the source, without a loss of data.
    pub fn is_changed(&self) -> bool {
        self.left_behind != LeftBehind::default()
            || self.devices.iter().any(|device| device.record_made_up || device.disagrees())
    }
}
