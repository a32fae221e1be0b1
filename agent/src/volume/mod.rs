//! LVM: from text metadata to logical volumes and their places on the disks ("docs/lvm").
//!
//! Our own reader, because stock LVM refuses QNAP's groups: it does not know the segment types. Here an unknown type makes
//! one volume opaque and leaves the rest of the group usable. Nothing is ever written back.

pub(crate) mod array;
pub mod choice;
pub mod generation;
pub(crate) mod group;
mod pool;
mod segments;
mod view;

#[cfg(test)]
mod tests;

pub use generation::moment;
pub use group::{find_group, read_group};
pub use pool::set_part;
pub use view::{DiskPlace, DiskTarget, find, find_group_index, open_extents, spoken_name, stretches_on_disks, view};
