//! The file of the case.

use super::{Case, SCHEMA};
use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Where the appliance keeps the case.
const APPLIANCE_CASE: &str = "/run/tierlift/case.json";
/// A case longer than this is none of ours.
const MAX_BYTES: u64 = 64 << 20;

/// Where the case is kept: where `TIERLIFT_CASE` says, else in the appliance's own place. On any other machine no case is
/// kept unless asked for.
pub fn location() -> Option<PathBuf> {
    let asked = std::env::var_os("TIERLIFT_CASE").filter(|path| !path.is_empty()).map(PathBuf::from);
    asked.or_else(|| crate::activate::is_appliance().then(|| PathBuf::from(APPLIANCE_CASE)))
}

/// The case so far, `None` when there is none.
///
/// # Errors
/// When it cannot be read, or is no case.
pub fn load() -> anyhow::Result<Option<Case>> {
    match location() {
        Some(path) => read(&path),
        None => Ok(None),
    }
}

/// Changes the case and keeps it. Where no case is kept, nothing happens.
///
/// # Errors
/// When it cannot be read or written.
pub fn keep(change: impl FnOnce(&mut Case)) -> anyhow::Result<()> {
    match location() {
        Some(path) => keep_at(&path, change),
        None => Ok(()),
    }
}

fn keep_at(path: &Path, change: impl FnOnce(&mut Case)) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let _lock = lock(path)?;
    let mut case = read(path)?.unwrap_or_default();
    change(&mut case);
    write(path, &case).with_context(|| format!("the case cannot be written to {}", path.display()))
}

/// The lock is a file of its own, because the case itself is replaced.
fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let name = path.with_extension("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&name);
    let file = file.with_context(|| format!("{} cannot be made", name.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("{} cannot be locked", name.display()))
}

/// The case in a file, `None` when there is no such file.
///
/// # Errors
/// When it cannot be read, or is no case.
pub fn read(path: &Path) -> anyhow::Result<Option<Case>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("the case {} cannot be read", path.display())),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .with_context(|| format!("the case {} cannot be read", path.display()))?;
    let case: Case = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no case of Tierlift; move it away to begin a new one", path.display()))?;
    if case.schema != SCHEMA {
        bail!("{} is a case of another version ({}); move it away to begin a new one", path.display(), case.schema);
    }
    Ok(Some(case))
}

/// Written beside and renamed: readers see the old case or the new one, never half of it.
fn write(path: &Path, case: &Case) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    serde_json::to_writer_pretty(&mut file, case)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(std::fs::rename(&fresh, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_up_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/case.json");
        assert!(read(&path).unwrap().is_none());
        keep_at(&path, |case| case.note("one")).unwrap();
        keep_at(&path, |case| case.note("two")).unwrap();
        let events: Vec<String> = read(&path).unwrap().unwrap().events.into_iter().map(|event| event.what).collect();
        assert_eq!(events, ["one", "two"]);
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.json");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| keep_at(&path, |case| case.note("one of eight")).unwrap());
            }
        });
        assert_eq!(read(&path).unwrap().unwrap().events.len(), 8);
    }

    #[test]
    fn another_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.json");
        std::fs::write(&path, "my diary").unwrap();
        assert!(keep_at(&path, |case| case.note("one")).unwrap_err().to_string().contains("no case of Tierlift"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "my diary");
    }
}
