//! Repaired pools: new metadata beside the case, used in place of a pool's damaged ones. As `lvconvert --repair` does it (our
//! "docs/lvm, repair"), but the volume group is changed only in memory: the original metadata stay where they are and are shown
//! as `POOL_meta0`.

mod files;
mod make;
mod store;

pub use files::{VolumeFiles, chunk_maps, files};
pub use make::{Preview, Wanted, make, preview};
pub use store::{devices, forget, load};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tierlift_ondisk::units::{Chunk, DeviceId, Sectors};
use tierlift_pool::rebuild::{Rebuilt, Segment};

/// Schema of the description beside the new metadata.
pub const SCHEMA: &str = "tierlift.repaired-pool/1";

/// A pool's new metadata, in stock Linux's form, and what they need to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// [`SCHEMA`].
    pub schema: String,
    /// Id of the volume group.
    pub group: String,
    /// Name of the pool's volume.
    pub pool: String,
    /// The file with the new metadata.
    pub metadata: PathBuf,
    /// The generation of the original they were made from.
    pub generation: String,
    /// How the original lies on its tiers.
    pub mode: String,
    /// Chunk size.
    pub chunk: Sectors,
    /// Length of the pool, without the chunk that stands for what is lost.
    pub chunks: Chunk,
    /// Transaction id of the original.
    pub transaction_id: u64,
    /// The data device, put together from the tiers.
    pub layout: Vec<Segment>,
    /// What is lost of each device.
    pub losses: Vec<Loss>,
    /// Nothing is lost.
    pub whole: bool,
    /// When, seconds since 1970.
    pub made: u64,
}

/// What is lost of a thin device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The device.
    pub device: DeviceId,
    /// Name of its volume, when the group's text has one.
    pub volume: Option<String>,
    /// Mappings that were found.
    pub mappings: u64,
    /// Mappings its record promised.
    pub recorded: Option<u64>,
    /// Virtual chunks that cannot be read: those that may have been mapped and cannot be told any more.
    pub lost_chunks: u64,
    /// Stretches they make up.
    pub lost_ranges: u64,
    /// The device could not be written at all.
    pub left_out: bool,
}

impl Loss {
    /// What a rebuild lost, by device. `sizes` are sizes of the volumes in chunks, with their names.
    fn all(rebuilt: &Rebuilt, sizes: impl Fn(DeviceId) -> Option<(String, u64)>) -> Vec<Self> {
        let loss = |device: &tierlift_pool::rebuild::RebuiltDevice| {
            let (volume, end) = sizes(device.id).map_or((None, u64::MAX), |(name, chunks)| (Some(name), chunks));
            let chunks = device.lost.iter().map(|lost| {
                let end = lost.keys.last.saturating_add(1).min(end);
                end.saturating_sub(lost.keys.first)
            });
            Self {
                device: device.id,
                volume,
                mappings: device.found,
                recorded: device.recorded,
                lost_chunks: chunks.fold(0, u64::saturating_add),
                lost_ranges: device.lost_ranges,
                left_out: device.left_out,
            }
        };
        rebuilt.devices.iter().map(loss).collect()
    }

    /// Something was stored there, and not one mapping of it was found.
    pub fn nothing_is_left(&self) -> bool {
        self.mappings == 0 && (self.lost_chunks > 0 || self.left_out)
    }

    /// In a sentence; `chunk` is the chunk size.
    pub fn describe(&self, chunk: Sectors) -> String {
        let name = self.volume.clone().unwrap_or_else(|| "without a name".into());
        let mut text = format!("thin device {} ({name}): {} mappings found", self.device, self.mappings);
        if let Some(recorded) = self.recorded.filter(|recorded| *recorded > self.mappings) {
            text += &format!(" of {recorded} recorded");
        }
        if self.left_out {
            text += ", NOT readable: its lost ranges are too long to be marked";
        } else if self.lost_ranges > 0 {
            let size = self.lost_chunks.checked_mul(chunk.0).and_then(|sectors| Sectors(sectors).to_bytes());
            let size = size.map_or("an unknown length".into(), |bytes| bytes.human());
            text += &format!(", {} ranges ({size} at most) give I/O errors", self.lost_ranges);
        } else {
            text += ", nothing lost";
        }
        text
    }
}
