//! A copy-on-write overlay over an active volume, for the few changes a file system needs before it can be read.
//!
//! Two devices: `NAME-store`, on the scratch disk when there is one and else in memory, takes what is written, `NAME-overlay` shows the volume with it. The volume below stays
//! read-only.

use super::dm::{DeviceMapper, path_of};
use super::execute::make;
use super::plan::{Backing, PlannedDevice, Scratch, device_path, line};
use super::{ground, repaired_inodes, scratch};
use crate::block::FileView;
use anyhow::{Context, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// Sectors the overlay copies at a time: a block of a file system, so that a block written over a lost one needs no look at that.
const GRAIN: u64 = 8;
/// Room for changes: as much as a repair of a file system may need, in memory only as far as it is used.
const STORE_SECTORS: u64 = 4 << 20;
/// Stores on a disk begin at whole MiB (in sectors).
const ALIGN: u64 = 2048;
/// A smaller rest of a scratch disk (64 MiB) is not worth it: memory is used.
const LEAST_SECTORS: u64 = 1 << 17;
/// Marks of repairs under way.
const REPAIRS: &str = "/run/tierlift/repairing";
/// What the name of an overlay ends in.
const OVERLAY: &str = "-overlay";
/// What the name of a store ends in.
const STORE: &str = "-store";
/// What the name of a volume ends in that is shown as it was found, beside its repaired form.
const FOUND: &str = "-found";

/// Names of an overlay over the volume `name` and of its store.
fn names(name: &str) -> [String; 2] {
    [format!("{name}{OVERLAY}"), format!("{name}{STORE}")]
}

/// Names of all devices that may lie over the volume `name`, upper ones first.
pub fn all_names(name: &str) -> Vec<String> {
    let found = format!("{name}{FOUND}");
    let over_found = names(&found);
    over_found.into_iter().chain([found]).chain(names(name)).collect()
}

/// Whether a device of this name is the store of such an overlay.
pub fn is_store(name: &str) -> bool {
    name.ends_with(STORE)
}

/// Whether a device of this name is such an overlay, as far as the name tells.
pub fn is_overlay(name: &str) -> bool {
    name.ends_with(OVERLAY)
}

/// The overlay over a volume, when it has one. One on which a repair was killed is thrown away: half a repair is worse than none.
///
/// # Errors
/// When device-mapper cannot be asked, or the overlay is being repaired right now.
pub fn existing(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<Option<PathBuf>> {
    let marker = marker_of(volume);
    if let Ok(file) = File::options().write(true).open(&marker) {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_stale) => {
                log::warn!("{}: a repair was stopped in its middle: its overlay is thrown away", volume.display());
                remove(dm, volume)?;
                std::fs::remove_file(&marker).with_context(|| format!("{} cannot be removed", marker.display()))?;
            }
            Err(_) => bail!("{} is being repaired by another command; let that end first", volume.display()),
        }
    }
    present(dm, volume)
}

/// The same, also while it is being repaired.
fn present(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<Option<PathBuf>> {
    let name = volume.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let [overlay, _] = names(&name);
    Ok(dm.state(&overlay)?.is_some_and(|state| state.is_ours()).then(|| path_of(&overlay)))
}

/// The volume as it was found, also while its repaired form is in use: a device of its own, so that both can be mounted at once.
/// Where nothing lies over the volume that is the volume itself.
///
/// # Errors
/// When the device cannot be made.
pub fn as_found(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<PathBuf> {
    if existing(dm, volume)?.is_none() {
        return Ok(volume.to_owned());
    }
    let name = volume.file_name().context("a volume without a name")?.to_string_lossy().into_owned();
    let sectors = FileView::open(volume)?.size().to_sectors().0;
    let found = PlannedDevice {
        name: format!("{name}{FOUND}"),
        purpose: "the volume as it was found".into(),
        read_only: true,
        backing: None,
        table: vec![line(0, sectors, "linear", format!("{} 0", volume.display()))],
    };
    make(dm, std::slice::from_ref(&found))?;
    Ok(path_of(&found.name))
}

/// Whether the overlay over a volume ran full.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn is_broken(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<bool> {
    let Some(overlay) = present(dm, volume)? else { return Ok(false) };
    let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let status = dm.status(&name)?.into_iter().next().map(|line| line.arguments).unwrap_or_default();
    Ok(!status.contains('/'))
}

fn marker_of(volume: &Path) -> PathBuf {
    Path::new(REPAIRS).join(volume.file_name().unwrap_or_default())
}

/// A repair on the overlay of a volume that has begun. Whoever kills it leaves the marker.
#[derive(Debug)]
pub struct Repairing {
    marker: PathBuf,
    _held: Flock<File>,
}

impl Repairing {
    /// Marks the overlay of a volume.
    ///
    /// # Errors
    /// When it cannot be marked, or another command repairs it.
    pub fn begin(volume: &Path) -> anyhow::Result<Self> {
        let marker = marker_of(volume);
        let make = || {
            std::fs::create_dir_all(REPAIRS)?;
            File::options().create(true).truncate(false).write(true).open(&marker)
        };
        let file = make().with_context(|| format!("{} cannot be made", marker.display()))?;
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let held = held.map_err(|_| anyhow!("{} is being repaired by another command", volume.display()))?;
        Ok(Self { marker, _held: held })
    }

    /// It came to its end, or what it left is gone.
    ///
    /// # Errors
    /// When the mark cannot be taken away.
    pub fn end(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.marker).with_context(|| format!("{} cannot be removed", self.marker.display()))
    }
}

/// Lays an overlay over a volume, unless it has one, and answers with its path.
///
/// # Errors
/// When a device cannot be made.
pub fn over(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<PathBuf> {
    let name = volume.file_name().context("a volume without a name")?.to_string_lossy().into_owned();
    let sectors = FileView::open(volume)?.size().to_sectors().0;
    let [overlay, store] = names(&name);
    if dm.state(&overlay)?.is_none() {
        // What an overlay before this one was, nobody knows of this one.
        repaired_inodes::forget(&overlay)?;
    }
    let snapshot = format!("{} {} N {GRAIN}", volume.display(), device_path(&store));
    let devices = [
        match scratch::in_use(dm)?.and_then(|scratch| on_scratch(&store, sectors, &scratch)) {
            Some(device) => device,
            None => in_memory(&store)?,
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

/// A store of half of what is free on the scratch disk, so that another volume gets a part, too; never more than all of the
/// volume. `None` when that would be too little.
fn on_scratch(name: &str, sectors: u64, scratch: &Scratch) -> Option<PlannedDevice> {
    let start = scratch.free_from.0.next_multiple_of(ALIGN);
    let enough = sectors.saturating_add(sectors / 64).saturating_add(ALIGN);
    let length = (scratch.size.0.saturating_sub(start) / 2).min(enough);
    (length >= LEAST_SECTORS.min(enough)).then(|| PlannedDevice {
        name: name.to_owned(),
        purpose: format!("store for changes to a file system, on scratch disk {}", scratch.path.display()),
        read_only: false,
        backing: Some(Backing::Scratch(scratch.path.clone())),
        table: vec![line(0, length, "linear", format!("{} {start}", scratch.path.display()))],
    })
}

fn in_memory(name: &str) -> anyhow::Result<PlannedDevice> {
    Ok(PlannedDevice {
        name: name.to_owned(),
        purpose: "store for changes to a file system, in memory".into(),
        read_only: false,
        backing: Some(Backing::Memory(ground::memory_cap()?)),
        table: vec![line(0, STORE_SECTORS, "linear", "memory 0")],
    })
}

/// Takes the overlay of a volume away, with everything written to it; `false` when there is none.
///
/// # Errors
/// When it is in use.
pub fn remove(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<bool> {
    let mut removed = false;
    for name in names(&volume.file_name().unwrap_or_default().to_string_lossy()) {
        if dm.state(&name)?.is_some_and(|state| state.is_ours()) {
            dm.remove(&name)?;
            removed = true;
        }
        repaired_inodes::forget(&name)?;
    }
    Ok(removed)
}

/// How full an overlay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// What is used.
    pub used: Bytes,
    /// What there is.
    pub size: Bytes,
}

impl Fill {
    /// Used, in hundredths; what has no room is full.
    pub fn percent(self) -> u64 {
        self.used.0.saturating_mul(100).checked_div(self.size.0).unwrap_or(100)
    }

    /// Hardly anything is left. A full overlay becomes invalid and loses all that was written to it.
    pub fn is_nearly_full(self) -> bool {
        self.used.0.saturating_add(self.size.0 / 10) >= self.size.0
    }
}

/// How full the overlay of a volume is; `None` when it has none, or it ran full and is broken.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn fill(dm: &DeviceMapper, volume: &Path) -> anyhow::Result<Option<Fill>> {
    let Some(overlay) = present(dm, volume)? else { return Ok(None) };
    let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let status = dm.status(&name)?.into_iter().next().map(|line| line.arguments).unwrap_or_default();
    let Some(fill) = figures(&status) else { return Ok(None) };
    let [_, store] = names(&volume.file_name().unwrap_or_default().to_string_lossy());
    // Stores in memory share what memory they may take.
    Ok(Some(if scratch::is_in_memory(dm, &store)? { ground::memory_fill().unwrap_or(fill) } else { fill }))
}

/// The snapshot target's "used/all metadata" in sectors; `None` when it is broken.
pub(super) fn figures(status: &str) -> Option<Fill> {
    let (used, all) = status.split_whitespace().next()?.split_once('/')?;
    let bytes = |text: &str| Sectors(text.parse().ok()?).to_bytes();
    Some(Fill { used: bytes(used)?, size: bytes(all)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_takes_half_of_what_is_free() {
        let scratch =
            |free_from| Scratch { path: "/dev/vdz".into(), size: Sectors(1 << 20), free_from: Sectors(free_from) };
        let table = |device: PlannedDevice| device.table[0].to_string();
        assert_eq!(on_scratch("x", 1 << 30, &scratch(2049)).map(table).unwrap(), "0 522240 linear /dev/vdz 4096");
        // A small volume needs no more than itself.
        assert_eq!(on_scratch("x", 6400, &scratch(0)).map(table).unwrap(), "0 8548 linear /dev/vdz 0");
        assert!(on_scratch("x", 1 << 30, &scratch(1 << 20)).is_none());
        assert!(on_scratch("x", 1 << 30, &scratch((1 << 20) - 4096)).is_none());
    }

    #[test]
    fn figures_are_read_and_nearly_full_comes_before_full() {
        let fill = figures("16/262144 16").unwrap();
        assert_eq!(fill, Fill { used: Bytes(8192), size: Bytes(128 << 20) });
        assert!(!fill.is_nearly_full());
        assert!(Fill { used: Bytes(91), size: Bytes(100) }.is_nearly_full());
        assert_eq!(figures("Invalid"), None);
    }
}
