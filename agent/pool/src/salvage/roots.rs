//! The upper level lost: which device each parentless mapping tree belongs to, and the devices' records.
//!
//! A tree is given to a device when its size is exactly the recorded one and either no other tree and no other device has
//! that size, or the newest older list of roots says the same.

use super::orphan::Orphan;
use super::reach::{Reach, Tree};
use super::scan::Scan;
use crate::blocks::Blocks;
use crate::ring::Ring;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tierlift_ondisk::thin::{
    BlockKind, CloneRecord, DetailsSize, DeviceDetails, Family, NO_ORIGIN, Node, NodeKind, Superblock,
};
use tierlift_ondisk::units::{Chunk, MetaBlock};

/// Older lists looked at.
pub(crate) const MOST_TABLES: usize = 32;

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
/// An older list of roots proves more than it seems: devices that exist side by side never take over each other's nodes. So
/// with a list that names every device of today, a tree or a part of one that was only one device's then is that device's now.
pub(crate) fn assign(
    orphans: &[Orphan],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    older: &[BTreeMap<u64, MetaBlock>],
    children: &dyn Fn(MetaBlock) -> BTreeSet<u64>,
) -> BTreeMap<u64, MetaBlock> {
    let mut claims: Vec<Claim> = (orphans.iter())
        .filter(|orphan| orphan.tree == Tree::Mapping)
        .filter_map(|orphan| {
            let Orphan { child, lacks, entries, whole, .. } = *orphan;
            Some(Claim { block: child.block, devices: lacks?, entries, whole })
        })
        .collect();
    claims.sort_unstable_by_key(|claim| claim.block);
    let mut assigned = BTreeMap::new();
    let complete = |table: &&BTreeMap<u64, MetaBlock>| wanted.keys().all(|device| table.contains_key(device));
    for table in older.iter().filter(complete).take(MOST_TABLES) {
        by_history(table, &mut claims, wanted, &mut assigned);
        by_lineage(table, &mut claims, wanted, children, &mut assigned);
    }
    by_size(&mut claims, wanted, &mut assigned);
    let all_known = wanted.values().all(Option::is_some);
    // Without records only a list that explains every tree there is can be believed.
    let explained = assigned.len() == wanted.len() && claims.iter().all(|claim| claim.devices == 0);
    if all_known || explained { assigned } else { BTreeMap::new() }
}

fn matches(claim: &Claim, record: Option<&DeviceDetails>) -> bool {
    match record {
        Some(record) if claim.whole => record.mapped.0 == claim.entries,
        Some(record) => record.mapped.0 >= claim.entries,
        None => true,
    }
}

/// Trees that were, and still are, those of the same devices.
fn by_history(
    table: &BTreeMap<u64, MetaBlock>,
    claims: &mut [Claim],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    assigned: &mut BTreeMap<u64, MetaBlock>,
) {
    for claim in claims.iter_mut().filter(|claim| claim.devices > 0) {
        let owners: Vec<_> =
            table.iter().filter(|(_, root)| **root == claim.block).map(|(device, _)| *device).collect();
        let fits = |device: &u64| {
            !assigned.contains_key(device) && wanted.get(device).is_some_and(|record| matches(claim, record.as_ref()))
        };
        // Shared then and by fewer now: which of them has moved on cannot be told.
        if owners.len() == claim.devices as usize && owners.iter().all(fits) {
            assigned.extend(owners.into_iter().map(|device| (device, claim.block)));
            claim.devices = 0;
        }
    }
}

/// What only one tree and only as many devices as share it can be.
fn by_size(
    claims: &mut [Claim],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    assigned: &mut BTreeMap<u64, MetaBlock>,
) {
    let mut trees: HashMap<u64, Vec<usize>> = HashMap::new();
    for (number, claim) in claims.iter().enumerate().filter(|(_, claim)| claim.devices > 0 && claim.whole) {
        trees.entry(claim.entries).or_default().push(number);
    }
    let mut devices: HashMap<u64, Vec<u64>> = HashMap::new();
    for (device, record) in wanted.iter().filter(|(device, _)| !assigned.contains_key(*device)) {
        let Some(record) = record else { return };
        devices.entry(record.mapped.0).or_default().push(*device);
    }
    for (size, devices) in devices {
        let Some([number]) = trees.get(&size).map(Vec::as_slice) else { continue };
        let Some(claim) = claims.get_mut(*number).filter(|claim| claim.devices as usize == devices.len()) else {
            continue;
        };
        claim.devices = 0;
        assigned.extend(devices.into_iter().map(|device| (device, claim.block)));
    }
}

/// A changed tree still shares nodes with what it was; nodes that were only one device's tell whose it is.
fn by_lineage(
    table: &BTreeMap<u64, MetaBlock>,
    claims: &mut [Claim],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    children: &dyn Fn(MetaBlock) -> BTreeSet<u64>,
    assigned: &mut BTreeMap<u64, MetaBlock>,
) {
    let mut owners: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (device, root) in table {
        for child in children(*root) {
            owners.entry(child).or_default().insert(*device);
        }
    }
    for claim in claims.iter_mut().filter(|claim| claim.devices == 1) {
        let now = children(claim.block);
        let told = now.iter().filter_map(|child| owners.get(child)).filter(|devices| devices.len() == 1);
        let mut devices: Vec<_> = told.flatten().copied().collect();
        devices.sort_unstable();
        devices.dedup();
        let [device] = devices.as_slice() else { continue };
        let fits = wanted.get(device).is_some_and(|record| matches(claim, record.as_ref()));
        if fits && !assigned.contains_key(device) {
            claim.devices = 0;
            assigned.insert(*device, claim.block);
        }
    }
}

/// Lists of device roots from other generations, newest first as far as the ring tells.
pub(crate) fn older_tables(
    blocks: &Blocks,
    scan: &Scan,
    ring: &Ring,
    is_roots: &dyn Fn(MetaBlock) -> bool,
) -> Vec<BTreeMap<u64, MetaBlock>> {
    let by_ring = ring.copies.iter().rev().map(|(_, copy)| copy.mapping_root);
    let mut rest: Vec<_> = (scan.nodes.iter())
        .filter(|(_, node)| node.kind == NodeKind::Leaf && node.value_size == 8)
        .map(|(block, _)| *block)
        .collect();
    rest.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut buffer = Vec::new();
    let mut tables = Vec::new();
    for block in by_ring.chain(rest) {
        if !seen.insert(block) || !is_roots(block) || blocks.read(block, BlockKind::Node, &mut buffer).is_err() {
            continue;
        }
        if let Ok(node) = Node::decode(&buffer) {
            tables.push(node.entries_u64().map(|(device, root)| (device, MetaBlock(root))).collect());
        }
    }
    tables
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
