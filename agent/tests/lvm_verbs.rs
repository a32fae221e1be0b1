//! `tierlift lvm` and the choice of a text, on forged disks whose rings get a history here.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tierlift_forge::{Fixture, ForgeOptions, forge_disks};
use tierlift_ondisk::lvm_area::{AreaHeader, Location, next_offset, ring_stretches};
use tierlift_ondisk::lvm_crc::lvm_crc;
use tierlift_ondisk::units::Bytes;

const AREA: u64 = 4096;

/// A disk with its metadata area.
struct Disk {
    path: PathBuf,
    /// First byte of the physical volume.
    start: u64,
    /// Committed text of the forge.
    text: Vec<u8>,
    header: AreaHeader,
}

impl Disk {
    fn forge(dir: &Path, seed: &str) -> Self {
        let fixture = Fixture::named("F6a-data-full").unwrap();
        let options = ForgeOptions { compact: true, seed: seed.into(), ..ForgeOptions::default() };
        let path = forge_disks(&fixture, &options, &dir.join(seed)).unwrap().disks.remove(0);
        let bytes = fs::read(&path).unwrap();
        let label = bytes.windows(8).step_by(512).position(|bytes| bytes == b"LABELONE").unwrap() as u64;
        let start = (label - 1) * 512;
        let mut disk = Self {
            path,
            start,
            text: Vec::new(),
            header: AreaHeader::decode(&bytes[(start + AREA) as usize..]).unwrap(),
        };
        let committed = disk.header.committed.unwrap();
        disk.text = disk.read(committed.offset.0, committed.size.0 as usize);
        disk
    }

    fn read(&self, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        fs::File::open(&self.path).unwrap().read_exact_at(&mut bytes, self.start + AREA + offset).unwrap();
        bytes
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, self.start + AREA + offset).unwrap();
    }

    /// The forge's text with another number, and without the volume `without`.
    fn text_of(&self, seqno: u64, without: Option<&str>) -> Vec<u8> {
        let text = String::from_utf8(self.text.clone()).unwrap();
        let text = text.replace("seqno = 278", &format!("seqno = {seqno}"));
        let Some(name) = without else { return text.into_bytes() };
        let from = text.find(&format!("\n{name} {{")).unwrap();
        let to = from + text[from..].find("\n}\n}\n").unwrap() + 4;
        (text[..from].to_owned() + &text[to..]).into_bytes()
    }

    /// Puts texts of these numbers behind each other, the last one committed (and one more pre-committed).
    fn history(&mut self, texts: &[Vec<u8>], precommitted: Option<&[u8]>) {
        let (size, mut place) = (self.header.size, Bytes(512));
        self.write(512, &vec![0; (size.0 - 512) as usize]);
        let all: Vec<&[u8]> = texts.iter().map(Vec::as_slice).chain(precommitted).collect();
        let mut places = Vec::new();
        for text in &all {
            let mut rest = *text;
            for (offset, length) in ring_stretches(size, place, Bytes(text.len() as u64)).unwrap() {
                self.write(offset.0, &rest[..length.0 as usize]);
                rest = &rest[length.0 as usize..];
            }
            let size = Bytes(text.len() as u64);
            places.push(Location { offset: place, size, checksum: lvm_crc(text), flags: 0 });
            place = next_offset(self.header.size, place, size).unwrap();
        }
        self.header.committed = Some(places[texts.len() - 1]);
        self.header.precommitted = precommitted.map(|_| places[texts.len()]);
        self.write(0, &self.header.encode());
    }

    /// Damages a byte of the committed text, inside a volume's name.
    fn damage_committed(&self) {
        let at = self.header.committed.unwrap().offset.0 + 700;
        let byte = self.read(at, 1)[0];
        self.write(at, &[byte ^ 1]);
    }
}

fn tierlift(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tierlift")).args(arguments).args(paths).output().unwrap()
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(arguments: &[&str], paths: &[&Path]) -> (i32, Value) {
    let output = tierlift(arguments, paths);
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

/// A disk of ten texts and one of an interrupted change; `lv1` was not there before number 275.
fn with_history(dir: &Path, seed: &str) -> Disk {
    let mut disk = Disk::forge(dir, seed);
    let texts: Vec<Vec<u8>> = (269..=278).map(|seqno| disk.text_of(seqno, (seqno < 275).then_some("lv1"))).collect();
    let next = disk.text_of(279, None);
    disk.history(&texts, Some(&next));
    disk
}

#[test]
fn every_generation_is_listed_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    let (code, value) = json(&["lvm", "generations", "--json"], &[&disk.path]);
    assert_eq!((code, &value["schema"]), (0, &"tierlift.lvm-generations/1".into()));
    let rows = value["generations"].as_array().unwrap();
    let seqnos: Vec<u64> = rows.iter().map(|row| row["seqno"].as_u64().unwrap()).collect();
    assert_eq!(seqnos, (269..=279).rev().collect::<Vec<_>>());
    let told = |row: usize, key: &str| rows[row][key].as_str().unwrap().to_owned();
    assert_eq!((told(0, "origin"), told(0, "proof")), ("precommitted".into(), "checksum".into()));
    assert_eq!((told(1, "origin"), told(1, "proof")), ("committed".into(), "checksum".into()));
    assert_eq!((told(2, "origin"), told(2, "proof")), ("ring".into(), "whole".into()));
    assert!(rows[1]["used"] == true && rows[1]["name"] == "vg1@278");
    assert_eq!(rows[10]["not_here"], serde_json::json!(["lv1"]));
    let (_, text, _) = text(&tierlift(&["lvm", "generations"], &[&disk.path]));
    assert!(text.contains("* vg1@278") && text.contains("lacks, unlike the newest: lv1"), "{text}");
}

#[test]
fn a_chosen_generation_serves_scan_show_and_activate() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    let path = disk.path.to_str().unwrap();
    let (_, now) = json(&["scan", "--json"], &[&disk.path]);
    let (code, then) = json(&["scan", "--json", "--lvm-generation", "vg1@270"], &[&disk.path]);
    let names = |value: &Value| value["volume_groups"][0]["logical_volumes"].to_string();
    assert!(names(&now).contains("\"name\":\"lv1\"") && !names(&then).contains("\"name\":\"lv1\""));
    assert_eq!((code & 8, &then["volume_groups"][0]["seqno"]), (0, &270.into()));
    assert_eq!(then["volume_groups"][0]["text"]["chosen"], true);
    let (_, shown) = json(&["lvm", "show", "--json", "--lvm-generation", "vg1@270"], &[&disk.path]);
    assert_eq!(shown["volume_groups"][0], then["volume_groups"][0]);
    let plan = ["activate", "vg1/lv1", "--dry-run", "--disk", path];
    assert_eq!(tierlift(&plan, &[]).status.code(), Some(0));
    let (code, _, errors) = text(&tierlift(&[&plan[..], &["--lvm-generation", "vg1@270"]].concat(), &[]));
    assert!(code == 8 && errors.contains("there is no volume vg1/lv1"), "{errors}");
    let (code, _, errors) = text(&tierlift(&["scan", "--lvm-generation", "vg1@7"], &[&disk.path]));
    assert!(code == 16 && errors.contains("there are vg1@279, vg1@278"), "{errors}");
}

#[test]
fn an_older_text_steps_in_for_a_damaged_one_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    disk.damage_committed();
    let (code, value) = json(&["scan", "--json"], &[&disk.path]);
    assert_eq!((code, &value["volume_groups"][0]["seqno"]), (2, &277.into()));
    let wrong = value["wrong"].to_string();
    assert!(
        wrong.contains("the committed text of this group is lost or damaged") && wrong.contains("number 277"),
        "{wrong}"
    );
    // The header lost, too: the newest whole text is taken, whoever committed it.
    disk.write(0, &[0; 512]);
    let (code, value) = json(&["scan", "--json"], &[&disk.path]);
    assert_eq!((code, &value["volume_groups"][0]["seqno"]), (2, &279.into()));
}

#[test]
fn a_lost_label_costs_nothing_that_can_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    let file = OpenOptions::new().write(true).open(&disk.path).unwrap();
    file.write_all_at(&[0; 2048], disk.start).unwrap();
    let (code, value) = json(&["scan", "--json"], &[&disk.path]);
    assert_eq!((code, &value["volume_groups"][0]["seqno"]), (2, &278.into()));
    assert!(!value["volume_groups"][0]["physical_volumes"][0]["place"].is_null());
    assert!(value["wrong"].to_string().contains("has no usable label"), "{}", value["wrong"]);
    assert_eq!(value["pools"][0]["stat"]["version"], 4);
}

#[test]
fn a_text_is_exported_and_serves_in_any_form() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    let file = dir.path().join("vg1.vg");
    let export = ["lvm", "export", "--generation", "vg1@270", "--output", file.to_str().unwrap()];
    assert_eq!(tierlift(&export, &[&disk.path]).status.code(), Some(0));
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("contents = \"Text Format Volume Group\"") && written.contains("\tseqno = 270\n"));
    assert_eq!(tierlift(&export, &[&disk.path]).status.code(), Some(8), "nothing is overwritten");
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let forms = [
        written.clone().into_bytes(),
        written.replace('\n', "\r\n").into_bytes(),
        [&[0xef, 0xbb, 0xbf][..], written.as_bytes(), &[0; 100][..]].concat(),
        [&[0xff, 0xfe][..], &utf16(&written)[..]].concat(),
        disk.text_of(270, Some("lv1")),
    ];
    for (number, form) in forms.iter().enumerate() {
        fs::write(&file, form).unwrap();
        let (_, value) = json(&["scan", "--json", "--lvm-text", file.to_str().unwrap()], &[&disk.path]);
        assert_eq!(value["volume_groups"][0]["seqno"], 270, "form {number}");
    }
    fs::write(&file, "no text").unwrap();
    let (code, _, errors) = text(&tierlift(&["scan", "--lvm-text", file.to_str().unwrap()], &[&disk.path]));
    assert!(code == 4 && errors.contains("no LVM text of a volume group"), "{code} {errors}");
}

#[test]
fn groups_of_the_same_name_are_told_apart_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (with_history(dir.path(), "a"), with_history(dir.path(), "b"));
    let paths = [a.path.as_path(), b.path.as_path()];
    let disks = ["--disk", a.path.to_str().unwrap(), "--disk", b.path.to_str().unwrap()];
    let (code, _, errors) = text(&tierlift(&[&["activate", "--dry-run", "vg1/lv1"][..], &disks].concat(), &[]));
    assert!(code == 8 && errors.contains("not unique"), "{errors}");
    let (_, value) = json(&["lvm", "generations", "--json"], &paths);
    for path in paths {
        assert!(errors.contains(path.to_str().unwrap()), "the disks are named: {errors}");
    }
    for row in value["generations"].as_array().unwrap().iter().filter(|row| row["used"] == true) {
        let id = &row["id"].as_str().unwrap()[..6];
        assert_eq!(row["name"], format!("{id}@278"));
        let volume = format!("{id}/lv1");
        let plan = [&["activate", "--dry-run", &volume][..], &disks].concat();
        assert_eq!(tierlift(&plan, &[]).status.code(), Some(0));
    }
    let (_, listed, _) = text(&tierlift(&[&["activate"][..], &disks].concat(), &[]));
    assert!(!listed.contains("vg1/lv1"), "what is listed can be typed: {listed}");
}

#[test]
fn parts_of_a_pool_are_what_the_user_says() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    let show = |part: &str| tierlift(&["lvm", "show", "--tier-volume", part], &[&disk.path]);
    let (code, shown, _) = text(&show("1=vg1/lv544"));
    assert!(code & 28 == 0 && shown.contains("tier 1 is lv544: you said so"), "{code} {shown}");
    for wrong in ["1=nothing", "9=lv544", "lv544", "metadata="] {
        assert_eq!(show(wrong).status.code(), Some(16), "{wrong}");
    }
}

#[test]
fn a_choice_is_kept_with_the_case() {
    let dir = tempfile::tempdir().unwrap();
    let disk = with_history(dir.path(), "a");
    let scan = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tierlift"));
        command.env("TIERLIFT_CASE", dir.path().join("case.json")).args(["scan", "--json"]).args(more).arg(&disk.path);
        let value: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        value["volume_groups"][0]["seqno"].as_u64().unwrap()
    };
    assert_eq!([scan(&[]), scan(&["--lvm-generation", "vg1@270"]), scan(&[])], [278, 270, 270]);
    assert_eq!([scan(&["--lvm-generation", "vg1@committed"]), scan(&[])], [278, 278]);
}
