//! The one error of all decoders.

/// Why bytes could not be decoded: what was read, where, what was expected there and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{structure}: {field} at byte {offset}: expected {expected}, found {found}")]
pub struct DecodeError {
    /// The structure, with its place when it has one: "superblock", "node 41016".
    pub structure: String,
    /// The field that is wrong.
    pub field: &'static str,
    /// Byte offset of the field inside the structure.
    pub offset: usize,
    /// What a sound structure has here.
    pub expected: String,
    /// What is here.
    pub found: String,
}

impl DecodeError {
    /// Builds an error; `expected` and `found` are shown to people.
    pub fn new(
        structure: impl Into<String>,
        field: &'static str,
        offset: usize,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self { structure: structure.into(), field, offset, expected: expected.to_string(), found: found.to_string() }
    }
}
