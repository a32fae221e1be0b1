//! Map files of GNU ddrescue: which parts of an image were really read from the disk.
//!
//! ddrescue leaves what it could not read as a hole, or as whatever was there before. Only parts marked `+` are data; all else
//! must read as an error, never as zeros.

use super::View;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// First words of a map file, of today's and of older versions.
const HEADS: [&str; 2] = ["# Mapfile. Created by GNU ddrescue", "# Rescue Logfile. Created by GNU ddrescue"];
/// A longer file is no map file: a line is about 30 bytes.
pub const MAX_BYTES: u64 = 64 << 20;
/// Endings of map files that lie beside an image.
const ENDINGS: [&str; 3] = ["map", "mapfile", "log"];

/// What a map file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Parts that were read, in bytes: in order, apart from each other, none empty.
    read: Vec<Range<u64>>,
    /// End of the last part the file speaks of, read or not.
    end: u64,
}

/// Why a file is no map file.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct MapError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What was expected and found.
    pub what: String,
}

/// Whether a file begins like a map file.
pub fn looks_like_map(start: &[u8]) -> bool {
    HEADS.iter().any(|head| start.starts_with(head.as_bytes()))
}

/// Names a map file of `image` may have, in the order they are tried: `disk.img.map`, `disk.map` and so on.
pub fn names_beside(image: &Path) -> Vec<PathBuf> {
    let appended = ENDINGS.iter().map(|ending| {
        let mut name = image.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        PathBuf::from(name)
    });
    appended.chain(ENDINGS.iter().map(|ending| image.with_extension(ending))).filter(|name| name != image).collect()
}

impl Map {
    /// Reads a map file. Zero bytes at the end (a map file attached as a disk) are no part of it.
    ///
    /// # Errors
    /// When it does not begin like one, a line is malformed, or parts overlap or go backwards.
    pub fn parse(bytes: &[u8]) -> Result<Self, MapError> {
        if !looks_like_map(bytes) {
            return Err(MapError { line: 1, what: format!("expected \"{}\"", HEADS[0]) });
        }
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.split('#').next().unwrap_or_default()));
        // The first line that is no comment tells where ddrescue was when it wrote the file.
        let parts = lines.filter(|(_, line)| !line.trim().is_empty()).skip(1);
        let mut map = Self { read: Vec::new(), end: 0 };
        for (line, text) in parts {
            map.add(text).map_err(|what| MapError { line, what })?;
        }
        Ok(map)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let (start, length, status) = match (words.next(), words.next(), words.next()) {
            (Some(start), Some(length), Some(status)) => (number(start)?, number(length)?, status),
            _ => return Err(format!("expected position, size and status, found \"{}\"", line.trim())),
        };
        let end = start.checked_add(length).ok_or("position and size go beyond 64 bits")?;
        if start < self.end {
            return Err(format!("a part begins at {start}, before the one above it ends ({})", self.end));
        }
        if !["?", "*", "/", "-", "+"].contains(&status) {
            return Err(format!("expected a status of ? * / - +, found \"{status}\""));
        }
        self.end = end;
        if status == "+" && length > 0 {
            match self.read.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => self.read.push(start..end),
            }
        }
        Ok(())
    }

    /// End of the last part the map speaks of, in bytes: the size of the disk.
    pub fn end(&self) -> Bytes {
        Bytes(self.end)
    }

    /// Parts of an image of `size` bytes that were not read, in order. What the map does not speak of was not read either.
    pub fn unread(&self, size: Bytes) -> Vec<Range<u64>> {
        let mut unread = Vec::new();
        let mut at = 0;
        for part in self.read.iter().take_while(|part| part.start < size.0) {
            if part.start > at {
                unread.push(at..part.start);
            }
            at = part.end;
        }
        if at < size.0 {
            unread.push(at..size.0);
        }
        unread
    }
}

fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("expected a number, found \"{word}\""))
}

/// A view with parts that were never read from the disk: they give errors.
pub struct HoledView {
    inner: View,
    unread: Vec<Range<u64>>,
    name: String,
}

impl HoledView {
    /// `unread` in order and apart, in bytes; `name` is the disk's, for messages.
    pub fn new(inner: View, unread: Vec<Range<u64>>, name: String) -> Self {
        Self { inner, unread, name }
    }

    /// The first unread part that ends behind `offset`.
    fn next_unread(&self, offset: u64) -> Option<&Range<u64>> {
        self.unread.get(self.unread.partition_point(|part| part.end <= offset))
    }
}

impl ReadAt for HoledView {
    fn size(&self) -> Bytes {
        self.inner.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.0.saturating_add(buffer.len() as u64);
        match self.next_unread(offset.0).filter(|part| part.start < end) {
            Some(part) => Err(io::Error::other(format!(
                "{}: bytes {} to {} were never read from the disk (ddrescue's map says so)",
                self.name, part.start, part.end
            ))),
            None => self.inner.read_at(offset, buffer),
        }
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        let data = self.inner.next_data(offset);
        // An unread part is no hole: it must be met and told.
        let unread = self.next_unread(offset.0).map(|part| Bytes(part.start).max(offset));
        match (data, unread) {
            (Some(data), Some(unread)) => Some(data.min(unread)),
            (data, unread) => data.or(unread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    const SAMPLE: &str = "# Mapfile. Created by GNU ddrescue version 1.27\n# Command line: ddrescue /dev/sdb d.img d.map\n\
                          # current_pos  current_status  current_pass\n0x00001000     +               1\n\
                          #      pos        size  status\n0x00000000  0x00001000  +\n0x00001000  0x00000200  -\n\
                          4608 512 +\n0x00001400  0x00000200  +\n0x00001600 0x200 ?\n";

    fn parts(parts: &[(u64, u64)]) -> Vec<Range<u64>> {
        parts.iter().map(|(start, end)| *start..*end).collect()
    }

    #[test]
    fn only_what_is_marked_as_read_was_read() {
        let map = Map::parse(SAMPLE.as_bytes()).unwrap();
        assert_eq!(map.end(), Bytes(0x1800));
        assert_eq!(map.unread(Bytes(0x1800)), parts(&[(0x1000, 0x1200), (0x1600, 0x1800)]));
        assert_eq!(map.unread(Bytes(0x2000)), parts(&[(0x1000, 0x1200), (0x1600, 0x2000)]));
        assert_eq!(map.unread(Bytes(0x1100)), parts(&[(0x1000, 0x1100)]));
        assert_eq!(map.unread(Bytes(0x1000)), parts(&[]));
    }

    #[test]
    fn a_map_attached_as_a_disk_ends_with_zeros() {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        bytes.resize(4096, 0);
        assert_eq!(Map::parse(&bytes).unwrap(), Map::parse(SAMPLE.as_bytes()).unwrap());
    }

    #[test]
    fn what_is_no_map_is_refused_with_its_line() {
        let head = "# Mapfile. Created by GNU ddrescue\n0 + 1\n";
        for (text, sign) in [
            ("hello", "line 1"),
            (&format!("{head}0 512"), "line 3"),
            (&format!("{head}0 512 x"), "status"),
            (&format!("{head}0 5e2 +"), "number"),
            (&format!("{head}0 1024 +\n512 512 -"), "line 4"),
            (&format!("{head}1 0xffffffffffffffff +"), "64 bits"),
        ] {
            let error = Map::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(sign), "{text}: {error}");
        }
    }

    #[test]
    fn unread_parts_are_errors_and_no_holes() {
        let inner: View = Arc::new(vec![7; 100]);
        let view = HoledView::new(inner, parts(&[(10, 20), (50, 100)]), "d.img".into());
        let read = |offset, length: usize| view.read_at(Bytes(offset), &mut vec![0; length]);
        assert!(read(0, 10).is_ok() && read(20, 30).is_ok());
        for (offset, length) in [(9, 2), (15, 1), (19, 5), (49, 2), (0, 100)] {
            let error = read(offset, length).unwrap_err().to_string();
            assert!(error.contains("d.img") && error.contains("never read"), "{error}");
        }
        assert_eq!(view.next_data(Bytes(60)), Some(Bytes(60)));
    }

    #[test]
    fn maps_are_looked_for_beside_the_image() {
        let names = names_beside(Path::new("/a/disk.img"));
        assert!(names.contains(&"/a/disk.img.map".into()) && names.contains(&"/a/disk.log".into()));
        assert!(!names_beside(Path::new("/a/disk.map")).contains(&"/a/disk.map".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ 0-9a-fx+?*/#\n-]{0,200}", size: u64) {
            if let Ok(map) = Map::parse(format!("{}\n{text}", HEADS[0]).as_bytes()) {
                let unread = map.unread(Bytes(size));
                prop_assert!(unread.iter().all(|part| part.start < part.end && part.end <= size));
                prop_assert!(unread.is_sorted_by(|a, b| a.end < b.start));
            }
        }
    }
}
