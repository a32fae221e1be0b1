//! Makes whole QNAP disks around genuine pools, for tests and the demo.
//!
//! [`Fixture`] reads a genuine pool and its manifest of truth; [`forge_disks`] builds the layers around it that a NAS would
//! have: partition table, md members, DRBD tail, physical volumes with LVM's label and text. What the forge makes beyond the
//! pool itself is the specification's picture of a QNAP disk, not a copy of one.

// The forge writes disks of its own making and reads only its own fixtures: a wrong number stops a test, no recovery.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

pub mod damage;
mod dice;
mod disk;
mod fixture;
mod group;
mod identity;
pub mod mishaps;
mod options;
mod plain;
mod pool_table;
mod raid;
pub mod simulator;
mod system;

pub use dice::Dice;
pub use disk::{Forged, ForgedArray, PlacedPiece, PlacedVolume, Volume, forge_disks};
pub use fixture::{Fixture, Image, KnownFile, Truth, fixtures_dir};
pub use options::{AbsentTier, ForgeOptions, Mirror, TierKeys};
pub use plain::{forge_bare, forge_cache, forge_static};
pub use pool_table::PoolTable;
pub use raid::Raid;
pub use system::add_system;
