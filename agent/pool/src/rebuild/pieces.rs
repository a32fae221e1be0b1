//! The tier tree's entries, judged: which can be taken over, and which pieces of the pool are lost.

use super::report::{LostPiece, PieceReason};
use crate::counts::Counts;
use crate::fault::KeyRange;
use crate::pool::{Pool, Step};
use std::convert::Infallible;
use tierlift_ondisk::thin::{MAX_TIERS, TierValue};
use tierlift_ondisk::units::{Chunk, Sectors};

/// An entry of the tier tree, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Kept(u64, TierValue),
    Lost(LostPiece),
}

/// The tier tree with what each tier block is used for.
pub(super) struct Pieces<'a> {
    pool: &'a Pool,
    /// Keys from here on lie beyond the pool: kernels refuse or, older ones, write beyond their own tables.
    limit: u64,
    /// How many entries name each block of each tier.
    pub named: [Counts; MAX_TIERS],
}

impl<'a> Pieces<'a> {
    pub(super) fn new(pool: &'a Pool) -> Self {
        let superblock = pool.superblock();
        let sectors = pool.chunks().saturating_mul(pool.chunk_size().0);
        let limit = sectors.checked_div(superblock.tier_block_size.0).unwrap_or(0);
        let declared = superblock.tier_num as usize;
        let mut tier = 0..MAX_TIERS;
        let blocks = superblock.tier_maps.map(|map| if tier.next() < Some(declared) { map.nr_blocks } else { 0 });
        let mut pieces = Self { pool, limit, named: blocks.map(Counts::new) };
        pieces.count();
        pieces
    }

    fn count(&mut self) {
        let (limit, named) = (self.limit, &mut self.named);
        let done: Result<(), Infallible> = self.pool.tiers(|step| {
            let Step::Found(key, value) = step else { return Ok(()) };
            if let Some(counts) = named.get_mut(usize::from(value.tier)).filter(|_| key < limit) {
                counts.add(value.block.0);
            }
            Ok(())
        });
        let Ok(()) = done;
    }

    /// Every entry and every hole, in key order.
    pub(super) fn visit<E>(&self, mut visit: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        self.pool.tiers(|step| {
            visit(match step {
                Step::Lost(hole) => Piece::Lost(LostPiece { keys: hole.keys, reason: PieceReason::Hole(hole.clone()) }),
                Step::Found(key, value) => self.judge(key, value),
            })
        })
    }

    fn judge(&self, key: u64, value: TierValue) -> Piece {
        let lost = |reason| Piece::Lost(LostPiece { keys: KeyRange { first: key, last: key }, reason });
        let (tier, block) = (value.tier, value.block);
        let counts = self.named.get(usize::from(tier)).filter(|counts| block.0 < counts.len());
        match counts.map(|counts| counts.get(block.0)) {
            _ if key >= self.limit => lost(PieceReason::BeyondPool { pieces: self.limit }),
            None => lost(PieceReason::NoSuchBlock { tier, block }),
            Some(1) => Piece::Kept(key, value),
            // At most one of them is right, and nothing tells which.
            Some(_) => lost(PieceReason::NamedTwice { tier, block }),
        }
    }
}

/// The parts of the pool's address space whose place on the tiers is lost, as tier tree keys: ascending, not touching.
#[derive(Debug, Default)]
pub(super) struct LostPieces {
    keys: Vec<KeyRange>,
    chunk: Sectors,
    piece: Sectors,
}

impl LostPieces {
    pub(super) fn new(pieces: &Pieces<'_>) -> Self {
        let mut keys: Vec<KeyRange> = Vec::new();
        let done: Result<(), Infallible> = pieces.visit(|piece| {
            if let Piece::Lost(lost) = piece {
                match keys.last_mut() {
                    Some(last) if last.last.checked_add(1) == Some(lost.keys.first) => last.last = lost.keys.last,
                    _ => keys.push(lost.keys),
                }
            }
            Ok(())
        });
        let Ok(()) = done;
        let superblock = pieces.pool.superblock();
        Self { keys, chunk: superblock.chunk_size, piece: superblock.tier_block_size }
    }

    /// Whether any sector of a chunk lies in one.
    pub(super) fn touch(&self, chunk: Chunk) -> bool {
        if self.keys.is_empty() {
            return false;
        }
        let piece = |sector: u64| sector.checked_div(self.piece.0).unwrap_or(0);
        let start = chunk.0.saturating_mul(self.chunk.0);
        let (first, last) = (piece(start), piece(start.saturating_add(self.chunk.0).saturating_sub(1)));
        let next = self.keys.partition_point(|keys| keys.last < first);
        self.keys.get(next).is_some_and(|keys| keys.first <= last)
    }
}
