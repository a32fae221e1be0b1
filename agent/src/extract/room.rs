//! Whether a target has room for everything, asked before anything is written.

use super::manifest;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
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
    let held = asked(source)?;
    let needed = Bytes(held.f_blocks.saturating_sub(held.f_bfree).saturating_mul(held.f_frsize));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_for_nothing_more_than_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(folder.path()).unwrap() > Bytes(0));
        // /proc holds nothing, so everything has room for it.
        check(Path::new("/proc"), &folder.path().join("new")).unwrap();
    }
}
