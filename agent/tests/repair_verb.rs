//! `tierlift repair` on whole disks, without a kernel: preview, new metadata beside the case, the plan that uses them, undo.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use tierlift_forge::{Fixture, ForgeOptions, Forged, Mirror, forge_disks};

struct Patient {
    folder: TempDir,
    forged: Forged,
}

impl Patient {
    fn new(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let options = ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() };
        let forged = forge_disks(&Fixture::named(name).unwrap(), &options, folder.path()).unwrap();
        Self { folder, forged }
    }

    /// Overwrites one metadata block with zeros.
    fn lose(&self, block: u64, size: u64) {
        let place = self.forged.placed.iter().find(|volume| volume.name.ends_with("_tmeta")).unwrap();
        let disk = OpenOptions::new().write(true).open(&self.forged.disks[place.pieces[0].array]).unwrap();
        let offset = place.pieces[0].disk_sector * 512 + block * size;
        disk.write_all_at(&vec![0; usize::try_from(size).unwrap()], offset).unwrap();
    }

    fn pool(&self) -> String {
        format!("{}/tp1", self.forged.volume_group)
    }

    fn case(&self) -> PathBuf {
        self.folder.path().join("case/case.json")
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tierlift"));
        command.args(words).env("TIERLIFT_CASE", self.case());
        self.forged.disks.iter().for_each(|disk| {
            command.arg("--disk").arg(disk);
        });
        command.output().unwrap()
    }

    fn json(&self, words: &[&str]) -> (i32, Value) {
        let output = self.run(words);
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{words:?}: {output:?}"));
        (output.status.code().unwrap(), value)
    }

    fn made(&self) -> Vec<PathBuf> {
        let folder = self.case().parent().map(|folder| folder.join("repaired")).unwrap();
        fs::read_dir(folder).map(|found| found.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
    }
}

fn times(disks: &[PathBuf]) -> Vec<std::time::SystemTime> {
    disks.iter().map(|disk: &PathBuf| Path::new(disk).metadata().unwrap().modified().unwrap()).collect()
}

#[test]
fn a_lost_superblock_is_repaired_and_undone() {
    let patient = Patient::new("F2-snaps");
    patient.lose(0, 8192);
    let before = times(&patient.forged.disks);
    let volume = format!("{}/lv1", patient.forged.volume_group);
    let refused = patient.run(&["activate", &volume, "--dry-run"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("tierlift repair"), "{said}");

    let (code, preview) = patient.json(&["repair", &patient.pool(), "--dry-run", "--json"]);
    assert_eq!((code, &preview["whole"]), (1, &Value::Bool(true)), "{preview}");
    assert!(preview["generations"].as_array().unwrap().len() > 1 && preview["made"].is_null());
    assert_eq!(patient.made(), Vec::<PathBuf>::new(), "a preview writes nothing");

    let files: Vec<&Value> = preview["files"].as_array().unwrap().iter().collect();
    let of = |name: &str| &files.iter().find(|files| files["volume"] == name).unwrap()["survey"];
    let truth = Fixture::named("F2-snaps").unwrap().files;
    assert_eq!(of("lv1")["files"], truth["origin1"].len(), "{preview}");
    assert_eq!((&of("lv1")["damaged_files"], &of("lv1")["unknown"]), (&0.into(), &0.into()), "{preview}");
    let candidates = preview["candidates"].as_array().unwrap();
    assert!(!candidates.is_empty(), "{preview}");
    let newest = |files: &Value| files["survey"]["newest"].as_i64();
    let best = files.iter().filter_map(|files| newest(files)).max().unwrap();
    for candidate in candidates {
        let all = candidate["files"].as_array().unwrap();
        assert!(all.iter().filter_map(newest).all(|newest| newest <= best), "{candidate}");
    }

    let unasked = patient.run(&["repair", &patient.pool()]);
    assert!(String::from_utf8_lossy(&unasked.stdout).contains("Nothing was done"), "{unasked:?}");
    assert_eq!(patient.made(), Vec::<PathBuf>::new(), "without a yes nothing is written");

    let (code, made) = patient.json(&["repair", &patient.pool(), "--yes", "--json"]);
    assert_eq!((code, patient.made().len()), (1, 2), "{made}");
    let (code, plan) = patient.json(&["activate", &volume, "--dry-run", "--json"]);
    let devices = plan["volumes"][0]["devices"].as_array().unwrap();
    let named = |end: &str| devices.iter().find(|device| device["name"].as_str().unwrap().ends_with(end));
    assert_eq!(code, 0, "{plan}");
    assert!(named("_meta0").is_some() && named("tdata").is_some(), "{plan}");
    let pool = named("tpool").unwrap()["table"][0].to_string();
    assert!(pool.contains("read_only") && !pool.contains("qnap_format"), "{pool}");

    let undone = patient.run(&["repair", &patient.pool(), "--undo"]);
    assert!(undone.status.success() && patient.made().is_empty(), "{undone:?}");
    assert!(!patient.run(&["activate", &volume, "--dry-run"]).status.success());
    assert_eq!(before, times(&patient.forged.disks), "a source was written to");
}

#[test]
fn losses_are_told_by_volume_and_kept_in_the_case() {
    let patient = Patient::new("F4-thick-clone");
    let folder = TempDir::new().unwrap();
    let tmeta = Fixture::named("F4-thick-clone").unwrap().unpack(folder.path()).unwrap().remove("tmeta.img").unwrap();
    let pool = tierlift_pool::Pool::open(std::sync::Arc::new(fs::read(tmeta).unwrap())).unwrap();
    let (device, root) = pool.roots().found[1];
    patient.lose(root.0, pool.blocks().size().bytes() as u64);
    let (code, made) = patient.json(&["repair", &patient.pool(), "--yes", "--json"]);
    assert_eq!((code & 2, &made["whole"]), (2, &Value::Bool(false)), "{made}");
    let losses = made["losses"].as_array().unwrap();
    let of = |id: u64| losses.iter().find(|loss| loss["device"] == id).unwrap();
    assert!(of(device)["lost_ranges"].as_u64().unwrap() > 0, "{made}");
    let report = patient.run_report();
    assert!(report.contains("with losses") && report.contains("give I/O errors"), "{report}");
}

impl Patient {
    fn run_report(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tierlift"));
        let output = command.arg("report").env("TIERLIFT_CASE", self.case()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn what_is_no_pool_is_told() {
    let patient = Patient::new("F1-plain-ext4");
    let output = patient.run(&["repair", "vg9/tp1", "--yes"]);
    assert!(!output.status.success());
    let sound = patient.run(&["repair", &patient.pool(), "--dry-run"]);
    let text = String::from_utf8_lossy(&sound.stdout).into_owned();
    assert_eq!(sound.status.code(), Some(0), "{text}");
    assert!(text.contains("nothing lost"), "{text}");
}
