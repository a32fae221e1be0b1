//! `FILE[@OFFSET[+LENGTH]]`: how the command line names a file or a part of one.

use super::{FileView, SubView, View};
use anyhow::Context;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// A file, or a part of one, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file or block device.
    pub path: PathBuf,
    /// First byte.
    pub offset: Bytes,
    /// Length; to the end when not given.
    pub length: Option<Bytes>,
}

impl Place {
    /// The whole of a file.
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: Bytes(0), length: None }
    }

    /// Opens the part read-only.
    ///
    /// # Errors
    /// When the file cannot be opened ([`FileView::open`]), is empty, or does not contain the part.
    pub fn open(&self) -> anyhow::Result<View> {
        let file = FileView::open(&self.path)?.require_content()?;
        if self.offset == Bytes(0) && self.length.is_none() {
            return Ok(Arc::new(file));
        }
        let rest = file.size().checked_sub(self.offset).unwrap_or_default();
        let part = SubView::new(file, self.offset, self.length.unwrap_or(rest));
        Ok(Arc::new(part.with_context(|| format!("{self}: the part lies outside the file"))?))
    }
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    /// A name that exists as it stands is that file, even with an `@` in it; so is one whose end is no offset.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = if Path::new(text).exists() { None } else { parse_part(text) };
        Ok(part.unwrap_or_else(|| Self::whole(text)))
    }
}

fn parse_part(text: &str) -> Option<Place> {
    let (path, part) = text.rsplit_once('@')?;
    let (offset, length) = match part.split_once('+') {
        Some((offset, length)) => (offset, Some(Bytes(length.parse().ok()?))),
        None => (part, None),
    };
    Some(Place { path: path.into(), offset: Bytes(offset.parse().ok()?), length })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.length {
            Some(length) => write!(f, "@{}+{length}", self.offset),
            None if self.offset.0 > 0 => write!(f, "@{}", self.offset),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    #[test]
    fn parts_are_read_off_the_name() {
        assert_eq!(place("a.img"), Place::whole("a.img"));
        assert_eq!(place("a.img@512"), Place { path: "a.img".into(), offset: Bytes(512), length: None });
        assert_eq!(place("a@b@512+7"), Place { path: "a@b".into(), offset: Bytes(512), length: Some(Bytes(7)) });
        assert_eq!(place("a@home"), Place::whole("a@home"));
        for text in ["a.img", "a.img@512", "a@b@512+7"] {
            assert_eq!(place(text).to_string(), text);
        }
    }

    #[test]
    fn a_file_whose_name_looks_like_a_part_is_that_file() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("disk@3");
        std::fs::write(&odd, b"0123456789").unwrap();
        let name = odd.to_str().unwrap();
        assert_eq!(place(name).open().unwrap().size(), Bytes(10));
        assert_eq!(place(&format!("{name}@4")).open().unwrap().size(), Bytes(6));
        assert_eq!(place(&format!("{name}@4+2")).open().unwrap().size(), Bytes(2));
    }

    #[test]
    fn a_part_outside_the_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        for part in ["@11", "@4+7", "@18446744073709551615+2"] {
            let text = format!("{}{part}", file.path().display());
            assert!(place(&text).open().is_err(), "{text}");
        }
    }
}
