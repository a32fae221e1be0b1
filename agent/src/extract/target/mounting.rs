//! Mounting the disk of a target for writing, and what stands in the way of that.

use super::refusal;
use crate::activate::{ioctl, is_appliance, signature, sysfs};
use crate::case::beside;
use crate::extract::manifest;
use crate::say::tell;
use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where a target disk is mounted.
pub const MOUNT_POINT: &str = "/mnt/target";
/// Names in a folder that are looked at for what an earlier copy left.
const MOST_NAMES: usize = 100_000;

/// The disk mounted on [`MOUNT_POINT`]. As long as this lives nobody else can unmount it there, or mount another one.
#[derive(Debug)]
pub(super) struct Mounted {
    held: File,
    /// It was there before: a verb that was killed left it, or one that works at the same time has it.
    found: bool,
}

impl Mounted {
    fn hold(found: bool) -> anyhow::Result<Self> {
        let held = File::open(MOUNT_POINT).with_context(|| format!("{MOUNT_POINT} cannot be opened"))?;
        Ok(Self { held, found })
    }

    /// Unmounts it, unless another verb that had it before works on it still.
    pub(super) fn release(self) -> anyhow::Result<()> {
        drop(self.held);
        match umount(MOUNT_POINT) {
            Err(Errno::EBUSY) if self.found => {
                tell!("{MOUNT_POINT} stays mounted: another command works on it");
                Ok(())
            }
            done => done.with_context(|| format!("{MOUNT_POINT} cannot be unmounted")),
        }
    }
}

/// A mount on [`MOUNT_POINT`] that a verb left that was killed.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn left_over(number: sysfs::DeviceNumber) -> anyhow::Result<Option<Mounted>> {
    // On a stranger's machine what is mounted there is not ours.
    if !is_appliance() || !sysfs::mounts_of(number)?.contains(&PathBuf::from(MOUNT_POINT)) {
        return Ok(None);
    }
    Ok(Some(Mounted::hold(true)?))
}

/// Mounts a disk for writing. `below` is the folder on it that is the target.
///
/// # Errors
/// When another disk is mounted there and in use, or the kernel refuses.
pub(super) fn mount_for_writing(place: &Path, file_system: &str, below: Option<&str>) -> anyhow::Result<Mounted> {
    make_free(place)?;
    std::fs::create_dir_all(MOUNT_POINT).with_context(|| format!("{MOUNT_POINT} cannot be made"))?;
    let options = options(file_system);
    let refused = || format!("{} ({file_system}) cannot be mounted for writing", place.display());
    match mount_with(place, file_system, MsFlags::empty(), options) {
        Err(_) if file_system == signature::NTFS => mount_unclean(place, below)?,
        done => done.with_context(refused)?,
    }
    Mounted::hold(false)
}

fn mount_with(place: &Path, file_system: &str, more: MsFlags, options: Option<&str>) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | more;
    mount(Some(place), MOUNT_POINT, Some(file_system), flags, options)
}

/// What an earlier verb left mounted there is unmounted: files must not go to a disk that is hidden under another.
fn make_free(place: &Path) -> anyhow::Result<()> {
    if !sysfs::is_mount_point(Path::new(MOUNT_POINT))? {
        return Ok(());
    }
    if !is_appliance() {
        return Err(
            refusal(place, &format!("something is mounted on {MOUNT_POINT}, where it would be; unmount that")).into()
        );
    }
    nix::unistd::sync();
    match umount(MOUNT_POINT) {
        Err(Errno::EBUSY) => {
            let why = format!("another command writes to the disk on {MOUNT_POINT}; wait until it has ended");
            Err(refusal(place, &why).into())
        }
        done => done.with_context(|| format!("{MOUNT_POINT} cannot be unmounted")),
    }
}

/// The driver of NTFS mounts what was not shut down cleanly only when it is forced to. Where an earlier copy was under way when the
/// power went, that is our own doing, and the copy must be able to go on; what else is on a disk is not risked.
fn mount_unclean(place: &Path, below: Option<&str>) -> anyhow::Result<()> {
    let options = options(signature::NTFS).unwrap_or_default();
    mount_with(place, signature::NTFS, MsFlags::MS_RDONLY, Some(options))
        .with_context(|| format!("{} (NTFS) cannot be mounted; check it in Windows with chkdsk", place.display()))?;
    let ours = is_begun(Path::new(MOUNT_POINT), below);
    umount(MOUNT_POINT).with_context(|| format!("{MOUNT_POINT} cannot be unmounted"))?;
    if !ours {
        let why = "its NTFS was not shut down cleanly (a power cut, or Windows only sleeps: its fast startup). Check it in \
                   Windows with `chkdsk /f` and shut Windows down, or take a disk with ext4 or exFAT";
        return Err(refusal(place, why).into());
    }
    tell!(
        "{} was not shut down cleanly; an earlier copy lies on it, so it is written to all the same. Let Windows check it \
         (chkdsk) when all is done",
        place.display()
    );
    mount_with(place, signature::NTFS, MsFlags::empty(), Some(&format!("{options},force"))).with_context(|| {
        format!("{} (NTFS) cannot be mounted for writing; check it in Windows with `chkdsk /f`", place.display())
    })
}

/// Whether `copy` or `auto` were here before: in the root, or in the folder that is the target.
fn is_begun(root: &Path, below: Option<&str>) -> bool {
    let below = below.and_then(|below| super::inside(root, below).ok());
    [Some(root.to_owned()), below].into_iter().flatten().any(|folder| holds_work(&folder))
}

fn holds_work(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MOST_NAMES);
    entries.flatten().any(|entry| {
        let (name, is_folder) = (entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
        if is_folder { name == beside::FOLDER } else { name.to_string_lossy().starts_with(manifest::PREFIX) }
    })
}

/// The drivers of Windows' file systems turn names into Unicode by a table of the kernel, which may be that of Latin-1; names of
/// ours are UTF-8. ext4 must not go on over errors, whatever its superblock says.
fn options(file_system: &str) -> Option<&'static str> {
    match file_system {
        signature::NTFS | signature::EXFAT => Some("iocharset=utf8"),
        signature::VFAT => Some("utf8=1"),
        signature::EXT => Some("errors=remount-ro"),
        _ => None,
    }
}

/// The appliance sets every disk read-only when it starts; this one, and the disks under it, may be written to now.
///
/// # Errors
/// When one cannot be opened, or the kernel refuses.
pub fn make_writable(disks: &[String], place: &Path) -> anyhow::Result<()> {
    for path in disks.iter().map(|disk| Path::new("/dev").join(disk)).chain([place.to_owned()]) {
        let device = File::open(&path).with_context(|| format!("{} cannot be opened", path.display()))?;
        ioctl::set_read_only(&device, false).with_context(|| format!("{} cannot be made writable", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_drivers_of_windows_as_utf_8() {
        assert_eq!((options("ntfs3"), options("vfat")), (Some("iocharset=utf8"), Some("utf8=1")));
        assert_eq!((options("ext4"), options("xfs"), options("btrfs")), (Some("errors=remount-ro"), None, None));
    }

    #[test]
    fn an_earlier_copy_is_known_by_what_it_leaves() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("photos/tierlift-manifest.json")).unwrap();
        std::fs::write(at("photos/tierlift-case"), "").unwrap();
        assert!(
            !is_begun(root.path(), None) && !is_begun(root.path(), Some("photos")),
            "a folder and a file of theirs"
        );
        std::fs::write(at("photos/tierlift-manifest.lines"), "").unwrap();
        assert!(!is_begun(root.path(), None) && is_begun(root.path(), Some("/photos")));
        assert!(!is_begun(root.path(), Some("../x")) && !is_begun(root.path(), Some("new")));
        std::fs::create_dir(at("tierlift-case")).unwrap();
        assert!(is_begun(root.path(), Some("new")));
    }
}
