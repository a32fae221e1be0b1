//! The manifest: what became of every file, on the target, beside the files.
//!
//! While a copy runs it is a file of lines, so that an interrupted copy loses no knowledge and memory stays small. At the
//! end it becomes one JSON object. A later copy of the same source takes what the lines tell for known.

use super::file::LostRange;
use crate::case::Counts;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What the names of all files of a manifest begin with, of finished ones and others.
pub const PREFIX: &str = "tierlift-manifest";
/// Name of the finished manifest on the target.
pub const NAME: &str = "tierlift-manifest.json";
const LINES: &str = "tierlift-manifest.lines";
const OLD_LINES: &str = "tierlift-manifest.lines.old";
/// Schema of the manifest and of its lines.
pub const SCHEMA: &str = "tierlift.manifest/1";
/// Lines longer than this are none of ours.
const MAX_LINE: u64 = 4 << 20;
/// Files remembered from earlier copies; more are simply compared again.
const MAX_KNOWN: usize = 2_000_000;

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written, read back and found right.
    Copied,
    /// Was on the target already, and is the same.
    Identical,
    /// Parts could not be read; the file on the target has another name and zeros in their place. Or, with a reason, it could be
    /// read whole and is not what it was.
    Damaged,
    /// Not copied.
    Failed,
    /// A socket, pipe or device, another file system, or a symbolic link that the target has no place for: not copied by design.
    Skipped,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the root of the copy; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// The path's bytes in hexadecimal, when `path` could not keep them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_hex: Option<String>,
    /// "file", "hardlink", "directory", "symlink", "special".
    pub kind: String,
    /// Size in bytes.
    pub size: u64,
    /// Seconds since 1970 of the last change.
    pub mtime: i64,
    /// SHA-256 of the file on the target.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// What became of it.
    pub state: State,
    /// Name on the target, when it is another one. That of a directory holds for everything below it, too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub written_as: Option<String>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lost: Vec<LostRange>,
    /// Why it failed or was skipped, or is damaged although all of it could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

impl Entry {
    /// An entry for something below the root of the copy.
    pub fn new(path: &Path, kind: &str, state: State) -> Self {
        let lossless = path.to_str().is_some();
        let digits = || path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            path: path.to_string_lossy().into_owned(),
            path_hex: (!lossless).then(digits),
            kind: kind.to_owned(),
            size: 0,
            mtime: 0,
            sha256: None,
            state,
            written_as: None,
            lost: Vec::new(),
            why: None,
        }
    }

    /// The path's bytes.
    fn bytes(&self) -> Cow<'_, [u8]> {
        let digits = self.path_hex.as_ref().map(|digits| digits.as_bytes().chunks(2));
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        match digits.and_then(|pairs| pairs.map(byte).collect()) {
            Some(bytes) => Cow::Owned(bytes),
            None => Cow::Borrowed(self.path.as_bytes()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema: String,
    source: String,
}

/// A file that an earlier copy wrote and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its size.
    pub size: u64,
    /// Its time.
    pub mtime: i64,
    /// Its SHA-256.
    pub sha256: String,
}

/// Whether a copy into this folder was begun before.
pub fn is_begun(folder: &Path) -> bool {
    [LINES, OLD_LINES].iter().any(|name| folder.join(name).exists())
}

/// The manifest of a copy under way.
#[derive(Debug)]
pub struct Manifest {
    folder: PathBuf,
    source: String,
    lines: BufWriter<File>,
    known: Rc<KnownPaths>,
}

/// The files that earlier copies wrote and read back.
#[derive(Debug, Default)]
pub struct KnownPaths(HashMap<[u8; 16], Known>);

impl KnownPaths {
    /// What is known of a path below the root of the copy.
    pub fn get(&self, path: &Path) -> Option<&Known> {
        // Nothing to look up: no hash for it.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&key(path.as_os_str().as_bytes()))
    }

    fn add(&mut self, entry: &Entry) {
        if let (State::Copied | State::Identical, Some(sha256)) = (entry.state, &entry.sha256) {
            if self.0.len() < MAX_KNOWN {
                let sha256 = sha256.clone();
                self.0.insert(key(&entry.bytes()), Known { size: entry.size, mtime: entry.mtime, sha256 });
            }
        }
    }
}

impl Manifest {
    /// Begins a manifest in `folder`, the root of the copy on the target.
    ///
    /// # Errors
    /// When the folder holds a copy of something else and `force` was not given, or nothing can be written there.
    pub fn begin(folder: &Path, source: &str, force: bool) -> anyhow::Result<Self> {
        let (lines, old) = (folder.join(LINES), folder.join(OLD_LINES));
        let mut known = KnownPaths::default();
        for earlier in [&old, &lines] {
            if earlier.exists() {
                read_lines(earlier, source, force, &mut known)?;
            }
        }
        // If the last copy ended before it had written as much as the one before it, the older lines are still worth keeping.
        if lines.exists() && (!old.exists() || length(&lines) > length(&old)) {
            std::fs::rename(&lines, &old).with_context(|| format!("{} cannot be renamed", lines.display()))?;
        }
        let file = File::create(&lines).with_context(|| format!("{} cannot be made", lines.display()))?;
        let mut manifest = Self {
            folder: folder.to_owned(),
            source: source.to_owned(),
            lines: BufWriter::new(file),
            known: Rc::new(known),
        };
        let head = Head { schema: SCHEMA.to_owned(), source: source.to_owned() };
        manifest.line(&head)?;
        Ok(manifest)
    }

    /// What an earlier copy knew of a path.
    pub fn known(&self, path: &Path) -> Option<&Known> {
        self.known.get(path)
    }

    /// What earlier copies knew of all paths.
    pub fn known_paths(&self) -> Rc<KnownPaths> {
        Rc::clone(&self.known)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When the target takes no more.
    pub fn add(&mut self, entry: &Entry) -> anyhow::Result<()> {
        self.line(entry)
    }

    fn line(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.write_all(b"\n")?;
        Ok(())
    }

    /// Puts the lines on the disk, for the case that the power fails.
    ///
    /// # Errors
    /// When the target takes no more.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.lines.flush()?;
        Ok(self.lines.get_ref().sync_data()?)
    }

    /// Writes the finished manifest and answers where it lies.
    ///
    /// # Errors
    /// When the target takes no more.
    pub fn finish(mut self, counts: &Counts, finished: bool) -> anyhow::Result<PathBuf> {
        self.flush()?;
        let (path, fresh) = (self.folder.join(NAME), self.folder.join(format!("{NAME}.new")));
        let mut out = BufWriter::new(File::create(&fresh)?);
        write!(out, "{{\"schema\":{},", serde_json::to_string(SCHEMA)?)?;
        write!(out, "\"source\":{},", serde_json::to_string(&self.source)?)?;
        write!(out, "\"finished\":{finished},\"counts\":{},\"files\":[", serde_json::to_string(counts)?)?;
        let lines = BufReader::new(File::open(self.folder.join(LINES))?).lines().skip(1);
        for (number, line) in lines.enumerate() {
            write!(out, "{}\n{}", if number == 0 { "" } else { "," }, line?)?;
        }
        out.write_all(b"\n]}\n")?;
        out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        if finished {
            // The new lines are complete; what the older ones knew is in them.
            let _ = std::fs::remove_file(self.folder.join(OLD_LINES));
        }
        Ok(path)
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

fn key(path: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(path).into();
    let mut key = [0; 16];
    key.iter_mut().zip(digest).for_each(|(slot, byte)| *slot = byte);
    key
}

fn read_lines(path: &Path, source: &str, force: bool, known: &mut KnownPaths) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut reader = BufReader::new(file);
    let Some(head) = next_line(&mut reader)?.and_then(|line| serde_json::from_slice::<Head>(&line).ok()) else {
        return Ok(());
    };
    if head.source != source {
        if force {
            return Ok(());
        }
        bail!(
            "{} holds a copy of {} already; name another folder for {source}, so that they do not mix (or --force)",
            path.parent().unwrap_or(path).display(),
            head.source
        );
    }
    while let Some(line) = next_line(&mut reader)? {
        // The last line of an interrupted copy may be half of one.
        let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
        known.add(&entry);
    }
    Ok(())
}

fn next_line(reader: &mut impl BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((length > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { sha256: Some("abc".into()), size: 3, mtime: 7, ..Entry::new(Path::new(path), "file", State::Copied) }
    }

    #[test]
    fn an_interrupted_copy_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::begin(folder.path(), "vg1/lv1", false).unwrap();
        manifest.add(&entry("a")).unwrap();
        manifest.flush().unwrap();
        drop(manifest);
        let again = Manifest::begin(folder.path(), "vg1/lv1", false).unwrap();
        let known = Known { size: 3, mtime: 7, sha256: "abc".into() };
        assert_eq!(again.known(Path::new("a")), Some(&known));
        drop(again);
        // Interrupted at once a second time: nothing is forgotten.
        let third = Manifest::begin(folder.path(), "vg1/lv1", false).unwrap();
        assert_eq!(third.known(Path::new("a")), Some(&known));
    }

    #[test]
    fn names_that_are_no_text_are_not_mixed_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::begin(folder.path(), "vg1/lv1", false).unwrap();
        let paths = [&b"b\xe4r"[..], b"b\xf6r"].map(|bytes| Path::new(std::ffi::OsStr::from_bytes(bytes)));
        for (path, sha256) in paths.iter().zip(["one", "two"]) {
            let sha256 = Some(sha256.to_owned());
            manifest.add(&Entry { sha256, ..Entry::new(path, "file", State::Copied) }).unwrap();
        }
        manifest.flush().unwrap();
        drop(manifest);
        let again = Manifest::begin(folder.path(), "vg1/lv1", false).unwrap();
        assert_eq!(paths.map(|path| again.known(path).unwrap().sha256.clone()), ["one", "two"]);
    }

    #[test]
    fn the_finished_manifest_is_one_object() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::begin(folder.path(), "vg1/lv1", false).unwrap();
        manifest.add(&entry("a")).unwrap();
        manifest.add(&entry("b")).unwrap();
        let path = manifest.finish(&Counts { copied: 2, ..Counts::default() }, true).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&object["schema"], &object["counts"]["copied"]), (&SCHEMA.into(), &2.into()));
        assert_eq!(object["files"][1]["path"], "b");
    }

    #[test]
    fn copies_of_two_volumes_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        drop(Manifest::begin(folder.path(), "vg1/lv1", false).unwrap());
        let error = Manifest::begin(folder.path(), "vg1/lv2", false).unwrap_err().to_string();
        assert!(error.contains("a copy of vg1/lv1"), "{error}");
        Manifest::begin(folder.path(), "vg1/lv2", true).unwrap();
    }

    #[test]
    fn a_name_that_is_no_text_is_kept_in_hexadecimal() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"b\xe4r"));
        assert_eq!(Entry::new(path, "file", State::Copied).path_hex.as_deref(), Some("62e472"));
    }
}
