//! Numbers of the files that a repair on an overlay took parts out of, or that shared blocks: kept as long as the overlay is there,
//! because such files look whole in it.

use super::sysfs;
use anyhow::Context;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One file for each overlay, of its name.
const FOLDER: &str = "/run/tierlift/repaired-inodes";
/// Files kept in mind; a file system that lost parts of more has hardly anything else.
pub const MOST: usize = 4 << 20;

/// Adds what a repair on an overlay tells.
///
/// # Errors
/// When it cannot be kept.
pub fn add(overlay: &Path, numbers: &BTreeSet<u64>) -> anyhow::Result<()> {
    add_in(Path::new(FOLDER), overlay, numbers)
}

/// Those of a device; none where it is no overlay on which something was repaired.
///
/// # Errors
/// When what was kept cannot be read: then nobody knows which files are whole.
pub fn of(device: &Path) -> anyhow::Result<BTreeSet<u64>> {
    of_in(Path::new(FOLDER), device)
}

/// Those of the device that carries what is seen at `path`.
///
/// # Errors
/// When the path does not exist, or what was kept cannot be read.
pub fn shown_at(path: &Path) -> anyhow::Result<BTreeSet<u64>> {
    let found = std::fs::symlink_metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let number = sysfs::DeviceNumber::from(found.dev());
    let name = format!("/sys/dev/block/{number}/dm/name");
    match std::fs::read_to_string(&name) {
        Ok(name) => of(Path::new(name.trim_end())),
        // No device of device-mapper.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("{name} cannot be read")),
    }
}

/// Forgets them: the overlay of this name is gone.
///
/// # Errors
/// When they cannot be taken away.
pub fn forget(overlay: &str) -> anyhow::Result<()> {
    let path = Path::new(FOLDER).join(overlay);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn kept(folder: &Path, device: &Path) -> PathBuf {
    folder.join(device.file_name().unwrap_or_default())
}

fn of_in(folder: &Path, device: &Path) -> anyhow::Result<BTreeSet<u64>> {
    let path = kept(folder, device);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no list of numbers", path.display()))
}

fn add_in(folder: &Path, overlay: &Path, numbers: &BTreeSet<u64>) -> anyhow::Result<()> {
    // An earlier repair on the same overlay left its own.
    let mut all = of_in(folder, overlay)?;
    all.extend(numbers);
    let (path, fresh) = (kept(folder, overlay), folder.join("new"));
    let write = || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(&fresh, serde_json::to_vec(&all)?)?;
        std::fs::rename(&fresh, &path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_add_to_each_other_and_overlays_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let (one, other) = (Path::new("/dev/mapper/vg1-lv1-overlay"), Path::new("/dev/mapper/vg1-lv2-overlay"));
        assert!(of_in(&folder, one).unwrap().is_empty());
        add_in(&folder, one, &[12, 13].into()).unwrap();
        add_in(&folder, one, &[13, u64::MAX].into()).unwrap();
        assert_eq!(of_in(&folder, Path::new("vg1-lv1-overlay")).unwrap(), [12, 13, u64::MAX].into());
        assert!(of_in(&folder, other).unwrap().is_empty());
        std::fs::write(folder.join("vg1-lv2-overlay"), "[1, ").unwrap();
        assert!(of_in(&folder, other).is_err(), "never nothing where nobody knows");
        assert!(add_in(&folder, other, &[1].into()).is_err());
    }

    #[test]
    fn what_is_on_no_overlay_has_none() {
        assert!(shown_at(Path::new("/")).unwrap().is_empty());
        assert!(shown_at(Path::new("/does/not/exist")).is_err());
    }
}
