//! Walks a directory tree without following links, without leaving its file system and without going round in circles.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Deeper trees are taken for damage.
const MAX_DEPTH: usize = 1024;

/// Something met on the way. Paths are relative to the root of the walk.
#[derive(Debug)]
pub enum Met {
    /// A directory, before what is in it.
    Enter(PathBuf),
    /// The same directory, after what is in it.
    Leave(PathBuf, Metadata),
    /// Anything that is no directory.
    Entry(PathBuf, Metadata),
    /// Something that cannot be looked at.
    Broken(PathBuf, io::Error),
    /// A directory that another file system is mounted on.
    OtherFileSystem(PathBuf),
}

struct Level {
    path: PathBuf,
    found: Metadata,
    /// Names left to visit, last first.
    names: Vec<OsString>,
}

/// A walk under way.
pub struct Walk {
    root: PathBuf,
    levels: Vec<Level>,
    waiting: VecDeque<Met>,
}

impl Walk {
    /// Begins at a directory; the root itself is entered and left like any other, with an empty path.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn new(root: &Path) -> io::Result<Self> {
        let mut walk = Self { root: root.to_owned(), levels: Vec::new(), waiting: VecDeque::new() };
        let found = std::fs::symlink_metadata(root)?;
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let met = walk.enter(PathBuf::new(), found);
        match met {
            Met::Broken(_, error) => Err(error),
            met => {
                walk.waiting.push_front(met);
                Ok(walk)
            }
        }
    }

    /// The order is that of the names' bytes, so that two walks tell the same story.
    fn enter(&mut self, path: PathBuf, found: Metadata) -> Met {
        if let Err(error) = self.check(&found) {
            return Met::Broken(path, error);
        }
        let (mut names, broken) = match std::fs::read_dir(self.root.join(&path)) {
            Ok(entries) => names_in(entries),
            Err(error) => return Met::Broken(path, error),
        };
        self.waiting.extend(broken.map(|error| Met::Broken(path.clone(), error)));
        names.sort_by(|one, two| two.cmp(one));
        self.levels.push(Level { path: path.clone(), found, names });
        Met::Enter(path)
    }

    /// A damaged file system may hold a directory inside itself.
    fn check(&self, found: &Metadata) -> io::Result<()> {
        if self.levels.len() >= MAX_DEPTH {
            return Err(io::Error::other("the directory lies too deep; the file system is damaged"));
        }
        if self.levels.iter().any(|level| (level.found.ino(), level.found.dev()) == (found.ino(), found.dev())) {
            return Err(io::Error::other("the directory contains itself; the file system is damaged"));
        }
        Ok(())
    }

    fn meet(&mut self, path: PathBuf) -> Met {
        let found = match std::fs::symlink_metadata(self.root.join(&path)) {
            Ok(found) => found,
            Err(error) => return Met::Broken(path, error),
        };
        let home = self.levels.first().map(|level| level.found.dev());
        if !found.is_dir() {
            Met::Entry(path, found)
        } else if home.is_some_and(|home| home != found.dev()) {
            Met::OtherFileSystem(path)
        } else {
            self.enter(path, found)
        }
    }
}

/// All names that can be read, and the error that ended the reading early.
pub(super) fn names_in(entries: std::fs::ReadDir) -> (Vec<OsString>, Option<io::Error>) {
    let mut names = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => names.push(entry.file_name()),
            Err(error) => return (names, Some(error)),
        }
    }
    (names, None)
}

impl Iterator for Walk {
    type Item = Met;

    fn next(&mut self) -> Option<Met> {
        if let Some(met) = self.waiting.pop_front() {
            return Some(met);
        }
        let level = self.levels.last_mut()?;
        if let Some(name) = level.names.pop() {
            let path = level.path.join(name);
            return Some(self.meet(path));
        }
        let level = self.levels.pop()?;
        Some(Met::Leave(level.path, level.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_of_a_tree() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("b/deep")).unwrap();
        std::fs::write(root.path().join("b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("a")).unwrap();
        let story: Vec<String> = Walk::new(root.path())
            .unwrap()
            .map(|met| match met {
                Met::Enter(path) => format!("+{}", path.display()),
                Met::Leave(path, _) => format!("-{}", path.display()),
                Met::Entry(path, found) => format!("{} {}", path.display(), found.is_symlink()),
                met => format!("{met:?}"),
            })
            .collect();
        assert_eq!(story, ["+", "a true", "+b", "+b/deep", "-b/deep", "b/file false", "-b", "-"]);
    }

    #[test]
    fn only_directories_are_walked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Walk::new(file.path()).is_err());
        assert!(Walk::new(Path::new("/does/not/exist")).is_err());
    }

    #[test]
    fn other_file_systems_are_left_out() {
        let met: Vec<Met> = Walk::new(Path::new("/dev")).unwrap().collect();
        assert!(met.iter().any(|met| matches!(met, Met::OtherFileSystem(path) if path == Path::new("pts"))));
    }
}
