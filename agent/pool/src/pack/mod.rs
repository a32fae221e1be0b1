//! Packing a metadata device into one small file that can be sent to somebody, and unpacking it again.
//!
//! What is packed is every part of the device that is not zero; holes and zeros come back as zeros. The file:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | version, 1 |
//! | 12..16 | length of a unit, 4096: both sizes of a metadata block are whole units |
//! | 16..24 | length of the device in bytes |
//! | 24..28 | 0 |
//! | 28..32 | CRC-32C of the bytes before |
//! | 32.. | records, as one zstd stream |
//!
//! A record has 24 bytes: kind (32 bits), number of units (32), first unit (64), CRC-32C of the units that follow (32), CRC-32C
//! of the 20 bytes before (32). Kinds: 1, units with their bytes; 2, units that could not be read on the source; 3, the end,
//! with the number of all units packed in place of the first unit. Units ascend. Nothing read from a pack file is believed
//! before its checksum, and a record is never longer than [`MOST_UNITS`].

mod reading;
mod writing;

pub use reading::unpack;
pub use writing::pack;

use serde::Serialize;
use std::io;
use tierlift_ondisk::units::Bytes;

/// First bytes of a pack file. The first is no letter and there is a line end, so that damage by text tools shows.
pub const MAGIC: [u8; 8] = *b"\x89TLPACK\n";
const VERSION: u32 = 1;
/// Length of a unit.
const UNIT_BYTES: u64 = 4096;
const UNIT: usize = UNIT_BYTES as usize;
/// Most units in one record: 1 MiB.
const MOST_UNITS: usize = 256;
/// Longer than any metadata device: a pack file that claims more is none.
const MOST_BYTES: u64 = 1 << 40;
const HEADER: usize = 32;
const RECORD: usize = 24;
/// The window of the compression, as a power of two; bounds the memory of both sides.
const WINDOW_LOG: u32 = 22;

const UNITS: u32 = 1;
const UNREADABLE: u32 = 2;
const END: u32 = 3;

/// What was packed or unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PackSummary {
    /// Length of the device.
    pub device: Bytes,
    /// Bytes that are not zero, in units of 4096.
    pub packed: Bytes,
    /// Bytes that could not be read on the source. Unpacked they are zeros.
    pub unreadable: Bytes,
    /// Bytes of `packed` that are no sound metadata block: damaged ones, or remains of an earlier use of the device.
    pub foreign: Bytes,
}

/// Why a device cannot be packed or a pack file not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Not made by this.
    #[error("this is not a file made by pool pack")]
    NotPacked,
    /// Made by a later one.
    #[error("it was packed by a newer tierlift (format {0}); this one knows format 1")]
    Version(u32),
    /// Damaged.
    #[error("the packed file is damaged: {0}. Get it again; nothing was unpacked")]
    Damaged(String),
    /// It ends too early.
    #[error("the packed file ends too early: the copy was cut short. Get it again; nothing was unpacked")]
    CutShort,
    /// Data, not metadata.
    #[error(
        "{foreign} bytes that are no pool metadata, but only {metadata} that are: this looks like a data device, and packing \
         it would give away what is on it. Give the pool's metadata device (its name ends in _tmeta)"
    )]
    NotMetadata {
        /// Bytes of sound metadata blocks.
        metadata: u64,
        /// Other bytes.
        foreign: u64,
    },
    /// The pack file gave an error.
    #[error("the packed file: {0}")]
    Io(#[source] io::Error),
    /// The output gave an error.
    #[error("the output cannot be written: {0}. Is the disk full?")]
    Write(#[source] io::Error),
}
