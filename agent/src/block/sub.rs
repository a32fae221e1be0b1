//! A part of a view.

use std::io;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// The bytes `offset .. offset + length` of another view.
#[derive(Debug)]
pub struct SubView<V> {
    inner: V,
    offset: Bytes,
    length: Bytes,
}

impl<V: ReadAt> SubView<V> {
    /// Cuts a part out of `inner`.
    ///
    /// # Errors
    /// When the part does not lie inside `inner`.
    pub fn new(inner: V, offset: Bytes, length: Bytes) -> io::Result<Self> {
        match offset.checked_add(length) {
            Some(end) if end <= inner.size() => Ok(Self { inner, offset, length }),
            _ => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("bytes {offset}+{length} do not fit: there are only {} bytes", inner.size()),
            )),
        }
    }
}

impl<V: ReadAt> ReadAt for SubView<V> {
    fn size(&self) -> Bytes {
        self.length
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(Bytes(buffer.len() as u64));
        match (end, self.offset.checked_add(offset)) {
            (Some(end), Some(start)) if end <= self.length => self.inner.read_at(start, buffer),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        let found = self.inner.next_data(self.offset.checked_add(offset)?)?;
        found.checked_sub(self.offset).filter(|found| *found < self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_cannot_see_its_neighbours() {
        let part = SubView::new(b"0123456789".to_vec(), Bytes(2), Bytes(4)).unwrap();
        let mut bytes = [0; 4];
        part.read_at(Bytes(0), &mut bytes).unwrap();
        assert_eq!(&bytes, b"2345");
        assert!(part.read_at(Bytes(1), &mut bytes).is_err());
        assert!(part.read_at(Bytes(u64::MAX), &mut bytes).is_err());
    }

    #[test]
    fn data_is_told_in_the_part_s_own_bytes() {
        let part = SubView::new(vec![0; 10], Bytes(2), Bytes(4)).unwrap();
        let told = [0, 3, 4, u64::MAX].map(|offset| part.next_data(Bytes(offset)));
        assert_eq!(told, [Some(Bytes(0)), Some(Bytes(3)), None, None]);
    }

    #[test]
    fn a_part_beyond_the_end_is_refused() {
        assert!(SubView::new(vec![0; 10], Bytes(8), Bytes(3)).is_err());
        assert!(SubView::new(vec![0; 10], Bytes(u64::MAX), Bytes(3)).is_err());
    }
}
