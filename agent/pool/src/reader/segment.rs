//! A stretch of a thin device and where its bytes come from.

use crate::fault::Fault;
use serde::{Serialize, Serializer};
use tierlift_ondisk::units::{Bytes, MetaBlock};

/// Why bytes of a thin device are lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LossReason {
    /// The mapping tree has a hole here.
    #[error("the mapping is lost with metadata block {block}: {fault}")]
    Mapping {
        /// The block.
        block: MetaBlock,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The mapping leads beyond the pool.
    #[error("the mapping leads to chunk {chunk}, but the pool has only {chunks}")]
    BeyondPool {
        /// Where it leads.
        chunk: u64,
        /// Chunks in the pool.
        chunks: u64,
    },
    /// The tier tree has a hole here.
    #[error("the tier mapping is lost with metadata block {block}: {fault}")]
    TierMapping {
        /// The block.
        block: MetaBlock,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The tier mapping names what does not exist.
    #[error("the tier mapping leads to block {block} of tier {tier}, which does not exist")]
    BeyondTierMap {
        /// Tier named.
        tier: u8,
        /// Block named.
        block: u64,
    },
    /// The tier's device was not given.
    #[error("it lies on tier {0}, which was not given")]
    MissingTier(u8),
    /// The tier's device is too short.
    #[error("it lies beyond the end of the device or file given for tier {0}")]
    TierTooShort(u8),
    /// The tier's device gave an error.
    #[error("{0}")]
    Unreadable(String),
}

impl Serialize for LossReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Zeros by right: never mapped, flagged as zeroed, or on no tier yet.
    Zeros,
    /// Bytes of a data device.
    Data {
        /// Which.
        tier: u8,
        /// From where on.
        offset: Bytes,
    },
    /// Not known: must be an error.
    Lost(LossReason),
}

/// A stretch of the device with one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First byte in the thin device.
    pub offset: Bytes,
    /// Length, at least 1.
    pub length: Bytes,
    /// Where the bytes come from.
    pub source: Source,
}

impl Segment {
    /// The byte after the last.
    pub fn end(&self) -> Bytes {
        Bytes(self.offset.0.saturating_add(self.length.0))
    }
}
