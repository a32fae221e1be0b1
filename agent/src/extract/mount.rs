//! Mounts an activated volume, read-only and without playing back its journal.

use super::ext4::{Probe, probe};
use crate::activate::sysfs;
use crate::block::FileView;
use crate::commands::Failure;
use crate::unlock::crypt;
use anyhow::Context;
use nix::mount::{MsFlags, mount};
use std::path::{Path, PathBuf};

/// Folder of the mount points that are made when none is named.
pub const FOLDER: &str = "/mnt/tierlift";

/// A mount done, or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// It was mounted there before.
    pub already: bool,
    /// What to know of the file system.
    pub notes: Vec<String>,
}

/// Where a volume is mounted unless the user says otherwise; `device` is its name in `/dev/mapper`.
pub fn default_directory(device: &str) -> PathBuf {
    Path::new(FOLDER).join(device)
}

/// Mounts `device`, the path of one of our devices.
///
/// # Errors
/// When it carries no file system that can be mounted, or the kernel refuses.
pub fn mount_read_only(device: &Path, directory: &Path) -> anyhow::Result<Done> {
    let unlocked = crypt::over_path(device).map(|unlocked| unlocked.path);
    let device = unlocked.as_deref().unwrap_or(device);
    let notes = look(device)?;
    let number = sysfs::number_of(device)?.with_context(|| format!("{} is no block device", device.display()))?;
    if sysfs::mounts_of(number)?.contains(&directory.to_owned()) {
        return Ok(Done { already: true, notes });
    }
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(device), directory, Some("ext4"), flags, Some("noload")).with_context(|| {
        format!(
            "{} cannot be mounted: its file system is damaged, or is none this kernel knows; `dmesg` says more",
            device.display()
        )
    })?;
    Ok(Done { already: false, notes })
}

/// What the superblock says; an error when mounting makes no sense.
fn look(device: &Path) -> anyhow::Result<Vec<String>> {
    let view = FileView::open(device)?;
    let found = probe(&view).with_context(|| format!("the start of {} cannot be read", device.display()))?;
    let obstacle = match found {
        Probe::Ext4(found) => match found.obstacle() {
            None => return Ok(found.notes()),
            Some(obstacle) => obstacle,
        },
        Probe::Luks => "it is encrypted (LUKS); open it first with `tierlift unlock`".to_owned(),
        Probe::Unknown => {
            "no ext4 file system begins here: it may be a LUN (a disk for another machine), damaged, or the pool may be read \
             in the wrong mode"
                .to_owned()
        }
    };
    Err(Failure::unusable(format!("{} cannot be mounted: {obstacle}", device.display())).into())
}
