//! Putting a device of another generation in place of the one that the chosen generation has.
//!
//! Its tree stays where it is on the device. Only what leads to lost parts is copied, with holes where they were: a block that
//! was written over must not be reached, nor one that stands in for a lost block of the chosen generation.

use super::borrow::Borrowed;
use super::options::{DeviceChoice, Origin};
use super::plan::Work;
use super::reach::MOST_LEVELS;
use super::roots;
use super::stale_chunks::{Fate, StaleChunks};
use super::synthesize::Child;
use crate::block_map::BlockSet;
use crate::blocks::Blocks;
use crate::error::PoolError;
use crate::fault::KeyRange;
use crate::pool::Pool;
use crate::walk::{Place, ValueSize, load};
use tierlift_ondisk::thin::{DeviceDetails, MappingValue, Node, NodeKind, max_entries};
use tierlift_ondisk::units::{Chunk, DeviceId, MetaBlock};

/// Leaves made for holes inside leaves; beyond that, leaves with such holes are lost whole.
const MOST_PIECES: usize = 16_384;

/// One device on its way.
struct Graft<'a> {
    borrowed: &'a Borrowed,
    chunks: StaleChunks,
    /// As scanned, without what was put together for the chosen generation.
    blocks: Blocks,
    /// Numbers of what was put together for it.
    made: BlockSet,
    values: ValueSize,
    /// Nodes that may still be looked at.
    left: u64,
    pieces: usize,
    choice: DeviceChoice,
}

impl Work<'_> {
    /// Puts these devices in, each as it was in its own generation.
    ///
    /// # Errors
    /// When the pool cannot be opened.
    pub(super) fn graft_all(&mut self, borrowed: &[Borrowed]) -> Result<Vec<DeviceChoice>, PoolError> {
        if borrowed.is_empty() {
            return Ok(Vec::new());
        }
        let pool = Pool::with_blocks(self.patched(), self.superblock.clone())?.with_family(self.family);
        let reach = self.reach();
        Ok(borrowed
            .iter()
            .map(|borrowed| {
                let chunks = StaleChunks::find(&pool, self.scan, &reach, borrowed);
                self.graft(borrowed, chunks)
            })
            .collect())
    }

    fn graft(&mut self, borrowed: &Borrowed, chunks: StaleChunks) -> DeviceChoice {
        let made = self.synthesizer.patches.iter();
        let made = made.filter(|(block, patch)| self.blocks.patches().get(*block) != Some(*patch));
        let mut graft = Graft {
            borrowed,
            chunks,
            blocks: self.blocks.clone(),
            made: made.map(|(block, _)| *block).collect(),
            values: ValueSize::EIGHT,
            left: self.blocks.count().max(self.blocks.present()),
            pieces: 0,
            choice: DeviceChoice::new(DeviceId(borrowed.device), borrowed.generation),
        };
        let root = self.graft_node(&mut graft, Place::root(borrowed.root), 0).unwrap_or_else(|| {
            let root = self.synthesizer.take_number();
            self.synthesizer.inner(self.scan, root, KeyRange::ALL, &[], true);
            root
        });
        let choice = graft.choice;
        let entry = root.0.to_le_bytes();
        self.superblock.mapping_root =
            self.put(self.superblock.mapping_root, ValueSize::EIGHT, borrowed.device, &entry);
        self.roots.insert(borrowed.device, Origin::Chosen);
        self.put_record(borrowed, choice.mappings);
        choice
    }

    /// The record, too, is that of the time, but for what tells the kernel which chunks are shared: snapshots made since
    /// share them all.
    fn put_record(&mut self, borrowed: &Borrowed, mappings: u64) {
        let blank = roots::blank(mappings, &self.superblock, self.family);
        let record = borrowed.record.unwrap_or(blank);
        let snapshot_time = record.snapshot_time.max(self.superblock.time);
        let record = DeviceDetails { snapshot_time, ..record };
        let size = self.records().values().next().map_or(record.size(), DeviceDetails::size);
        // A pool that was converted to another version since has records of another length.
        let is_known = borrowed.record.is_some() && record.size() == size;
        let record = if is_known { record } else { DeviceDetails { mapped: Chunk(mappings), ..blank } };
        if record.size() != size {
            self.notes
                .push(format!("the record of device {} cannot be written: its form is not known", borrowed.device));
            return;
        }
        let root = self.superblock.details_root;
        self.superblock.details_root = self.put(root, ValueSize::DETAILS, borrowed.device, &record.encode());
        self.records.insert(borrowed.device, if is_known { Origin::Chosen } else { Origin::Blank });
    }

    /// The node at this place, or a copy of it with holes; `None` when nothing of it can be used.
    fn graft_node(&mut self, graft: &mut Graft<'_>, place: Place, level: u8) -> Option<MetaBlock> {
        graft.left = graft.left.checked_sub(1).filter(|_| level < MOST_LEVELS)?;
        let mut buffer = Vec::new();
        let Ok(node) = load(&graft.blocks, place, &mut graft.values, &mut buffer) else {
            graft.choice.unusable = graft.choice.unusable.saturating_add(1);
            return None;
        };
        if !graft.borrowed.proven.contains(&place.block) {
            graft.choice.unproven = graft.choice.unproven.saturating_add(1);
            return None;
        }
        graft.choice.nodes = graft.choice.nodes.saturating_add(1);
        if node.kind() == NodeKind::Leaf {
            return self.graft_leaf(graft, place, &node);
        }
        let children = place.children(&node);
        let mut kept = Vec::new();
        let mut is_same = !graft.made.contains(&place.block);
        for child in &children {
            let found = self.graft_node(graft, *child, level.saturating_add(1));
            is_same &= found == Some(child.block);
            kept.extend(found.map(|block| Child { block, first: child.window.first, end: Some(child.window.last) }));
        }
        if is_same {
            return Some(place.block);
        }
        // Below the first key there was nothing.
        let first = children.first().map_or(place.window.first, |child| child.window.first);
        Some(self.inner_over(KeyRange { first, ..place.window }, &kept, true))
    }

    fn graft_leaf(&mut self, graft: &mut Graft<'_>, place: Place, node: &Node<'_>) -> Option<MetaBlock> {
        let value = |value| MappingValue::decode(value, self.family);
        let mut groups: Vec<Child> = Vec::new();
        let mut entries: Vec<Vec<(u64, Vec<u8>)>> = Vec::new();
        let mut hole = false;
        let mut next = place.window.first;
        for (key, bits) in node.entries_u64() {
            let fate = graft.chunks.fate(place.block, key, value(bits).chunk.0);
            graft.choice.count(fate);
            if matches!(fate, Fate::Reused | Fate::Gone) {
                if let Some(group) = groups.last_mut().filter(|_| !hole) {
                    group.end = key.checked_sub(1);
                }
                hole = true;
                next = key.saturating_add(1);
                continue;
            }
            if hole || groups.is_empty() {
                groups.push(Child { block: place.block, first: next, end: Some(place.window.last) });
                entries.push(Vec::new());
                hole = false;
            }
            entries.last_mut()?.push((key, bits.to_le_bytes().to_vec()));
        }
        let kept: usize = entries.iter().map(Vec::len).sum();
        if kept == node.len() && !graft.made.contains(&place.block) {
            return Some(place.block);
        }
        graft.pieces = graft.pieces.saturating_add(groups.len());
        if graft.pieces > MOST_PIECES {
            graft.choice.mappings = graft.choice.mappings.saturating_sub(kept as u64);
            return None;
        }
        for (group, entries) in groups.iter_mut().zip(entries) {
            group.block = self.synthesizer.leaf(self.scan, 8, entries);
        }
        Some(self.inner_over(place.window, &groups, true))
    }

    /// A new inner node over these children.
    fn inner_over(&mut self, window: KeyRange, children: &[Child], gaps: bool) -> MetaBlock {
        let number = self.synthesizer.take_number();
        self.synthesizer.inner(self.scan, number, window, children, gaps);
        number
    }

    /// A copy of a tree of the upper level with this entry in place of what it said of the key.
    fn put(&mut self, root: MetaBlock, values: ValueSize, key: u64, value: &[u8]) -> MetaBlock {
        let blocks = self.patched();
        self.put_below(&blocks, Place::root(root), values, (key, value), 0)
    }

    fn put_below(
        &mut self,
        blocks: &Blocks,
        place: Place,
        mut values: ValueSize,
        (key, value): (u64, &[u8]),
        level: u8,
    ) -> MetaBlock {
        let mut buffer = Vec::new();
        let loaded = load(blocks, place, &mut values, &mut buffer);
        let Some(node) = loaded.ok().filter(|_| level < MOST_LEVELS) else {
            let block = self.synthesizer.leaf(self.scan, value.len(), vec![(key, value.to_vec())]);
            return self.inner_over(place.window, &[Child { block, first: key, end: Some(key) }], true);
        };
        if node.kind() == NodeKind::Leaf {
            let mut entries: Vec<_> = node.entries().map(|(key, value)| (key, value.to_vec())).collect();
            let at = entries.partition_point(|(other, _)| *other < key);
            let end = at.saturating_add(usize::from(entries.get(at).is_some_and(|(other, _)| *other == key)));
            entries.splice(at..end, [(key, value.to_vec())]);
            return self.leaves_over(place.window, value.len(), &entries);
        }
        let mut children = place.children(&node);
        let at = children.partition_point(|child| child.window.first <= key).saturating_sub(1);
        if let Some(child) = children.get_mut(at) {
            child.window.first = child.window.first.min(key);
            child.block = self.put_below(blocks, *child, values, (key, value), level.saturating_add(1));
        }
        let child = |child: &Place| Child { block: child.block, first: child.window.first, end: None };
        self.inner_over(place.window, &children.iter().map(child).collect::<Vec<_>>(), false)
    }

    fn leaves_over(&mut self, window: KeyRange, value_size: usize, entries: &[(u64, Vec<u8>)]) -> MetaBlock {
        let most = max_entries(self.blocks.size(), value_size).max(1);
        let mut leaves = Vec::new();
        for part in entries.chunks(most) {
            let first = part.first().map_or(window.first, |(first, _)| *first);
            leaves.push(Child { block: self.synthesizer.leaf(self.scan, value_size, part.to_vec()), first, end: None });
        }
        match leaves.as_slice() {
            [leaf] => leaf.block,
            leaves => self.inner_over(window, leaves, false),
        }
    }
}

impl DeviceChoice {
    fn count(&mut self, fate: Fate) {
        let counter = match fate {
            Fate::Kept => &mut self.kept,
            Fate::Free => &mut self.free,
            Fate::Unknown => &mut self.unknown,
            Fate::Reused => &mut self.reused,
            Fate::Gone => &mut self.gone,
        };
        *counter = counter.saturating_add(1);
        if !matches!(fate, Fate::Reused | Fate::Gone) {
            self.mappings = self.mappings.saturating_add(1);
        }
    }
}
