//! One pass over every block of the metadata device: what is there, whatever any pointer says.

use super::bit_flip::BitFlips;
use crate::block_map::{BlockMap, BlockSet};
use crate::blocks::{Blocks, Patch, Patches};
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{BlockKind, BlockSize, MAGIC, Node, NodeKind, Superblock, identify, own_number};
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;

/// Bytes read at once.
const BATCH: u64 = 1 << 20;
/// Displaced blocks kept; more than this is a device put together wrongly, where none of them helps.
const MOST_DISPLACED: usize = 1 << 20;

/// What the scan keeps of a sound node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScannedNode {
    pub kind: NodeKind,
    pub value_size: u16,
    pub entries: u32,
    pub first: u64,
    pub last: u64,
}

/// A sound block at a place that is not its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Displaced {
    pub at: MetaBlock,
    kind: BlockKind,
    node: Option<ScannedNode>,
}

/// Everything found, by kind.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Blocks there are.
    pub present: u64,
    pub nodes: BlockMap<ScannedNode>,
    pub superblocks: BTreeMap<MetaBlock, Superblock>,
    /// Slots of a ring that were never used.
    pub placeholders: BlockSet,
    pub indexes: Vec<MetaBlock>,
    pub bitmaps: BlockSet,
    /// Sound blocks that name another place: the place they name, where they lie and what they are.
    pub displaced: BTreeMap<MetaBlock, Displaced>,
    /// Places named by several different displaced blocks; none of these is believed.
    pub disputed: BlockSet,
    /// Bits turned back, and displaced blocks that stand in for their own place.
    pub stand_ins: Patches,
    /// Blocks that are neither zeros nor sound.
    pub broken: u64,
    /// Blocks that the device gives an error for.
    pub unreadable: u64,
}

impl Scan {
    /// Reads everything once. `progress` is told the bytes done.
    pub(crate) fn run(blocks: &Blocks, progress: &mut dyn FnMut(u64)) -> Self {
        let size = blocks.size();
        let mut scanner = Scanner { scan: Self { present: blocks.present(), ..Self::default() }, flips: None, size };
        let end = blocks.scan_end().saturating_mul(size.bytes() as u64);
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < end {
            // A sparse file knows where its holes are.
            let next = blocks.view().next_data(Bytes(at)).map_or(end, |next| next.0);
            at = at.max(next.checked_div(size.bytes() as u64).unwrap_or(0).saturating_mul(size.bytes() as u64));
            let length = BATCH.min(end.saturating_sub(at));
            if length == 0 {
                break;
            }
            scanner.batch(blocks, at, length, &mut buffer);
            at = at.saturating_add(length);
            progress(at);
        }
        scanner.scan.settle();
        scanner.scan
    }

    /// A displaced block stands in for its own place when nothing sound is there and no other one claims it.
    fn settle(&mut self) {
        let displaced = std::mem::take(&mut self.displaced);
        for (own, found) in &displaced {
            if own.0 == 0 || self.is_sound(*own) || self.disputed.contains(own) {
                continue;
            }
            match (found.kind, found.node) {
                (BlockKind::Node, Some(node)) => drop(self.nodes.insert(*own, node)),
                (BlockKind::Bitmap, _) => drop(self.bitmaps.insert(*own)),
                (BlockKind::Index, _) => self.indexes.push(*own),
                _ => continue,
            }
            self.stand_ins.insert(*own, Patch::Elsewhere(found.at));
        }
        self.displaced = displaced;
    }

    /// Blocks with one bit turned back.
    pub(crate) fn flipped_bits(&self) -> usize {
        self.stand_ins.values().filter(|patch| matches!(patch, Patch::Flip { .. })).count()
    }

    /// Whether a sound block of any kind lies at its own place here.
    pub(crate) fn is_sound(&self, block: MetaBlock) -> bool {
        self.nodes.contains_key(&block)
            || self.bitmaps.contains(&block)
            || self.superblocks.contains_key(&block)
            || self.indexes.contains(&block)
    }
}

struct Scanner {
    scan: Scan,
    flips: Option<BitFlips>,
    size: BlockSize,
}

impl Scanner {
    fn batch(&mut self, blocks: &Blocks, at: u64, length: u64, buffer: &mut Vec<u8>) {
        let size = self.size.bytes();
        buffer.resize(length as usize, 0);
        let whole = blocks.view().read_at(Bytes(at), buffer).is_ok();
        let first = self.size.blocks_in(at);
        for (number, block) in (first..).map(MetaBlock).zip(buffer.chunks_exact_mut(size)) {
            // An error hits a batch as a whole; then each block is tried by itself.
            let offset = number.0.saturating_mul(size as u64);
            if !whole && blocks.view().read_at(Bytes(offset), block).is_err() {
                self.scan.unreadable = self.scan.unreadable.saturating_add(1);
                continue;
            }
            self.block(number, block);
        }
    }

    fn block(&mut self, number: MetaBlock, block: &mut [u8]) {
        let kind = identify(block);
        if kind.is_none() && is_zero(block) {
            return;
        }
        let kind = kind.or_else(|| self.turn_back(number, block));
        let taken = kind.is_some_and(|kind| self.take(number, kind, block));
        if !taken {
            self.scan.broken = self.scan.broken.saturating_add(1);
        }
    }

    /// Undoes a single flipped bit, when the result is what belongs here.
    fn turn_back(&mut self, number: MetaBlock, block: &mut [u8]) -> Option<BlockKind> {
        let flips = self.flips.get_or_insert_with(|| BitFlips::new(self.size));
        let (patch, kind) = flips.find(block)?;
        if own_number(block) != Some(number) {
            return None;
        }
        self.scan.stand_ins.insert(number, patch);
        Some(kind)
    }

    fn take(&mut self, number: MetaBlock, kind: BlockKind, block: &[u8]) -> bool {
        let scan = &mut self.scan;
        match own_number(block) {
            Some(own) if own == number => {}
            Some(own) => {
                scan.displace(
                    own,
                    Displaced { at: number, kind, node: Node::decode(block).ok().as_ref().map(summary) },
                );
                return true;
            }
            None => return false,
        }
        match kind {
            BlockKind::Node => match Node::decode(block) {
                Ok(node) => drop(scan.nodes.insert(number, summary(&node))),
                Err(_) => return false,
            },
            BlockKind::Bitmap => drop(scan.bitmaps.insert(number)),
            BlockKind::Index => scan.indexes.push(number),
            BlockKind::Superblock => match Superblock::decode(block) {
                Ok(found) if found.magic == MAGIC && found.mapping_root.0 != 0 => {
                    let _ = scan.superblocks.insert(number, found);
                }
                Ok(found) if found.magic == MAGIC => drop(scan.placeholders.insert(number)),
                _ => {}
            },
        }
        true
    }
}

impl Scan {
    fn displace(&mut self, own: MetaBlock, found: Displaced) {
        if self.displaced.len() >= MOST_DISPLACED {
            return;
        }
        if self.displaced.insert(own, found).is_some() {
            self.disputed.insert(own);
        }
    }
}

fn summary(node: &Node<'_>) -> ScannedNode {
    let mut keys = node.keys();
    let first = keys.next().unwrap_or_default();
    let last = keys.next_back().unwrap_or(first);
    let value_size = u16::try_from(node.value_size()).unwrap_or(u16::MAX);
    ScannedNode { kind: node.kind(), value_size, entries: node.len() as u32, first, last }
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}
