//! Names on file systems that do not take every name of Linux: NTFS, exFAT, FAT and shares.
//!
//! What Windows does not take is written with a sign that looks alike, as rclone does it: `12:30` becomes `12：30`. Bytes that are
//! no UTF-8 become `%E4`. Where two names would be one for Windows (`Readme` and `README`), the later one in the order of their
//! bytes gets a mark made from its bytes. All of it follows from the names in the directory of the source alone, so that a copy
//! that goes on after an interruption finds what it wrote.

use super::kind::Kind;
use super::lost_found;
use super::walk::names_in;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use tierlift_ondisk::field::hex;

/// Longest name, in bytes. In UTF-16, which Windows counts, a name has never more units than bytes in UTF-8.
const LONGEST: usize = 255;
/// Longer endings are no endings, but a part of the name.
const LONGEST_ENDING: usize = 16;
/// Digits of a mark.
const MARK: usize = 8;
/// Added to the name of a file with unreadable ranges, so that nobody takes it for a sound one.
const DAMAGED: &[u8] = b".damaged";

/// Names on a target for the tree below a root.
#[derive(Debug)]
pub struct Names {
    kind: Kind,
    /// Where the directories can be read; `None` when their names are given.
    root: Option<PathBuf>,
    /// The directories on the way to what was asked for last, the root first.
    levels: Vec<Level>,
}

/// The names in one directory.
#[derive(Debug)]
struct Level {
    /// Path below the root.
    directory: PathBuf,
    /// Names that are others on the target; of a directory that could not be read whole: all that could be read.
    names: HashMap<OsString, String>,
    /// All of them are known.
    complete: bool,
}

impl Names {
    /// For what lies below `root`, a directory of the source.
    pub fn new(kind: Kind, root: &Path) -> Self {
        Self { kind, root: Some(root.to_owned()), levels: Vec::new() }
    }

    /// For a tree that is not mounted: the names of each directory are given when it is entered.
    pub fn given(kind: Kind) -> Self {
        Self { kind, root: None, levels: Vec::new() }
    }

    /// Tells the names in a directory below the root, before the path of anything in it is asked for. Those above it were entered
    /// before. `complete` says that there are no more than these.
    pub fn enter(&mut self, directory: &Path, listed: Vec<OsString>, complete: bool) {
        if self.kind.is_of_windows() {
            self.levels.truncate(directory.iter().count());
            self.levels.push(Level::of(self.kind, directory, listed, complete));
        }
    }

    /// The path on the target of a path below the root; both relative.
    pub fn target(&mut self, path: &Path) -> PathBuf {
        if !self.kind.is_of_windows() {
            return path.to_owned();
        }
        let (mut above, mut target) = (PathBuf::new(), PathBuf::new());
        let mut depth = 0_usize;
        for name in path {
            self.look(depth, &above);
            let level = self.levels.get(depth);
            target.push(level.map_or_else(|| unlisted(self.kind, name), |level| level.on_target(self.kind, name)));
            above.push(name);
            depth = depth.saturating_add(1);
        }
        self.levels.truncate(depth);
        target
    }

    /// Makes sure that the level at this depth is this directory's; those above it are right already.
    fn look(&mut self, depth: usize, directory: &Path) {
        let is_there = |level: &Level| level.directory.as_os_str() == directory.as_os_str();
        if !self.levels.get(depth).is_some_and(is_there) {
            self.levels.truncate(depth);
            let (listed, complete) = self.root.as_deref().map_or((Vec::new(), false), |root| read(root, directory));
            self.levels.push(Level::of(self.kind, directory, listed, complete));
        }
    }
}

impl Level {
    fn of(kind: Kind, directory: &Path, mut listed: Vec<OsString>, complete: bool) -> Self {
        // The folder of a repair first: its name is looked for later.
        let first = OsStr::new(lost_found::FOLDER);
        listed.sort_by(|one, two| (one != first, one).cmp(&(two != first, two)));
        // A damaged directory may hold a name twice.
        listed.dedup();
        let mut names = changed(kind, &listed);
        if !complete {
            for name in listed {
                let same = name.to_string_lossy().into_owned();
                names.entry(name).or_insert(same);
            }
        }
        Self { directory: directory.to_owned(), names, complete }
    }

    fn on_target(&self, kind: Kind, name: &OsStr) -> OsString {
        match self.names.get(name) {
            Some(changed) => changed.into(),
            None if self.complete => name.to_owned(),
            None => unlisted(kind, name),
        }
    }
}

/// The names in a directory, and whether these are all.
fn read(root: &Path, directory: &Path) -> (Vec<OsString>, bool) {
    match std::fs::read_dir(root.join(directory)) {
        Ok(entries) => {
            let (names, error) = names_in(entries);
            (names, error.is_none())
        }
        Err(_) => (Vec::new(), false),
    }
}

/// A name that is not in the list of its directory, because that could not be read whole: nobody knows what it would collide with.
fn unlisted(kind: Kind, name: &OsStr) -> OsString {
    marked(&acceptable(kind, name.as_bytes()), name.as_bytes(), 0).into()
}

/// The names of one directory that must be others on the target, with what they become. Earlier names of the list keep theirs
/// where two are one for Windows.
fn changed(kind: Kind, names: &[OsString]) -> HashMap<OsString, String> {
    let mut taken = HashSet::new();
    // Names that need no change first: a changed one must not take the name of another.
    let mut keeps = |name: &OsString| match acceptable(kind, name.as_bytes()) {
        Cow::Borrowed(same) => taken.insert(folded(same)),
        Cow::Owned(_) => false,
    };
    let others: Vec<&OsString> = names.iter().filter(|name| !keeps(name)).collect();
    let mut changed = HashMap::new();
    for name in others {
        let wanted = acceptable(kind, name.as_bytes());
        // Each attempt is another name, so one more than there are names is enough.
        let attempts = 0..=taken.len();
        let marked = attempts.map(|attempt| marked(&wanted, name.as_bytes(), attempt));
        let free =
            std::iter::once(wanted.clone().into_owned()).chain(marked).find(|name| !taken.contains(&folded(name)));
        let free = free.unwrap_or_else(|| wanted.into_owned());
        taken.insert(folded(&free));
        changed.insert(name.clone(), free);
    }
    changed
}

/// The name in a form that this kind of file system takes: itself, where it does.
pub fn acceptable(kind: Kind, name: &[u8]) -> Cow<'_, str> {
    if let Some(same) = std::str::from_utf8(name).ok().filter(|text| is_acceptable(kind, text)) {
        return Cow::Borrowed(same);
    }
    let mut text: String = readable(name).chars().map(alike).collect();
    if let Some(end) = text.pop() {
        text.push(alike_at_end(end));
    }
    if is_alias(kind, &text) {
        text = text.replace('~', "\u{ff5e}");
    }
    if let Some(length) = reserved(&text) {
        text.insert(length, '_');
    }
    if text.is_empty() {
        text.push('_');
    }
    Cow::Owned(if text.len() > LONGEST { marked(&text, name, 0) } else { text })
}

/// Whether a name can stay as it is.
fn is_acceptable(kind: Kind, text: &str) -> bool {
    let plain = text.chars().all(|sign| alike(sign) == sign);
    let end = text.chars().next_back().is_some_and(|end| alike_at_end(end) == end);
    !kind.is_of_windows()
        || (plain && end && text.len() <= LONGEST && reserved(text).is_none() && !is_alias(kind, text))
}

/// The text of a name; bytes that are none as `%E4`.
fn readable(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

/// A sign that Windows takes for one that it does not take. Of the printable ones there are wide forms, of control characters
/// pictures.
fn alike(sign: char) -> char {
    match sign {
        '"' => '\u{ff02}',
        '*' => '\u{ff0a}',
        '/' => '\u{ff0f}',
        ':' => '\u{ff1a}',
        '<' => '\u{ff1c}',
        '>' => '\u{ff1e}',
        '?' => '\u{ff1f}',
        '\\' => '\u{ff3c}',
        '|' => '\u{ff5c}',
        '\u{0}'..='\u{1f}' => char::from_u32(u32::from(sign).saturating_add(0x2400)).unwrap_or('_'),
        '\u{7f}' => '\u{2421}',
        _ => sign,
    }
}

/// Windows cuts dots and blanks off the end of a name.
fn alike_at_end(sign: char) -> char {
    match sign {
        '.' => '\u{ff0e}',
        ' ' => '\u{2420}',
        _ => sign,
    }
}

/// Length of the part of a name that means a device to Windows, whatever ending follows.
fn reserved(text: &str) -> Option<usize> {
    let stem = text.split('.').next().unwrap_or(text).trim_end_matches(' ');
    let upper = stem.to_ascii_uppercase();
    let is_port = |name: &str| {
        upper.strip_prefix(name).is_some_and(|number| {
            let mut signs = number.chars();
            matches!((signs.next(), signs.next()), (Some('1'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}'), None))
        })
    };
    let is_device = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&upper.as_str());
    (is_device || is_port("COM") || is_port("LPT")).then_some(stem.len())
}

/// Whether FAT may have given this name to another file as its short one: `PROGRA~1`, `PHOTO_~2.JPG`.
fn is_alias(kind: Kind, text: &str) -> bool {
    let (stem, ending) = text.split_once('.').unwrap_or((text, ""));
    let number = stem.rsplit_once('~').map(|(_, number)| number);
    let numbered = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|sign| sign.is_ascii_digit()));
    kind == Kind::Fat && numbered && stem.chars().count() <= 8 && ending.chars().count() <= 3
}

/// `text` with a mark made from the true name, before its ending, and no longer than a name may be.
pub(super) fn marked(text: &str, name: &[u8], attempt: usize) -> String {
    let digest = hex(&Sha256::digest(name));
    let mut mark = format!("~{}", digest.get(..MARK).unwrap_or(&digest));
    if attempt > 0 {
        mark.push_str(&format!("-{attempt}"));
    }
    let (stem, ending) = match text.rfind('.').filter(|at| *at > 0) {
        Some(at) if text.len().saturating_sub(at) <= LONGEST_ENDING => text.split_at(at),
        _ => (text, ""),
    };
    let room = LONGEST.saturating_sub(mark.len()).saturating_sub(ending.len());
    let end = (0..=room.min(stem.len())).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{mark}{ending}", stem.get(..end).unwrap_or_default())
}

/// What is the same for two names that Windows takes for one. Signs whose other case has several letters stand for themselves, as
/// they do there.
pub(super) fn folded(text: &str) -> String {
    let upper = text.chars().map(|sign| single(sign.to_uppercase()).unwrap_or(sign));
    upper.map(|sign| single(sign.to_lowercase()).unwrap_or(sign)).collect()
}

fn single(mut signs: impl Iterator<Item = char>) -> Option<char> {
    signs.next().filter(|_| signs.next().is_none())
}

/// The name of a file with unreadable ranges, from its name on the target.
pub fn damaged(name: &OsStr) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len().saturating_add(DAMAGED.len()) <= LONGEST {
        return OsString::from_vec([bytes, DAMAGED].concat());
    }
    // Too long with the addition: cut, and with a mark, because another long name may begin alike.
    let mark = marked("", bytes, 0);
    let room = LONGEST.saturating_sub(DAMAGED.len()).saturating_sub(mark.len());
    let begins = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    let end = (0..=room).rev().find(begins).unwrap_or(room);
    OsString::from_vec([bytes.get(..end).unwrap_or_default(), mark.as_bytes(), DAMAGED].concat())
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
