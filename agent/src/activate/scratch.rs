//! The scratch disk: whether it may be written to, and how much of it is free. The user names it; nothing is guessed.

use super::dm::DeviceMapper;
use super::plan::Scratch;
use super::{ioctl, names, signature, sysfs};
use crate::block::FileView;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// Looks whether `path` may take overlays, and makes it writable.
///
/// # Errors
/// When it is a source, carries parts of a NAS, is in use, or is not blank and `force` was not given.
pub fn prepare(dm: &DeviceMapper, path: &Path, sources: &[PathBuf], force: bool) -> anyhow::Result<Scratch> {
    let number = sysfs::number_of(path).with_context(|| format!("scratch disk {} cannot be found", path.display()))?;
    let number = number.ok_or_else(|| refusal(path, "it is no block device"))?;
    refuse_sources(path, number, sources)?;
    let view = FileView::open(path)?;
    let free_from = end_of_stores(dm, number)?;
    if free_from == Sectors(0) {
        check_content(path, number, &view, force)?;
        check_unused(path)?;
    }
    let device = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    ioctl::set_read_only(&device, false).with_context(|| format!("{} cannot be made writable", path.display()))?;
    Ok(Scratch { path: path.to_owned(), size: view.size().to_sectors(), free_from })
}

fn refusal(path: &Path, why: &str) -> Failure {
    let message = format!(
        "{} cannot be the scratch disk: {why}. Nothing was written to it. Name an empty disk, or leave --scratch out to keep \
         overlays in memory",
        path.display()
    );
    Failure { outcome: Outcome::FAILED, message }
}

fn refuse_sources(path: &Path, number: sysfs::DeviceNumber, sources: &[PathBuf]) -> anyhow::Result<()> {
    let own = sysfs::disks_under(number);
    for source in sources {
        let source_number = sysfs::number_of(source).ok().flatten();
        let disks = source_number.map(sysfs::disks_under).unwrap_or_default();
        if source_number == Some(number) || disks.iter().any(|disk| own.contains(disk)) {
            return Err(refusal(path, "it is one of the source disks").into());
        }
    }
    Ok(())
}

/// The disk itself and, when it is a whole disk, each of its partitions.
fn check_content(path: &Path, number: sysfs::DeviceNumber, view: &FileView, force: bool) -> anyhow::Result<()> {
    judge(path, view, force)?;
    if !sysfs::is_partition(number) {
        for partition in sysfs::disks_under(number).iter().flat_map(|disk| sysfs::partitions(disk)) {
            let view = FileView::open(&partition)?;
            if let Some(sign) = signs(&partition, &view)?.iter().find(|sign| sign.sacred) {
                return Err(refusal(path, &format!("{} carries {}", partition.display(), sign.what)).into());
            }
        }
    }
    Ok(())
}

fn signs(path: &Path, view: &FileView) -> anyhow::Result<Vec<signature::Signature>> {
    signature::found(view)
        .with_context(|| format!("{} cannot be read, so nobody can say that it is empty", path.display()))
}

fn judge(path: &Path, view: &FileView, force: bool) -> anyhow::Result<()> {
    let signs = signs(path, view)?;
    if let Some(sign) = signs.iter().find(|sign| sign.sacred) {
        return Err(refusal(path, &format!("it carries {}, which may be somebody's data", sign.what)).into());
    }
    let blank = signature::is_blank(view).with_context(|| format!("{} cannot be read", path.display()))?;
    if force || (blank && signs.is_empty()) {
        return Ok(());
    }
    let what = signs.first().map_or("data in its first MiB", |sign| sign.what);
    Err(refusal(path, &format!("it carries {what}; if all of it may be lost, add --force-scratch")).into())
}

/// The kernel lets nobody open a device exclusively that is mounted or part of something.
fn check_unused(path: &Path) -> anyhow::Result<()> {
    let mut options = File::options();
    match options.read(true).custom_flags(nix::libc::O_EXCL).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
            Err(refusal(path, "it is mounted or in use").into())
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be opened", path.display())),
    }
}

/// First sector behind all stores on this disk.
fn end_of_stores(dm: &DeviceMapper, number: sysfs::DeviceNumber) -> anyhow::Result<Sectors> {
    let mut end = 0;
    for (name, _) in dm.ours()? {
        if names::number_of(&name, names::STORE).is_none() {
            continue;
        }
        for line in dm.table(&name)? {
            if let Some(start) = line.arguments.strip_prefix(&format!("{number} ")) {
                end = end.max(start.trim().parse().unwrap_or(0_u64).saturating_add(line.length));
            }
        }
    }
    Ok(Sectors(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::NamedTempFile, FileView) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let view = FileView::open(file.path()).unwrap();
        (file, view)
    }

    #[test]
    fn only_a_blank_disk_is_taken_without_force() {
        let (blank, view) = file(&vec![0; 1 << 20]);
        judge(blank.path(), &view, false).unwrap();
        let mut bytes = vec![0; 1 << 20];
        bytes[9000] = 1;
        let (used, view) = file(&bytes);
        let error = judge(used.path(), &view, false).unwrap_err().to_string();
        assert!(error.contains("--force-scratch") && error.contains("Nothing was written"), "{error}");
        judge(used.path(), &view, true).unwrap();
    }

    #[test]
    fn no_force_helps_against_nas_content() {
        let mut bytes = vec![0; 1 << 20];
        bytes[512..520].copy_from_slice(b"LABELONE");
        let (pv, view) = file(&bytes);
        let error = judge(pv.path(), &view, true).unwrap_err().to_string();
        assert!(error.contains("an LVM physical volume"), "{error}");
    }
}
