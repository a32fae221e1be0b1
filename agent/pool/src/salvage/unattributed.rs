//! Parts of mapping trees that are in use but whose device cannot be told, handed out as devices of their own.
//!
//! Each part gets an id that no device of the pool has. Nothing is merged: what belongs together is for the reader to find out,
//! by the contents.

use super::options::Unattributed;
use super::orphan::Orphan;
use super::plan::Work;
use super::reach::Tree;
use super::roots;
use super::synthesize::Child;
use crate::fault::KeyRange;
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{DeviceDetails, max_entries};
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// The first id given, unless the pool has devices beyond it; ids have 24 bits.
const FIRST_ID: u64 = 1 << 23;
const LAST_ID: u64 = (1 << 24) - 1;

impl Work<'_> {
    /// Adds a device for each of these orphans that still belongs to none.
    pub(super) fn hand_out(&mut self, orphans: &[Orphan]) -> Vec<Unattributed> {
        let reach = self.reach();
        let known = self.records();
        let used = known.keys().chain(reach.device_roots.keys()).copied().max();
        let first_id = used.and_then(|used| used.checked_add(1)).unwrap_or(0).max(FIRST_ID);
        let ours = orphans.iter().filter(|orphan| orphan.tree == Tree::Mapping && orphan.entries > 0);
        let homeless = ours.filter(|orphan| !reach.facts.contains_key(&orphan.child.block));
        let given: Vec<_> = (first_id..=LAST_ID)
            .zip(homeless)
            .map(|(id, orphan)| Unattributed {
                device: DeviceId(id),
                block: orphan.child.block,
                mappings: orphan.entries,
                first: orphan.child.first,
                last: orphan.last,
                pointers: orphan.lacks,
            })
            .collect();
        if given.is_empty() {
            return given;
        }
        let roots = given.iter().map(|given| (given.device.0, given.block.0.to_le_bytes().to_vec())).collect();
        self.superblock.mapping_root = self.beside(self.superblock.mapping_root, first_id, 8, roots);
        let blank = |mappings| roots::blank(mappings, &self.superblock, self.family);
        let size = known.values().next().map_or_else(|| blank(0).size(), DeviceDetails::size);
        let records: BTreeMap<_, _> = given.iter().map(|given| (given.device.0, blank(given.mappings))).collect();
        if records.values().all(|record| record.size() == size) {
            let records = records.into_iter().map(|(id, record)| (id, record.encode())).collect();
            self.superblock.details_root = self.beside(self.superblock.details_root, first_id, size.bytes(), records);
        }
        given
    }

    /// A tree with the entries of `old` and, from `first` on, these.
    fn beside(&mut self, old: MetaBlock, first: u64, value_size: usize, entries: Vec<(u64, Vec<u8>)>) -> MetaBlock {
        let mut children = vec![Child { block: old, first: 0, end: first.checked_sub(1) }];
        for part in entries.chunks(max_entries(self.blocks.size(), value_size).max(1)) {
            let (Some((from, _)), Some((to, _))) = (part.first(), part.last()) else { continue };
            let block = self.synthesizer.leaf(self.scan, value_size, part.to_vec());
            children.push(Child { block, first: *from, end: Some(*to) });
        }
        let root = self.synthesizer.take_number();
        self.synthesizer.inner(self.scan, root, KeyRange::ALL, &children, false);
        root
    }
}
