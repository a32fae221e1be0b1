//! Decoders and encoders of every on-disk structure Tierlift reads: bytes in, values out.
//!
//! No file is opened here and nothing is followed: a decoder takes the bytes of one structure and answers with a value or
//! with a [`DecodeError`] that names the structure, the byte, what was expected and what was found. Whatever the bytes say,
//! a decoder neither panics nor allocates more than the input is long.

pub mod drbd;
pub mod error;
pub mod field;
pub mod gpt;
pub mod lvm_archive;
pub mod lvm_area;
pub mod lvm_crc;
pub mod lvm_history;
pub mod lvm_label;
pub mod lvm_text;
pub mod mbr;
pub mod md;
pub mod md_legacy;
pub mod md_log;
pub mod raid;
pub mod ssd_cache;
pub mod thin;
pub mod units;
pub mod view;

pub use error::DecodeError;
