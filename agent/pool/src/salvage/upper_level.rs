//! The upper level of the trees: the list of device roots, and the devices' records.

use super::adopt::{Evidence, adopt};
use super::ages::Ages;
use super::committed::Committed;
use super::common;
use super::history::records;
use super::is_ordinary;
use super::lineage::Lineage;
use super::options::Origin;
use super::orphan::Orphan;
use super::plan::{Work, children_of};
use super::reach::{Dangling, Reach, Tree};
use super::roots;
use super::synthesize::Child;
use crate::blocks::Blocks;
use crate::fault::KeyRange;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tierlift_ondisk::units::MetaBlock;

/// Nodes below a tree whose device is looked for.
const MOST_DESCENDANTS: usize = 20_000;

impl Work<'_> {
    /// The one lost block of the upper level, with the device ids it spoke for.
    fn lost_root_of(&self, tree: Tree, root: MetaBlock) -> Option<(MetaBlock, KeyRange)> {
        let reach = self.reach();
        let mut lost = reach.dangling.iter().filter(|(block, lost)| {
            lost.tree == tree && (lost.height == Some(0) || **block == root) && !self.scan.is_sound(**block)
        });
        let (block, dangling) = lost.next()?;
        (lost.next().is_none() && is_ordinary(*block)).then_some((*block, dangling.window))
    }

    /// Finds the devices of parentless mapping trees when the list of roots is lost.
    pub(super) fn restore_roots(&mut self, orphans: &[Orphan]) {
        let Some((block, window)) = self.lost_root_of(Tree::Roots, self.superblock.mapping_root) else { return };
        let blocks = self.patched();
        let orphans: Vec<_> = orphans.iter().filter(|orphan| orphan.tree == Tree::Mapping).copied().collect();
        let families: BTreeMap<_, _> =
            orphans.iter().map(|orphan| (orphan.child.block, descendants(&blocks, orphan.child.block))).collect();
        let committed = Committed::load(&self.blocks, self.scan, &self.superblock.metadata_map, &self.reach());
        let pasts =
            self.pasts(&committed, families.iter().flat_map(|(claim, below)| below.iter().chain([claim])).copied());
        let known = records(&blocks, &self.superblock);
        // Older records still tell which devices there are and when they were made, but no longer how much they map.
        let newest = match &known {
            Some(known) => Some((self.superblock.clone(), known.clone())),
            None => self.chronicle().newest_records(&pasts),
        };
        let Some((superblock, newest)) = newest else { return };
        // Volume managers count every device made or removed. A generation without a superblock does not tell that; but
        // between two commits there is at most one such change.
        let transactions = self.superblock.transaction.saturating_sub(superblock.transaction);
        let by_ring = !self.ring.copies.is_empty();
        let may = move |apart: usize| if by_ring { transactions == apart as u64 } else { apart <= 1 };
        let changes: Option<&dyn Fn(usize) -> bool> = if known.is_some() { None } else { Some(&may) };
        let of = |id: &u64| known.as_ref().and_then(|known| known.get(id)).copied();
        let mut wanted: BTreeMap<_, _> = newest.keys().map(|id| (*id, of(id))).collect();
        wanted.retain(|id, _| window.contains(*id));
        let none = BTreeMap::new();
        let lineage = Lineage::new(&blocks, self.scan, &none, &newest, &pasts);
        let allows = |claim: MetaBlock, device: u64| {
            let below = families.get(&claim).into_iter().flatten().copied();
            std::iter::once(claim).chain(below).all(|node| lineage.allows(node, device))
        };
        let assigned = roots::assign(&orphans, &wanted, changes, &allows);
        let mut found = self.roots_of(&blocks, &assigned);
        if let Some(known) = known.as_ref().filter(|_| found.len() < wanted.len()) {
            let unchanged = |device: u64| {
                let roots: BTreeSet<_> = pasts.iter().filter_map(|past| past.reach.device_roots.get(&device)).collect();
                roots.len() == 1
            };
            let ages = Ages::new(&blocks, self.family, &orphans, known, &unchanged);
            // A tree of which no inner node is lost lacks no other part.
            let is_inner_lost =
                self.reach().dangling.values().any(|lost| lost.tree == Tree::Mapping && lost.height != Some(0));
            let devices: BTreeSet<_> =
                wanted.keys().copied().filter(|device| is_inner_lost || !found.contains_key(device)).collect();
            let taken: BTreeSet<_> = found.values().copied().collect();
            let rest: Vec<_> = orphans.iter().filter(|orphan| !taken.contains(&orphan.child.block)).copied().collect();
            let allows = |orphan: &Orphan, device: u64| allows(orphan.child.block, device);
            let others = self.roots_over_parts(&rest, &devices, &found, &allows, &ages);
            found.extend(others);
        }
        if found.is_empty() {
            return;
        }
        let is_lost = |id: &u64| !found.contains_key(id) && assigned.get(id).is_none_or(|trees| !trees.is_empty());
        let lost: Vec<_> = wanted.keys().copied().filter(is_lost).collect();
        self.undecided = self.undecided.saturating_sub(found.len());
        let entries: Vec<_> = found.iter().map(|(id, root)| (*id, root.0.to_le_bytes().to_vec())).collect();
        if known.is_some() {
            return self.synthesizer.leaves(self.scan, block, window, 8, entries, &lost);
        }
        // Any other id may be that of a device made since.
        let pointers = orphans.iter().filter_map(|orphan| orphan.lacks);
        let is_more = pointers.map(|lacks| lacks as usize).fold(0, usize::saturating_add) > found.len();
        let mut alone = Vec::new();
        for (id, root) in entries {
            let leaf = self.synthesizer.leaf(self.scan, 8, vec![(id, root)]);
            alone.push(Child { block: leaf, first: id, end: Some(id) });
        }
        self.synthesizer.inner(self.scan, block, window, &alone, is_more || !lost.is_empty());
    }

    /// The roots of devices whose trees were found, or what the trees that they may have had agree on.
    fn roots_of(&mut self, blocks: &Blocks, assigned: &BTreeMap<u64, Vec<MetaBlock>>) -> BTreeMap<u64, MetaBlock> {
        let mut found = BTreeMap::new();
        for (id, trees) in assigned {
            let (origin, root) = match trees.as_slice() {
                [] => continue,
                [tree] => (Origin::History, Some(*tree)),
                trees => (Origin::Common, common::tree(blocks, self.scan, &mut self.synthesizer, trees)),
            };
            if let Some(root) = root {
                found.insert(*id, root);
                self.roots.insert(*id, origin);
            }
        }
        found
    }

    /// New roots over those trees and parts of trees that can only be one device's. Devices that were `found` already get
    /// none, but some part may be theirs.
    fn roots_over_parts(
        &mut self,
        orphans: &[Orphan],
        devices: &BTreeSet<u64>,
        found: &BTreeMap<u64, MetaBlock>,
        allows: &dyn Fn(&Orphan, u64) -> bool,
        ages: &Ages,
    ) -> BTreeMap<u64, MetaBlock> {
        let mut reach = Reach::default();
        for device in devices.iter().copied() {
            let place = self.synthesizer.take_number();
            let lost = Dangling { tree: Tree::Mapping, edges: 1, window: KeyRange::ALL, height: None };
            reach.dangling.insert(place, lost);
            reach.device_roots.insert(device, place);
        }
        let may_own = |orphan: &Orphan, place: MetaBlock| {
            reach.device_roots.iter().any(|(device, root)| *root == place && allows(orphan, *device))
        };
        let owners = reach.device_roots.iter().map(|(device, place)| (*place, BTreeSet::from([*device]))).collect();
        let plain = Evidence {
            owners: &owners,
            may_own: Some(&may_own),
            all_named: true,
            ..Evidence::plain(&reach, self.scan)
        };
        let by_age = adopt(Tree::Mapping, orphans, &Evidence { ages: Some(ages), ..plain }, false);
        let adoption = if by_age.homeless { adopt(Tree::Mapping, orphans, &plain, false) } else { by_age };
        let mut others = BTreeMap::new();
        for holder in adoption.holders.into_iter().filter(|holder| !holder.children.is_empty()) {
            let owner = reach.device_roots.iter().find(|(_, root)| **root == holder.block).map(|(device, _)| *device);
            let Some(owner) = owner.filter(|owner| !found.contains_key(owner)) else { continue };
            self.synthesizer.inner(self.scan, holder.block, holder.window, &holder.children, true);
            others.insert(owner, holder.block);
            self.holders.push(holder);
        }
        self.roots.extend(others.keys().map(|device| (*device, Origin::History)));
        others
    }

    /// Makes new records of all devices when theirs are lost.
    pub(super) fn restore_details(&mut self) {
        let Some((block, window)) = self.lost_root_of(Tree::Details, self.superblock.details_root) else { return };
        let blocks = self.patched();
        let reach = self.reach();
        let older = roots::older_records(&blocks, self.scan, self.ring);
        let mut records = Vec::new();
        for id in reach.device_roots.keys().filter(|id| window.contains(**id)) {
            let (record, known) = roots::record(*id, &reach, &older, &self.superblock, self.family);
            self.records.insert(*id, if known { Origin::History } else { Origin::Blank });
            records.push((*id, record));
        }
        let Some(size) = records.first().map(|(_, record)| record.size()) else { return };
        let same = records.into_iter().filter(|(_, record)| record.size() == size);
        let entries = same.map(|(id, record)| (id, record.encode())).collect();
        self.synthesizer.leaves(self.scan, block, window, size.bytes(), entries, &[]);
    }
}

/// The nodes below one, as far as it takes to tell whose they were.
fn descendants(blocks: &Blocks, root: MetaBlock) -> BTreeSet<MetaBlock> {
    let mut found = BTreeSet::new();
    let mut open = VecDeque::from([root]);
    while let Some(block) = open.pop_front().filter(|_| found.len() < MOST_DESCENDANTS) {
        let children = children_of(blocks, block).into_iter().map(MetaBlock);
        open.extend(children.filter(|child| found.insert(*child)));
    }
    found
}
