//! The plan of an activation as plain values: what will be made, from what, and why. Nothing here touches a device.

use super::array::PlannedArray;
use super::dm::{path_of, unique_id};
use super::wire::TargetLine;
use crate::repair::Repaired;
use serde::Serialize;
use std::path::PathBuf;
use tierlift_ondisk::units::{Bytes, Chunk, DeviceId, Sectors};

/// Everything that will be made for one volume, lowest device first.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What was asked for: "vg1/lv1".
    pub target: String,
    /// The device that answers the wish, one of `devices`.
    pub device: String,
    /// All devices, in the order of making: overlays, then (over `arrays`) the rest.
    pub devices: Vec<PlannedDevice>,
    /// Arrays of several members, assembled over their overlays.
    pub arrays: Vec<PlannedArray>,
    /// How the pool is read, `None` for a volume without a pool.
    pub mode: Option<String>,
    /// What was decided and on which evidence.
    pub evidence: Vec<String>,
    /// What the user should know: missing parts, contradictions.
    pub warnings: Vec<String>,
    /// Some of the data cannot be read because a disk or a tier is missing; `warnings` says which.
    pub incomplete: bool,
}

/// One device of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedDevice {
    /// Name in `/dev/mapper`.
    pub name: String,
    /// What it is for, for people.
    pub purpose: String,
    /// Whether the device refuses writes. Only overlays, their stores and (a rule of device-mapper) the pool do not.
    pub read_only: bool,
    /// What the first line rests on when that is no device-mapper device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing: Option<Backing>,
    /// The table.
    pub table: Vec<TargetLine>,
}

/// The ground a device stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// A source disk or image file: set read-only, never written.
    Source(PathBuf),
    /// The scratch disk the user named.
    Scratch(PathBuf),
    /// A sparse file in memory; the figure is what all such files together may take.
    Memory(Bytes),
}

impl PlannedDevice {
    /// The unique id that tells a later run whether this very device exists.
    pub fn id(&self) -> String {
        unique_id(&self.name, self.read_only, &self.table)
    }
}

/// A table line.
pub fn line(start: u64, length: u64, target: &str, arguments: impl Into<String>) -> TargetLine {
    TargetLine { start, length, target: target.to_owned(), arguments: arguments.into() }
}

/// A table that grows line by line, each beginning where the one before ended.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<TargetLine>,
    end: u64,
}

impl Table {
    /// Adds a line; one without length changes nothing.
    pub fn add(&mut self, length: u64, target: &str, arguments: impl Into<String>) {
        if length > 0 {
            self.lines.push(line(self.end, length, target, arguments));
            self.end = self.end.saturating_add(length);
        }
    }

    /// Sectors so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The lines.
    pub fn into_lines(self) -> Vec<TargetLine> {
        self.lines
    }
}

/// How a table names another device of the plan.
pub fn device_path(name: &str) -> String {
    path_of(name).display().to_string()
}

/// What `activate` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A logical volume or a pool by name.
    Volume(String),
    /// A thin device by number, for devices no volume names; with the pool when the group has several.
    Thin(Option<String>, DeviceId),
}

/// The user's choices and the state of the machine that a plan depends on.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Overrides the pool's mode.
    pub mode: Option<ModeChoice>,
    /// Overrides the mask of usable tiers.
    pub enable_map: Option<u8>,
    /// Tiers to do without: their blocks give I/O errors.
    pub missing_tiers: Vec<u32>,
    /// Scratch disk; overlays go to memory without one.
    pub scratch: Option<Scratch>,
    /// What all overlays in memory together may take.
    pub memory_cap: Bytes,
    /// Overlays that exist already.
    pub existing: Vec<ExistingMember>,
    /// md devices that exist already.
    pub existing_arrays: Vec<ExistingArray>,
}

/// A mode the user insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeChoice {
    /// Pool sectors go straight to one tier.
    Bypass,
    /// Pool sectors go through the tier tree.
    TierMap,
}

/// The scratch disk.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// Its device.
    pub path: PathBuf,
    /// Its size.
    pub size: Sectors,
    /// First sector that no overlay uses yet.
    pub free_from: Sectors,
}

/// An overlay that exists.
#[derive(Debug, Clone)]
pub struct ExistingMember {
    /// Its number.
    pub number: u32,
    /// Which place of which disk it covers: [`super::dm::table_mark`] of its source device.
    pub mark: String,
}

/// An md device that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingArray {
    /// Its number.
    pub number: u32,
    /// Numbers of the overlays it stands on, sorted; none when it is not ours.
    pub overlays: Vec<u32>,
}

/// What the pool's own metadata say: all that a plan needs of them.
#[derive(Debug, Clone)]
pub struct PoolFacts {
    /// Written by QNAP's kernel (the table needs `qnap_format`).
    pub qnap: bool,
    /// Chunk size.
    pub chunk: Sectors,
    /// Length of the pool in chunks.
    pub chunks: Chunk,
    /// How pool sectors find their tier.
    pub mode: Mode,
    /// Number of tiers in the superblock; 0 for a pool without tiers.
    pub tiers: u32,
    /// Why this mode.
    pub evidence: Vec<String>,
    /// Transaction id.
    pub transaction_id: u64,
    /// The thin devices.
    pub devices: Vec<ThinFacts>,
    /// New metadata to be used in place of the pool's own; the figures above are theirs then.
    pub repaired: Option<Repaired>,
}

/// How pool sectors find their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One data device.
    Plain,
    /// Tiers exist, but all sectors go straight to this one.
    Bypass {
        /// The tier.
        tier: u32,
    },
    /// Through the tier tree.
    TierMap,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("plain (one data device)"),
            Self::Bypass { tier } => write!(f, "bypass (all data on tier {tier})"),
            Self::TierMap => f.write_str("tier map (data spread over the tiers)"),
        }
    }
}

/// A thin device of the pool.
#[derive(Debug, Clone)]
pub struct ThinFacts {
    /// Its number.
    pub id: DeviceId,
    /// One more than its highest mapped chunk; 0 when nothing is mapped.
    pub extent: Chunk,
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(pub String);
