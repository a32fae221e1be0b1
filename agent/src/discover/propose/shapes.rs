//! The shapes that are tried: level, chunk size, layout, number of members.

use super::candidates::Candidates;
use super::rows::Parity;
use std::collections::BTreeSet;
use tierlift_ondisk::raid::Geometry;
use tierlift_ondisk::units::Sectors;

/// Chunk sizes: 4 KiB to 1 MiB.
const CHUNKS: [u64; 9] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048];

/// A shape of array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) level: i32,
    pub(super) chunk: Sectors,
    pub(super) layout: u32,
    pub(super) members: usize,
}

impl Shape {
    pub(super) fn mirror(members: usize) -> Self {
        Self { level: 1, chunk: Sectors(0), layout: 0, members }
    }

    fn parities(&self) -> usize {
        match self.level {
            5 | 4 => 1,
            6 => 2,
            _ => 0,
        }
    }

    /// What decides which sectors of the members a place on the array lies at.
    pub(super) fn grid(&self) -> (usize, Sectors) {
        (self.members.saturating_sub(self.parities()), self.chunk)
    }

    /// Members that are not among the candidates.
    pub(super) fn missing(&self, candidates: &Candidates) -> usize {
        self.members.saturating_sub(candidates.disks.len())
    }

    pub(super) fn geometry(&self, candidates: &Candidates) -> Option<Geometry> {
        let components = vec![candidates.component(self.chunk); self.members];
        Geometry::new(self.level, self.layout, self.chunk, &components).ok()
    }
}

/// All shapes for these disks.
pub(super) fn all(candidates: &Candidates, parity: Parity) -> Vec<Shape> {
    if let Some(frame) = &candidates.frame {
        return vec![frame.shape.clone()];
    }
    let n = candidates.disks.len();
    let more = |missing: usize| n.saturating_add(missing);
    let kinds: Vec<(i32, usize)> = match parity {
        Parity::Single(_) => vec![(5, n)],
        Parity::Double => vec![(6, n)],
        Parity::Mirror => Vec::new(),
        // Stripes; or arrays with as many members missing as they can do without.
        Parity::None => vec![(0, n), (5, more(1)), (6, more(1)), (6, more(2))],
    };
    let mut shapes = Vec::new();
    for (level, members) in kinds {
        let layouts: &[u32] = if level == 0 { &[0] } else { &[2, 0, 1, 3] };
        for chunk in CHUNKS {
            shapes.extend(layouts.iter().map(|layout| Shape {
                level,
                chunk: Sectors(chunk),
                layout: *layout,
                members,
            }));
        }
    }
    shapes
}

pub(super) fn grids(shapes: &[Shape]) -> BTreeSet<(usize, Sectors)> {
    shapes.iter().map(Shape::grid).collect()
}
