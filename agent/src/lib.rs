//! The agent, one module per step of the way from disks to verified files.
//!
//! `block` gives read-only views; `discover` finds partitions and md arrays; `volume` reads LVM, `harvest` the NAS's system partition; the crate `tierlift_pool`
//! reads the pool; `activate` builds the device-mapper stack over copy-on-write overlays; `fsck` runs e2fsck; `extract` mounts and copies;
//! `repair` makes new metadata for damaged pools (`metadata_file` writes them); `case` keeps the journal; `unfinished` guards half-written files; `report` tells it; `say` prints for people; `console` is the menu and the protocol server; `commands` has one file a verb.

pub mod activate;
pub mod block;
pub mod case;
pub mod commands;
pub mod console;
pub mod discover;
pub mod ext4;
pub mod extract;
pub mod fsck;
pub mod harvest;
pub mod interrupt;
pub mod inventory;
pub mod job;
pub mod metadata_file;
pub mod network;
pub mod pace;
pub mod repair;
pub mod report;
mod say;
pub mod unfinished;
pub mod unlock;
pub mod volume;
