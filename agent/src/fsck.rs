//! Checking and repairing a file system with e2fsck: looked at read-only, repaired only on an overlay.

mod progress;
mod suspicious;

use crate::activate::repaired_inodes;
use crate::block::FileView;
use crate::case::programs;
use crate::ext4::{SuperblockCopy, lost_superblock};
use crate::say::tell;
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Lines kept; more are counted.
const MOST_LINES: usize = 2000;
/// Bytes kept of one line: the list of differences in the maps of free space is one line without an end.
const MAX_LINE: usize = 64 << 10;
/// Bytes kept of all lines.
const MAX_SAID: usize = 1 << 20;
/// Directories named; there may be as many as files.
const MOST_DIRECTORIES: usize = 100;
/// How often it is asked whether to stop.
const WATCH: Duration = Duration::from_millis(200);

/// What e2fsck said.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Said {
    /// Its exit code: 0 clean, 1 and 2 repaired, 4 errors left, 8 and up it failed.
    pub code: i32,
    /// Problems by kind, counted.
    pub kinds: BTreeMap<String, u64>,
    /// Directories that lose names, the first of them.
    pub directories: BTreeSet<String>,
    /// Files that lose blocks or share them with others, by inode number: after a repair they look whole.
    #[serde(skip)]
    pub suspicious: BTreeSet<u64>,
    /// The first lines as they came.
    pub lines: Vec<String>,
}

/// How to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Looks only: opens the device for reading and answers no to everything.
    Look,
    /// Answers yes to everything; for overlays.
    Repair,
    /// Plays the journal back and does nothing else; for overlays.
    Journal,
}

/// Runs e2fsck on a device and keeps what it says.
///
/// # Errors
/// When it cannot be started, or was killed.
pub fn run(device: &Path, way: Way) -> anyhow::Result<Said> {
    let copy = lost_superblock(&FileView::open(device)?);
    Ok(run_unless(device, way, copy, &|| false)?.unwrap_or_default())
}

/// Runs e2fsck on a device, beginning from a copy of its superblock when one is given, and ends it as soon as `stop` says so; `None`
/// when it was ended so.
///
/// # Errors
/// When it cannot be started, or was killed by others.
pub fn run_unless(
    device: &Path,
    way: Way,
    copy: Option<SuperblockCopy>,
    stop: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<Option<Said>> {
    let mut command = Command::new("e2fsck");
    command.args(match way {
        // Progress goes where errors go, so that it does not cut sentences in two.
        Way::Look => ["-f", "-n", "-C", "2"].as_slice(),
        Way::Repair => &["-f", "-y", "-C", "2"],
        Way::Journal => &["-E", "journal_only", "-y"],
    });
    if let Some(copy) = copy {
        command.args(["-b", &copy.block.to_string(), "-B", &copy.block_size.to_string()]);
    }
    command.arg(device).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().context("e2fsck cannot be started; is it installed?")?;
    let id = i32::try_from(process.id()).context("a process number")?;
    let (over, stopped) = (AtomicBool::new(false), AtomicBool::new(false));
    let watch = || {
        while !over.load(Ordering::Relaxed) {
            if stop() {
                stopped.store(true, Ordering::Relaxed);
                // When it has just ended by itself there is nobody to reach.
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
                return;
            }
            std::thread::sleep(WATCH);
        }
    };
    let (said, errors, status) = std::thread::scope(|scope| {
        scope.spawn(watch);
        let errors = process.stderr.take().map(|pipe| scope.spawn(|| progress::follow(pipe)));
        let said = process.stdout.take().map_or_else(|| Ok(Said::default()), Said::listen);
        let errors = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let status = process.wait();
        over.store(true, Ordering::Relaxed);
        (said, errors, status)
    });
    if stopped.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let (status, mut said) = (status.context("e2fsck cannot be waited for")?, said?);
    said.lines.extend(errors);
    programs::ran(&command, status, said.lines.join("\n").as_bytes());
    Ok(Some(Said { code: status.code().context("e2fsck was killed; is there enough memory?")?, ..said }))
}

impl Said {
    fn listen(output: ChildStdout) -> anyhow::Result<Self> {
        let mut said = Self::default();
        // Names on a damaged disk need be no text.
        let mut output = BufReader::new(output);
        while let Some(line) = next_line(&mut output).context("e2fsck's words cannot be read")? {
            said.hear(&String::from_utf8_lossy(&line));
        }
        Ok(said)
    }

    fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        log::info!("e2fsck: {line}");
        if line.starts_with("Pass ") {
            tell!("fsck: {line}");
        }
        if let Some(kind) = kind(line) {
            let count = self.kinds.entry(kind.to_owned()).or_default();
            *count = count.saturating_add(1);
            if self.directories.len() < MOST_DIRECTORIES {
                self.directories.extend(directory(line));
            }
        }
        if self.suspicious.len() < repaired_inodes::MOST {
            self.suspicious.extend(suspicious::inodes(line));
        }
        let kept: usize = self.lines.iter().map(String::len).sum();
        if self.lines.len() < MOST_LINES && kept.saturating_add(line.len()) <= MAX_SAID {
            self.lines.push(line.to_owned());
        }
    }

    /// No problem was found.
    pub fn is_clean(&self) -> bool {
        self.code == 0
    }

    /// e2fsck itself could not do its work.
    pub fn failed(&self) -> bool {
        self.code & !7 != 0
    }

    /// The problems in sentences.
    pub fn summary(&self) -> Vec<String> {
        let mut told: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        if !self.directories.is_empty() {
            let all: Vec<&str> = self.directories.iter().map(String::as_str).collect();
            told.push(format!("directories that lose names: {}", all.join(", ")));
        }
        told
    }
}

/// The next line without its end, and of a long one only the beginning; `None` at the end.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let (mut line, mut any) = (Vec::new(), false);
    loop {
        let there = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            there => there?,
        };
        if there.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = there.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(there.len());
        let kept = length.min(MAX_LINE.saturating_sub(line.len()));
        line.extend_from_slice(there.get(..kept).unwrap_or_default());
        reader.consume(length.saturating_add(usize::from(end.is_some())));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// The directory that loses a name: "Entry 'a' in /b (12) has …", or one whose block is damaged.
fn directory(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("Directory inode ") {
        let number: u64 = rest.split([',', ' ', ':']).next()?.parse().ok()?;
        return Some(format!("the one with inode {number}"));
    }
    let (_, rest) = line.strip_prefix("Entry '")?.rsplit_once("' in ")?;
    let (path, _) = rest.split_once(" (")?;
    Some(path.to_owned())
}

/// What a line means for people; `None` for lines that name no problem.
fn kind(line: &str) -> Option<&'static str> {
    let kinds = [
        ("while reading block", "a block of the file system cannot be read: it lies on a lost chunk or a bad sector"),
        ("Error reading block", "a block of the file system cannot be read: it lies on a lost chunk or a bad sector"),
        ("Unattached inode", "a file without a name: goes to lost+found"),
        ("Unconnected directory", "a directory without a place: goes to lost+found"),
        ("deleted/unused inode", "a name that leads to no file: the name is removed"),
        ("invalid inode", "a name that leads to no file: the name is removed"),
        ("multiply-claimed", "blocks that two files claim: each gets a copy; one of them holds foreign data"),
        ("Directory corrupted", "a damaged directory block: names in it are lost"),
        ("directory corrupted", "a damaged directory block: names in it are lost"),
        ("missing '.'", "a damaged directory block: names in it are lost"),
        ("invalid extent", "a damaged list of a file's blocks: parts of that file are lost"),
        ("illegal block", "a file with impossible blocks: these are taken out of it"),
        ("i_size is", "a wrong file size: corrected"),
        ("i_blocks is", "a wrong count of a file's blocks: corrected"),
        ("ref count is", "a wrong count of names: corrected"),
        ("checksum", "a wrong checksum"),
        ("bitmap differences", "wrong maps of free space: corrected"),
        ("blocks count wrong", "wrong counts of free space: corrected"),
        ("inodes count wrong", "wrong counts of free space: corrected"),
        ("directories count wrong", "wrong counts of free space: corrected"),
        ("htree", "a directory index of QNAP's kind: taken away, nothing is lost"),
        ("INDEX_FL", "a directory index of QNAP's kind: taken away, nothing is lost"),
        ("recovering journal", "the journal is played back"),
        ("skipping journal recovery", "the journal holds changes that are not yet in place"),
        ("uperblock", "the superblock is damaged"),
        ("descriptor", "the table of block groups is damaged"),
    ];
    kinds.into_iter().find(|(words, _)| line.contains(words)).map(|(_, meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_counted_in_words() {
        let mut said = Said::default();
        let words = "Pass 1: Checking inodes\nUnattached inode 12\nUnattached inode 13\nFree blocks count wrong (1, counted=2).\n";
        words.lines().for_each(|line| said.hear(line));
        assert_eq!(said.kinds.values().sum::<u64>(), 3);
        assert!(said.summary().iter().any(|line| line.starts_with("2 x a file without a name")), "{said:?}");
    }

    #[test]
    fn endless_lines_are_kept_in_part() {
        let long = format!("Block bitmap differences: {}\nnext\n\nlast", "-(1--2) ".repeat(40_000));
        let mut reader = BufReader::with_capacity(1000, long.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reader).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!((lines[0].len(), &lines[1..]), (MAX_LINE, &["next".into(), String::new(), "last".into()][..]));
        assert!(long.starts_with(&lines[0]));
        let mut said = Said::default();
        (0..MOST_LINES + 1).for_each(|_| said.hear(&lines[0]));
        assert_eq!((said.kinds.values().sum::<u64>(), said.lines.len()), (MOST_LINES as u64 + 1, MAX_SAID / MAX_LINE));
    }

    #[test]
    fn directories_that_lose_names_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, path) = (folder.path().join("tree"), folder.path().join("volume"));
        std::fs::create_dir_all(tree.join("photos/old ones")).unwrap();
        std::fs::write(tree.join("photos/old ones/a' in b"), "x").unwrap();
        std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
        let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&path).status();
        assert!(made.unwrap().success());
        let clear = ["-w", "-R", "clri \"/photos/old ones/a' in b\""];
        assert!(Command::new("debugfs").args(clear).arg(&path).output().unwrap().status.success());
        let found = run(&path, Way::Look).unwrap();
        assert!(found.summary().contains(&"directories that lose names: /photos/old ones".into()), "{found:?}");
        assert_eq!(
            directory("Directory inode 13, block #0, offset 0: directory corrupted"),
            Some("the one with inode 13".into())
        );
        assert_eq!(directory("Entry '"), None);
    }

    #[test]
    fn a_look_changes_nothing_and_a_repair_repairs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
        assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).status().unwrap().success());
        assert!(run(&path, Way::Look).unwrap().is_clean());
        let wrong = ["-w", "-R", "set_inode_field <2> links_count 9"];
        assert!(Command::new("debugfs").args(wrong).arg(&path).output().unwrap().status.success());
        let before = std::fs::read(&path).unwrap();
        let found = run(&path, Way::Look).unwrap();
        assert!(!found.is_clean() && !found.summary().is_empty(), "{found:?}");
        assert!(before == std::fs::read(&path).unwrap(), "a look wrote");
        let repaired = run(&path, Way::Repair).unwrap();
        assert_eq!(repaired.code, 1, "{repaired:?}");
        assert!(run(&path, Way::Look).unwrap().is_clean());
    }
}
