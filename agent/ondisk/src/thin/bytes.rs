//! Writing little-endian fields into a block of fixed size. Reading is [`crate::field`].

/// Writes a field; one that lies outside the block is left out, as encoders size their blocks themselves.
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
