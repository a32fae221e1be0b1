//! The scratch disk: whether it may be written to, and how much of it is free. The user names it; nothing is guessed.

use super::dm::DeviceMapper;
use super::plan::Scratch;
use super::{ioctl, names, signature, sysfs, volume_overlay};
use crate::block::FileView;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use std::fs::File;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// Stores in memory are files behind loop devices.
const LOOP_MAJOR: u64 = 7;

/// Looks whether `path` may take overlays, and makes it writable.
///
/// # Errors
/// When it is a source, carries parts of a NAS, is in use, or is not blank and `confirmed` is not its model and size.
pub fn prepare(
    dm: &DeviceMapper,
    path: &Path,
    sources: &[PathBuf],
    confirmed: Option<&str>,
) -> anyhow::Result<Scratch> {
    let number = sysfs::number_of(path).with_context(|| format!("scratch disk {} cannot be found", path.display()))?;
    let number = number.ok_or_else(|| refusal(path, "it is no block device"))?;
    refuse_sources(path, number, sources)?;
    let view = FileView::open(path)?;
    let free_from = end_of_stores(dm, number)?;
    if free_from == Sectors(0) {
        check_content(path, number, &view, confirmed)?;
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
fn check_content(
    path: &Path,
    number: sysfs::DeviceNumber,
    view: &FileView,
    confirmed: Option<&str>,
) -> anyhow::Result<()> {
    judge(path, view, &words(sysfs::model(number).as_deref(), view.size()), confirmed)?;
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

/// What must be typed before a disk that is not blank is taken: its model and size.
fn words(model: Option<&str>, size: Bytes) -> String {
    match model {
        Some(model) => format!("{model} {}", size.human()),
        None => size.human(),
    }
}

fn judge(path: &Path, view: &FileView, words: &str, confirmed: Option<&str>) -> anyhow::Result<()> {
    let signs = signs(path, view)?;
    if let Some(sign) = signs.iter().find(|sign| sign.sacred) {
        return Err(refusal(path, &format!("it carries {}, which may be somebody's data", sign.what)).into());
    }
    let blank = signature::is_blank(view).with_context(|| format!("{} cannot be read", path.display()))?;
    let same = |typed: &str| typed.split_whitespace().eq(words.split_whitespace());
    if confirmed.is_some_and(same) || (blank && signs.is_empty()) {
        return Ok(());
    }
    let what = signs.first().map_or("data in its first MiB", |sign| sign.what);
    let why = format!("it carries {what}; if all of it may be lost, say which disk it is: --force-scratch '{words}'");
    Err(refusal(path, &why).into())
}

fn check_unused(path: &Path) -> anyhow::Result<()> {
    match sysfs::is_in_use(path).with_context(|| format!("{} cannot be opened", path.display()))? {
        true => Err(refusal(path, "it is mounted or in use").into()),
        false => Ok(()),
    }
}

/// First sector behind all stores on this disk.
fn end_of_stores(dm: &DeviceMapper, number: sysfs::DeviceNumber) -> anyhow::Result<Sectors> {
    let of_disk = stores(dm)?.into_iter().filter(|store| store.disk == number);
    Ok(Sectors(of_disk.map(|store| store.end).max().unwrap_or(0)))
}

/// The scratch disk that stores lie on already, with what is free behind them; `None` while all stores are in memory.
///
/// # Errors
/// When device-mapper cannot be asked, or the disk cannot be looked at.
pub fn in_use(dm: &DeviceMapper) -> anyhow::Result<Option<Scratch>> {
    let Some(disk) = stores(dm)?.first().map(|store| store.disk) else { return Ok(None) };
    let path = sysfs::path_of(disk).with_context(|| format!("the scratch disk {disk} cannot be found"))?;
    let size = FileView::open(&path)?.size().to_sectors();
    Ok(Some(Scratch { path, size, free_from: end_of_stores(dm, disk)? }))
}

/// Whether the store of this name is in memory.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn is_in_memory(dm: &DeviceMapper, store: &str) -> anyhow::Result<bool> {
    let lines = dm.table(store)?;
    Ok(lines.iter().filter_map(|line| placed(&line.arguments, 0)).any(|store| store.disk.major == LOOP_MAJOR))
}

/// A store on a disk.
struct Placed {
    disk: sysfs::DeviceNumber,
    /// First sector behind it.
    end: u64,
}

/// Every store that is not in memory.
fn stores(dm: &DeviceMapper) -> anyhow::Result<Vec<Placed>> {
    let mut found = Vec::new();
    for (name, _) in dm.ours()? {
        if names::number_of(&name, names::STORE).is_none() && !volume_overlay::is_store(&name) {
            continue;
        }
        for line in dm.table(&name)? {
            found.extend(placed(&line.arguments, line.length).filter(|store| store.disk.major != LOOP_MAJOR));
        }
    }
    Ok(found)
}

/// `8:16 2048` is what a linear line of the kernel says.
fn placed(arguments: &str, length: u64) -> Option<Placed> {
    let (number, start) = arguments.split_once(' ')?;
    let (major, minor) = number.split_once(':')?;
    let disk = sysfs::DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
    Some(Placed { disk, end: start.trim().parse::<u64>().ok()?.saturating_add(length) })
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
        let words = words(Some("SOME DISK"), Bytes(1 << 20));
        judge(blank.path(), &view, &words, None).unwrap();
        let mut bytes = vec![0; 1 << 20];
        bytes[9000] = 1;
        let (used, view) = file(&bytes);
        for typed in [None, Some(""), Some("yes"), Some("SOME DISK"), Some("1.0 MiB"), Some("SOME DISK 1.0 GiB")] {
            let error = judge(used.path(), &view, &words, typed).unwrap_err().to_string();
            assert!(
                error.contains("--force-scratch 'SOME DISK 1.0 MiB'") && error.contains("Nothing was written"),
                "{error}"
            );
        }
        judge(used.path(), &view, &words, Some("SOME  DISK 1.0 MiB")).unwrap();
    }

    #[test]
    fn places_of_stores_are_read() {
        let store = placed("8:16 2048", 4096).unwrap();
        assert_eq!((store.disk.to_string().as_str(), store.end), ("8:16", 6144));
        assert!(placed("memory 0", 1).is_none() && placed("", 1).is_none());
    }

    #[test]
    fn no_force_helps_against_nas_content() {
        let mut bytes = vec![0; 1 << 20];
        bytes[512..520].copy_from_slice(b"LABELONE");
        let (pv, view) = file(&bytes);
        let error = judge(pv.path(), &view, "1.0 MiB", Some("1.0 MiB")).unwrap_err().to_string();
        assert!(error.contains("an LVM physical volume"), "{error}");
    }
}
