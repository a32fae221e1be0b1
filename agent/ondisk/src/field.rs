//! Reading and writing single fields at fixed places: each decoder's table of offsets becomes one call per line, and a
//! structure cut short is an error that names the field.

use crate::DecodeError;
use byteorder::{BigEndian, ByteOrder, LittleEndian};

/// The bytes of one structure, with its name for errors.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    structure: &'a str,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Fields of `bytes`, called `structure` in errors.
    pub fn new(structure: &'a str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes }
    }

    /// `length` bytes at `offset`.
    ///
    /// # Errors
    /// When the structure is too short.
    pub fn bytes(&self, field: &'static str, offset: usize, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = offset.checked_add(length);
        end.and_then(|end| self.bytes.get(offset..end)).ok_or_else(|| {
            self.error(field, offset, format!("{length} bytes"), format!("a structure of {} bytes", self.bytes.len()))
        })
    }

    /// A fixed number of bytes at `offset`; errors as [`Fields::bytes`].
    pub fn array<const N: usize>(&self, field: &'static str, offset: usize) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(field, offset, N)?);
        Ok(array)
    }

    /// A little-endian 16-bit number; errors as [`Fields::bytes`].
    pub fn u16(&self, field: &'static str, offset: usize) -> Result<u16, DecodeError> {
        self.bytes(field, offset, 2).map(LittleEndian::read_u16)
    }

    /// A little-endian 32-bit number; errors as [`Fields::bytes`].
    pub fn u32(&self, field: &'static str, offset: usize) -> Result<u32, DecodeError> {
        self.bytes(field, offset, 4).map(LittleEndian::read_u32)
    }

    /// A little-endian signed 32-bit number; errors as [`Fields::bytes`].
    pub fn i32(&self, field: &'static str, offset: usize) -> Result<i32, DecodeError> {
        self.bytes(field, offset, 4).map(LittleEndian::read_i32)
    }

    /// A little-endian 64-bit number; errors as [`Fields::bytes`].
    pub fn u64(&self, field: &'static str, offset: usize) -> Result<u64, DecodeError> {
        self.bytes(field, offset, 8).map(LittleEndian::read_u64)
    }

    /// A big-endian 32-bit number; errors as [`Fields::bytes`].
    pub fn u32_be(&self, field: &'static str, offset: usize) -> Result<u32, DecodeError> {
        self.bytes(field, offset, 4).map(BigEndian::read_u32)
    }

    /// A big-endian 64-bit number; errors as [`Fields::bytes`].
    pub fn u64_be(&self, field: &'static str, offset: usize) -> Result<u64, DecodeError> {
        self.bytes(field, offset, 8).map(BigEndian::read_u64)
    }

    /// Checks that `offset` holds exactly `magic`.
    ///
    /// # Errors
    /// When it holds anything else.
    pub fn magic(&self, field: &'static str, offset: usize, magic: &[u8]) -> Result<(), DecodeError> {
        let found = self.bytes(field, offset, magic.len())?;
        if found == magic { Ok(()) } else { Err(self.error(field, offset, hex(magic), hex(found))) }
    }

    /// An error about a field of this structure.
    pub fn error(
        &self,
        field: &'static str,
        offset: usize,
        expected: impl ToString,
        found: impl ToString,
    ) -> DecodeError {
        DecodeError::new(self.structure, field, offset, expected, found)
    }
}

/// Writes `value` at `offset`, growing `buffer` with zeros when it is shorter.
pub fn put(buffer: &mut Vec<u8>, offset: usize, value: &[u8]) {
    let end = offset.saturating_add(value.len());
    if buffer.len() < end {
        buffer.resize(end, 0);
    }
    if let Some(place) = buffer.get_mut(offset..end) {
        place.copy_from_slice(value);
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]));
    text
}
