//! The names of a directory.

use ext4_view::{DirEntry, Ext4, Path, ReadDir};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What can be read of a directory.
pub(super) struct Listing {
    /// What lies in it.
    pub(super) entries: Vec<DirEntry>,
    /// The error that ended the reading; more names may have been behind it.
    pub(super) end: Option<String>,
}

impl Listing {
    pub(super) fn names(&self) -> Vec<OsString> {
        self.entries.iter().map(|entry| OsStr::from_bytes(entry.file_name().as_ref()).to_owned()).collect()
    }
}

/// `path` are the bytes below the root, without a slash at either end.
pub(super) fn list(system: &Ext4, path: &[u8]) -> Listing {
    let inside = [b"/", path].concat();
    let read = Path::try_from(inside.as_slice()).map_err(|error| error.to_string());
    match read.and_then(|inside| system.read_dir(inside).map_err(|error| error.to_string())) {
        Ok(entries) => read_all(entries),
        Err(why) => Listing { entries: Vec::new(), end: Some(why) },
    }
}

fn read_all(entries: ReadDir) -> Listing {
    let mut all = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_name() == "." || entry.file_name() == ".." => {}
            Ok(entry) => all.push(entry),
            // What a damaged directory tells behind its damage cannot be trusted.
            Err(error) => return Listing { entries: all, end: Some(error.to_string()) },
        }
    }
    Listing { entries: all, end: None }
}
