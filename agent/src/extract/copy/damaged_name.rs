//! The name of a file with unreadable ranges.
//!
//! It follows from the names in the directory of the source alone, so that a copy that goes on finds what it wrote.

use super::{Copy, Place};
use crate::extract::names::{damaged, folded, marked};
use crate::extract::walk::names_in;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The names that the files of one directory of the source have on the target.
pub(super) struct Taken {
    directory: PathBuf,
    names: HashSet<Vec<u8>>,
}

impl Copy<'_> {
    /// The name with `.damaged` that no other file of the directory has.
    pub(super) fn damaged_name(&mut self, place: &Place) -> OsString {
        let directory = place.path.parent().unwrap_or(Path::new(""));
        if self.taken.as_ref().is_none_or(|taken| taken.directory != directory) {
            let names = self.names_on_target(directory);
            self.taken = Some(Taken { directory: directory.to_owned(), names });
        }
        let is_taken = |name: &OsStr| {
            let name = self.compared(name);
            self.taken.as_ref().is_some_and(|taken| taken.names.contains(&name))
        };
        free(place.target.file_name().unwrap_or_default(), &is_taken)
    }

    fn names_on_target(&mut self, directory: &Path) -> HashSet<Vec<u8>> {
        // Of a directory that cannot be read whole, the names that can be read: no others are copied from it.
        let entries = std::fs::read_dir(self.root.join(directory));
        let names = entries.map(|entries| names_in(entries).0).unwrap_or_default();
        let on_target = |name: OsString| {
            let path = self.names.target(&directory.join(name));
            path.file_name().map(OsStr::to_owned).unwrap_or_default()
        };
        let on_target: Vec<OsString> = names.into_iter().map(on_target).collect();
        on_target.iter().map(|name| self.compared(name)).collect()
    }

    /// What is the same for two names that are one on the target.
    fn compared(&self, name: &OsStr) -> Vec<u8> {
        match name.to_str().filter(|_| self.kind.is_of_windows()) {
            Some(text) => folded(text).into_bytes(),
            None => name.as_bytes().to_owned(),
        }
    }
}

/// The first of the possible names that is free.
fn free(name: &OsStr, is_taken: &dyn Fn(&OsStr) -> bool) -> OsString {
    let plain = damaged(name);
    if !is_taken(&plain) {
        return plain;
    }
    let mut attempt = 0_usize;
    loop {
        let with_mark = [name.as_bytes(), marked("", name.as_bytes(), attempt).as_bytes()].concat();
        let with_mark = OsString::from_vec(with_mark);
        let candidate = damaged(&with_mark);
        // A file that is called like this before the addition may be damaged, too.
        if !is_taken(&candidate) && !is_taken(&with_mark) {
            return candidate;
        }
        // Each attempt is another name, so it ends when there are no more names that are taken.
        attempt = attempt.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_mark() {
        let free = |name: &[u8], taken: &[&[u8]]| {
            super::free(OsStr::from_bytes(name), &|name| taken.contains(&name.as_bytes())).into_vec()
        };
        assert_eq!(free(b"x", &[b"x", b"y.damaged"]), b"x.damaged");
        let marked = free(b"x", &[b"x", b"x.damaged"]);
        assert!(marked.starts_with(b"x~") && marked.ends_with(b".damaged") && marked.len() == 18, "{marked:?}");
        let stem = marked.strip_suffix(b".damaged").unwrap();
        for taken in [&marked[..], stem] {
            let second = free(b"x", &[b"x.damaged", taken]);
            assert!(second.starts_with(b"x~") && second.ends_with(b"-1.damaged"), "{second:?}");
        }
        assert!(free(b"b\xe4r", &[b"b\xe4r.damaged"]).starts_with(b"b\xe4r~"));
        assert!(free(&[b'x'; 255], &[&[b'x'; 255]]).len() <= 255);
    }
}
