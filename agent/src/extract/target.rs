//! Where recovered files go: a folder, or a disk with a file system, which is mounted for the time of the copy.

mod folder;
mod mounting;

use crate::activate::{names, signature, sysfs};
use crate::block::FileView;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use mounting::Mounted;
pub use mounting::{MOUNT_POINT, make_writable};
use std::path::{Component, Path, PathBuf};

/// A target ready to be written to. A disk that was mounted for it is unmounted by [`Target::release`].
#[derive(Debug)]
pub struct Target {
    /// The folder the copy goes into.
    pub folder: PathBuf,
    mounted: Option<Mounted>,
}

/// Opens `text`: a folder, a device, or `DEVICE:FOLDER`. `sources` are the disks with the user's data.
///
/// # Errors
/// When it is a source, carries parts of a NAS, has no file system that can be written, or may not be written.
pub fn open(text: &str, sources: &[PathBuf]) -> anyhow::Result<Target> {
    let (place, below) = split(text);
    let device = sysfs::number_of(&place).ok().flatten();
    let Some(number) = device else {
        folder::check_name(text)?;
        let folder = PathBuf::from(text);
        folder::check(&folder, sources)?;
        return Ok(Target { folder, mounted: None });
    };
    // A way out of the disk is refused before anything is mounted.
    below.map(|below| inside(Path::new(MOUNT_POINT), below)).transpose()?;
    let root = open_device(&place, number, sources, below)?;
    let folder = match below {
        Some(below) => inside(&root.folder, below)?,
        None => root.folder,
    };
    Ok(Target { folder, mounted: root.mounted })
}

impl Target {
    /// How a path on the target is told to people: for a disk that is mounted only for the copy, by its name on the disk.
    pub fn name_on_target(&self, target: &str, path: &Path) -> String {
        match self.mounted.as_ref().and_then(|_| path.strip_prefix(MOUNT_POINT).ok()) {
            Some(inside) => format!("{} on {}", inside.display(), split(target).0.display()),
            None => path.display().to_string(),
        }
    }

    /// Writes everything out and unmounts the disk, if it was mounted for this.
    ///
    /// # Errors
    /// When the disk could not take everything.
    pub fn release(self) -> anyhow::Result<()> {
        nix::unistd::sync();
        match self.mounted {
            Some(mounted) => mounted.release(),
            None => Ok(()),
        }
    }
}

/// `/dev/vdb1:photos` is a folder on a device; anything else is taken as it stands.
fn split(text: &str) -> (PathBuf, Option<&str>) {
    match text.split_once(':') {
        Some((device, folder)) if device.starts_with("/dev/") && !Path::new(text).exists() => {
            (PathBuf::from(device), Some(folder))
        }
        _ => (PathBuf::from(text), None),
    }
}

fn refusal(what: &Path, why: &str) -> Failure {
    let message =
        format!("{} cannot be the target: {why}. Nothing was written to it. Name another disk", what.display());
    Failure { outcome: Outcome::FAILED, message }
}

/// `root/below` without a way out of `root`.
fn inside(root: &Path, below: &str) -> anyhow::Result<PathBuf> {
    let below = Path::new(below.trim_start_matches('/'));
    if below.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Failure::usage(format!("{} leads out of the disk; name a folder on it", below.display())).into());
    }
    Ok(root.join(below))
}

fn shares_disk(source: &Path, disks: &[String]) -> bool {
    let number = sysfs::number_of(source).ok().flatten();
    number.map(sysfs::disks_under).unwrap_or_default().iter().any(|disk| disks.contains(disk))
}

fn open_device(
    place: &Path,
    number: sysfs::DeviceNumber,
    sources: &[PathBuf],
    below: Option<&str>,
) -> anyhow::Result<Target> {
    check_disk(place, number, sources)?;
    let file_system = file_system(place)?;
    if let Some(mounted) = mounting::left_over(number)? {
        return Ok(Target { folder: MOUNT_POINT.into(), mounted: Some(mounted) });
    }
    if let Some(mounted) = sysfs::mounts_of(number)?.into_iter().next() {
        return Ok(Target { folder: mounted, mounted: None });
    }
    make_writable(&sysfs::disks_under(number), place)?;
    let mounted = mounting::mount_for_writing(place, file_system, below)?;
    Ok(Target { folder: MOUNT_POINT.into(), mounted: Some(mounted) })
}

/// Refuses a disk that is a source, that is a volume of ours, or that carries parts of a NAS in any place.
///
/// # Errors
/// When it is one, or cannot be read.
pub fn check_disk(place: &Path, number: sysfs::DeviceNumber, sources: &[PathBuf]) -> anyhow::Result<()> {
    let disks = sysfs::disks_under(number);
    if let Some(source) = sources.iter().find(|source| shares_disk(source, &disks)) {
        return Err(refusal(place, &format!("it lies on source disk {}", source.display())).into());
    }
    if is_ours(place) {
        return Err(refusal(place, "it is a volume that is being recovered").into());
    }
    let whole = disks.iter().map(|disk| Path::new("/dev").join(disk));
    let parts = disks.iter().flat_map(|disk| sysfs::partitions(disk));
    whole.chain(parts).chain([place.to_owned()]).try_for_each(|part| check_content(place, &part))
}

fn is_ours(place: &Path) -> bool {
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    [names::SOURCE, names::STORE, names::MEMBER].iter().any(|prefix| name.starts_with(prefix))
        || place.starts_with("/dev/mapper")
        || name.starts_with("dm-")
}

fn check_content(place: &Path, part: &Path) -> anyhow::Result<()> {
    match signs(part)?.into_iter().find(|sign| sign.sacred) {
        Some(sign) => Err(refusal(place, &format!("{} carries {}", part.display(), sign.what)).into()),
        None => Ok(()),
    }
}

fn signs(part: &Path) -> anyhow::Result<Vec<signature::Signature>> {
    let view = FileView::open(part)?;
    signature::found(&view).with_context(|| format!("{} cannot be read", part.display()))
}

/// The first of these signs that is a file system a target may have, as the kernel calls its driver.
fn of_target(signs: &[signature::Signature]) -> Option<&'static str> {
    let known = [signature::EXT, signature::XFS, signature::BTRFS, signature::EXFAT, signature::NTFS, signature::VFAT];
    signs.iter().map(|sign| sign.what).find(|what| known.contains(what))
}

fn file_system(place: &Path) -> anyhow::Result<&'static str> {
    Ok(of_target(&signs(place)?).ok_or_else(|| {
        let partitions = sysfs::number_of(place).ok().flatten().map(sysfs::disks_under).unwrap_or_default();
        let partitions: Vec<String> =
            partitions.iter().flat_map(|disk| sysfs::partitions(disk)).map(|path| path.display().to_string()).collect();
        let hint =
            if partitions.is_empty() { String::new() } else { format!(" (its partitions: {})", partitions.join(", ")) };
        refusal(place, &format!("it carries no ext4, XFS, Btrfs, NTFS, exFAT or FAT file system{hint}"))
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_on_a_device_is_told_from_a_folder() {
        assert_eq!(split("/dev/vdb1:photos"), ("/dev/vdb1".into(), Some("photos")));
        assert_eq!(split("/data/a:b"), ("/data/a:b".into(), None));
        assert_eq!(split("here"), ("here".into(), None));
    }

    #[test]
    fn a_folder_on_a_device_stays_on_it() {
        assert_eq!(inside(Path::new("/mnt/target"), "/a/b").unwrap(), Path::new("/mnt/target/a/b"));
        assert!(inside(Path::new("/mnt/target"), "../etc").is_err());
    }

    #[test]
    fn a_new_folder_is_a_target_and_a_file_is_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("new/deep");
        assert_eq!(open(&folder.display().to_string(), &[]).unwrap().folder, folder);
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(open(&root.path().join("file/deep").display().to_string(), &[]).is_err());
    }

    #[test]
    fn file_systems_that_can_be_written_are_targets() {
        let sign = |what| signature::Signature { what, sacred: false };
        for what in ["ext4", "xfs", "btrfs", "ntfs3", "exfat", "vfat"] {
            assert_eq!(of_target(&[sign("a partition table"), sign(what)]), Some(what));
        }
        assert_eq!(of_target(&[sign("a partition table")]), None);
    }

    #[test]
    fn volumes_of_ours_are_no_targets() {
        assert!(is_ours(Path::new("/dev/mapper/vg1-lv1")) && is_ours(Path::new("/dev/dm-3")));
        assert!(!is_ours(Path::new("/dev/vdb1")));
    }
}
