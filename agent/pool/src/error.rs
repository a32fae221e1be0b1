//! Why a pool cannot be opened.

use crate::reader::list;
use crate::ring::{CopyPlace, Ring};
use crate::salvage::Generation;
use std::fmt;
use tierlift_ondisk::DecodeError;
use tierlift_ondisk::units::DeviceId;

/// Why a device is not a pool that can be opened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Not even one metadata block.
    #[error(
        "only {0} bytes long, but the smallest pool metadata has 4096: not a metadata device, or a copy that was cut short"
    )]
    TooShort(u64),
    /// The device gave an error on block 0.
    #[error("the superblock (the first block) cannot be read: {error}. {copies}")]
    Unreadable {
        /// What the device said.
        error: String,
        /// The copies found.
        copies: Copies,
    },
    /// The superblock is all zeros.
    #[error(
        "the superblock (the first 8192 bytes) is all zeros: wiped, never written, or not a metadata device. Never activate \
         it in this state: a kernel would format it and wipe the copies too. {0}"
    )]
    Zeroed(Copies),
    /// Zeros, and nothing else that would be metadata.
    #[error(
        "the first 8192 bytes are all zeros, there is no metadata block in the first MiB and no copy of the superblock at the \
         end: most likely a data device, or a device that was wiped. Give the pool's metadata device (its name ends in \
         _tmeta), not a data device"
    )]
    Blank,
    /// The superblock is damaged.
    #[error("the superblock is damaged: {what}. {copies}")]
    Damaged {
        /// What is wrong.
        what: String,
        /// The copies found.
        copies: Copies,
    },
    /// Something else.
    #[error(
        "this is not the metadata of a pool{}. Give the pool's metadata device (its name ends in _tmeta), not a data device",
        .0.map(|name| format!("; it looks like {name}")).unwrap_or_default()
    )]
    NotMetadata(Option<&'static str>),
    /// A version nobody knows.
    #[error(
        "the superblock is of version {0}; this program knows 1 to 4. Look for a newer tierlift; nothing was read with guesses"
    )]
    Version(u32),
    /// A feature nobody knows.
    #[error(
        "the superblock asks for features ({0:#x}) that this program does not know and must not ignore. Look for a newer tierlift"
    )]
    Incompatible(u32),
    /// Checksum right, content impossible.
    #[error(
        "{0}; its checksum is right, so this was written so: a pool made by other software, or metadata tampered with"
    )]
    Impossible(DecodeError),
    /// A generation that is not there.
    #[error("the pool has no such generation as {0}; pool generations lists all there are, by the names to use here")]
    NoSuchGeneration(Generation),
    /// A device that one generation does not have.
    #[error(
        "device {device} cannot be taken from {generation}: it did not exist there, or the root of its tree is lost. That \
         generation has the devices {}", list(.known)
    )]
    NotInGeneration {
        /// The device.
        device: DeviceId,
        /// The generation.
        generation: Generation,
        /// Devices it has.
        known: Vec<DeviceId>,
    },
}

/// The copies of a lost superblock, as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Valid copies in the ring.
    pub count: usize,
    /// The newest.
    pub newest: Option<CopyPlace>,
}

impl From<&Ring> for Copies {
    fn from(ring: &Ring) -> Self {
        Self { count: ring.copies.len(), newest: ring.newest_place() }
    }
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.newest {
            Some(newest) => write!(
                f,
                "{} valid copies of the superblock were found at the end; the newest is {newest}. The repair verbs \
                 (pool generations, pool repair) will use them; keep this file as it is",
                self.count
            ),
            None => f.write_str(
                "No valid copy of the superblock was found at the end. If this is pool metadata, the repair verbs (pool \
                 generations, pool repair) will search all of it; keep this file as it is",
            ),
        }
    }
}
