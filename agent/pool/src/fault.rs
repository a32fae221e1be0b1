//! Why a metadata block cannot be used, and which keys are lost with it.

use serde::{Serialize, Serializer};
use std::fmt;
use tierlift_ondisk::DecodeError;
use tierlift_ondisk::thin::BlockKind;
use tierlift_ondisk::units::MetaBlock;

/// Keys of a tree, both ends included, so that the whole key space can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct KeyRange {
    /// First key.
    pub first: u64,
    /// Last key.
    pub last: u64,
}

impl KeyRange {
    /// Every key there can be.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    /// Whether the key lies inside.
    pub fn contains(&self, key: u64) -> bool {
        (self.first..=self.last).contains(&key)
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (0, u64::MAX) => f.write_str("all"),
            (first, u64::MAX) => write!(f, "{first} and up"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first} to {last}"),
        }
    }
}

/// What is wrong with a metadata block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The pointer leads to block 0 or beyond the metadata.
    #[error("the pointer leads outside the metadata, which has {0} blocks")]
    OutOfRange(u64),
    /// Not even the number of the block is known.
    #[error(
        "the node that pointed here is lost and no node with these keys was found, or what lies here now is of another time"
    )]
    Void,
    /// The file ends before the block.
    #[error("the metadata file ends before it, after {0} blocks")]
    CutShort(u64),
    /// The device gave an error.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Nothing but zeros.
    #[error("it is all zeros")]
    Zeroed,
    /// The checksum fits no kind of block.
    #[error("its checksum is wrong")]
    Checksum,
    /// A sound block of another kind.
    #[error("it is a {found}, not a {expected}", found = .found.name(), expected = .expected.name())]
    Kind {
        /// What the pointer promised.
        expected: BlockKind,
        /// What is there.
        found: BlockKind,
    },
    /// A sound block that belongs elsewhere.
    #[error("it carries the number of block {0}: a block from another place")]
    Displaced(MetaBlock),
    /// The checksum is right but the content is impossible.
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    /// A leaf of another tree.
    #[error("its values are {found} bytes long, not {expected}")]
    ValueSize {
        /// Lengths this tree may have.
        expected: String,
        /// Length found.
        found: usize,
    },
    /// A key that its parent does not allow.
    #[error("it holds key {key}, but its parent allows {window}")]
    KeyOutside {
        /// The first such key.
        key: u64,
        /// What the parent allows.
        window: KeyRange,
    },
    /// A node of another tree.
    #[error("it already belongs to {0}")]
    OtherTree(&'static str),
    /// Only the root of a tree may be empty.
    #[error("it is empty")]
    Empty,
    /// The tree leads back to one of its own ancestors.
    #[error("the tree leads in a circle here")]
    Loop,
    /// Deeper than any tree can be.
    #[error("the tree is deeper than a tree of this size can be")]
    TooDeep,
    /// More pointers were followed than the metadata has blocks.
    #[error("the tree has more nodes than the metadata has blocks")]
    Endless,
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A hole in a tree: the keys that cannot be known because a block cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The keys that may have been there.
    pub keys: KeyRange,
    /// The block.
    pub block: MetaBlock,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What a walk found, and exactly what it could not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk<T> {
    /// In key order.
    pub found: Vec<(u64, T)>,
    /// The holes, in key order.
    pub lost: Vec<Lost>,
}

impl<T> Default for Walk<T> {
    fn default() -> Self {
        Self { found: Vec::new(), lost: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_like_people_write_them() {
        let text = |first, last| KeyRange { first, last }.to_string();
        assert_eq!(text(0, u64::MAX), "all");
        assert_eq!(text(5, u64::MAX), "5 and up");
        assert_eq!(text(5, 5), "5");
        assert_eq!(text(5, 9), "5 to 9");
    }
}
