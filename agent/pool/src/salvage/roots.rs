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
    let table = older.iter().max_by_key(|table| agreement(table, &claims, wanted));
    if let Some(table) = table {
        by_history(table, &mut claims, wanted, &mut assigned);
    }
    by_size(&mut claims, wanted, &mut assigned);
    if let Some(table) = table {
        by_lineage(table, &mut claims, wanted, children, &mut assigned);
    }
    assigned
}

fn matches(claim: &Claim, record: Option<&DeviceDetails>) -> bool {
    match record {
        Some(record) if claim.whole => record.mapped.0 == claim.entries,
        Some(record) => record.mapped.0 >= claim.entries,
        None => true,
    }
}

/// Devices of which an older list says something that is still true.
fn agreement(
    table: &BTreeMap<u64, MetaBlock>,
    claims: &[Claim],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
) -> usize {
    let agrees = |(device, root): &(&u64, &MetaBlock)| {
        let record = wanted.get(*device);
        let claim = claims.iter().find(|claim| claim.block == **root);
        record.zip(claim).is_some_and(|(record, claim)| matches(claim, record.as_ref()))
    };
    table.iter().filter(agrees).count()
}

fn by_history(
    table: &BTreeMap<u64, MetaBlock>,
    claims: &mut [Claim],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    assigned: &mut BTreeMap<u64, MetaBlock>,
) {
    for (device, root) in table {
        let Some(record) = wanted.get(device) else { continue };
        let Some(claim) = claims.iter_mut().find(|claim| claim.block == *root && claim.devices > 0) else { continue };
        // A device newer than the list may have taken over this very tree: a snapshot made since.
        let newcomer =
            wanted.iter().any(|(other, record)| !table.contains_key(other) && matches(claim, record.as_ref()));
        let proven = match record {
            Some(_) => claim.whole && matches(claim, record.as_ref()) && !newcomer,
            None => table.len() == wanted.len(),
        };
        if proven {
            claim.devices = claim.devices.saturating_sub(1);
            assigned.insert(*device, *root);
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

/// A changed tree still shares most nodes with what it was.
fn by_lineage(
    table: &BTreeMap<u64, MetaBlock>,
    claims: &mut [Claim],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    children: &dyn Fn(MetaBlock) -> BTreeSet<u64>,
    assigned: &mut BTreeMap<u64, MetaBlock>,
) {
    let open: Vec<_> = wanted.iter().filter(|(device, _)| !assigned.contains_key(*device)).collect();
    // With a newcomer among them, origin and snapshot cannot be told apart by what they share.
    if open.iter().any(|(device, _)| !table.contains_key(*device)) {
        return;
    }
    for (device, record) in open {
        let Some(before) = table.get(device).map(|root| children(*root)).filter(|before| !before.is_empty()) else {
            continue;
        };
        let mut shared: Vec<_> = (claims.iter().enumerate())
            .filter(|(_, claim)| claim.devices > 0 && matches(claim, record.as_ref()))
            .map(|(number, claim)| (children(claim.block).intersection(&before).count(), number))
            .filter(|(shared, _)| *shared > 0)
            .collect();
        shared.sort_unstable();
        let number = match shared.as_slice() {
            [(_, only)] => *only,
            [.., (second, _), (most, number)] if most > second => *number,
            _ => continue,
        };
        if let Some(claim) = claims.get_mut(number) {
            claim.devices = claim.devices.saturating_sub(1);
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
    // `max_by_key` takes the last of equals.
    tables.reverse();
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
