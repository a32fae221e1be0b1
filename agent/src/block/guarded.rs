//! A view with places that must not be read.

use super::View;
use std::io;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Another view in which some stretches give an error although their bytes are there: an md bad-block log says that the
/// member holds no valid data in them.
pub struct GuardedView {
    inner: View,
    /// First byte and the byte after the last, sorted, not touching.
    bad: Vec<(u64, u64)>,
}

impl GuardedView {
    /// Forbids the stretches `bad` (offset, length) of `inner`.
    pub fn new(inner: View, bad: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        let mut all: Vec<(u64, u64)> =
            bad.into_iter().map(|(start, length)| (start.0, start.0.saturating_add(length.0))).collect();
        all.sort_unstable();
        let mut bad: Vec<(u64, u64)> = Vec::new();
        for (start, end) in all.into_iter().filter(|(start, end)| start < end) {
            match bad.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => bad.push((start, end)),
            }
        }
        Self { inner, bad }
    }

    /// The first bad stretch that ends behind `offset`.
    fn next_bad(&self, offset: u64) -> Option<(u64, u64)> {
        self.bad.get(self.bad.partition_point(|(_, end)| *end <= offset)).copied()
    }
}

impl ReadAt for GuardedView {
    fn size(&self) -> Bytes {
        self.inner.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.0.saturating_add(buffer.len() as u64);
        match self.next_bad(offset.0) {
            Some((start, _)) if start < end => Err(io::Error::other(format!(
                "byte {}: the bad-block log says it holds no valid data",
                start.max(offset.0)
            ))),
            _ => self.inner.read_at(offset, buffer),
        }
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        let data = self.inner.next_data(offset);
        let bad = self.next_bad(offset.0).map(|(start, _)| Bytes(start.max(offset.0)));
        let first = [data, bad].into_iter().flatten().min()?;
        (first < self.size()).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{ConcatView, Piece};
    use std::sync::Arc;

    #[test]
    fn bad_stretches_are_errors_and_the_rest_is_not() {
        let inner: View = Arc::new(b"0123456789".to_vec());
        let bad = [(Bytes(6), Bytes(2)), (Bytes(2), Bytes(1)), (Bytes(7), Bytes(2)), (Bytes(4), Bytes(0))];
        let view = GuardedView::new(inner, bad);
        let readable = |offset: u64| view.read_at(Bytes(offset), &mut [0; 1]).is_ok();
        let all: Vec<bool> = (0..11).map(readable).collect();
        assert_eq!(all, [true, true, false, true, true, true, false, false, false, true, false]);
        assert!(view.read_at(Bytes(3), &mut [0; 3]).is_ok() && view.read_at(Bytes(3), &mut [0; 4]).is_err());
    }

    #[test]
    fn a_bad_stretch_is_no_hole() {
        let mut hole = ConcatView::new();
        hole.push(Bytes(100), Piece::Zeros).unwrap();
        let view = GuardedView::new(Arc::new(hole), [(Bytes(40), Bytes(10)), (Bytes(200), Bytes(1))]);
        let next = [0, 40, 45, 50].map(|offset| view.next_data(Bytes(offset)));
        assert_eq!(next, [Some(Bytes(40)), Some(Bytes(40)), Some(Bytes(45)), None]);
    }
}
