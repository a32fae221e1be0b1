//! The read-only view: the one small type through which every layer reads the layer above it.

use crate::units::Bytes;
use std::io;

/// Something of fixed size that can be read at any place and never written.
///
/// Implementations exist for files and block devices, for parts of another view, for LVM volumes put together from many
/// places, and for memory. A place that cannot be read is an error, never zeros.
pub trait ReadAt {
    /// Size of the view.
    fn size(&self) -> Bytes;

    /// Fills `buffer` from `offset` bytes on.
    ///
    /// # Errors
    /// When any byte of the range lies beyond the end (`UnexpectedEof`) or cannot be read.
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()>;

    /// The first byte from `offset` on that is not known to be part of a hole, which reads as zeros; `None` when nothing but
    /// a hole follows. Quick, so that a sparse file can be searched in the time its data take. A place that cannot be read is
    /// no hole.
    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        (offset < self.size()).then_some(offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> Bytes {
        Bytes(self.len() as u64)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset.0).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> Bytes {
        self.as_slice().size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> Bytes {
        (**self).size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        (**self).next_data(offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn size(&self) -> Bytes {
        (**self).size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        (**self).next_data(offset)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Box<T> {
    fn size(&self) -> Bytes {
        (**self).size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buffer)
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        (**self).next_data(offset)
    }
}
