//! A file that appears whole or not at all: written under a temporary name beside its place, synced, renamed.

use crate::block::Place;
use crate::commands::Failure;
use crate::unfinished::{Unfinished, folder_of, lock, remove_leftovers};
use anyhow::{Context, bail};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Added to a file's name, with six drawn characters, while it is written.
const PARTIAL: &str = ".partial-";

/// A file being written.
#[derive(Debug)]
pub(in crate::commands) struct Output {
    path: PathBuf,
    file: NamedTempFile,
    guard: Unfinished,
    force: bool,
}

impl Output {
    /// Begins a file at `path`. Nothing is overwritten without `force`, and one of the `sources` never.
    pub(in crate::commands) fn create(path: &Path, force: bool, sources: &[&Place]) -> anyhow::Result<Self> {
        check_target(path, force, sources)?;
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let mut prefix = name.to_owned();
        prefix.push(PARTIAL);
        let folder = folder_of(path);
        remove_leftovers(path, PARTIAL);
        let make = || tempfile::Builder::new().prefix(&prefix).tempfile_in(folder);
        let (file, guard) = Unfinished::make(make, |file| file.path().to_owned()).with_context(|| {
            format!("no file can be made in {}; does the folder exist, may you write there?", folder.display())
        })?;
        // A file system without locks only keeps leftovers from being removed.
        lock(file.as_file());
        Ok(Self { path: path.to_owned(), file, guard, force })
    }

    /// The file, to be written.
    pub(in crate::commands) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Makes it durable and gives it its name.
    pub(in crate::commands) fn finish(self) -> anyhow::Result<()> {
        let Self { path, file, guard, force } = self;
        let failed = || format!("{} cannot be written", path.display());
        file.as_file().sync_all().with_context(failed)?;
        let renamed = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
        renamed.map_err(|error| error.error).with_context(failed)?;
        drop(guard);
        File::open(folder_of(&path)).and_then(|folder| folder.sync_all()).with_context(failed)
    }
}

fn check_target(path: &Path, force: bool, sources: &[&Place]) -> anyhow::Result<()> {
    let Ok(target) = std::fs::metadata(path) else { return Ok(()) };
    if !target.is_file() {
        bail!("{} exists and is no file; name a new file (nothing is ever written to a disk)", path.display());
    }
    let same = |source: &&&Place| {
        std::fs::metadata(&source.path).is_ok_and(|found| (found.dev(), found.ino()) == (target.dev(), target.ino()))
    };
    if let Some(source) = sources.iter().find(same) {
        return Err(Failure::usage(format!(
            "{} is the source {source} itself, which is never written; name another file",
            path.display()
        ))
        .into());
    }
    if !force {
        bail!("{} exists already; name another file, or add --force to replace it", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_appears_only_when_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = Output::create(&path, false, &[]).unwrap();
        output.file().write_all(b"new").unwrap();
        assert!(!path.exists());
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        drop(Output::create(&folder.path().join("other"), false, &[]).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn nothing_is_replaced_without_force_and_a_source_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, b"old").unwrap();
        assert!(Output::create(&path, false, &[]).unwrap_err().to_string().contains("--force"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for source in [&path, &link] {
            let error = Output::create(&path, true, &[&Place::whole(source)]).unwrap_err();
            assert!(error.to_string().contains("never written"), "{error}");
        }
        Output::create(&path, true, &[]).unwrap().finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert!(Output::create(folder.path(), true, &[]).unwrap_err().to_string().contains("is no file"));
    }

    /// Made in the meantime by somebody else: still not replaced.
    #[test]
    fn a_file_that_came_up_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let output = Output::create(&path, false, &[]).unwrap();
        std::fs::write(&path, b"other").unwrap();
        assert!(output.finish().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
    }
}
