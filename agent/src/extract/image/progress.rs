//! How far an image came: lines of JSON in a file beside the part, one for each segment that was written.
//!
//! The first line says of which volume the part is. A line that a power cut damaged costs its segment, nothing else.

use crate::extract::file::LostRange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Schema of the file.
const SCHEMA: &str = "tierlift.image-progress/1";
/// Lines longer than this are none of ours: a segment in which every second block is lost needs half of it.
const MAX_LINE: u64 = 1 << 20;
/// Lost ranges remembered in all; segments with more are copied again.
const MAX_RANGES: usize = 1 << 20;
/// Time after which the lines are put on the disk, at the latest.
const KEEP: Duration = Duration::from_secs(5);

/// Whose part it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    schema: String,
    volume: String,
    size: u64,
    segment: u64,
}

impl Head {
    /// Of a volume of `size` bytes that is copied in segments of `segment` bytes.
    pub(super) fn new(volume: &str, size: u64, segment: u64) -> Self {
        Self { schema: SCHEMA.to_owned(), volume: volume.to_owned(), size, segment }
    }

    fn allows(&self, found: &Segment) -> bool {
        let end = found.offset.saturating_add(self.segment).min(self.size);
        let begins = found.offset < self.size && found.offset.checked_rem(self.segment) == Some(0);
        let mut at = found.offset;
        let follows = |range: &LostRange| {
            let fits = range.offset >= at && range.length > 0 && range.end() <= end;
            at = range.end();
            fits
        };
        begins && found.lost.iter().all(follows)
    }
}

/// A segment that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// Its first byte.
    pub offset: u64,
    /// SHA-256 of what was read from the source, unreadable bytes counted as zeros.
    pub sha256: String,
    /// What could not be read, counted from the beginning of the volume.
    pub lost: Vec<LostRange>,
}

/// The file, and what it tells.
#[derive(Debug)]
pub(super) struct Progress {
    head: Head,
    file: File,
    /// The segments by their first byte.
    pub segments: BTreeMap<u64, Segment>,
    kept: Instant,
}

impl Progress {
    /// Opens the file. What it tells of another volume, size or division is forgotten. `None` while another run writes it.
    pub(super) fn open(path: &Path, head: Head) -> io::Result<Option<Self>> {
        let mut options = File::options();
        options.read(true).append(true).create(true).custom_flags(nix::libc::O_NOFOLLOW);
        let file = options.open(path)?;
        if !crate::unfinished::lock(&file) {
            return Ok(None);
        }
        let segments = told(&file, &head);
        let mut progress = Self { head, file, segments: BTreeMap::new(), kept: Instant::now() };
        match segments {
            Some(segments) => {
                progress.segments = segments;
                // The last line may be half of one: what follows must not become a part of it.
                progress.file.write_all(b"\n")?;
            }
            None => progress.restart()?,
        }
        Ok(Some(progress))
    }

    /// Forgets everything.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.segments.clear();
        self.file.set_len(0)?;
        let line = serde_json::to_string(&self.head)?;
        writeln!(self.file, "{line}")?;
        self.file.sync_data()
    }

    /// Adds a segment that is on the disk.
    pub(super) fn add(&mut self, segment: Segment) -> io::Result<()> {
        let line = serde_json::to_string(&segment)?;
        writeln!(self.file, "{line}")?;
        if self.kept.elapsed() >= KEEP {
            self.kept = Instant::now();
            self.file.sync_data()?;
        }
        self.segments.insert(segment.offset, segment);
        Ok(())
    }
}

/// The segments that the file tells; `None` when it is of something else.
fn told(file: &File, head: &Head) -> Option<BTreeMap<u64, Segment>> {
    let mut reader = BufReader::new(file);
    let first: Head = serde_json::from_slice(&line(&mut reader)?).ok()?;
    if first != *head {
        return None;
    }
    let (mut segments, mut ranges) = (BTreeMap::new(), 0_usize);
    while let Some(line) = line(&mut reader) {
        let Ok(found) = serde_json::from_slice::<Segment>(&line) else { continue };
        ranges = ranges.saturating_add(found.lost.len());
        if head.allows(&found) && ranges <= MAX_RANGES {
            // A segment that was copied again has a later line.
            segments.insert(found.offset, found);
        }
    }
    Some(segments)
}

fn line(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let length = reader.take(MAX_LINE).read_until(b'\n', &mut line).ok()?;
    (length > 0).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, lost: &[(u64, u64)]) -> Segment {
        let lost = lost.iter().map(|&(offset, length)| LostRange { offset, length }).collect();
        Segment { offset, sha256: "ab".repeat(32), lost }
    }

    fn head() -> Head {
        Head::new("vg1/lv1", 1000, 100)
    }

    #[test]
    fn a_line_that_was_cut_costs_its_segment_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress");
        let mut progress = Progress::open(&path, head()).unwrap().unwrap();
        assert!(Progress::open(&path, head()).unwrap().is_none(), "two runs at once");
        let all = [segment(0, &[]), segment(100, &[(150, 10), (160, 40)]), segment(200, &[])];
        all.iter().for_each(|segment| progress.add(segment.clone()).unwrap());
        drop(progress);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 20]).unwrap();
        let mut progress = Progress::open(&path, head()).unwrap().unwrap();
        assert!(progress.segments.values().eq(&all[..2]));
        progress.add(all[2].clone()).unwrap();
        drop(progress);
        assert!(Progress::open(&path, head()).unwrap().unwrap().segments.values().eq(&all));
        for other in [Head::new("vg1/lv2", 1000, 100), Head::new("vg1/lv1", 1001, 100), Head::new("vg1/lv1", 1000, 50)]
        {
            assert!(Progress::open(&path, other).unwrap().unwrap().segments.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_true_is_not_taken() {
        assert!(head().allows(&segment(900, &[(900, 100)])));
        for wrong in [segment(1000, &[]), segment(50, &[]), segment(u64::MAX, &[]), segment(0, &[(0, 0)])] {
            assert!(!head().allows(&wrong), "{wrong:?}");
        }
        for lost in [[(99, 2), (1, 1)], [(10, 5), (12, 5)], [(0, 1), (u64::MAX, u64::MAX)]] {
            assert!(!head().allows(&segment(0, &lost)), "{lost:?}");
        }
        assert!(!Head::new("x", 10, 0).allows(&segment(0, &[])), "no segments at all");
    }
}
