//! Whether what lies on the target is of the source as it is shown now: looked at in a few small places.
//!
//! A volume of another NAS may have the same name and size, and another generation of a pool is another volume. To read all of the
//! source again would take as long as to copy it.

use crate::extract::file::LostRange;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Places looked at.
pub(super) const PLACES: usize = 64;
/// Bytes looked at in each.
const PIECE: u64 = 4096;

/// Whether both can be read at `at`, and hold other bytes there. What one of them cannot read proves nothing.
pub(super) fn differs(source: &File, target: &File, at: u64, size: u64) -> bool {
    piece(source, at, size).zip(piece(target, at, size)).is_some_and(|(source, target)| source != target)
}

/// Whether the beginning of a range that was lost can be read now.
pub(super) fn is_back(source: &File, lost: &LostRange) -> bool {
    piece(source, lost.offset, lost.end()).is_some()
}

/// Whether a piece at `at` touches what was lost.
pub(super) fn is_in(lost: &[LostRange], at: u64) -> bool {
    lost.iter().any(|range| range.offset < at.saturating_add(PIECE) && at < range.end())
}

/// The first byte of places spread evenly over `size` bytes.
pub(super) fn spread(size: u64) -> impl Iterator<Item = u64> {
    let pieces = size.div_ceil(PIECE).div_ceil(PLACES as u64).max(1);
    let step = pieces.saturating_mul(PIECE);
    (0..size).step_by(usize::try_from(step).unwrap_or(usize::MAX))
}

fn piece(file: &File, at: u64, end: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(at).min(PIECE)).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_spread() {
        for size in [0, 1, 4096, 1 << 20, (1 << 40) + 5, u64::MAX / 2] {
            let places: Vec<u64> = spread(size).collect();
            assert!(places.len() <= PLACES && places.iter().all(|at| *at < size), "{size}: {places:?}");
        }
        assert_eq!(spread(1 << 20).count(), PLACES);
    }

    #[test]
    fn only_what_both_can_read_differs() {
        let file = |bytes: &[u8]| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, 0).unwrap();
            file
        };
        let (one, other, short) = (file(&[1; 8192]), file(&[2; 8192]), file(&[3; 4096]));
        assert!(differs(&one, &other, 0, 8192) && !differs(&one, &one, 0, 8192) && !differs(&one, &short, 4096, 8192));
        let lost = LostRange { offset: 4096, length: 4096 };
        assert!(is_back(&one, &lost) && !is_back(&short, &lost));
        assert!(is_in(&[lost], 4096) && is_in(&[lost], 1) && !is_in(&[lost], 0) && !is_in(&[lost], 8192));
    }
}
