//! The thin/tier pool engine: open a metadata device, walk its trees, tell its state, dump it, read its thin devices.
//!
//! A [`Pool`] is opened from the bytes of a metadata device alone. Every walk gives what is readable and names what is not as
//! exact key ranges ([`Lost`]); nothing is all or nothing and nothing is guessed. [`ThinReader`] puts a thin device together
//! from the pool and its data devices without any help from a kernel: what is lost reads as an error, never as zeros.

mod block_map;
mod blocks;
pub mod check;
mod counts;
pub mod dump;
mod error;
mod fault;
mod format;
mod looks_like;
mod mode;
pub mod pack;
mod pool;
mod probe;
mod reader;
pub mod rebuild;
mod ring;
mod run;
mod salvage;
mod stat;
mod tally;
mod walk;

pub use blocks::{Blocks, Patch, Patches, VOID, View};
pub use counts::Counts;
pub use error::PoolError;
pub use fault::{Fault, KeyRange, Lost, Walk};
pub use format::FormatEvidence;
pub use looks_like::looks_like;
pub use mode::{Mode, ModeDecision};
pub use pool::{DeviceTable, Pool, Step, ThinDevice};
pub use reader::{LossReason, ReaderError, Segment, Source, ThinReader};
pub use ring::{CopyPlace, Ring, RingState};
pub use run::{Lookup, Run, RunMap, Runs};
pub use salvage::{
    Adopted, DeviceChoice, Generation, GenerationView, Hints, Origin, Salvage, SalvageOptions, SalvageReport,
    SalvagedDevice, UNKNOWN_LENGTH, Unattributed, generations, salvage,
};
pub use stat::{DeviceStat, FlagsStat, Stat, TierStat, Usage};
pub use tally::{Counter, Tally};
pub use walk::{Item, ValueSize, walk};
