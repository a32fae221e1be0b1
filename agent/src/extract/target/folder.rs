//! A folder as a target: it must lie on a disk or a share that is neither a source nor the memory of the appliance.

use super::{refusal, shares_disk};
use crate::activate::{is_appliance, sysfs};
use crate::commands::Failure;
use crate::network::rsync::Place;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// File systems that other machines keep, as the kernel lists them.
const SHARES: [&str; 9] = ["cifs", "smb3", "nfs", "nfs4", "9p", "virtiofs", "ceph", "fuse.sshfs", "afs"];
/// Disks that are memory.
const MEMORY_DISKS: [&str; 2] = ["ram", "zram"];
const NETWORK_SHARE: &str = "/mnt/network";

/// Refuses what is no folder, though it would be taken for one.
///
/// # Errors
/// When it is another machine, or a device that does not exist.
pub(super) fn check_name(text: &str) -> anyhow::Result<()> {
    let path = Path::new(text);
    if Place::parse(text).is_some() && !path.exists() {
        let why = "that is another machine, and only `copy` goes there by rsync: `copy VG/LV USER@HOST:FOLDER` for \
                   each volume";
        return Err(refusal(path, why).into());
    }
    if path.starts_with("/dev") {
        let there = text.split(':').next().is_some_and(|device| Path::new(device).exists());
        let why = if there { "it is no disk" } else { "there is no such disk" };
        return Err(refusal(path, &format!("{why}; `scan` lists those that are here")).into());
    }
    match device_meant(text).filter(|device| sysfs::number_of(device).is_ok_and(|number| number.is_some())) {
        Some(device) if !path.exists() => {
            let why = format!("it is taken as a folder, which does not exist; the disk is called {}", device.display());
            Err(refusal(path, &why).into())
        }
        _ => Ok(()),
    }
}

/// `vdb` and `vdb:photos` may be meant as /dev/vdb.
fn device_meant(text: &str) -> Option<PathBuf> {
    let name = text.split(':').next()?;
    (!name.is_empty() && !name.starts_with('/')).then(|| Path::new("/dev").join(name))
}

/// A folder's disk must not be a source, nor the folder a volume of ours; and in the appliance it must lie on a disk or a share.
///
/// # Errors
/// When that is not so, or the folder cannot be looked at.
pub(super) fn check(folder: &Path, sources: &[PathBuf]) -> anyhow::Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    if std::fs::metadata(there).is_ok_and(|found| !found.is_dir()) {
        return Err(Failure::usage(format!("{} is no folder", there.display())).into());
    }
    let carrier = sysfs::device_under(there).with_context(|| format!("{} cannot be looked at", there.display()))?;
    let disks = sysfs::disks_under(carrier);
    if let Some(source) = sources.iter().find(|source| shares_disk(source, &disks)) {
        return Err(refusal(folder, &format!("it lies on source disk {}", source.display())).into());
    }
    if !is_appliance() {
        return Ok(());
    }
    let kind = sysfs::file_system_of(there).with_context(|| format!("{} cannot be looked at", there.display()))?;
    if lies_in_memory(&disks, kind.as_deref()) { Err(refusal(folder, &advice(folder)).into()) } else { Ok(()) }
}

/// Neither a disk nor a share is under it: the appliance itself lies in memory.
fn lies_in_memory(disks: &[String], file_system: Option<&str>) -> bool {
    let is_real = |disk: &String| !MEMORY_DISKS.iter().any(|prefix| disk.starts_with(prefix));
    !disks.iter().any(is_real) && !file_system.is_some_and(|kind| SHARES.contains(&kind))
}

fn advice(folder: &Path) -> String {
    let lost = "it lies in this machine's memory, which is small and gone after a restart";
    if folder.starts_with(NETWORK_SHARE) {
        return format!("{lost}: no share is mounted there. First: network mount //HOST/SHARE");
    }
    format!(
        "{lost}. A disk is named as /dev/sdb1 or /dev/sdb1:FOLDER (`scan` lists them); a share is mounted by `network mount`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        check_name(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_folder_is_not_taken_for_one() {
        assert!(why("/dev/sdzz9").contains("there is no such disk"));
        assert!(why("/dev/sdzz9:photos").contains("there is no such disk"));
        assert!(why("/dev/null").contains("it is no disk"));
        assert!(why("me@10.0.0.2:backup").contains("copy VG/LV USER@HOST:FOLDER"));
        for folder in ["/mnt/x", "here", "/mnt/a:b", "a@b", "."] {
            check_name(folder).unwrap();
        }
    }

    #[test]
    fn a_name_without_its_folder_may_be_a_disk() {
        assert_eq!(device_meant("vdb:photos"), Some("/dev/vdb".into()));
        assert_eq!((device_meant("/mnt/vdb"), device_meant("")), (None, None));
    }

    #[test]
    fn memory_is_told_from_disks_and_shares() {
        let disk = ["sda".to_owned()];
        assert!(!lies_in_memory(&disk, Some("ext4")) && !lies_in_memory(&disk, None));
        assert!(!lies_in_memory(&[], Some("cifs")));
        for kind in ["rootfs", "tmpfs", "devtmpfs", "ramfs", "overlay"] {
            assert!(lies_in_memory(&[], Some(kind)), "{kind}");
        }
        assert!(lies_in_memory(&["zram0".into()], Some("ext4")) && lies_in_memory(&[], None));
    }

    #[test]
    fn what_to_do_is_said() {
        assert!(advice(Path::new("/mnt/network/nas")).contains("network mount //HOST/SHARE"));
        assert!(advice(Path::new("/root/x")).contains("/dev/sdb1"));
    }
}
