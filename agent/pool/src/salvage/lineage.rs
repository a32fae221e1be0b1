//! What older lists of device roots prove about single nodes: whose they were, and so whose they can be.
//!
//! Devices that exist side by side never take over each other's nodes. With a list that names every device of today, a node
//! found below some of its roots can only belong to those devices now.

use super::scan::Scan;
use crate::blocks::Blocks;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tierlift_ondisk::thin::{BlockKind, Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// Nodes followed below the roots of one list.
const MOST_NODES: usize = 1_000_000;

/// One older list, followed down.
#[derive(Debug, Default)]
struct Past {
    owners: HashMap<MetaBlock, BTreeSet<u64>>,
    /// Devices whose tree of then cannot be seen whole: anything may have been theirs.
    unseen: BTreeSet<u64>,
}

/// All usable older lists.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    pasts: Vec<Past>,
}

impl Lineage {
    /// Follows those lists that name every one of `devices`.
    pub(crate) fn new(
        blocks: &Blocks,
        scan: &Scan,
        devices: &BTreeSet<u64>,
        tables: &[BTreeMap<u64, MetaBlock>],
    ) -> Self {
        let complete = tables.iter().filter(|table| devices.iter().all(|device| table.contains_key(device)));
        let pasts =
            complete.take(super::roots::MOST_TABLES).map(|table| follow(blocks, scan, devices, table)).collect();
        Self { pasts }
    }

    /// Whether a node may belong to the device now.
    pub(crate) fn allows(&self, node: MetaBlock, device: u64) -> bool {
        self.pasts.iter().all(|past| match past.owners.get(&node) {
            Some(owners) => owners.contains(&device) || past.unseen.contains(&device),
            None => true,
        })
    }
}

fn follow(blocks: &Blocks, scan: &Scan, devices: &BTreeSet<u64>, table: &BTreeMap<u64, MetaBlock>) -> Past {
    let mut past = Past::default();
    let mut buffer = Vec::new();
    let mut steps = 0_usize;
    for (device, root) in table.iter().filter(|(device, _)| devices.contains(*device)) {
        let mut open = vec![*root];
        while let Some(block) = open.pop() {
            steps = steps.saturating_add(1);
            let known = scan.nodes.get(&block);
            let read = steps < MOST_NODES && blocks.read(block, BlockKind::Node, &mut buffer).is_ok();
            let Some(node) = known.filter(|_| read) else {
                past.unseen.insert(*device);
                continue;
            };
            if !past.owners.entry(block).or_default().insert(*device) || node.kind == NodeKind::Leaf {
                continue;
            }
            match Node::decode(&buffer) {
                Ok(node) => open.extend(node.entries_u64().map(|(_, child)| MetaBlock(child))),
                Err(_) => drop(past.unseen.insert(*device)),
            }
        }
    }
    past
}
