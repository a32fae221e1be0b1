//! One row of the table: which disks, what happened to them, what the scan must answer; and how a row is checked.

use crate::reading;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use tierlift_forge::{Fixture, ForgeOptions, Forged, Raid, forge_disks};

/// The pool most sets are made around: small, one device.
pub(crate) const POOL: &str = "F6a-data-full";

/// The disks a set begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disks {
    /// None; the row makes its own files.
    None,
    /// A NAS with one data array of this level and number of disks, small system partitions.
    Nas(i32, usize),
    /// The same with partitions at QNAP's own sectors.
    RealNas(i32, usize),
    /// A NAS whose array ends with a DRBD tail.
    Drbd(i32, usize),
    /// A pool of three tiers, each on an array (one disk) of its own.
    Tiers,
}

/// A set of disks while a row works on it.
pub(crate) struct Set {
    pub(crate) dir: PathBuf,
    pub(crate) forged: Forged,
    /// What the scan is given, in this order.
    pub(crate) paths: Vec<PathBuf>,
}

impl Set {
    /// Takes a disk away.
    pub(crate) fn drop(&mut self, disk: usize) {
        let gone = self.forged.disks[disk].clone();
        self.paths.retain(|path| *path != gone);
    }

    /// Another NAS of the same shape and names around the same pool, with identities of its own.
    pub(crate) fn other_nas(&self, level: i32, disks: usize) -> Forged {
        let options = ForgeOptions { seed: "another".into(), ..options(level, disks) };
        forge_disks(&Fixture::named(POOL).unwrap(), &options, &self.dir.join("another")).unwrap()
    }

    /// A new file in the set's folder, given to the scan with the others.
    pub(crate) fn add_file(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, bytes).unwrap();
        self.paths.push(path.clone());
        path
    }
}

/// One set and its verdict.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) disks: Disks,
    pub(crate) mishap: fn(&mut Set) -> anyhow::Result<()>,
    /// Exit code of `tierlift scan`.
    pub(crate) exit: i32,
    /// Of each data array, in role order: `u` used, `s` here but left out, `-` missing; then a `+` for each further member.
    /// Arrays in the order of their names and disks, apart by blanks.
    pub(crate) members: &'static str,
    /// What the text (or error) must say.
    pub(crate) says: &'static [&'static str],
    /// What it must not say.
    pub(crate) never: &'static [&'static str],
    /// So many pools must be found whose devices all read with their true SHA-256.
    pub(crate) whole_pools: usize,
}

fn options(level: i32, disks: usize) -> ForgeOptions {
    ForgeOptions { raid: Some(Raid::new(level, disks)), compact: true, ..ForgeOptions::default() }
}

impl Disks {
    fn make(self, dir: &Path) -> Forged {
        let (name, options) = match self {
            Self::None => return nothing(),
            Self::Nas(level, disks) => (POOL, options(level, disks)),
            Self::RealNas(level, disks) => (POOL, ForgeOptions { compact: false, ..options(level, disks) }),
            Self::Drbd(level, disks) => (POOL, ForgeOptions { drbd: true, ..options(level, disks) }),
            Self::Tiers => ("F3-3tiers", ForgeOptions { array_per_tier: true, ..options(1, 1) }),
        };
        forge_disks(&Fixture::named(name).unwrap(), &options, dir).unwrap()
    }

    fn pool(self) -> Fixture {
        Fixture::named(if matches!(self, Self::Tiers) { "F3-3tiers" } else { POOL }).unwrap()
    }
}

fn nothing() -> Forged {
    Forged {
        disks: Vec::new(),
        volume_group: String::new(),
        pool: String::new(),
        volumes: Vec::new(),
        placed: Vec::new(),
        arrays: Vec::new(),
    }
}

/// What the scan answered.
struct Answer {
    exit: i32,
    text: String,
    members: String,
}

fn tierlift(arguments: &[&str], paths: &[PathBuf]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tierlift")).arg("scan").args(arguments).args(paths).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn scan(paths: &[PathBuf]) -> Answer {
    let (exit, text, errors) = tierlift(&[], paths);
    let (json_exit, json, _) = tierlift(&["--json"], paths);
    assert_eq!(exit, json_exit, "text and JSON differ in the exit code");
    let members = serde_json::from_str(&json).map(|json| members(&json)).unwrap_or_default();
    Answer { exit, text: text + &errors, members }
}

/// The members of all data arrays as letters.
fn members(json: &serde_json::Value) -> String {
    let arrays = json["arrays"].as_array().unwrap().iter().filter(|array| array["system"] == false);
    let mut words: Vec<(String, String)> = arrays.map(|array| (array["uuid"].to_string(), letters(array))).collect();
    words.sort();
    words.into_iter().map(|(_, letters)| letters).collect::<Vec<_>>().join(" ")
}

fn letters(array: &serde_json::Value) -> String {
    let members = array["members"].as_array().unwrap();
    let read = array["usable_member"].as_u64();
    let used: Vec<u64> = match array["assembly"]["roles"].as_array() {
        Some(roles) => roles.iter().filter_map(serde_json::Value::as_u64).collect(),
        None => read.into_iter().collect(),
    };
    let of_role = |role: u64| (0u64..).zip(members).filter(move |(_, member)| member["role"].as_u64() == Some(role));
    let (mut word, mut told) = (String::new(), 0);
    for role in 0..array["raid_disks"].as_u64().unwrap() {
        let here: Vec<u64> = of_role(role).map(|(index, _)| index).collect();
        told += here.len().min(1);
        word.push(match here.is_empty() {
            true => '-',
            false if here.iter().any(|index| used.contains(index)) => 'u',
            false => 's',
        });
    }
    word + &"+".repeat(members.len() - told)
}

/// Checks every row and tells all that fail, with the whole text of each.
pub(crate) fn check_all(rows: &[Row]) {
    let mut failed = String::new();
    for row in rows {
        let dir = tempfile::tempdir().unwrap();
        let (answer, wrong) = check(row, dir.path());
        println!("{:<60} exit {:>2}  {}", row.name, answer.exit, answer.members);
        if !wrong.is_empty() {
            writeln!(failed, "\n=== {}: {}\n{}", row.name, wrong.join("; "), answer.text).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

fn check(row: &Row, dir: &Path) -> (Answer, Vec<String>) {
    let forged = row.disks.make(&dir.join("disks"));
    let mut set = Set { dir: dir.to_owned(), paths: forged.disks.clone(), forged };
    (row.mishap)(&mut set).unwrap_or_else(|error| panic!("{}: {error:#}", row.name));
    let before = times(&set.paths);
    let answer = scan(&set.paths);
    let mut wrong = compare(row, &answer);
    wrong.extend(reading::check(&set.paths, &row.disks.pool(), row.whole_pools));
    set.paths.reverse();
    let again = scan(&set.paths);
    if (again.exit, &again.members) != (answer.exit, &answer.members) {
        wrong.push(format!("with the disks in reverse order: exit {}, members {}", again.exit, again.members));
    }
    set.paths.reverse();
    if times(&set.paths) != before {
        wrong.push("a source was written to".into());
    }
    (answer, wrong)
}

fn compare(row: &Row, answer: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    if answer.exit != row.exit {
        wrong.push(format!("exit {} instead of {}", answer.exit, row.exit));
    }
    if answer.members != row.members {
        wrong.push(format!("members '{}' instead of '{}'", answer.members, row.members));
    }
    let missing = row.says.iter().filter(|words| !answer.text.contains(**words));
    wrong.extend(missing.map(|words| format!("does not say '{words}'")));
    let forbidden = row.never.iter().filter(|words| answer.text.contains(**words));
    wrong.extend(forbidden.map(|words| format!("says '{words}'")));
    wrong
}

/// Time of the last change of each file, and its size.
fn times(paths: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let time = |path: &PathBuf| fs::metadata(path).ok().map(|data| (data.modified().unwrap(), data.len()));
    paths.iter().map(time).collect()
}

/// What most rows have in common: nothing happened, all is well, one pool reads as it should.
pub(crate) const ROW: Row = Row {
    name: "",
    disks: Disks::None,
    mishap: |_| Ok(()),
    exit: 0,
    members: "",
    says: &[],
    never: &[],
    whole_pools: 1,
};
