//! The space maps: index, bitmaps and tree of counts are walked, and every count is computed again and compared.
//!
//! Counting less than is used is damage: a kernel would hand the block out again. Counting more is a leak. What cannot be
//! compared because a bitmap is lost costs nothing, since a rebuild computes all counts anyway.

use super::devices::tell_lost;
use super::findings::Findings;
use super::forest::Forest;
use super::kind::Kind;
use super::ring::old_slots;
use super::spread::Spread;
use super::structure::{Map, Structure};
use crate::counts::Counts;
use crate::fault::Fault;
use crate::walk::ValueSize;
use std::ops::Range;
use tierlift_ondisk::thin::{Bitmap, BlockKind, IndexBlock, IndexEntry, SpaceMapRoot};
use tierlift_ondisk::units::MetaBlock;

/// The lowest of each four bits.
const LOWEST: u64 = 0x1111_1111_1111_1111;
/// Leaked metadata blocks that are looked into.
const MOST_LEAKS: usize = 1024;

/// A space map as it is on disk, without its bitmaps.
#[derive(Debug)]
pub(super) struct Gathered {
    map: Map,
    root: SpaceMapRoot,
    /// Bitmaps by block, each with its number.
    index: Vec<(IndexEntry, u64)>,
    /// Counts of 3 and more, by number.
    large: Vec<(u64, u32)>,
    /// Whether all bitmaps are known.
    whole: bool,
    /// Whether all counts of 3 and more are known.
    large_whole: bool,
    /// Blocks that one bitmap counts.
    entries: u64,
}

impl Gathered {
    /// Walks index and tree of counts, counting the pointers to their nodes and to the bitmaps.
    pub(super) fn gather(forest: &mut Forest<'_>, map: Map, root: SpaceMapRoot) -> Self {
        let entries = Bitmap::entries(forest.blocks.size()) as u64;
        let (mut index, index_whole) = match map {
            Map::Metadata => index_block(forest, root),
            Map::Data | Map::Tier(_) => index_tree(forest, map, root),
        };
        let (mut large, large_whole) = count_tree(forest, map, root);
        index.sort_unstable_by_key(|(_, number)| *number);
        let bitmaps = root.nr_blocks.div_ceil(entries);
        let all_there = tell_numbers(&mut forest.findings, map, root, &mut index, bitmaps, index_whole);
        for (entry, _) in &index {
            forest.refs.add(entry.block.0);
        }
        index.sort_unstable_by_key(|(entry, _)| entry.block);
        // Whole leaves come in order, which a stable sort makes use of.
        large.sort();
        Self { map, root, index, large, whole: index_whole && all_there, large_whole, entries }
    }

    /// Compares every count with what was computed. `slots` are the ring's blocks in the metadata map; `holes` tells that
    /// parts of the trees are lost.
    pub(super) fn compare(&self, forest: &mut Forest<'_>, computed: &Counts, slots: Option<Range<u64>>, holes: bool) {
        let mut sums = Sums::new(self, computed, slots.unwrap_or(0..0));
        let blocks: Vec<_> = self.index.iter().map(|(entry, _)| entry.block).collect();
        forest.singles(&blocks, BlockKind::Bitmap, |forest, position, bytes| {
            let Some((entry, number)) = self.index.get(position) else { return };
            match bytes.and_then(|bytes| Ok(Bitmap::decode(bytes)?)) {
                Ok(bitmap) => sums.bitmap(entry, *number, &bitmap),
                Err(fault) => {
                    sums.whole = false;
                    self.tell_bitmap(&mut forest.findings, entry.block, *number, fault);
                }
            }
        });
        sums.tell(forest, holes);
    }

    fn tell_bitmap(&self, findings: &mut Findings, block: MetaBlock, bitmap: u64, fault: Fault) {
        let mut covers = Spread::default();
        let first = bitmap.saturating_mul(self.entries);
        let end = first.saturating_add(self.entries).min(self.root.nr_blocks);
        covers.add_range(first, end.saturating_sub(1));
        let unit = self.map.unit();
        findings.add(Structure::Bitmaps(self.map), block, Kind::BitmapLost { bitmap, fault, unit, covers });
    }
}

type Index = Vec<(IndexEntry, u64)>;

fn index_block(forest: &mut Forest<'_>, root: SpaceMapRoot) -> (Index, bool) {
    let mut buffer = Vec::new();
    forest.refs.add(root.bitmap_root.0);
    let read = forest.blocks.read(root.bitmap_root, BlockKind::Index, &mut buffer);
    match read.and_then(|()| Ok(IndexBlock::decode(&buffer)?)) {
        Ok(block) => {
            let bitmaps = root.nr_blocks.div_ceil(Bitmap::entries(forest.blocks.size()) as u64);
            let used = usize::try_from(bitmaps).unwrap_or(usize::MAX);
            // An entry that names no block is one that is missing.
            let there = block.entries.into_iter().zip(0..).take(used).filter(|(entry, _)| entry.block.0 != 0);
            (there.collect(), true)
        }
        Err(fault) => {
            forest.findings.add(Structure::Index(Map::Metadata), root.bitmap_root, Kind::Unusable { fault });
            (Vec::new(), false)
        }
    }
}

fn index_tree(forest: &mut Forest<'_>, map: Map, root: SpaceMapRoot) -> (Index, bool) {
    let structure = Structure::Index(map);
    let mut index = Vec::new();
    forest.refs.add(root.bitmap_root.0);
    let lost = |findings: &mut Findings, _: &_, lost| tell_lost(findings, structure, lost);
    let sum = forest.tree(structure, root.bitmap_root, ValueSize::INDEX, lost, |node, _| {
        index.extend(node.entries().filter_map(|(key, value)| Some((IndexEntry::decode(value).ok()?, key))));
    });
    (index, sum.broken == 0)
}

fn count_tree(forest: &mut Forest<'_>, map: Map, root: SpaceMapRoot) -> (Vec<(u64, u32)>, bool) {
    let structure = Structure::CountTree(map);
    let mut large = Vec::new();
    forest.refs.add(root.ref_count_root.0);
    let lost = |findings: &mut Findings, _: &_, lost| tell_lost(findings, structure, lost);
    let sum = forest.tree(structure, root.ref_count_root, ValueSize::COUNTS, lost, |node, _| {
        let value = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
        large.extend(node.entries().filter_map(|(key, bytes)| Some((key, value(bytes)?))));
    });
    (large, sum.broken == 0)
}

/// Bitmaps must be numbered from 0 without a gap. Takes those out that the map does not need; answers whether all others
/// are there. A gap is told only when no lost node explains it.
fn tell_numbers(
    findings: &mut Findings,
    map: Map,
    root: SpaceMapRoot,
    index: &mut Index,
    bitmaps: u64,
    index_whole: bool,
) -> bool {
    let (mut missing, mut beyond) = (Spread::default(), Spread::default());
    let mut next = 0;
    for (_, number) in index.iter() {
        if *number >= bitmaps {
            beyond.add(*number);
        } else {
            if *number > next {
                missing.add_range(next, number.saturating_sub(1));
            }
            next = number.saturating_add(1);
        }
    }
    if next < bitmaps {
        missing.add_range(next, bitmaps.saturating_sub(1));
    }
    let structure = Structure::Index(map);
    if let Some(bitmaps) = missing.some().filter(|_| index_whole) {
        findings.add(structure, root.bitmap_root, Kind::BitmapMissing { bitmaps });
    }
    if let Some(beyond) = beyond.some() {
        findings.add(structure, root.bitmap_root, Kind::BitmapBeyondEnd { bitmaps: beyond, expected: bitmaps });
    }
    missing.count == 0
}

/// Counts that differ from what they should be.
#[derive(Debug, Default)]
struct Differing {
    blocks: Spread,
    /// Number, expected, found: of the lowest number.
    example: (u64, u32, u32),
}

impl Differing {
    fn add(&mut self, number: u64, expected: u32, found: u32) {
        if self.blocks.count == 0 || number < self.blocks.first {
            self.example = (number, expected, found);
        }
        self.blocks.add(number);
    }
}

/// What the entries of one bitmap add up to.
#[derive(Default)]
struct Part<'a> {
    used: u64,
    first_free: Option<u64>,
    /// The entries of the tree of counts not met yet.
    large: &'a [(u64, u32)],
}

impl Part<'_> {
    /// Adds sixteen counts; those from `length` on must be 0.
    fn add(&mut self, index: u64, sixteen: u64, length: u64) {
        let in_use = (sixteen | sixteen >> 1) & LOWEST;
        self.used = self.used.saturating_add(in_use.count_ones().into());
        if in_use != LOWEST && self.first_free.is_none() {
            let free = u64::from((!in_use & LOWEST).trailing_zeros()) / 4;
            self.first_free = Some(index.saturating_add(free)).filter(|first| *first < length);
        }
    }
}

/// Only the counts before the end.
fn below(left: u64, disk: u64, computed: u64) -> (u64, u64) {
    let mask = u32::try_from(left.saturating_mul(4)).ok().and_then(|bits| 1_u64.checked_shl(bits));
    let mask = mask.map_or(u64::MAX, |end| end.wrapping_sub(1));
    (disk & mask, computed & mask)
}

/// The lowest bit of each count that differs, or that is 3 and so in the tree.
fn odd(disk: u64, computed: u64) -> u64 {
    let differs = disk ^ computed;
    let differs = differs | differs >> 2;
    (differs | differs >> 1 | disk & disk >> 1) & LOWEST
}

/// What the bitmaps of one map add up to.
struct Sums<'a> {
    map: &'a Gathered,
    computed: &'a Counts,
    slots: Range<u64>,
    reserved: u64,
    allocated: u64,
    whole: bool,
    low: Differing,
    high: Differing,
    leaked: Vec<u64>,
    free: Differing,
    hint: Differing,
    /// Bitmaps of which the index knows one free entry less than there is.
    one_hidden: Spread,
    beyond: Spread,
    missing: Spread,
    stray: Spread,
}

impl<'a> Sums<'a> {
    fn new(map: &'a Gathered, computed: &'a Counts, slots: Range<u64>) -> Self {
        Self {
            map,
            computed,
            slots,
            reserved: 0,
            allocated: 0,
            whole: map.whole,
            low: Differing::default(),
            high: Differing::default(),
            leaked: Vec::new(),
            free: Differing::default(),
            hint: Differing::default(),
            one_hidden: Spread::default(),
            beyond: Spread::default(),
            missing: Spread::default(),
            stray: Spread::default(),
        }
    }

    fn bitmap(&mut self, entry: &IndexEntry, number: u64, bitmap: &Bitmap<'_>) {
        let first = number.saturating_mul(self.map.entries);
        let length = self.map.root.nr_blocks.saturating_sub(first).min(self.map.entries);
        let mut part = Part { large: self.large_of(first, length), ..Part::default() };
        for number in 0..length.div_ceil(16) {
            let index = number.saturating_mul(16);
            let disk = usize::try_from(number).ok().and_then(|number| bitmap.sixteen(number)).unwrap_or(0);
            let computed = self.computed.sixteen(first.saturating_add(index));
            let (disk, computed) = below(length.saturating_sub(index), disk, computed);
            part.add(index, disk, length);
            // Nearly all counts agree and are not in the tree.
            let mut open = odd(disk, computed);
            while open != 0 {
                let at = u64::from(open.trailing_zeros());
                self.entry(&mut part, first.saturating_add(index).saturating_add(at / 4), (disk >> at & 15) as u32);
                open &= open.wrapping_sub(1);
            }
        }
        self.add_stray(part.large, u64::MAX);
        self.rest(bitmap, first, length);
        self.allocated = self.allocated.saturating_add(part.used);
        self.index_entry(entry, number, length, part.used, part.first_free);
    }

    /// Compares a count that needs a closer look.
    fn entry(&mut self, part: &mut Part<'a>, block: u64, disk: u32) {
        let expected = self.computed.get(block);
        let found = if disk < 3 { disk } else { self.large(&mut part.large, block, expected) };
        if found != expected {
            self.differs(block, expected, found);
        }
    }

    /// The part of the tree of counts that one bitmap may refer to.
    fn large_of(&self, first: u64, length: u64) -> &'a [(u64, u32)] {
        let large = &self.map.large;
        let end = first.saturating_add(length);
        let (from, to) = (large.partition_point(|(n, _)| *n < first), large.partition_point(|(n, _)| *n < end));
        large.get(from..to).unwrap_or_default()
    }

    /// The count of a block that the bitmap leaves to the tree. When that is damaged, the computed one is taken.
    fn large(&mut self, large: &mut &'a [(u64, u32)], block: u64, expected: u32) -> u32 {
        if large.first().is_some_and(|(number, _)| *number < block) {
            self.add_stray(large, block);
            let skip = large.partition_point(|(number, _)| *number < block);
            *large = large.get(skip..).unwrap_or_default();
        }
        match large.split_first() {
            Some(((number, count), rest)) if *number == block => {
                *large = rest;
                *count
            }
            _ if self.map.large_whole => {
                self.missing.add(block);
                expected
            }
            _ => expected.max(3),
        }
    }

    fn add_stray(&mut self, large: &[(u64, u32)], end: u64) {
        for (number, _) in large.iter().take_while(|(number, _)| *number < end) {
            self.stray.add(*number);
        }
    }

    fn differs(&mut self, block: u64, expected: u32, found: u32) {
        if self.slots.contains(&block) && found == expected.saturating_add(1) {
            self.reserved = self.reserved.saturating_add(1);
        } else if found < expected {
            self.low.add(block, expected, found);
        } else {
            self.high.add(block, expected, found);
            if self.leaked.len() < MOST_LEAKS {
                self.leaked.push(block);
            }
        }
    }

    fn rest(&mut self, bitmap: &Bitmap<'_>, first: u64, length: u64) {
        for index in length..self.map.entries {
            let count = usize::try_from(index).ok().and_then(|index| bitmap.count(index));
            if count.is_some_and(|count| count > 0) {
                self.beyond.add(first.saturating_add(index));
            }
        }
    }

    /// For the last bitmap QNAP's tools count only free entries below the end, kernels all that the bitmap has room for.
    fn index_entry(&mut self, entry: &IndexEntry, number: u64, length: u64, used: u64, first_free: Option<u64>) {
        let free = self.map.entries.saturating_sub(used);
        let found = u64::from(entry.nr_free);
        let below_end = length.saturating_sub(used);
        if found != free && found != below_end {
            self.free.add(number, narrow(free), entry.nr_free);
            let next = found.saturating_add(1);
            if next == free || next == below_end {
                self.one_hidden.add(number);
            }
        }
        if let Some(first_free) = first_free.filter(|first| u64::from(entry.none_free_before) > *first) {
            self.hint.add(number, narrow(first_free), entry.none_free_before);
        }
    }

    fn tell(mut self, forest: &mut Forest<'_>, holes: bool) {
        self.tell_old_ring(forest);
        self.tell_counts(&mut forest.findings, holes);
        self.tell_bookkeeping(&mut forest.findings);
    }

    fn tell_old_ring(&mut self, forest: &mut Forest<'_>) {
        if self.map.map != Map::Metadata {
            return;
        }
        let missing = self.slots.end.saturating_sub(self.slots.start).saturating_sub(self.reserved);
        let beyond = self.slots.end.saturating_sub(self.slots.start.max(self.map.root.nr_blocks).min(self.slots.end));
        if self.whole && missing > beyond {
            forest.findings.add(Structure::Ring, None, Kind::RingNotReserved { found: self.reserved });
        }
        let old = old_slots(forest, &self.leaked);
        if let Some(blocks) = old.some() {
            forest.findings.add(Structure::Ring, MetaBlock(blocks.first), Kind::OldRing { blocks });
        }
        if old.count == self.high.blocks.count {
            self.high = Differing::default();
        }
    }

    fn tell_counts(&self, findings: &mut Findings, holes: bool) {
        let (structure, unit) = (Structure::Bitmaps(self.map.map), self.map.map.unit());
        if let Some(blocks) = self.low.blocks.some() {
            let (example, expected, found) = self.low.example;
            findings.add(structure, None, Kind::CountTooLow { unit, blocks, example, expected, found });
        }
        if let Some(blocks) = self.high.blocks.some() {
            let (example, expected, found) = self.high.example;
            findings.add(structure, None, Kind::CountTooHigh { unit, blocks, example, expected, found, holes });
        }
        let tree = Structure::CountTree(self.map.map);
        if let Some(blocks) = self.missing.some() {
            findings.add(tree, None, Kind::CountMissing { unit, blocks });
        }
        if let Some(blocks) = self.stray.some() {
            findings.add(tree, None, Kind::CountStray { unit, blocks });
        }
    }

    /// thin_restore up to 0.9 frees one block of the metadata map while it writes that very map: the bitmap says so, index
    /// and total do not. All pools restored with it are like that, kernels carry it on, and nobody is hurt.
    fn forgive_restored(&mut self) {
        let total = self.allocated.saturating_add(1) == self.map.root.nr_allocated;
        let one = self.one_hidden.count == 1 && self.free.blocks.count == 1;
        if self.map.map == Map::Metadata && self.whole && total && one {
            self.allocated = self.map.root.nr_allocated;
            if self.hint.blocks == self.one_hidden {
                self.hint = Differing::default();
            }
            self.free = Differing::default();
        }
    }

    fn tell_bookkeeping(&mut self, findings: &mut Findings) {
        self.forgive_restored();
        let map = self.map.map;
        if let Some(bitmaps) = self.free.blocks.some() {
            let (_, expected, found) = self.free.example;
            let kind = Kind::FreeCount { bitmaps, expected: expected.into(), found: found.into() };
            findings.add(Structure::Index(map), None, kind);
        }
        if let Some(bitmaps) = self.hint.blocks.some() {
            let (_, expected, found) = self.hint.example;
            let kind = Kind::FreeHint { bitmaps, expected: expected.into(), found: found.into() };
            findings.add(Structure::Index(map), None, kind);
        }
        if let Some(blocks) = self.beyond.some() {
            findings.add(Structure::Bitmaps(map), None, Kind::CountBeyondEnd { blocks });
        }
        let (expected, found) = (self.allocated, self.map.root.nr_allocated);
        if self.whole && expected != found {
            findings.add(Structure::Superblock, MetaBlock(0), Kind::Allocated { unit: map.unit(), expected, found });
        }
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_differ_or_lie_in_the_tree_are_looked_at() {
        let (disk, computed) = (0x0321_3210, 0xF321_7201);
        assert_eq!(odd(disk, computed), 0x1100_1011);
        assert_eq!(below(3, disk, computed), (0x210, 0x201));
        assert_eq!(below(16, u64::MAX, 1), (u64::MAX, 1));
        assert_eq!(below(0, disk, computed), (0, 0));
    }

    #[test]
    fn a_free_entry_beyond_the_end_is_none() {
        let mut part = Part::default();
        part.add(0, LOWEST, 18);
        part.add(16, 0x21, 18);
        assert_eq!((part.used, part.first_free), (18, None));
        part.add(32, 0x101, 48);
        assert_eq!((part.used, part.first_free), (20, Some(33)));
    }
}
