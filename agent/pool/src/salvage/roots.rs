//! The upper level lost: which device each parentless mapping tree belongs to, and the devices' records.
//!
//! A tree is given to a device when no other way of dealing out the trees agrees with the recorded sizes and with what older
//! generations prove.

use super::matching;
use super::orphan::Orphan;
use super::reach::{Reach, Tree};
use super::scan::Scan;
use crate::blocks::Blocks;
use crate::ring::Ring;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::thin::{
    BlockKind, CloneRecord, DetailsSize, DeviceDetails, Family, NO_ORIGIN, Node, NodeKind, Superblock,
};
use tierlift_ondisk::units::{Chunk, MetaBlock};

/// A parentless mapping tree that may be a device's.
#[derive(Debug, Clone, Copy)]
struct Claim {
    block: MetaBlock,
    /// Devices that share it.
    devices: u32,
    entries: u64,
    whole: bool,
}

/// Gives roots to devices. Devices without an entry stay lost.
///
/// `allows` says whether a tree may be a device's by what older generations prove. A tree also has as many mappings as the
/// device's record says. When every tree is whole and there are just as many pointers missing as devices, the trees are dealt
/// out in every way that fits, and what is the same in all of them is certain.
pub(crate) fn assign(
    orphans: &[Orphan],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    allows: &dyn Fn(MetaBlock, u64) -> bool,
) -> BTreeMap<u64, MetaBlock> {
    let claims: Vec<Claim> = (orphans.iter())
        .filter(|orphan| orphan.tree == Tree::Mapping)
        .filter_map(|orphan| {
            let Orphan { child, lacks, entries, whole, .. } = *orphan;
            Some(Claim { block: child.block, devices: lacks?, entries, whole })
        })
        .collect();
    let ids: Vec<u64> = wanted.keys().copied().collect();
    let fits = |(device, record): (&u64, &Option<DeviceDetails>)| {
        let fitting = claims.iter().enumerate();
        let fitting = fitting.filter(|(_, claim)| matches(claim, record.as_ref()) && allows(claim.block, *device));
        fitting.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let choices: Vec<Vec<usize>> = wanted.iter().map(fits).collect();
    let room: Vec<usize> = claims.iter().map(|claim| claim.devices as usize).collect();
    let is_all = room.iter().copied().fold(0, usize::saturating_add) == ids.len();
    let decided = if is_all && claims.iter().all(|claim| claim.whole) {
        matching::certain(&choices, &room)
    } else if wanted.values().all(Option::is_some) {
        only_ones(&choices, &room)
    } else {
        Vec::new()
    };
    let root = |(device, claim): (usize, usize)| Some((*ids.get(device)?, claims.get(claim)?.block));
    decided.into_iter().filter_map(root).collect()
}

fn matches(claim: &Claim, record: Option<&DeviceDetails>) -> bool {
    match record {
        Some(record) if claim.whole => record.mapped.0 == claim.entries,
        Some(record) => record.mapped.0 >= claim.entries,
        None => true,
    }
}

/// Where some trees are lost or in parts: trees that just as many devices can have as share them, and which are the only ones
/// that these can have.
fn only_ones(choices: &[Vec<usize>], room: &[usize]) -> Vec<(usize, usize)> {
    let mut takers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (device, claims) in choices.iter().enumerate() {
        claims.iter().for_each(|claim| takers.entry(*claim).or_default().push(device));
    }
    let is_only = |device: &usize| choices.get(*device).is_some_and(|claims| claims.len() == 1);
    let certain = takers.iter().filter(|(claim, devices)| {
        room.get(**claim).is_some_and(|room| *room == devices.len()) && devices.iter().all(is_only)
    });
    certain.flat_map(|(claim, devices)| devices.iter().map(|device| (*device, *claim))).collect()
}

/// Records of devices from other generations; of several the one whose count is that of the tree now, then the newest.
pub(crate) fn older_records(blocks: &Blocks, scan: &Scan, ring: &Ring) -> Vec<BTreeMap<u64, DeviceDetails>> {
    let by_ring = ring.copies.iter().rev().map(|(_, copy)| copy.details_root);
    let mut rest: Vec<_> = (scan.nodes.iter())
        .filter(|(_, node)| node.kind == NodeKind::Leaf && DetailsSize::from_bytes(node.value_size.into()).is_some())
        .map(|(block, _)| *block)
        .collect();
    rest.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut buffer = Vec::new();
    let mut tables = Vec::new();
    for block in by_ring.chain(rest) {
        if !seen.insert(block) || blocks.read(block, BlockKind::Node, &mut buffer).is_err() {
            continue;
        }
        let Ok(node) = Node::decode(&buffer) else { continue };
        let Some(size) = DetailsSize::from_bytes(node.value_size()).filter(|_| node.kind() == NodeKind::Leaf) else {
            continue;
        };
        tables.push(
            node.entries().filter_map(|(key, value)| Some((key, DeviceDetails::decode(value, size).ok()?))).collect(),
        );
    }
    tables
}

/// A record for a device whose own is lost: an older one brought up to date, or one that treats everything as shared, which
/// is safe. Answers whether it was taken from history.
pub(crate) fn record(
    device: u64,
    reach: &Reach,
    older: &[BTreeMap<u64, DeviceDetails>],
    superblock: &Superblock,
    family: Family,
) -> (DeviceDetails, bool) {
    let fact = reach.device_roots.get(&device).and_then(|root| reach.facts.get(root));
    let counted = fact.map_or(0, |fact| fact.entries);
    let best = (older.iter().filter_map(|table| table.get(&device)))
        .min_by_key(|record| (u8::from(record.mapped.0 != counted), std::cmp::Reverse(record.snapshot_time)));
    match best {
        Some(best) if fact.is_some_and(|fact| fact.whole) => (DeviceDetails { mapped: Chunk(counted), ..*best }, true),
        Some(best) => (*best, true),
        None => (blank(counted, superblock, family), false),
    }
}

fn blank(counted: u64, superblock: &Superblock, family: Family) -> DeviceDetails {
    let qnap = family == Family::Qnap;
    let clone = (qnap && superblock.version >= 4).then_some(CloneRecord { time: superblock.time, reserved: u64::MAX });
    DeviceDetails {
        mapped: Chunk(counted),
        transaction: superblock.transaction,
        creation_time: superblock.time,
        snapshot_time: superblock.time,
        clone,
        origin: qnap.then_some(NO_ORIGIN),
    }
}
