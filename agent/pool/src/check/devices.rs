//! The thin devices: their records, the tree of their mapping trees, and the mapping trees themselves.

use super::finding::Cost;
use super::findings::Findings;
use super::forest::{Forest, Known};
use super::kind::Kind;
use super::spread::Spread;
use super::structure::Structure;
use crate::counts::Counts;
use crate::fault::{KeyRange, Lost};
use crate::pool::{Pool, ThinDevice};
use crate::walk::ValueSize;
use serde::Serialize;
use tierlift_ondisk::thin::{DeviceDetails, Family, MappingValue, Node};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};

/// Kernels take no larger device ids.
const LARGEST_DEVICE_ID: u64 = (1 << 24) - 1;

/// One thin device, as the check counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceCheck {
    /// Its id.
    pub id: DeviceId,
    /// Chunks mapped, by its record; `None` when that is lost.
    pub recorded: Option<u64>,
    /// Chunks counted; `None` when it has no mapping tree.
    pub counted: Option<u64>,
    /// Blocks of its tree that cannot be used.
    pub broken_blocks: u32,
}

/// What is gathered from the leaves of all mapping trees.
#[derive(Debug)]
pub(super) struct Mappings {
    /// How often each chunk is named by distinct leaf entries.
    pub chunks: Counts,
    /// Distinct leaf entries.
    pub entries: u64,
    family: Family,
    time: u32,
    beyond: Odd,
    ahead: Odd,
}

/// Entries of one tree that share a fault.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odd {
    pub keys: Spread,
    pub example: u64,
    pub block: MetaBlock,
}

impl Odd {
    pub(super) fn add(&mut self, key: u64, example: u64, block: MetaBlock) {
        if self.keys.count == 0 {
            (self.example, self.block) = (example, block);
        }
        self.keys.add(key);
    }

    /// What was gathered, when there was anything.
    pub(super) fn take(&mut self) -> Option<Self> {
        let taken = std::mem::take(self);
        taken.keys.some().map(|_| taken)
    }
}

impl Mappings {
    pub(super) fn new(pool: &Pool) -> Self {
        Self {
            chunks: Counts::new(pool.chunks()),
            entries: 0,
            family: pool.family(),
            time: pool.superblock().time,
            beyond: Odd::default(),
            ahead: Odd::default(),
        }
    }

    fn leaf(&mut self, node: &Node<'_>) {
        let end = self.chunks.len();
        let mut odd = false;
        for (_, value) in node.entries_u64() {
            let value = MappingValue::decode(value, self.family);
            odd |= value.chunk.0 >= end || value.time > self.time;
            self.chunks.add(value.chunk.0);
        }
        self.entries = self.entries.saturating_add(node.len() as u64);
        if odd {
            self.look_closer(node);
        }
    }

    fn look_closer(&mut self, node: &Node<'_>) {
        for (key, value) in node.entries_u64() {
            let value = MappingValue::decode(value, self.family);
            if value.chunk.0 >= self.chunks.len() {
                self.beyond.add(key, value.chunk.0, node.number());
            }
            if value.time > self.time {
                self.ahead.add(key, value.time.into(), node.number());
            }
        }
    }

    /// Tells what was odd in the tree just walked.
    fn tell(&mut self, findings: &mut Findings, structure: Structure, device: DeviceId, chunk: Bytes) {
        if let Some(Odd { keys, example, block }) = self.beyond.take() {
            let kind = Kind::ChunkBeyondEnd { keys, expected: self.chunks.len(), found: example };
            let range = KeyRange { first: keys.first, last: keys.last };
            findings.add_costly(structure, block, kind, Some(cost(device, range, Some(keys.count), chunk)));
        }
        if let Some(Odd { keys, example, block }) = self.ahead.take() {
            let found = u32::try_from(example).unwrap_or(u32::MAX);
            findings.add(structure, block, Kind::MappingAhead { keys, expected: self.time, found });
        }
    }
}

/// The cost of keys lost of a device's tree of which at most `missing` were in use.
fn cost(device: DeviceId, keys: KeyRange, missing: Option<u64>, chunk: Bytes) -> Cost {
    let length = keys.last.saturating_sub(keys.first).checked_add(1).filter(|_| keys.last != u64::MAX);
    let chunks_at_most = length.into_iter().chain(missing).min();
    Cost {
        device: Some(device),
        first_chunk: keys.first,
        last_chunk: Some(keys.last).filter(|last| *last != u64::MAX),
        chunks_at_most,
        bytes_at_most: chunks_at_most.and_then(|chunks| chunks.checked_mul(chunk.0)).map(Bytes),
    }
}

/// A hole in a tree that costs nothing by itself.
pub(super) fn tell_lost(findings: &mut Findings, structure: Structure, lost: Lost) {
    findings.add(structure, lost.block, Kind::Lost { keys: lost.keys, fault: lost.fault });
}

/// Checks everything below the two roots of one state of the pool: its own, or a reserved metadata snapshot's.
pub(super) fn check(forest: &mut Forest<'_>, mappings: &mut Mappings, pool: &Pool, held: bool) -> Vec<DeviceCheck> {
    let superblock = pool.superblock();
    for root in [superblock.mapping_root, superblock.details_root] {
        forest.refs.add(root.0);
    }
    let upper = Structure::Devices { held };
    let point = |node: &Node<'_>, refs: &mut Counts| {
        for (_, root) in node.entries_u64() {
            refs.add(root);
        }
    };
    forest.tree(upper, superblock.mapping_root, ValueSize::EIGHT, |f, _, lost| tell_lost(f, upper, lost), point);
    let details = Structure::Details { held };
    forest.tree(
        details,
        superblock.details_root,
        ValueSize::DETAILS,
        |f, _, lost| tell_lost(f, details, lost),
        |_, _| {},
    );
    let state = State { pool, held };
    pool.devices().devices.iter().map(|(id, device)| state.device(forest, mappings, *id, device)).collect()
}

struct State<'a> {
    pool: &'a Pool,
    held: bool,
}

impl State<'_> {
    fn device(
        &self,
        forest: &mut Forest<'_>,
        mappings: &mut Mappings,
        id: DeviceId,
        device: &ThinDevice,
    ) -> DeviceCheck {
        let recorded = device.details.map(|details| details.mapped.0);
        let sum = device.root.map(|root| self.mappings(forest, mappings, id, root, recorded));
        if let Some(details) = &device.details {
            self.record(&mut forest.findings, id, details);
        }
        self.compare(&mut forest.findings, id, recorded, sum);
        DeviceCheck {
            id,
            recorded,
            counted: sum.map(|sum| sum.entries),
            broken_blocks: sum.map_or(0, |sum| sum.broken),
        }
    }

    fn mappings(
        &self,
        forest: &mut Forest<'_>,
        mappings: &mut Mappings,
        device: DeviceId,
        root: MetaBlock,
        recorded: Option<u64>,
    ) -> Known {
        let structure = Structure::Mapping { device, held: self.held };
        let chunk = self.pool.chunk_bytes();
        let lost = |findings: &mut Findings, sum: &Known, lost: Lost| {
            let missing = recorded.and_then(|recorded| recorded.checked_sub(sum.entries));
            let cost = cost(device, lost.keys, missing, chunk);
            let kind = Kind::Lost { keys: lost.keys, fault: lost.fault };
            findings.add_costly(structure, lost.block, kind, Some(cost));
        };
        let sum = forest.tree(structure, root, ValueSize::EIGHT, lost, |node, _| mappings.leaf(node));
        mappings.tell(&mut forest.findings, structure, device, chunk);
        sum
    }

    /// A record's times and transaction never lie in the future of the pool.
    fn record(&self, findings: &mut Findings, device: DeviceId, details: &DeviceDetails) {
        let structure = Structure::Details { held: self.held };
        if device.0 > LARGEST_DEVICE_ID {
            findings.add(structure, None, Kind::DeviceId { found: device.0 });
        }
        let superblock = self.pool.superblock();
        let time = u64::from(superblock.time);
        let fields = [
            ("creation time", time, u64::from(details.creation_time)),
            ("snapshot time", time, details.snapshot_time.into()),
            ("clone time", time, details.clone.map_or(0, |clone| clone.time).into()),
            ("transaction id", superblock.transaction, details.transaction),
        ];
        for (field, expected, found) in fields.into_iter().filter(|(_, expected, found)| found > expected) {
            findings.add(structure, None, Kind::RecordAhead { device, field, expected, found });
        }
    }

    /// Record and tree must both be there and agree.
    fn compare(&self, findings: &mut Findings, device: DeviceId, recorded: Option<u64>, sum: Option<Known>) {
        let tree = Structure::Mapping { device, held: self.held };
        let chunk = self.pool.chunk_bytes();
        let whole = |chunks| Some(cost(device, KeyRange::ALL, Some(chunks), chunk));
        match (recorded, sum) {
            (Some(mapped), None) => {
                let upper = Structure::Devices { held: self.held };
                findings.add_costly(upper, None, Kind::NoTree { device, mapped }, whole(mapped));
            }
            (None, Some(sum)) => {
                let details = Structure::Details { held: self.held };
                findings.add(details, None, Kind::NoRecord { device, mapped: sum.entries });
            }
            (Some(expected), Some(sum)) if sum.broken > 0 => {
                let (found, lost) = (sum.entries, expected.saturating_sub(sum.entries));
                findings.add_costly(tree, None, Kind::ChunksLost { device, expected, found }, whole(lost));
            }
            (Some(found), Some(sum)) if found != sum.entries => {
                findings.add(tree, None, Kind::MappedCount { device, expected: sum.entries, found });
            }
            _ => {}
        }
    }
}
