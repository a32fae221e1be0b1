//! Whether a target has room for everything, asked before anything is written.

use super::kind::Kind;
use super::manifest;
use super::walk::{Met, Walk};
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tierlift_ondisk::units::Bytes;

/// Room on the file system of a folder.
///
/// # Errors
/// When it cannot be asked.
pub fn free(folder: &Path) -> anyhow::Result<Bytes> {
    let found = asked(folder)?;
    Ok(Bytes(found.f_bavail.saturating_mul(found.f_frsize)))
}

fn asked(folder: &Path) -> anyhow::Result<rustix::fs::StatVfs> {
    rustix::fs::statvfs(folder).with_context(|| format!("{}: its file system cannot be asked", folder.display()))
}

/// Bytes in use on the file system that a folder is the root of; `None` for a folder below, whose size nobody knows beforehand.
pub fn used(folder: &Path) -> Option<Bytes> {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let is_root = device(folder)? != device(&folder.join(".."))?;
    is_root.then(|| asked(folder).ok().map(held))?
}

fn held(found: rustix::fs::StatVfs) -> Bytes {
    Bytes(found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize))
}

/// Refuses a target that cannot hold what a whole file system holds. A copy that goes on after an interruption is not refused:
/// part of it is there already.
///
/// # Errors
/// When there is too little room, with both figures.
pub fn check(source: &Path, target: &Path) -> anyhow::Result<()> {
    if manifest::is_begun(target) {
        return Ok(());
    }
    let there = target.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let needed = held(asked(source)?);
    let room = free(there)?;
    if needed <= room {
        return Ok(());
    }
    let message = format!(
        "the target is too small: {} are in use on the volume, {} are free on the target. Nothing was copied; name a larger one, or \
         copy single folders with `tierlift copy VG/LV:FOLDER TARGET`",
        needed.human(),
        room.human()
    );
    Err(Failure { outcome: Outcome::FAILED, message }.into())
}

/// What people are told before a copy to a file system that does not hold every file; `None` when it holds all.
pub(super) fn too_large(kind: Kind, source: &Path) -> Option<String> {
    kind.refusal(u64::MAX)?;
    let walk = Walk::new(source).ok()?;
    let mut large = walk.filter_map(|met| match met {
        Met::Entry(path, found) if found.is_file() => Some((kind.refusal(found.len())?, path)),
        _ => None,
    });
    let (why, first) = large.next()?;
    let count = large.count().saturating_add(1);
    Some(format!(
        "too large for the target, and not copied: {count} files, the first of them {}. {why}",
        first.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_fat_does_not_hold_are_told_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in [("a", 1), ("b", 4 << 30), ("c", u64::from(u32::MAX)), ("d", 5 << 30)] {
            std::fs::File::create(folder.path().join(name)).unwrap().set_len(size).unwrap();
        }
        let told = too_large(Kind::Fat, folder.path()).unwrap();
        assert!(told.contains("2 files, the first of them b. FAT holds no files of 4 GiB"), "{told}");
        assert_eq!(too_large(Kind::Exfat, folder.path()), None);
    }

    #[test]
    fn a_folder_has_room_for_nothing_more_than_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(folder.path()).unwrap() > Bytes(0));
        // /proc holds nothing, so everything has room for it.
        check(Path::new("/proc"), &folder.path().join("new")).unwrap();
    }
}
