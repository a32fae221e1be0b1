//! A generation without a superblock: found by the index block of its metadata space map.
//!
//! Every commit writes a new index block, and checksum and own number tell index blocks and bitmaps from all others. Under the
//! right index each committed inner node points at committed nodes only, and no node is pointed at more often than counted;
//! under an older one blocks have been reused, and neither holds.

use super::choose::Candidate;
use super::classify::Classifier;
use super::committed::{Committed, Count};
use super::options::{Generation, Hints, UNKNOWN_LENGTH};
use super::reach::{Tree, within};
use super::scan::Scan;
use crate::blocks::Blocks;
use crate::counts::Counts;
use crate::fault::KeyRange;
use crate::walk::Place;
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{
    Bitmap, BlockKind, BlockSize, DetailsSize, DeviceDetails, Family, IndexBlock, MAGIC, Node, NodeKind, SpaceMapRoot,
    Superblock, flags,
};
use tierlift_ondisk::units::{MetaBlock, Sectors};

/// Index blocks tried.
const MOST_INDEXES: usize = 1024;
/// Bytes of bitmaps held at once; at least a few indexes are always tried.
const MOST_BYTES: usize = 256 << 20;
const LEAST_INDEXES: usize = 8;
/// Pointers followed over all of them.
const MOST_POINTERS: usize = 400_000_000;

/// Stand for roots that were not found, beyond every device, so that they are lost and can be put together again.
const LOST_MAPPING_ROOT: MetaBlock = MetaBlock((1 << 39) + 1);
const LOST_DETAILS_ROOT: MetaBlock = MetaBlock((1 << 39) + 2);

/// An index with what its bitmaps say of the nodes found.
struct Judged {
    block: MetaBlock,
    committed: Committed,
    /// Pointers of committed nodes to free blocks, and nodes pointed at too often.
    contradictions: u64,
    /// Pointers of committed nodes to committed nodes.
    edges: Counts,
}

/// Every inner node with its children.
#[derive(Default)]
struct Children {
    /// A node and where its pointers end; they begin where those of the one before end.
    nodes: Vec<(MetaBlock, usize)>,
    pointers: Vec<Pointer>,
}

/// A child and whether what lies there now has the keys that the parent promises. In four bytes, for there are millions: a
/// block that no device has loses its number.
#[derive(Clone, Copy)]
struct Pointer(u32);

impl Pointer {
    const NOWHERE: u32 = u32::MAX >> 1;

    fn new(child: MetaBlock, fits: bool) -> Self {
        let child = u32::try_from(child.0).map_or(Self::NOWHERE, |child| child.min(Self::NOWHERE));
        Self(child << 1 | u32::from(fits))
    }

    fn child(self) -> MetaBlock {
        MetaBlock(u64::from(self.0 >> 1))
    }

    fn fits(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Children {
    fn iter(&self) -> impl Iterator<Item = (MetaBlock, &[Pointer])> {
        let starts = std::iter::once(0).chain(self.nodes.iter().map(|(_, end)| *end));
        let pointers = |start, end| self.pointers.get(start..end).unwrap_or_default();
        self.nodes.iter().zip(starts).map(move |((block, end), start)| (*block, pointers(start, *end)))
    }
}

/// Generations by their index blocks: the least contradicted, the newest first, each with its contradictions. `template` is the newest
/// superblock of any age: what never changes is taken from it.
pub(super) fn candidates(
    blocks: &Blocks,
    scan: &Scan,
    template: Option<&Superblock>,
    hints: &Hints,
) -> Vec<(Candidate, u64)> {
    let blocks = &blocks.clone().with_recorded_count(template.map_or(0, |template| template.metadata_map.nr_blocks));
    let children = children(blocks, scan);
    let bitmaps = blocks.scan_end().div_ceil(4).max(1) as usize;
    let by_memory = MOST_BYTES.checked_div(bitmaps).unwrap_or(0);
    let by_work = MOST_POINTERS.checked_div(children.pointers.len().max(1)).unwrap_or(0);
    let tries = by_memory.min(by_work).clamp(LEAST_INDEXES, MOST_INDEXES);
    let mut judged: Vec<Judged> = Vec::new();
    let mut least = u64::MAX;
    for index in scan.indexes.iter().rev().take(tries) {
        if let Some(one) = judge(blocks, scan, &children, *index, least) {
            least = least.min(one.contradictions);
            judged.push(one);
        }
    }
    judged.retain(|judged| judged.contradictions == least);
    newest_first(&mut judged, scan);
    judged.iter().filter_map(|judged| candidate(blocks, scan, judged, template, hints)).collect()
}

/// Kernels allocate in a circle: each commit's index block lies beyond the last one's, until the end of the device. Neighbours
/// in that order share most nodes; the weakest link of the circle lies between the newest generation and the oldest.
fn newest_first(judged: &mut [Judged], scan: &Scan) {
    judged.sort_by_key(|judged| std::cmp::Reverse(judged.block));
    let mut nodes: Vec<_> = scan.nodes.keys().copied().collect();
    nodes.sort_unstable();
    let live = |judged: &Judged| nodes.iter().map(|block| is_live(&judged.committed, *block)).collect::<Vec<_>>();
    let Some((first, last)) = judged.first().map(live).zip(judged.last().map(live)) else { return };
    // The link before each one: to the next higher block, and around the end.
    let mut links = vec![likeness(&last, &first)];
    let mut higher = first;
    for one in judged.iter().skip(1) {
        let own = live(one);
        links.push(likeness(&higher, &own));
        higher = own;
    }
    let around = links.first().copied().unwrap_or(0);
    let weakest = links.iter().copied().enumerate().min_by_key(|(_, likeness)| *likeness);
    // One commit can change much: only a far weaker link says that the circle was closed.
    let is_far_weaker = |likeness: u64| likeness.saturating_mul(5) < around.saturating_mul(4);
    if let Some((first, _)) = weakest.filter(|(_, likeness)| is_far_weaker(*likeness)) {
        judged.rotate_left(first);
    }
}

/// Nodes that both generations use, in millionths of the larger one's.
fn likeness(one: &[bool], other: &[bool]) -> u64 {
    let shared = one.iter().zip(other).filter(|(one, other)| **one && **other).count() as u64;
    let size = |live: &[bool]| live.iter().filter(|live| **live).count() as u64;
    shared.saturating_mul(1_000_000).checked_div(size(one).max(size(other))).unwrap_or(0)
}

fn children(blocks: &Blocks, scan: &Scan) -> Children {
    let mut buffer = Vec::new();
    let mut inner: Vec<_> =
        scan.nodes.iter().filter(|(_, node)| node.kind == NodeKind::Internal).map(|(block, _)| *block).collect();
    inner.sort_unstable();
    let mut children = Children::default();
    for block in inner {
        if blocks.read(block, BlockKind::Node, &mut buffer).is_err() {
            continue;
        }
        let Ok(node) = Node::decode(&buffer) else { continue };
        let place = Place { block, window: KeyRange::ALL, is_root: false };
        let fits = |child: &Place| scan.nodes.get(&child.block).is_none_or(|node| within(node, child.window));
        children.pointers.extend(place.children(&node).iter().map(|child| Pointer::new(child.block, fits(child))));
        children.nodes.push((block, children.pointers.len()));
    }
    children
}

/// Counts what contradicts an index; `None` when that is more than `most`, or the index cannot be read.
fn judge(blocks: &Blocks, scan: &Scan, children: &Children, index: MetaBlock, most: u64) -> Option<Judged> {
    let mut buffer = Vec::new();
    blocks.read(index, BlockKind::Index, &mut buffer).ok()?;
    let entries = IndexBlock::decode(&buffer).ok()?.entries;
    let bitmaps = entries.iter().take_while(|entry| entry.block.0 != 0).count() as u64;
    let nr_blocks = bitmaps.saturating_mul(Bitmap::entries(blocks.size()) as u64).min(blocks.present());
    let map = SpaceMapRoot { nr_blocks, bitmap_root: index, ..SpaceMapRoot::default() };
    let committed = Committed::load(blocks, scan, &map, &super::reach::Reach::default());
    // Without one node that it counts it is no generation, whatever it says.
    if !scan.nodes.keys().any(|block| is_live(&committed, *block)) {
        return None;
    }
    // Its own index block and bitmaps are part of every generation.
    let own = std::iter::once(index).chain(entries.iter().map(|entry| entry.block).filter(|block| block.0 != 0));
    let mut contradictions = own.filter(|block| committed.count(*block) == Count::Exactly(0)).count() as u64;
    let mut edges = Counts::new(u64::MAX);
    for (_, pointers) in children.iter().filter(|(block, _)| is_live(&committed, *block)) {
        for pointer in pointers {
            contradictions = contradictions.saturating_add(u64::from(!pointer.fits()));
            match committed.count(pointer.child()) {
                Count::Unknown => {}
                Count::Exactly(0) => contradictions = contradictions.saturating_add(1),
                Count::Exactly(_) | Count::Many => {
                    edges.add(pointer.child().0);
                }
            }
        }
        if contradictions > most {
            return None;
        }
    }
    let counted = |block| committed.count(MetaBlock(block));
    let over = edges.iter().filter(|(block, edges)| matches!(counted(*block), Count::Exactly(count) if count < *edges));
    contradictions = contradictions.saturating_add(over.count() as u64);
    (contradictions <= most).then_some(Judged { block: index, committed, contradictions, edges })
}

fn is_live(committed: &Committed, block: MetaBlock) -> bool {
    !matches!(committed.count(block), Count::Exactly(0) | Count::Unknown)
}

/// Builds the superblock of a generation from its parentless trees.
fn candidate(
    blocks: &Blocks,
    scan: &Scan,
    judged: &Judged,
    template: Option<&Superblock>,
    hints: &Hints,
) -> Option<(Candidate, u64)> {
    let mut parentless: Vec<_> = (scan.nodes.keys().copied())
        .filter(|block| is_live(&judged.committed, *block) && judged.edges.get(block.0) == 0)
        .collect();
    parentless.sort_unstable();
    let details = newest_details(blocks, scan, &parentless);
    let mut superblock = base(blocks, judged, template, hints, details.as_ref())?;
    let family = if details.as_ref().is_some_and(|(_, size, _)| *size == DetailsSize::Mainline) {
        Family::Mainline
    } else {
        Family::Qnap
    };
    let classifier = Classifier { blocks, scan, superblock: &superblock, family, tiers_whole: false };
    let of_tree = |tree: Tree| {
        let mut found = parentless.iter().copied().filter(|block| classifier.tree_of(*block) == Some(tree));
        found.next().filter(|_| found.next().is_none())
    };
    // A list of roots is parentless; device roots are named by it and have no parent node either.
    let roots = of_tree(Tree::Roots);
    let tiers = of_tree(Tree::Tier);
    let nowhere = MetaBlock(0);
    // Also for a pool just made, whose list is empty and looks like any other: it may be all that is left of a pool in use.
    superblock.mapping_root = roots.unwrap_or(LOST_MAPPING_ROOT);
    superblock.details_root = details.as_ref().map_or(LOST_DETAILS_ROOT, |(block, ..)| *block);
    if superblock.tier_num > 0 {
        superblock.tier_root = tiers.or_else(|| empty_leaf(scan, &parentless)).unwrap_or(nowhere);
    }
    let reason =
        "found by scanning: its space map agrees with the nodes it counts; of a later commit whose space map is \
                  lost too nothing would be known"
            .to_owned();
    let generation = Generation::Index { block: judged.block };
    superblock.metadata_map.ref_count_root = overflow_tree(blocks, scan, judged, &parentless).unwrap_or(nowhere);
    Some((
        Candidate { generation, superblock, reason, certain: false, doubtful: false, rival: None },
        judged.contradictions,
    ))
}

type Details = (MetaBlock, DetailsSize, BTreeMap<u64, DeviceDetails>);

/// The parentless details tree, when it is one leaf, as nearly all are.
fn newest_details(blocks: &Blocks, scan: &Scan, parentless: &[MetaBlock]) -> Option<Details> {
    let mut buffer = Vec::new();
    let mut found = parentless.iter().filter_map(|block| {
        let node = scan.nodes.get(block)?;
        let size = DetailsSize::from_bytes(node.value_size.into()).filter(|_| node.kind == NodeKind::Leaf)?;
        blocks.read(*block, BlockKind::Node, &mut buffer).ok()?;
        let node = Node::decode(&buffer).ok()?;
        let records = node.entries().filter_map(|(key, value)| Some((key, DeviceDetails::decode(value, size).ok()?)));
        Some((*block, size, records.collect()))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The leaf of counts that speaks of exactly the metadata blocks whose bitmap refers to it.
fn overflow_tree(blocks: &Blocks, scan: &Scan, judged: &Judged, parentless: &[MetaBlock]) -> Option<MetaBlock> {
    let referring = scan.nodes.keys().filter(|block| judged.committed.count(**block) == Count::Many).count();
    let mut buffer = Vec::new();
    let mut fitting = parentless.iter().copied().filter(|block| {
        let is_counts = scan.nodes.get(block).is_some_and(|node| node.value_size == 4 && node.kind == NodeKind::Leaf);
        if !is_counts || blocks.read(*block, BlockKind::Node, &mut buffer).is_err() {
            return false;
        }
        let Ok(node) = Node::decode(&buffer) else { return false };
        node.len() >= referring.max(1) && node.keys().all(|key| judged.committed.count(MetaBlock(key)) == Count::Many)
    });
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

fn empty_leaf(scan: &Scan, parentless: &[MetaBlock]) -> Option<MetaBlock> {
    let empty =
        |block: &&MetaBlock| scan.nodes.get(block).is_some_and(|node| node.entries == 0 && node.value_size == 8);
    parentless.iter().find(empty).copied()
}

/// Everything but the roots of the trees.
fn base(
    blocks: &Blocks,
    judged: &Judged,
    template: Option<&Superblock>,
    hints: &Hints,
    details: Option<&Details>,
) -> Option<Superblock> {
    let chunk_size = hints.chunk_size.or(template.map(|template| template.chunk_size))?;
    let records = details.map(|(_, _, records)| records.values().copied().collect::<Vec<_>>()).unwrap_or_default();
    let clock = |record: &DeviceDetails| {
        record.creation_time.max(record.snapshot_time).max(record.clone.map_or(0, |clone| clone.time))
    };
    let time = records.iter().map(clock).chain(template.map(|template| template.time)).max().unwrap_or(0);
    let transaction =
        records.iter().map(|record| record.transaction).chain(template.map(|template| template.transaction)).max();
    let blank = match template {
        Some(template) => template.clone(),
        None => from_nothing(blocks.size(), details.map(|(_, size, _)| *size)),
    };
    let nr_blocks = template.map_or_else(|| blocks.present(), |template| template.metadata_map.nr_blocks);
    let mut data_map = blank.data_map;
    data_map.nr_blocks = hints.chunks.unwrap_or(data_map.nr_blocks);
    let gone = MetaBlock(0);
    let forget = |map: SpaceMapRoot| SpaceMapRoot { bitmap_root: gone, ref_count_root: gone, ..map };
    Some(Superblock {
        number: MetaBlock(0),
        backup_id: 0,
        chunk_size,
        time,
        transaction: hints.transaction.or(transaction).unwrap_or(0),
        held_root: gone,
        clone_root: gone,
        data_map: forget(data_map),
        tier_maps: blank.tier_maps.map(forget),
        metadata_map: SpaceMapRoot { nr_blocks, nr_allocated: 0, bitmap_root: judged.block, ref_count_root: gone },
        ..blank
    })
}

/// A superblock of which nothing is known but the family.
fn from_nothing(size: BlockSize, details: Option<DetailsSize>) -> Superblock {
    let (version, flags) = match details {
        Some(DetailsSize::QnapClone) => (4, flags::SUPERBLOCK_BACKUP | flags::FAST_BLOCK_CLONE),
        _ => (2, 0),
    };
    let data_map = SpaceMapRoot { nr_blocks: UNKNOWN_LENGTH, ..SpaceMapRoot::default() };
    Superblock {
        flags,
        number: MetaBlock(0),
        uuid: [0; 16],
        magic: MAGIC,
        version,
        time: 0,
        transaction: 0,
        held_root: MetaBlock(0),
        data_map,
        tier_maps: Default::default(),
        rescan_needed: 0,
        metadata_map: SpaceMapRoot::default(),
        mapping_root: MetaBlock(0),
        details_root: MetaBlock(0),
        chunk_size: Sectors(0),
        metadata_block_size: Sectors(size.bytes() as u64 / 512),
        metadata_nr_blocks: 0,
        compat_flags: 0,
        compat_ro_flags: 0,
        incompat_flags: 0,
        backup_id: 0,
        reserve_block_count: 0,
        clone_root: MetaBlock(0),
        tier_num: 0,
        tier_root: MetaBlock(0),
        tier_block_size: Sectors(0),
    }
}
