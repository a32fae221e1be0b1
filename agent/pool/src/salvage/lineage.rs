//! What older generations prove about devices: whose nodes were, and so whose they can be.
//!
//! Devices that exist side by side never take over each other's nodes: a tree only ever drops nodes or gets new ones. So for a
//! device that existed in an older generation:
//! - a node below some devices' roots then can only belong to one of these now, or to a device that was made since;
//! - a node that was free then is no part of a tree that has not changed since.

use super::committed::Count;
use super::history::Past;
use super::scan::Scan;
use crate::block_map::BlockMap;
use crate::blocks::Blocks;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::thin::{BlockKind, DeviceDetails, Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// Nodes followed in each generation.
const MOST_NODES: usize = 2_000_000;

/// What one older generation says.
#[derive(Debug)]
struct Ownership<'a> {
    past: &'a Past,
    owners: BlockMap<BTreeSet<u64>>,
    /// Devices that existed then and still do.
    known: BTreeSet<u64>,
    /// Devices whose tree of then cannot be seen whole.
    unseen: BTreeSet<u64>,
    /// Devices whose tree is still the same.
    unchanged: BTreeSet<u64>,
}

/// All usable older generations.
#[derive(Debug)]
pub(crate) struct Lineage<'a> {
    generations: Vec<Ownership<'a>>,
}

impl<'a> Lineage<'a> {
    /// `today` are the present roots as far as they are known; a device without a record is never taken for an old one.
    pub(crate) fn new(
        blocks: &Blocks,
        scan: &Scan,
        today: &BTreeMap<u64, MetaBlock>,
        records: &BTreeMap<u64, DeviceDetails>,
        pasts: &'a [Past],
    ) -> Self {
        Self { generations: pasts.iter().map(|past| Ownership::new(blocks, scan, today, records, past)).collect() }
    }

    /// Whether a node may belong to the device now.
    pub(crate) fn allows(&self, node: MetaBlock, device: u64) -> bool {
        self.generations.iter().all(|generation| generation.allows(node, device))
    }
}

impl<'a> Ownership<'a> {
    fn new(
        blocks: &Blocks,
        scan: &Scan,
        today: &BTreeMap<u64, MetaBlock>,
        records: &BTreeMap<u64, DeviceDetails>,
        past: &'a Past,
    ) -> Self {
        let roots = &past.reach.device_roots;
        let existed = |device: &&u64| {
            roots.contains_key(*device)
                && records.get(*device).is_some_and(|record| {
                    record.transaction <= past.superblock.transaction && record.creation_time <= past.superblock.time
                })
        };
        let known: BTreeSet<_> = records.keys().filter(existed).copied().collect();
        let unchanged = known.iter().filter(|device| {
            today.get(*device).is_some_and(|root| roots.get(*device) == Some(root) && past.is_unbroken(*root))
        });
        let unchanged = unchanged.copied().collect();
        let mut ownership = Self { past, owners: BlockMap::default(), known, unseen: BTreeSet::new(), unchanged };
        let mut steps = 0;
        for (device, root) in roots {
            ownership.descend(blocks, scan, *device, *root, &mut steps);
        }
        ownership
    }

    fn descend(&mut self, blocks: &Blocks, scan: &Scan, device: u64, root: MetaBlock, steps: &mut usize) {
        let mut buffer = Vec::new();
        let mut open = vec![root];
        while let Some(block) = open.pop() {
            *steps = steps.saturating_add(1);
            let reached = *steps < MOST_NODES && self.past.reach.facts.contains_key(&block);
            let Some(node) = scan.nodes.get(&block).filter(|_| reached) else {
                self.owners.entry(block).or_default().insert(device);
                self.unseen.insert(device);
                continue;
            };
            if !self.owners.entry(block).or_default().insert(device) || node.kind == NodeKind::Leaf {
                continue;
            }
            let read = blocks.read(block, BlockKind::Node, &mut buffer).is_ok();
            match Node::decode(&buffer) {
                Ok(node) if read => open.extend(node.entries_u64().map(|(_, child)| MetaBlock(child))),
                _ => drop(self.unseen.insert(device)),
            }
        }
    }

    fn allows(&self, node: MetaBlock, device: u64) -> bool {
        if !self.known.contains(&device) {
            return true;
        }
        let count = self.past.committed.count(node);
        if count == Count::Exactly(0) {
            // Made since.
            return !self.unchanged.contains(&device);
        }
        if !self.past.is_unbroken(node) {
            return true;
        }
        let hidden = self.unseen.contains(&device) && !self.past.is_accounted_for(node);
        hidden || self.owners.get(&node).is_some_and(|owners| owners.contains(&device))
    }
}
