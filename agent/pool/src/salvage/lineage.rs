//! What older generations prove about single nodes: whose they were, and so whose they can be.
//!
//! Devices that exist side by side never take over each other's nodes: a tree only ever drops nodes or gets new ones. So with
//! a generation that has every device of today and nothing of which was overwritten since:
//! - a node below a device's root then can only belong to devices that had it then;
//! - a node that was free then is no part of a tree that has not changed since.

use super::committed::{Committed, Count};
use super::reach::Reach;
use super::scan::Scan;
use crate::blocks::Blocks;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tierlift_ondisk::thin::{BlockKind, Node, NodeKind, Superblock};
use tierlift_ondisk::units::MetaBlock;

/// Older generations followed.
const MOST_PASTS: usize = 16;
/// Nodes followed in each.
const MOST_NODES: usize = 2_000_000;

/// One older generation.
#[derive(Debug)]
struct Past {
    owners: HashMap<MetaBlock, BTreeSet<u64>>,
    /// Devices whose tree of then cannot be seen whole.
    unseen: BTreeSet<u64>,
    /// Devices whose tree is still the same.
    unchanged: BTreeSet<u64>,
    reach: Reach,
    committed: Committed,
}

/// All usable older generations.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    pasts: Vec<Past>,
}

impl Lineage {
    /// Follows those generations that have every device of today.
    pub(crate) fn new(blocks: &Blocks, scan: &Scan, today: &BTreeMap<u64, MetaBlock>, history: &[Superblock]) -> Self {
        let mut pasts = Vec::new();
        for superblock in history {
            if pasts.len() >= MOST_PASTS {
                break;
            }
            pasts.extend(Past::follow(blocks, scan, today, superblock));
        }
        Self { pasts }
    }

    /// Whether a node may belong to the device now.
    pub(crate) fn allows(&self, node: MetaBlock, device: u64) -> bool {
        self.pasts.iter().all(|past| past.allows(node, device))
    }
}

impl Past {
    fn follow(blocks: &Blocks, scan: &Scan, today: &BTreeMap<u64, MetaBlock>, superblock: &Superblock) -> Option<Self> {
        let reach = Reach::from_superblock(blocks, scan, superblock);
        let roots = &reach.device_roots;
        if !today.keys().all(|device| roots.contains_key(device)) {
            return None;
        }
        let committed = Committed::load(blocks, scan, &superblock.metadata_map, &reach);
        let overwritten = reach.dangling.keys().any(|block| scan.is_sound(*block));
        if overwritten || committed.reused > 0 || committed.contradictions(&reach) > 0 {
            return None;
        }
        let unchanged = today.iter().filter(|(device, root)| roots.get(*device) == Some(*root));
        let unchanged = unchanged.map(|(device, _)| *device).collect();
        let mut past = Self { owners: HashMap::new(), unseen: BTreeSet::new(), unchanged, reach, committed };
        let mut steps = 0;
        for device in today.keys() {
            past.descend(blocks, scan, *device, &mut steps);
        }
        Some(past)
    }

    fn descend(&mut self, blocks: &Blocks, scan: &Scan, device: u64, steps: &mut usize) {
        let mut buffer = Vec::new();
        let mut open: Vec<_> = self.reach.device_roots.get(&device).copied().into_iter().collect();
        while let Some(block) = open.pop() {
            *steps = steps.saturating_add(1);
            let Some(node) = scan.nodes.get(&block).filter(|_| *steps < MOST_NODES) else {
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
        let count = self.committed.count(node);
        let Some(owners) = self.owners.get(&node) else {
            return match count {
                // Made since.
                Count::Exactly(0) => !self.unchanged.contains(&device),
                // In use then, but nowhere that can be seen.
                Count::Exactly(_) | Count::Many => self.unseen.contains(&device),
                Count::Unknown => true,
            };
        };
        let all_seen = self.reach.facts.get(&node).is_some_and(|fact| count == Count::Exactly(fact.edges));
        owners.contains(&device) || !all_seen && self.unseen.contains(&device)
    }
}
