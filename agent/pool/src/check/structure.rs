//! The parts of the metadata that a check looks at.

use serde::{Serialize, Serializer};
use std::fmt;
use tierlift_ondisk::units::DeviceId;

/// One of the five space maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Map {
    /// Of the metadata device itself.
    Metadata,
    /// Of the pool's chunks.
    Data,
    /// Of a tier's blocks.
    Tier(u8),
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("metadata space map"),
            Self::Data => f.write_str("data space map"),
            Self::Tier(tier) => write!(f, "space map of tier {tier}"),
        }
    }
}

impl Map {
    /// What its blocks are called.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Metadata => "metadata block",
            Self::Data => "chunk",
            Self::Tier(_) => "tier block",
        }
    }
}

/// A part of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Structure {
    /// The superblock the pool was opened at.
    Superblock,
    /// The ring of superblock copies.
    Ring,
    /// The reserved metadata snapshot's own block.
    Held,
    /// Upper level of the mapping tree: the root of each device's own tree.
    Devices {
        /// Of the reserved metadata snapshot.
        held: bool,
    },
    /// The tree of device records.
    Details {
        /// Of the reserved metadata snapshot.
        held: bool,
    },
    /// The mapping tree of one device. Parts of it may be shared with others.
    Mapping {
        /// The device.
        device: DeviceId,
        /// Of the reserved metadata snapshot.
        held: bool,
    },
    /// The tier tree.
    Tiers,
    /// The tree of clone counts.
    Clones,
    /// A space map's index.
    Index(Map),
    /// A space map's bitmaps.
    Bitmaps(Map),
    /// A space map's tree of counts of 3 and more.
    CountTree(Map),
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_snapshot = |held: &bool| if *held { " of the metadata snapshot" } else { "" };
        match self {
            Self::Superblock => f.write_str("superblock"),
            Self::Ring => f.write_str("ring of superblock copies"),
            Self::Held => f.write_str("reserved metadata snapshot"),
            Self::Devices { held } => write!(f, "device tree{}", of_snapshot(held)),
            Self::Details { held } => write!(f, "details tree{}", of_snapshot(held)),
            Self::Mapping { device, held } => write!(f, "mapping tree of device {device}{}", of_snapshot(held)),
            Self::Tiers => f.write_str("tier tree"),
            Self::Clones => f.write_str("clone-count tree"),
            Self::Index(map) => write!(f, "{map}, index"),
            Self::Bitmaps(map) => write!(f, "{map}, bitmaps"),
            Self::CountTree(map) => write!(f, "{map}, tree of counts"),
        }
    }
}

impl Serialize for Structure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
