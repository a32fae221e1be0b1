//! What a repaired pool would give back in files: the volumes' inodes, read through the salvaged pool before anything is written.

use super::Preview;
use crate::activate::stack;
use crate::block::View;
use crate::case::{ChunkMap, ChunkState};
use crate::ext4::{Survey, survey};
use crate::inventory::Inventory;
use crate::volume;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Source, ThinReader};

/// Lost ranges kept in mind for each volume; what lies behind the last of them counts as lost.
const MAX_RANGES: usize = 1 << 20;

/// The files of a volume, as far as they can be told without mounting it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeFiles {
    /// Name of the volume.
    pub volume: String,
    /// What its inodes tell; `None` when no ext2/3/4 file system can be made out (another one, encrypted, or too much is lost).
    pub survey: Option<Survey>,
}

impl VolumeFiles {
    /// In a sentence.
    pub fn describe(&self) -> String {
        let Some(found) = &self.survey else {
            return format!(
                "{}: its files cannot be told without mounting it (encrypted, another file system, or too much is lost)",
                self.volume
            );
        };
        let mut text = format!("{}: {} files in {} directories", self.volume, found.files, found.directories);
        match (found.damaged_files, found.damaged_directories) {
            (0, 0) => text += ", none touched by what is lost",
            (files, directories) => {
                text += &format!(", {files} files and {directories} directories touch a lost range");
            }
        }
        if found.unknown > 0 {
            text += &format!("; up to {} more cannot be told: their inodes are lost", found.unknown);
        }
        if let Some(newest) = found.newest.and_then(|newest| u64::try_from(newest).ok()) {
            text += &format!("; newest change {}", volume::moment(newest));
        }
        text
    }
}

/// Looks at the files of every volume of a preview's pool. `tell` is called with the name of each before it is read.
pub fn files(inventory: &Inventory, group: usize, preview: &Preview, tell: &mut dyn FnMut(&str)) -> Vec<VolumeFiles> {
    let look = |(volume, reader): (String, Option<ThinReader>)| {
        tell(&volume);
        let survey = reader.and_then(|reader| survey(&reader, &lost(&reader)));
        VolumeFiles { volume, survey }
    };
    readers(inventory, group, preview).map(look).collect()
}

/// The state of the chunks of every volume of a preview's pool, for the report; no data are read.
pub fn chunk_maps(inventory: &Inventory, group: usize, preview: &Preview) -> Vec<ChunkMap> {
    let (pool, _) = preview.name.rsplit_once('/').unwrap_or_default();
    let draw = |(volume, reader): (String, Option<ThinReader>)| {
        Some(chunk_map(format!("{pool}/{volume}"), &reader?, preview.chunk().to_bytes()?))
    };
    readers(inventory, group, preview).filter_map(draw).collect()
}

fn chunk_map(volume: String, reader: &ThinReader, chunk: Bytes) -> ChunkMap {
    let mut map = ChunkMap::new(volume);
    for segment in reader.segments() {
        let state = match segment.source {
            Source::Zeros => ChunkState::NeverWritten,
            Source::Lost(_) => ChunkState::Lost,
            _ => ChunkState::Whole,
        };
        map.add(state, segment.offset..segment.end(), reader.size(), chunk);
    }
    map
}

/// Every volume of a preview's pool with a reader; `None` when it cannot be read at all.
fn readers<'a>(
    inventory: &'a Inventory,
    group: usize,
    preview: &'a Preview,
) -> impl Iterator<Item = (String, Option<ThinReader>)> + 'a {
    let found = inventory.volume_groups.get(group);
    let parts = found.and_then(|found| stack::parts(found, &preview.pool_name).ok());
    let open = |(number, name): (u8, &Option<String>)| {
        let view: View = volume::view(inventory, group, name.as_deref()?).ok()?;
        Some((number, view))
    };
    let tiers: BTreeMap<u8, View> =
        (0..).zip(parts.map(|parts| parts.tiers.as_slice()).unwrap_or_default()).filter_map(open).collect();
    let volumes = found.map(|found| super::make::sizes(found, &preview.pool_name)).unwrap_or_default();
    volumes.into_iter().map(move |(device, volume, size)| {
        let reader = ThinReader::new(&preview.pool, tiers.clone(), device, preview.mode, size.to_bytes());
        (volume, reader.ok())
    })
}

/// What cannot be read of a device, in bytes.
fn lost(reader: &ThinReader) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for segment in reader.segments().filter(|segment| matches!(segment.source, Source::Lost(_))) {
        let Bytes(end) = segment.end();
        if let Some(last) = ranges.last_mut().filter(|last| last.end >= segment.offset.0) {
            last.end = end;
        } else if ranges.len() < MAX_RANGES {
            ranges.push(segment.offset.0..end);
        } else if let Some(last) = ranges.last_mut() {
            last.end = end;
        }
    }
    ranges
}
