//! Metadata of thin pools: QNAP's tier pools (superblock versions 1 to 4, blocks of 4096 or 8192 bytes) and those of stock
//! Linux (versions 1 and 2, 4096 bytes). See docs/on-disk-format.
//!
//! All integers are little-endian and all structures packed. Every block in use begins alike: a checksum whose constant tells
//! the type of the block, and at byte 8 the block's own number, so that a block found in a wrong place can be told.

mod block;
mod bytes;
mod checksum;
mod details;
mod mapping;
mod node;
pub mod ring;
mod space_map;
mod superblock;
mod tier;

pub use block::{BlockSize, Family};
pub use checksum::{BlockKind, checksum, identify, own_number, seal, stored_checksum};
pub use details::{CloneRecord, DetailsSize, DeviceDetails, NO_ORIGIN};
pub use mapping::MappingValue;
pub use node::{Node, NodeKind, encode_node, max_entries};
pub use space_map::{Bitmap, IndexBlock, IndexEntry, SpaceMapRoot, index_entries};
pub use superblock::{MAGIC, MAX_TIERS, SUPERBLOCK_BYTES, Superblock, flags};
pub use tier::TierValue;
