//! Mounts an activated volume, read-only and without playing back its journal.

use crate::activate::dm::DeviceMapper;
use crate::activate::{repaired_inodes, sysfs, volume_overlay};
use crate::block::FileView;
use crate::commands::Failure;
use crate::ext4::{Ext4, Probe, Trap, probe};
use crate::unlock::crypt;
use anyhow::Context;
use nix::mount::{MsFlags, mount};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Without the journal; and whatever the superblock asks for, an error in the file system must not stop the kernel (errors=panic).
const OPTIONS: &str = "noload,errors=continue";
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
pub fn mount_read_only(dm: &DeviceMapper, device: &Path, directory: &Path) -> anyhow::Result<Done> {
    let unlocked = crypt::over_path(device).map(|unlocked| unlocked.path);
    let device = unlocked.as_deref().unwrap_or(device);
    // A file system that was repaired is on an overlay.
    let repaired = volume_overlay::existing(dm, device)?;
    let found = look(repaired.as_deref().unwrap_or(device))?;
    let mut notes = found.notes();
    let changed = without_traps(dm, device, &found)?;
    let device = changed.as_deref().or(repaired.as_deref()).unwrap_or(device);
    let suspicious = repaired_inodes::of(device)?.len();
    if suspicious > 0 {
        notes.push(format!(
            "{suspicious} files look whole here and may not be: a repair took parts out of them, or they shared blocks with others; \
             copies of them get .damaged added to their names"
        ));
    }
    let number = sysfs::number_of(device)?.with_context(|| format!("{} is no block device", device.display()))?;
    if sysfs::mounts_of(number)?.contains(&directory.to_owned()) {
        return Ok(Done { already: true, notes });
    }
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(device), directory, Some("ext4"), flags, Some(OPTIONS)).with_context(|| {
        format!(
            "{} cannot be mounted: its file system is damaged, or is none this kernel knows; `dmesg` says more",
            device.display()
        )
    })?;
    Ok(Done { already: false, notes })
}

/// The device with a volume's file system as stock tools can judge it: what was repaired, or without QNAP's traps, or itself.
///
/// # Errors
/// When the start of the volume cannot be read, or an overlay cannot be made.
pub fn readable(dm: &DeviceMapper, device: &Path) -> anyhow::Result<PathBuf> {
    if let Some(repaired) = volume_overlay::existing(dm, device)? {
        return Ok(repaired);
    }
    let changed = match probe(&FileView::open(device)?)? {
        Probe::Ext4(found) => without_traps(dm, device, &found)?,
        Probe::Luks | Probe::Unknown => None,
    };
    Ok(changed.unwrap_or_else(|| device.to_owned()))
}

/// The volume on an overlay on which the features are off that would lead astray; `None` when there are none.
fn without_traps(dm: &DeviceMapper, device: &Path, found: &Ext4) -> anyhow::Result<Option<PathBuf>> {
    let traps = found.traps();
    if traps.is_empty() {
        return Ok(None);
    }
    let overlay = volume_overlay::over(dm, device)?;
    let file = File::options().read(true).write(true).open(&overlay);
    let file = file.with_context(|| format!("{} cannot be opened", overlay.display()))?;
    let switch_off = |trap: &Trap| -> std::io::Result<()> {
        let mut word = [0; 4];
        file.read_exact_at(&mut word, trap.place.0)?;
        file.write_all_at(&(u32::from_le_bytes(word) & !trap.bit).to_le_bytes(), trap.place.0)
    };
    let done = traps.iter().try_for_each(switch_off).and_then(|()| file.sync_all());
    done.with_context(|| format!("{}: the superblock on the overlay cannot be changed", overlay.display()))?;
    Ok(Some(overlay))
}

/// What the superblock says; an error when mounting makes no sense.
fn look(device: &Path) -> anyhow::Result<Ext4> {
    let view = FileView::open(device)?;
    let found = probe(&view).with_context(|| format!("the start of {} cannot be read", device.display()))?;
    let obstacle = match found {
        Probe::Ext4(found) => match found.obstacle() {
            None => return Ok(found),
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
