//! Writing complete new metadata from whatever a pool still says.
//!
//! Two passes. The first reads the source's mapping trees into a plan, each node once (`survey`, `plan`): a source leaf
//! becomes a new leaf, an inner node an inner node, and what several devices share goes on being shared. Only around holes are
//! nodes put together with their neighbours. The second pass writes the planned nodes, reading each leaf again (`trees`),
//! then everything that can be counted from them: records, tier tree, space maps, superblock copies. Block 0 comes last.
//! Memory is some tens of bytes for each node and a byte for each chunk in use; entries are never kept.

mod build;
mod devices;
mod entries;
mod error;
mod layout;
mod output;
mod pieces;
mod plan;
mod report;
mod space;
mod superblock;
mod survey;
mod tree;
mod trees;

pub use error::RebuildError;
pub use layout::{Segment, Target};
pub use output::Output;
pub use report::{
    LeftBehind, LossReason, LostPiece, LostRange, MOST_RANGES, PieceReason, Rebuilt, RebuiltDevice, RebuiltTiers,
};

use crate::fault::{KeyRange, Lost};
use crate::mode::Mode;
use crate::pool::{DeviceTable, Pool};
use devices::Devices;
use entries::{Entries, Filter};
use output::Writer;
use pieces::{LostPieces, Pieces};
use plan::Plan;
use serde::Serialize;
use std::collections::BTreeMap;
use survey::Survey;
use tierlift_ondisk::thin::BlockSize;
use tierlift_ondisk::units::{Chunk, DeviceId, Sectors};

/// The form of the new metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The pool's own: block size, version, tiers and records as they are. What is lost is not mapped there, and so reads as
    /// zeros: the report says where.
    #[default]
    Own,
    /// Stock Linux's: 4096-byte blocks, version 2, over one data device. What is lost reads as errors.
    Mainline,
}

/// How new metadata are to be written.
#[derive(Debug, Clone, Default)]
pub struct RebuildOptions {
    /// The form.
    pub format: Format,
    /// Sizes of thin devices, from the volume group's text: up to where lost ranges are marked in stock Linux's form.
    pub device_sizes: BTreeMap<DeviceId, Sectors>,
    /// How the pool lies on its tiers; decided from the metadata when not given.
    pub mode: Option<Mode>,
}

impl RebuildOptions {
    fn mainline(&self) -> bool {
        self.format == Format::Mainline
    }
}

/// Writes new metadata with everything that can be read of `pool`.
///
/// # Errors
/// When the output fails, the new metadata do not fit, or the source changes while it is read. What is lost is no error but
/// part of the answer.
pub fn rebuild(pool: &Pool, options: &RebuildOptions, output: &mut dyn Output) -> Result<Rebuilt, RebuildError> {
    let mode = choose_mode(pool, options)?;
    let pieces = Pieces::new(pool);
    let through_tree = matches!(mode, Mode::TierMap | Mode::Undecided);
    let lost = if through_tree { LostPieces::new(&pieces) } else { LostPieces::default() };
    let error_chunk = options.mainline().then_some(Chunk(pool.chunks()));
    let size = if options.mainline() { BlockSize::K4 } else { pool.blocks().size() };
    let table = pool.devices();
    let time = devices::pool_time(pool, &table);
    let plan = Plan::new(Entries::new(pool.blocks(), Filter::new(pool, error_chunk, time, lost)), size);
    let mut devices = Devices::new(pool, options, time, &table, Survey::new(plan));
    for (id, device) in &table.devices {
        devices.plan(*id, device)?;
    }
    let writer = Writer::new(output, size, superblock::room(pool, options));
    let mut rebuilt = build::Build { pool, options, mode, time, pieces, writer }.write(devices)?;
    rebuilt.unknown_devices = both_lost(&table);
    Ok(rebuilt)
}

/// Device ids of which both the record and the mapping tree are lost.
fn both_lost(table: &DeviceTable) -> Vec<Lost> {
    let mut roots = table.lost_roots.iter().peekable();
    let mut both = Vec::new();
    for details in &table.lost_details {
        while let Some(root) = roots.peek() {
            let first = root.keys.first.max(details.keys.first);
            let last = root.keys.last.min(details.keys.last);
            if first <= last {
                both.push(Lost { keys: KeyRange { first, last }, ..(*root).clone() });
            }
            // The hole that ends later may meet the next one too.
            if root.keys.last > details.keys.last {
                break;
            }
            roots.next();
        }
    }
    both
}

fn choose_mode(pool: &Pool, options: &RebuildOptions) -> Result<Mode, RebuildError> {
    let decision = pool.mode();
    match options.mode.unwrap_or(decision.mode) {
        Mode::Undecided if options.mainline() => Err(RebuildError::ModeUndecided(decision.evidence.join("; "))),
        mode => Ok(mode),
    }
}
