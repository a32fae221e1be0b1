//! The state of a volume's chunks, drawn small.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use tierlift_ondisk::units::Bytes;

/// Cells of a drawing.
const CELLS: u64 = 120;

/// What became of a stretch of a volume. The worst one shows in a cell that holds several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkState {
    /// Nothing was ever written there.
    #[default]
    NeverWritten,
    /// Its mapping is there.
    Whole,
    /// Its mapping is lost: reading gives errors.
    Lost,
}

impl ChunkState {
    /// One sign, for people.
    pub fn sign(self) -> char {
        match self {
            Self::NeverWritten => '.',
            Self::Whole => '#',
            Self::Lost => '!',
        }
    }
}

/// A volume from its beginning to its end, in cells of the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkMap {
    /// "vg1/lv1".
    pub volume: String,
    /// Chunks whose mapping is there.
    pub whole: u64,
    /// Chunks whose mapping is lost, at most.
    pub lost: u64,
    /// Chunks nothing was ever written to.
    pub never_written: u64,
    /// Bytes of a chunk; 0 in cases of older versions, which did not keep it.
    #[serde(default)]
    pub chunk: u64,
    /// The drawing.
    pub cells: Vec<ChunkState>,
}

impl ChunkMap {
    /// An empty one.
    pub fn new(volume: String) -> Self {
        let cells = vec![ChunkState::default(); usize::try_from(CELLS).unwrap_or_default()];
        Self { volume, cells, ..Self::default() }
    }

    /// What was ever written to a volume and can be read, at most; `None` when nobody drew it.
    pub fn held(maps: &[Self], volume: &str) -> Option<Bytes> {
        let map = maps.iter().find(|map| map.volume == volume && map.chunk > 0)?;
        map.whole.checked_mul(map.chunk).map(Bytes)
    }

    /// Enters the state of a range of a volume of `size` bytes with chunks of `chunk` bytes.
    pub fn add(&mut self, state: ChunkState, range: Range<Bytes>, size: Bytes, chunk: Bytes) {
        self.chunk = chunk.0;
        let count = match state {
            ChunkState::NeverWritten => &mut self.never_written,
            ChunkState::Whole => &mut self.whole,
            ChunkState::Lost => &mut self.lost,
        };
        let chunks = range.end.0.saturating_sub(range.start.0).div_ceil(chunk.0.max(1));
        *count = count.saturating_add(chunks);
        let cell = |byte: u64| {
            let place = u128::from(byte).saturating_mul(u128::from(CELLS)).checked_div(u128::from(size.0)).unwrap_or(0);
            usize::try_from(place).unwrap_or(usize::MAX)
        };
        let (first, last) = (cell(range.start.0), cell(range.end.0.saturating_sub(1)));
        for here in self.cells.iter_mut().take(last.saturating_add(1)).skip(first) {
            *here = state.max(*here);
        }
    }

    /// The counts in a sentence.
    pub fn told(&self) -> String {
        format!(
            "{}: {} chunks whole, {} lost, {} never written",
            self.volume, self.whole, self.lost, self.never_written
        )
    }

    /// The drawing in signs.
    pub fn drawn(&self) -> String {
        self.cells.iter().map(|cell| cell.sign()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_shows() {
        let mut map = ChunkMap::new("vg1/lv1".into());
        let (size, chunk) = (Bytes(1200), Bytes(1));
        map.add(ChunkState::Whole, Bytes(0)..Bytes(605), size, chunk);
        map.add(ChunkState::Lost, Bytes(605)..Bytes(606), size, chunk);
        map.add(ChunkState::NeverWritten, Bytes(606)..Bytes(1200), size, chunk);
        assert_eq!(map.drawn(), format!("{}!{}", "#".repeat(60), ".".repeat(59)));
        assert_eq!(map.told(), "vg1/lv1: 605 chunks whole, 1 lost, 594 never written");
        let maps = [ChunkMap::new("vg1/lv2".into()), map];
        assert_eq!(ChunkMap::held(&maps, "vg1/lv1"), Some(Bytes(605)));
        assert_eq!(ChunkMap::held(&maps, "vg1/lv2"), None, "nothing was drawn");
    }

    #[test]
    fn impossible_ranges_are_survived() {
        let mut map = ChunkMap::new(String::new());
        map.add(ChunkState::Lost, Bytes(u64::MAX - 1)..Bytes(u64::MAX), Bytes(0), Bytes(0));
        map.add(ChunkState::Lost, Bytes(5)..Bytes(3), Bytes(1), Bytes(u64::MAX));
        assert_eq!(map.cells.len(), 120);
    }
}
