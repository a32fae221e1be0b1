//! Little-endian fields at fixed offsets, with errors that say which field of what is missing.

use crate::error::DecodeError;
use byteorder::{ByteOrder, LittleEndian};

/// Reads fields of one structure; the structure's name is only put together when something is wrong.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    structure: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { bytes, structure }
    }

    fn take(&self, field: &'static str, offset: usize, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = offset.saturating_add(length);
        self.bytes.get(offset..end).ok_or_else(|| {
            DecodeError::new(
                self.structure,
                field,
                offset,
                format_args!("{length} bytes"),
                format_args!("the end at byte {}", self.bytes.len()),
            )
        })
    }

    pub(super) fn u32(&self, field: &'static str, offset: usize) -> Result<u32, DecodeError> {
        self.take(field, offset, 4).map(LittleEndian::read_u32)
    }

    pub(super) fn u64(&self, field: &'static str, offset: usize) -> Result<u64, DecodeError> {
        self.take(field, offset, 8).map(LittleEndian::read_u64)
    }

    pub(super) fn array<const N: usize>(&self, field: &'static str, offset: usize) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(field, offset, N)?);
        Ok(out)
    }
}

/// Writes a field; one that lies outside the buffer is left out, as encoders size their buffers themselves.
pub(super) fn put(out: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = out.get_mut(offset..offset.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

pub(super) fn put_u32(out: &mut [u8], offset: usize, value: u32) {
    put(out, offset, &value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut [u8], offset: usize, value: u64) {
    put(out, offset, &value.to_le_bytes());
}
