//! Read-only views over files, block devices and parts of them.
//!
//! Everything the agent knows of a source comes through here, and nothing here can write: files and devices are opened
//! `O_RDONLY`. A view has a fixed size; a place that cannot be read is an error, never zeros.

mod concat;
pub mod ddrescue;
mod file;
mod guarded;
mod place;
mod raid;
mod sub;

pub use concat::{ConcatView, Piece};
pub use file::FileView;
pub use guarded::GuardedView;
pub use place::Place;
pub use raid::RaidView;
pub use sub::SubView;

use std::sync::Arc;
use tierlift_ondisk::view::ReadAt;

/// A view that layers share and hand on.
pub type View = Arc<dyn ReadAt + Send + Sync>;
