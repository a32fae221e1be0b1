//! A copy-on-write overlay over an active volume, for the few changes a file system needs before it can be read.
//!
//! Two devices: `NAME-store` in memory takes what is written, `NAME-overlay` shows the volume with it. The volume below stays
//! read-only.

use super::dm::{DeviceMapper, path_of};
use super::execute::make;
use super::ground;
use super::plan::{Backing, PlannedDevice, device_path, line};
use crate::block::FileView;
use anyhow::Context;
use std::path::{Path, PathBuf};
use tierlift_ondisk::view::ReadAt;

/// Sectors the overlay copies at a time: a block of a file system, so that a block written over a lost one needs no look at that.
const GRAIN: u64 = 8;
/// Room for changes: as much as a repair of a file system may need, in memory only as far as it is used.
const STORE_SECTORS: u64 = 4 << 20;

/// Names of the devices that may lie over the volume `name`, the upper one first.
pub fn names(name: &str) -> [String; 2] {
    [format!("{name}-overlay"), format!("{name}-store")]
}

/// The overlay over a volume, when it has one.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn existing(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<Option<PathBuf>> {
    let name = volume.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let [overlay, _] = names(&name);
    Ok(dm.state(&overlay)?.is_some_and(|state| state.is_ours()).then(|| path_of(&overlay)))
}

/// Whether the overlay over a volume ran full.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn is_broken(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<bool> {
    let Some(overlay) = existing(dm, volume)? else { return Ok(false) };
    let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let status = dm.status(&name)?.into_iter().next().map(|line| line.arguments).unwrap_or_default();
    Ok(!status.contains('/'))
}

/// Lays an overlay over a volume, unless it has one, and answers with its path.
///
/// # Errors
/// When a device cannot be made.
pub fn over(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<PathBuf> {
    let name = volume.file_name().context("a volume without a name")?.to_string_lossy().into_owned();
    let sectors = FileView::open(volume)?.size().to_sectors().0;
    let [overlay, store] = names(&name);
    let snapshot = format!("{} {} N {GRAIN}", volume.display(), device_path(&store));
    let devices = [
        PlannedDevice {
            name: store,
            purpose: "store for changes to a file system, in memory".into(),
            read_only: false,
            backing: Some(Backing::Memory(ground::memory_cap()?)),
            table: vec![line(0, STORE_SECTORS, "linear", "memory 0")],
        },
        PlannedDevice {
            name: overlay.clone(),
            purpose: "overlay over a volume: changes go to the store".into(),
            read_only: false,
            backing: None,
            table: vec![line(0, sectors, "snapshot", snapshot)],
        },
    ];
    make(dm, &devices)?;
    Ok(path_of(&overlay))
}
