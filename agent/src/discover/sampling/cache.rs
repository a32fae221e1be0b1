//! Members read once, however many orders of them are tried.

use crate::block::View;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Bytes that are kept together: a large block of pool metadata.
const PAGE: u64 = 8192;

/// A view that remembers what was read of it. Meant for a few samples: nothing is ever forgotten.
pub(in crate::discover) struct Remembered {
    inner: View,
    /// By their number; `None` for pages that cannot be read in one go.
    pages: Mutex<BTreeMap<u64, Option<Vec<u8>>>>,
}

impl Remembered {
    pub(in crate::discover) fn new(inner: View) -> Self {
        Self { inner, pages: Mutex::default() }
    }

    fn read_page(&self, number: u64) -> Option<Vec<u8>> {
        let start = number.checked_mul(PAGE)?;
        let length = PAGE.min(self.inner.size().0.checked_sub(start)?);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.inner.read_at(Bytes(start), &mut bytes).ok().map(|()| bytes)
    }

    /// A stretch of one page; false when the page is not to be had.
    fn copy(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Ok(mut pages) = self.pages.lock() else { return false };
        let number = offset / PAGE;
        let page = pages.entry(number).or_insert_with(|| self.read_page(number));
        let inside = usize::try_from(offset % PAGE).unwrap_or(usize::MAX);
        let bytes = page.as_ref().and_then(|page| page.get(inside..inside.checked_add(buffer.len())?));
        bytes.is_some_and(|bytes| {
            buffer.copy_from_slice(bytes);
            true
        })
    }
}

impl ReadAt for Remembered {
    fn size(&self) -> Bytes {
        self.inner.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let in_one = (offset.0 % PAGE).saturating_add(buffer.len() as u64) <= PAGE;
        if in_one && self.copy(offset.0, buffer) { Ok(()) } else { self.inner.read_at(offset, buffer) }
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        self.inner.next_data(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::GuardedView;
    use std::sync::Arc;

    #[test]
    fn it_reads_as_what_it_remembers() {
        let bytes: Vec<u8> = (0..20_000u32).map(|number| (number / 7) as u8).collect();
        let inner: View = Arc::new(bytes.clone());
        let view = Remembered::new(Arc::new(GuardedView::new(inner, [(Bytes(9000), Bytes(10))])));
        for (offset, length) in [(0, 8192), (8, 100), (8190, 4), (8192, 500), (16_384, 3616), (19_999, 1)] {
            for _ in 0..2 {
                let mut read = vec![0; length];
                view.read_at(Bytes(offset as u64), &mut read).unwrap();
                assert_eq!(read, bytes[offset..][..length]);
            }
        }
        assert!(view.read_at(Bytes(9005), &mut [0; 1]).is_err() && view.read_at(Bytes(20_000), &mut [0; 1]).is_err());
    }
}
