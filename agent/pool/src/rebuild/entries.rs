//! What becomes of a mapping, and reading source leaves with that applied.

use super::error::RebuildError;
use super::pieces::LostPieces;
use super::plan::Part;
use super::report::LossReason;
use crate::blocks::Blocks;
use crate::pool::Pool;
use std::cell::RefCell;
use std::rc::Rc;
use tierlift_ondisk::thin::{BlockKind, Family, MappingValue, Node};
use tierlift_ondisk::units::{Chunk, MetaBlock};

/// What becomes of a mapping.
#[derive(Debug)]
pub(super) struct Filter {
    family: Family,
    /// Chunks the pool has; no mapping may lead beyond.
    chunks: u64,
    /// In stock Linux's form: the chunk that reads as errors.
    error_chunk: Option<Chunk>,
    /// The new pool's time.
    time: u32,
    lost: LostPieces,
}

/// What becomes of the entries of a leaf.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// The keys that are taken over.
    pub keys: Vec<u64>,
    /// The keys whose data are lost.
    pub lost: Vec<(u64, LossReason)>,
    /// Number of mappings with a time from the future.
    pub ahead: u64,
}

impl Filter {
    pub(super) fn new(pool: &Pool, error_chunk: Option<Chunk>, time: u32, lost: LostPieces) -> Self {
        Self { family: pool.family(), chunks: pool.chunks(), error_chunk, time, lost }
    }

    /// The value to be written, if one is.
    fn take_over(&self, value: u64) -> Option<u64> {
        let mut mapping = MappingValue::decode(value, self.family);
        let exists = mapping.chunk.0 < self.chunks;
        // Kernels would take such a chunk for unshared and overwrite what a snapshot holds; with the first time there is, it
        // counts as shared.
        if mapping.time > self.time {
            mapping.time = 0;
        }
        match self.error_chunk {
            None => exists.then_some(mapping.encode(self.family)),
            // Stock Linux does not know the flag; without a mapping the chunk reads as zeros too.
            Some(_) if mapping.zeroed != 0 => None,
            Some(_) if exists => Some(mapping.encode(Family::Mainline)),
            Some(_) => self.error_value(),
        }
    }

    /// A mapping that reads as errors, in stock Linux's form.
    pub(super) fn error_value(&self) -> Option<u64> {
        let chunk = self.error_chunk?;
        Some(MappingValue { chunk, zeroed: 0, time: 0 }.encode(Family::Mainline))
    }

    /// Why the data of a mapping are lost, if they are.
    fn loss(&self, value: u64) -> Option<LossReason> {
        let mapping = MappingValue::decode(value, self.family);
        if mapping.chunk.0 >= self.chunks {
            return Some(LossReason::BeyondPool { chunk: mapping.chunk, chunks: self.chunks });
        }
        (mapping.zeroed == 0 && self.lost.touch(mapping.chunk)).then_some(LossReason::Piece)
    }

    /// What becomes of the entries of a leaf.
    pub(super) fn judge(&self, node: &Node<'_>) -> Judged {
        let mut judged = Judged { keys: Vec::with_capacity(node.len()), ..Judged::default() };
        for (key, value) in node.entries_u64() {
            judged.keys.extend(self.take_over(value).map(|_| key));
            judged.lost.extend(self.loss(value).map(|reason| (key, reason)));
            let ahead = MappingValue::decode(value, self.family).time > self.time;
            judged.ahead = judged.ahead.saturating_add(ahead.into());
        }
        judged
    }
}

/// The entries of a source leaf that are taken over.
type Leaf = Rc<Vec<(u64, u64)>>;

/// Source leaves as they are taken over. Remembers the one read last, which may be wanted in parts.
pub(super) struct Entries<'a> {
    blocks: &'a Blocks,
    filter: Filter,
    last: RefCell<Option<(MetaBlock, Leaf)>>,
    buffer: RefCell<Vec<u8>>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(blocks: &'a Blocks, filter: Filter) -> Self {
        Self { blocks, filter, last: RefCell::default(), buffer: RefCell::default() }
    }

    pub(super) fn blocks(&self) -> &'a Blocks {
        self.blocks
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// A leaf that was sound when the plan was made.
    fn leaf(&self, block: MetaBlock) -> Result<Leaf, RebuildError> {
        if let Some((_, leaf)) = self.last.borrow().as_ref().filter(|(last, _)| *last == block) {
            return Ok(leaf.clone());
        }
        let mut buffer = self.buffer.borrow_mut();
        let failed = |fault| RebuildError::Changed { block, fault };
        self.blocks.read(block, BlockKind::Node, &mut buffer).map_err(failed)?;
        let node = Node::decode(&buffer).map_err(|error| failed(error.into()))?;
        let taken = |(key, value)| Some((key, self.filter.take_over(value)?));
        let mut entries = Vec::with_capacity(node.len());
        entries.extend(node.entries_u64().filter_map(taken));
        let leaf = Leaf::new(entries);
        self.last.replace(Some((block, leaf.clone())));
        Ok(leaf)
    }

    pub(super) fn first_key(&self, part: &Part) -> Result<u64, RebuildError> {
        match part {
            Part::Lost { first, .. } => Ok(*first),
            Part::Source { leaf, from, .. } => Ok(self.leaf(*leaf)?.get(*from as usize).map_or(0, |(key, _)| *key)),
        }
    }

    /// Appends the entries of a part, as they are written.
    pub(super) fn read(&self, part: &Part, out: &mut Vec<(u64, [u8; 8])>) -> Result<(), RebuildError> {
        match part {
            Part::Source { leaf, from, to } => {
                let leaf = self.leaf(*leaf)?;
                let entries = leaf.get(*from as usize..*to as usize).unwrap_or_default();
                out.extend(entries.iter().map(|(key, value)| (*key, value.to_le_bytes())));
            }
            Part::Lost { first, count } => {
                let value = self.filter.error_value().map(u64::to_le_bytes);
                out.extend((0..u64::from(*count)).filter_map(|step| Some((first.checked_add(step)?, value?))));
            }
        }
        Ok(())
    }
}
