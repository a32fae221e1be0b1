//! The name of a file with unreadable ranges.
//!
//! It follows from the names in the directory of the source alone, so that a copy that goes on finds what it wrote.

use super::Place;
use crate::extract::kind::Kind;
use crate::extract::names::{Names, damaged, folded, marked};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Finds names for damaged files.
pub(in crate::extract) struct DamagedNames {
    kind: Kind,
    /// For the directory that had the last one.
    taken: Option<Taken>,
}

/// The names that the files of one directory of the source have on the target.
struct Taken {
    directory: PathBuf,
    names: HashSet<Vec<u8>>,
}

impl DamagedNames {
    pub(in crate::extract) fn new(kind: Kind) -> Self {
        Self { kind, taken: None }
    }

    /// The name with `.damaged` that no other file of the directory has. `list` tells the names in a directory of the source,
    /// `names` what they are on the target.
    pub(in crate::extract) fn name(
        &mut self,
        place: &Place,
        names: &mut Names,
        list: impl FnOnce(&Path) -> Vec<OsString>,
    ) -> OsString {
        let directory = place.path.parent().unwrap_or(Path::new(""));
        if self.taken.as_ref().is_none_or(|taken| taken.directory != directory) {
            let on_target = |name: OsString| {
                let path = names.target(&directory.join(name));
                self.compared(path.file_name().unwrap_or_default())
            };
            let names = list(directory).into_iter().map(on_target).collect();
            self.taken = Some(Taken { directory: directory.to_owned(), names });
        }
        let is_taken = |name: &OsStr| {
            let name = self.compared(name);
            self.taken.as_ref().is_some_and(|taken| taken.names.contains(&name))
        };
        free(place.target.file_name().unwrap_or_default(), &is_taken)
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
