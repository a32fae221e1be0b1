//! Room on the scratch disk for the new metadata of a repaired pool: a device of its own, over a slice of the disk like the stores
//! of overlays. In memory they would take 16 bytes for each mapping.

use super::dm::{DeviceMapper, DmError, path_of};
use super::execute::make;
use super::names;
use super::plan::{Backing, PlannedDevice, Scratch, line};
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Sectors;

/// What the name of such a device ends in. It is the ending of a store, too: nothing else gets its place on the disk.
const ENDING: &str = "-repaired-store";
/// Slices of the scratch disk begin at multiples of 1 MiB, and never in the first.
const ALIGN: u64 = 2048;

/// Whether a device of this name holds new metadata.
pub fn is_of_name(name: &str) -> bool {
    name.ends_with(ENDING)
}

/// Makes room for `length` of a pool's new metadata, and answers where; `None` when the disk has too little.
///
/// # Errors
/// When the device cannot be made.
pub fn reserve(
    dm: &DeviceMapper,
    scratch: &Scratch,
    (group, pool): (&str, &str),
    length: Sectors,
) -> anyhow::Result<Option<PathBuf>> {
    let name = format!("{}{ENDING}", names::volume(group, pool));
    let Some(device) = planned(&name, scratch, length) else { return Ok(None) };
    make(dm, &[device])?;
    Ok(Some(path_of(&name)))
}

fn planned(name: &str, scratch: &Scratch, length: Sectors) -> Option<PlannedDevice> {
    let start = scratch.free_from.0.max(ALIGN).checked_next_multiple_of(ALIGN)?;
    let free = scratch.size.0.saturating_sub(start);
    (length.0 <= free).then(|| PlannedDevice {
        name: name.to_owned(),
        purpose: format!("room for new pool metadata, on scratch disk {}", scratch.path.display()),
        read_only: false,
        backing: Some(Backing::Scratch(scratch.path.clone())),
        table: vec![line(0, length.0, "linear", format!("{} {start}", scratch.path.display()))],
    })
}

/// Gives the room back. What still uses the metadata keeps them: the device goes with `deactivate --all` then.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn release(dm: &DeviceMapper, path: &Path) -> Result<(), DmError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_ours = is_of_name(&name) && dm.state(&name)?.is_some_and(|state| state.is_ours());
    match is_ours.then(|| dm.remove(&name)) {
        None | Some(Ok(()) | Err(DmError::Busy { .. })) => Ok(()),
        Some(Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::volume_overlay;

    #[test]
    fn the_place_is_behind_all_others_and_no_longer_than_needed() {
        let scratch =
            |free_from| Scratch { path: "/dev/vdz".into(), size: Sectors(10_000), free_from: Sectors(free_from) };
        let table = |free_from, length| {
            planned("x", &scratch(free_from), Sectors(length)).map(|device| device.table[0].to_string())
        };
        assert_eq!(table(0, 24).as_deref(), Some("0 24 linear /dev/vdz 2048"));
        assert_eq!(table(2049, 5904).as_deref(), Some("0 5904 linear /dev/vdz 4096"));
        assert_eq!(table(2049, 5905), None);
        assert_eq!(table(u64::MAX, 1), None);
    }

    #[test]
    fn it_is_a_store_and_no_volumes_overlay() {
        let name = format!("{}{ENDING}", names::volume("vg1", "tp1"));
        assert!(is_of_name(&name) && volume_overlay::is_store(&name) && !volume_overlay::is_overlay(&name));
        let volume = names::volume("vg1", "tp1-repaired");
        assert!(!volume_overlay::all_names(&volume).contains(&name));
    }
}
