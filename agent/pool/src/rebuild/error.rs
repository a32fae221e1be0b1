//! Why new metadata cannot be written.

use crate::fault::Fault;
use std::io;
use tierlift_ondisk::units::MetaBlock;

/// Why new metadata cannot be written. What is lost in the source is no error: it is in the report.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The output gave an error.
    #[error("block {block} of the new metadata cannot be written: {error}. Is the disk full?")]
    Write {
        /// The block.
        block: MetaBlock,
        /// What the output said.
        error: io::Error,
    },
    /// A block could be read at first and not any more.
    #[error(
        "block {block} was sound when it was first read, and now {fault}: the source is failing or being changed. Copy it to \
         a sound disk first (ddrescue), then repair the copy"
    )]
    Changed {
        /// The block.
        block: MetaBlock,
        /// What is wrong now.
        fault: Fault,
    },
    /// It does not fit.
    #[error(
        "the new metadata need at least {needed} blocks, but the metadata device has {room} (of {bytes} bytes, with the \
         places of the superblock copies left out). Nothing was written that could be used"
    )]
    NoRoom {
        /// Blocks wanted.
        needed: u64,
        /// Blocks there are.
        room: u64,
        /// Block size.
        bytes: usize,
    },
    /// How the pool lies on its devices must be known for this format.
    #[error(
        "how the data lie on the tiers cannot be decided ({0}); look at the volume group's text, then say which mode it is"
    )]
    ModeUndecided(String),
    /// More than can be counted; only made-up metadata get here.
    #[error("the metadata describe more than any pool can hold")]
    TooLarge,
}
