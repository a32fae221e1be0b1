//! Files without a name, sorted by what is in them.
//!
//! What a repair of a file system puts into `lost+found` is called `#NUMBER`. The files stay where they are; beside them a folder
//! with links is made, by kind, and a list that says of each what it is, whether it is complete, which name older snapshots prove,
//! and which name left directory blocks propose. Nothing is renamed.

use anyhow::Context;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::kind::Kind;
use super::names::acceptable;
use super::walk::{Met, Walk};
use crate::ext4::FoundName;

/// Where a repair puts what has no name.
pub const FOLDER: &str = "lost+found";
/// The folder with the sorted view.
pub const SORTED: &str = "lost+found-sorted";
/// The list in it.
const LIST: &str = "list.txt";
/// Files of a snapshot looked at for names.
const MAX_NAMES: usize = 5_000_000;
/// Looked at from the start of a file, and from its end.
const HEAD: u64 = 8192;
const TAIL: u64 = 1024;

/// The name a file had in an older snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Path in the snapshot.
    pub path: PathBuf,
    /// The snapshot.
    pub snapshot: String,
    size: u64,
    mtime: (i64, i64),
}

/// Names by inode number.
#[derive(Debug, Default)]
pub struct Names {
    /// Of snapshots.
    proven: HashMap<u64, Vec<Name>>,
    /// Of directory blocks that nothing leads to any more.
    left: BTreeMap<u64, FoundName>,
}

/// The name a file is given beside its number.
enum Called<'a> {
    Proven(&'a Name),
    Left(&'a FoundName),
}

impl Names {
    /// Adds the names of a mounted snapshot for these inode numbers.
    pub fn add(&mut self, snapshot: &str, root: &Path, wanted: &[u64]) {
        let Ok(walk) = Walk::new(root) else { return };
        for met in walk.take(MAX_NAMES) {
            let Met::Entry(path, found) = met else { continue };
            if !wanted.contains(&found.ino()) || path.starts_with(FOLDER) {
                continue;
            }
            let mtime = (found.mtime(), found.mtime_nsec());
            let name = Name { path, snapshot: snapshot.to_owned(), size: found.len(), mtime };
            self.proven.entry(found.ino()).or_default().push(name);
        }
    }

    /// Adds the names that directory blocks still tell.
    pub fn add_left(&mut self, left: BTreeMap<u64, FoundName>) {
        self.left.extend(left);
    }

    fn called(&self, inode: u64, found: &fs::Metadata) -> Option<Called<'_>> {
        let left = || self.left.get(&inode).map(Called::Left);
        self.of(inode, found).map(Called::Proven).or_else(left)
    }

    /// The name of the same file: the same inode number, size and time of the last change, to the nanosecond where the target keeps
    /// it. Numbers are used again for new files; all three are not.
    fn of(&self, inode: u64, found: &fs::Metadata) -> Option<&Name> {
        let same = |name: &&Name| {
            let nanoseconds = found.mtime_nsec() == 0 || found.mtime_nsec() == name.mtime.1;
            name.size == found.len() && name.mtime.0 == found.mtime() && nanoseconds
        };
        self.proven.get(&inode)?.iter().find(same)
    }
}

/// What was sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Files by kind: "images".
    pub kinds: BTreeMap<&'static str, u64>,
    /// Files with a name that a snapshot proves.
    pub named: u64,
    /// Files with a name that a left directory block proposes.
    pub proposed: u64,
    /// Files whose end is missing or wrong.
    pub incomplete: u64,
}

impl Sorted {
    /// In a sentence.
    pub fn told(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!(
            "files without a name, sorted in {SORTED}: {}; {} with a name that a snapshot proves, {} with one that a left \
             directory block tells, {} incomplete",
            kinds.join(", "),
            self.named,
            self.proposed,
            self.incomplete
        )
    }
}

/// The inode numbers of nameless files in a copied tree; empty when there are none.
pub fn nameless(tree: &Path) -> Vec<u64> {
    files(tree).into_iter().map(|(inode, _)| inode).collect()
}

/// Number and path of each file `#NUMBER` in lost+found.
fn files(tree: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(tree.join(FOLDER)).into_iter().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let number = name.strip_suffix(".damaged").unwrap_or(name).strip_prefix('#')?.parse().ok()?;
            fs::symlink_metadata(&path).ok()?.is_file().then_some((number, path))
        })
        .collect();
    found.sort();
    found
}

/// Sorts what lies in `lost+found` of a copied tree; `None` when there is nothing to sort. A view made before is made anew.
///
/// # Errors
/// When the target takes no more.
pub fn sort(tree: &Path, names: &Names) -> anyhow::Result<Option<Sorted>> {
    let files = files(tree);
    if files.is_empty() {
        return Ok(None);
    }
    let view = tree.join(SORTED);
    if view.join(LIST).exists() {
        fs::remove_dir_all(&view).with_context(|| format!("{} cannot be made anew", view.display()))?;
    }
    fs::create_dir_all(&view).with_context(|| format!("{} cannot be made", view.display()))?;
    let kind = Kind::of(&view).with_context(|| format!("{}: its file system cannot be asked", view.display()))?;
    let mut sorted = Sorted::default();
    let mut list =
        String::from("What lies in lost+found, by content. Nothing was renamed: these are further names.\n\n");
    for (inode, path) in files {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let content = Content::of(&path);
        let name = names.called(inode, &found);
        let link = view.join(content.kind).join(file_name(kind, inode, &content, name.as_ref()));
        fs::create_dir_all(view.join(content.kind))?;
        let linked = fs::hard_link(&path, &link).is_ok();
        tell(&mut list, inode, tree, &path, linked.then_some(link.as_path()), &content, name.as_ref());
        let count = sorted.kinds.entry(content.kind).or_default();
        *count = count.saturating_add(1);
        let counted = match name {
            Some(Called::Proven(_)) => Some(&mut sorted.named),
            Some(Called::Left(_)) => Some(&mut sorted.proposed),
            None => None,
        };
        counted.into_iter().for_each(|count| *count = count.saturating_add(1));
        sorted.incomplete = sorted.incomplete.saturating_add(u64::from(content.complete == Some(false)));
    }
    fs::write(view.join(LIST), list).with_context(|| format!("{} cannot be written", view.join(LIST).display()))?;
    Ok(Some(sorted))
}

/// The name behind the number, as the target takes it, or the number with the ending of its kind.
fn file_name(kind: Kind, inode: u64, content: &Content, name: Option<&Called<'_>>) -> String {
    let name = match name {
        Some(Called::Proven(name)) => name.path.file_name(),
        Some(Called::Left(name)) => Some(OsStr::from_bytes(&name.name)),
        None => None,
    };
    match name {
        Some(name) => acceptable(kind, format!("{inode}-{}", name.to_string_lossy()).as_bytes()).into_owned(),
        None => format!("{inode}.{}", content.ending),
    }
}

fn tell(
    list: &mut String,
    inode: u64,
    tree: &Path,
    path: &Path,
    link: Option<&Path>,
    content: &Content,
    name: Option<&Called<'_>>,
) {
    let short = |path: &Path| path.strip_prefix(tree).unwrap_or(path).display().to_string();
    let complete = match content.complete {
        Some(true) => ", complete",
        Some(false) => ", INCOMPLETE: its end is missing or wrong",
        None => "",
    };
    // Writing to a string cannot fail.
    let _ = write!(list, "{}: {}{complete}", short(path), content.mime);
    let _ = match name {
        Some(Called::Proven(name)) => {
            write!(list, "; it was {} in snapshot {} (same inode, size and time)", name.path.display(), name.snapshot)
        }
        Some(Called::Left(name)) => {
            let place = if name.in_journal { "in the journal" } else { "that nothing leads to" };
            let told = String::from_utf8_lossy(&name.name);
            write!(
                list,
                "; a directory block {place} (block {}) calls inode {inode} '{told}'; likely, not proven",
                name.block
            )
        }
        None => Ok(()),
    };
    let _ = match link {
        Some(link) => writeln!(list, "; also {}", short(link)),
        None => writeln!(list, "; this disk has no hard links, so it has this one name only"),
    };
}

/// What is in a file.
struct Content {
    kind: &'static str,
    mime: &'static str,
    ending: &'static str,
    /// Whether it ends as its kind must; `None` where that cannot be said.
    complete: Option<bool>,
}

impl Content {
    fn of(path: &Path) -> Self {
        let (head, tail) = File::open(path).and_then(|file| ends(&file)).unwrap_or_default();
        match infer::get(&head) {
            Some(found) => Self {
                kind: kind(found.matcher_type()),
                mime: found.mime_type(),
                ending: found.extension(),
                complete: complete(found.mime_type(), &tail),
            },
            None if is_text(&head) => Self { kind: "texts", mime: "text/plain", ending: "txt", complete: None },
            None => Self { kind: "others", mime: "unknown content", ending: "bin", complete: None },
        }
    }
}

fn ends(file: &File) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    let mut reader = file;
    reader.take(HEAD).read_to_end(&mut head)?;
    let length = file.metadata()?.len();
    reader.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    reader.take(TAIL).read_to_end(&mut tail)?;
    Ok((head, tail))
}

fn kind(matcher: infer::MatcherType) -> &'static str {
    use infer::MatcherType;
    match matcher {
        MatcherType::Image => "images",
        MatcherType::Video => "videos",
        MatcherType::Audio => "sounds",
        MatcherType::Archive => "archives",
        MatcherType::Doc | MatcherType::Book => "documents",
        MatcherType::Text => "texts",
        _ => "others",
    }
}

/// Whether a file ends as files of its kind do. Zeros behind the end are what a file system adds, and are no fault.
fn complete(mime: &str, tail: &[u8]) -> Option<bool> {
    let end = tail.iter().rposition(|byte| *byte != 0).and_then(|last| tail.get(..=last)).unwrap_or_default();
    let has = |sign: &[u8]| tail.windows(sign.len()).any(|window| window == sign);
    match mime {
        "image/jpeg" => Some(end.ends_with(&[0xff, 0xd9])),
        "image/png" => Some(has(b"IEND")),
        "image/gif" => Some(end.ends_with(b";")),
        "application/pdf" => Some(has(b"%%EOF")),
        // The directory at the end of an archive; Office documents are such archives, too.
        "application/zip" | "application/epub+zip" => Some(has(b"PK\x05\x06")),
        office if office.contains("officedocument") || office.contains("opendocument") => Some(has(b"PK\x05\x06")),
        _ => None,
    }
}

fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A sign may be cut in two at the end of what was read.
        Err(error) if error.valid_up_to().saturating_add(4) > head.len() => {
            head.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|sign| !sign.is_control() || matches!(sign, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: [u8; 12] = [0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F', b'I', b'F', 0, 1];

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        let mut whole = JPEG.to_vec();
        whole.extend([0xff, 0xd9, 0, 0]);
        fs::write(folder.join("#12"), whole).unwrap();
        fs::write(folder.join("#13.damaged"), JPEG).unwrap();
        fs::write(folder.join("#14"), "Liebe Oma,\n").unwrap();
        fs::write(folder.join("#15"), [0, 1, 2, 3]).unwrap();
        fs::create_dir(folder.join("#16")).unwrap();
        fs::write(folder.join("named"), "not ours").unwrap();
        tree
    }

    #[test]
    fn files_are_sorted_by_content_and_stay_where_they_are() {
        let tree = tree();
        assert_eq!(nameless(tree.path()), [12, 13, 14, 15]);
        let sorted = sort(tree.path(), &Names::default()).unwrap().unwrap();
        assert_eq!(sorted.kinds, [("images", 2), ("others", 1), ("texts", 1)].into());
        assert_eq!((sorted.named, sorted.incomplete), (0, 1));
        let view = tree.path().join(SORTED);
        assert!(view.join("images/12.jpg").exists() && view.join("texts/14.txt").exists());
        let list = fs::read_to_string(view.join(LIST)).unwrap();
        assert!(list.contains("lost+found/#13.damaged: image/jpeg, INCOMPLETE"), "{list}");
        assert!(tree.path().join("lost+found/#12").exists());
        // The same again.
        assert_eq!(sort(tree.path(), &Names::default()).unwrap().unwrap(), sorted);
    }

    #[test]
    fn a_snapshot_proves_a_name_only_when_all_is_the_same() {
        let snapshot = tempfile::tempdir().unwrap();
        let photo = snapshot.path().join("oma.jpg");
        fs::write(&photo, JPEG).unwrap();
        let inode = fs::metadata(&photo).unwrap().ino();
        let tree = tempfile::tempdir().unwrap();
        let lost = tree.path().join(FOLDER).join(format!("#{inode}"));
        fs::create_dir(tree.path().join(FOLDER)).unwrap();
        fs::write(&lost, JPEG).unwrap();
        let time = fs::metadata(&photo).unwrap().modified().unwrap();
        let mut names = Names::default();
        names.add("vg1/snap", snapshot.path(), &[inode]);
        File::options().write(true).open(&lost).unwrap().set_modified(time).unwrap();
        assert_eq!(sort(tree.path(), &names).unwrap().unwrap().named, 1);
        assert!(tree.path().join(SORTED).join(format!("images/{inode}-oma.jpg")).exists());
        let later = time + std::time::Duration::from_secs(1);
        File::options().write(true).open(&lost).unwrap().set_modified(later).unwrap();
        assert_eq!(sort(tree.path(), &names).unwrap().unwrap().named, 0);
    }

    #[test]
    fn a_proposed_name_is_one_that_the_target_takes() {
        let content = Content { kind: "others", mime: "", ending: "bin", complete: None };
        let found = FoundName { name: b"a:b".to_vec(), block: 77, in_journal: false };
        let name = |kind| file_name(kind, 12, &content, Some(&Called::Left(&found)));
        assert_eq!((name(Kind::Unix), name(Kind::Ntfs)), ("12-a:b".into(), "12-a：b".into()));
    }

    #[test]
    fn a_left_directory_block_proposes_a_name() {
        let tree = tree();
        let mut names = Names::default();
        names.add_left([(12, FoundName { name: b"oma.jpg".to_vec(), block: 77, in_journal: true })].into());
        let sorted = sort(tree.path(), &names).unwrap().unwrap();
        assert_eq!((sorted.named, sorted.proposed), (0, 1));
        let view = tree.path().join(SORTED);
        assert!(view.join("images/12-oma.jpg").exists());
        let list = fs::read_to_string(view.join(LIST)).unwrap();
        assert!(list.contains("in the journal (block 77) calls inode 12 'oma.jpg'; likely, not proven"), "{list}");
    }

    #[test]
    fn nothing_lost_is_nothing_sorted() {
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(sort(tree.path(), &Names::default()).unwrap(), None);
        assert!(!tree.path().join(SORTED).exists());
    }
}
