//! The data device for a pool in stock Linux's form: the pool's address space, put together from the tiers.

use super::pieces::{Piece, Pieces};
use crate::mode::Mode;
use crate::pool::Pool;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fmt;
use tierlift_ondisk::units::{Chunk, Sectors};

/// What lies behind a stretch of the data device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "snake_case")]
pub enum Target {
    /// A tier device, from this sector on.
    Linear {
        /// The tier; 0 for the one data device of a pool without tiers.
        tier: u8,
        /// First sector on it.
        offset: Sectors,
    },
    /// Never written: zeros.
    Zero,
    /// Lost: every read fails.
    Error,
}

/// A stretch of the data device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// First sector.
    pub start: Sectors,
    /// Length.
    pub length: Sectors,
    /// What lies behind it.
    #[serde(flatten)]
    pub target: Target,
}

/// A line of a device-mapper table; tier devices stand as `tierdata_N`, to be replaced by their paths.
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.start, self.length)?;
        match self.target {
            Target::Linear { tier, offset } => write!(f, "linear tierdata_{tier} {offset}"),
            Target::Zero => f.write_str("zero"),
            Target::Error => f.write_str("error"),
        }
    }
}

/// Segments in order; neighbours that continue each other become one.
#[derive(Debug, Default)]
struct Layout {
    segments: Vec<Segment>,
    end: u64,
}

impl Layout {
    /// Appends `target` from the end so far up to `end`.
    fn up_to(&mut self, end: u64, target: Target) {
        let length = end.saturating_sub(self.end);
        if length == 0 {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if continues(last, target) => last.length = Sectors(last.length.0.saturating_add(length)),
            _ => self.segments.push(Segment { start: Sectors(self.end), length: Sectors(length), target }),
        }
        self.end = end;
    }
}

fn continues(last: &Segment, target: Target) -> bool {
    match (last.target, target) {
        (Target::Linear { tier, offset }, Target::Linear { tier: next, offset: at }) => {
            tier == next && offset.checked_add(last.length) == Some(at)
        }
        (one, other) => one == other,
    }
}

/// The data device; with an error chunk it is longer than the pool's address space by that.
pub(super) fn layout(pool: &Pool, pieces: &Pieces<'_>, mode: Mode, error_chunk: Option<Chunk>) -> Vec<Segment> {
    let end = pool.chunks().saturating_mul(pool.chunk_size().0);
    let mut layout = Layout::default();
    let straight = |tier| Target::Linear { tier, offset: Sectors(0) };
    match mode {
        Mode::Plain => layout.up_to(end, straight(0)),
        Mode::Bypass { tier } => layout.up_to(end, straight(tier)),
        // No chunk is said to be in use; a mapping that exists all the same cannot be trusted.
        Mode::Empty | Mode::Undecided => layout.up_to(end, Target::Error),
        Mode::TierMap => through_tree(&mut layout, pool.superblock().tier_block_size, pieces, end),
    }
    // A piece of the pool that has no tier block was never written.
    layout.up_to(end, Target::Zero);
    if error_chunk.is_some() {
        layout.up_to(end.saturating_add(pool.chunk_size().0), Target::Error);
    }
    layout.segments
}

fn through_tree(layout: &mut Layout, size: Sectors, pieces: &Pieces<'_>, end: u64) {
    let sector = |key: u64| key.saturating_mul(size.0).min(end);
    let done: Result<(), Infallible> = pieces.visit(|piece| {
        let (first, last, target) = match piece {
            Piece::Kept(key, value) => {
                let offset = Sectors(value.block.0.saturating_mul(size.0));
                (key, key, Target::Linear { tier: value.tier, offset })
            }
            Piece::Lost(lost) => (lost.keys.first, lost.keys.last, Target::Error),
        };
        layout.up_to(sector(first), Target::Zero);
        layout.up_to(sector(last.saturating_add(1)), target);
        Ok(())
    });
    let Ok(()) = done;
}
