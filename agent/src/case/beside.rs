//! The case beside the files it is about, on a target: what this machine keeps in memory is gone when it is switched off.

use super::{keep, load, programs, read};
use anyhow::Context;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Folder of the case on a target.
pub const FOLDER: &str = "tierlift-case";
/// The case in it.
pub const FILE: &str = "case.json";

/// Writes the case to a folder, whole or not at all, and the log of programs with it.
///
/// # Errors
/// When it cannot be written.
pub fn save(folder: &Path) -> anyhow::Result<()> {
    let Some(case) = load()? else { return Ok(()) };
    if let Err(error) = programs::save_log(folder) {
        log::warn!("the log of programs cannot be put on the target: {error}");
    }
    let (path, part) = (folder.join(FILE), folder.join("case.json.part"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(&case)?)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)
    };
    write().with_context(|| format!("{} cannot be written: is the target full?", path.display()))
}

/// The same for a target. A case of the same disks that an earlier start of the machine left there is gone on with; one of others
/// stays as it is. A copy does not fail for it.
pub fn save_on_target(target: &Path) {
    let folder = target.join(FOLDER);
    let save = || -> anyhow::Result<()> {
        if let Some(there) = read(&folder.join(FILE))? {
            let own = load()?.unwrap_or_default();
            if there.id != own.id && !there.is_of_same_disks(&own) {
                return Ok(());
            }
            if there.id != own.id {
                keep(|case| case.continue_from(there))?;
            }
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        self::save(&folder)
    };
    if let Err(error) = save() {
        log::warn!("the case is not kept on the target: {error:#}");
    }
}
