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

/// Which trees each device may have had: one that is alone is certain, and none that the device was removed. Devices without an entry stay lost.
///
/// `allows` says whether a tree may be a device's by what older generations prove. A tree also has as many mappings as the
/// device's record says, or fewer when parts of it are lost. When there are just as many pointers missing as devices, the trees are dealt
/// out in every way that fits. `changes` are the devices that may have been made or removed since the records were written:
/// `None` when these are of today.
pub(crate) fn assign(
    orphans: &[Orphan],
    wanted: &BTreeMap<u64, Option<DeviceDetails>>,
    changes: Option<&dyn Fn(usize) -> bool>,
    allows: &dyn Fn(MetaBlock, u64) -> bool,
) -> BTreeMap<u64, Vec<MetaBlock>> {
    let claims: Vec<Claim> = (orphans.iter())
        .filter(|orphan| orphan.tree == Tree::Mapping)
        .filter_map(|orphan| {
            let Orphan { child, lacks, entries, whole, .. } = *orphan;
            Some(Claim { block: child.block, devices: lacks?, entries, whole })
        })
        .collect();
    let fits = |(device, record): (&u64, &Option<DeviceDetails>)| {
        let fitting = claims.iter().enumerate();
        let fitting = fitting.filter(|(_, claim)| matches(claim, record.as_ref()) && allows(claim.block, *device));
        fitting.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let mut choices: Vec<Vec<usize>> = wanted.iter().map(fits).collect();
    let mut room: Vec<usize> = claims.iter().map(|claim| claim.devices as usize).collect();
    let pointers = room.iter().copied().fold(0, usize::saturating_add);
    let apart = pointers.abs_diff(wanted.len());
    let is_complete = changes.map_or(apart == 0, |may| may(apart));
    let decided = if is_complete {
        // Stand for devices made since, and for the trees of those removed since.
        let every: Vec<usize> = (0..claims.len()).collect();
        choices.extend(std::iter::repeat_n(every, pointers.saturating_sub(wanted.len())));
        let removed = wanted.len().saturating_sub(pointers);
        if removed > 0 {
            choices.iter_mut().for_each(|choices| choices.push(room.len()));
            room.push(removed);
        }
        matching::possible(&choices, &room).unwrap_or_default()
    } else if changes.is_none() && wanted.values().all(Option::is_some) {
        only_ones(&choices, &room)
    } else {
        Vec::new()
    };
    let trees = |trees: Vec<usize>| match trees.as_slice() {
        [] => None,
        [tree] if *tree >= claims.len() => Some(Vec::new()),
        // One that may also have been removed is lost.
        trees => trees.iter().map(|tree| claims.get(*tree).map(|claim| claim.block)).collect(),
    };
    wanted.keys().zip(decided).filter_map(|(device, decided)| Some((*device, trees(decided)?))).collect()
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
fn only_ones(choices: &[Vec<usize>], room: &[usize]) -> Vec<Vec<usize>> {
    let takers = |claim: &usize| choices.iter().filter(|claims| claims.contains(claim)).collect::<Vec<_>>();
    let is_certain = |claim: &usize| {
        let takers = takers(claim);
        room.get(*claim).is_some_and(|room| *room == takers.len()) && takers.iter().all(|claims| claims.len() == 1)
    };
    choices.iter().map(|claims| claims.iter().copied().filter(is_certain).collect()).collect()
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

/// A record of which only the number of mappings is known.
pub(super) fn blank(counted: u64, superblock: &Superblock, family: Family) -> DeviceDetails {
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
