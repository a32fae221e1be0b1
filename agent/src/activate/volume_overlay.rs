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

/// Sectors the overlay copies at a time.
const GRAIN: u64 = 16;
/// Room for changes: far more than the few fields that are changed.
const STORE_SECTORS: u64 = 32_768;

/// Names of the devices that may lie over the volume `name`, the upper one first.
pub fn names(name: &str) -> [String; 2] {
    [format!("{name}-overlay"), format!("{name}-store")]
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
