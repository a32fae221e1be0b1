//! One recovery by `auto` from disks to files, and everything it says held against the truth: each file, each lost range, and each
//! number in the report.

use super::tree::{Expected, Range, Tree, hash_without};
use super::{Whole, sparse};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use tierlift_forge::Forged;
use tierlift_tests::{Image, Machine, Settings};

/// A machine in which `auto` ran over all disks.
pub struct Recovery {
    pub machine: Machine,
    /// How it ended.
    pub code: i32,
    /// What it said.
    pub said: String,
    /// The target disk.
    pub device: String,
    /// The report as JSON and as text.
    pub report: Value,
    pub text: String,
}

/// What was lost of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    pub bytes: u64,
    pub files: u64,
    pub all_files: u64,
    pub nameless: u64,
}

/// Name of a disk that is attached behind those of the NAS.
fn disk_behind(forged: &Forged, number: usize) -> String {
    format!("/dev/vd{}", char::from(b'a' + u8::try_from(forged.disks.len() + number).unwrap()))
}

impl Recovery {
    /// Recovers everything on the disks, unattended, with snapshots; `words` follow.
    pub fn run(whole: &Whole, words: &[&str]) -> Self {
        Self::of(&whole.forged, whole.folder(), words, None)
    }

    /// The same with a scratch disk.
    pub fn with_scratch(whole: &Whole) -> Self {
        let scratch = sparse(&whole.folder().join("scratch.img"), 1 << 30);
        let device = disk_behind(&whole.forged, 1);
        Self::begin(&whole.forged, whole.folder(), &[&scratch], &["--scratch", &device], None)
    }

    /// The same of any disks, with a password on standard input.
    pub fn of(forged: &Forged, folder: &Path, words: &[&str], password: Option<&str>) -> Self {
        Self::begin(forged, folder, &[], words, password)
    }

    fn begin(forged: &Forged, folder: &Path, further: &[&Path], words: &[&str], password: Option<&str>) -> Self {
        let target = sparse(&folder.join("target.img"), 1 << 30);
        assert!(
            Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(&target).status().unwrap().success()
        );
        let settings = Settings::new(&Image::from_environment().unwrap());
        let settings = forged.disks.iter().fold(settings, |settings, disk| settings.source(disk));
        let settings = further.iter().fold(settings.writable(&target), |settings, disk| settings.writable(disk));
        let mut machine = settings.boot().unwrap();
        let device = disk_behind(forged, 0);
        let mut line = vec!["auto", "--yes", "--snapshots", "--target", &device];
        line.extend(words);
        let said = match password {
            Some(password) => machine.run_with_input(&line, &format!("{password}\n")).unwrap(),
            None => machine.run(&line).unwrap(),
        };
        let mut recovery = Self {
            machine,
            code: said.code,
            said: said.stdout + &said.stderr,
            device,
            report: Value::Null,
            text: String::new(),
        };
        recovery.report = serde_json::from_str(&recovery.on_target("cat tierlift-case/report.json")).unwrap();
        recovery.text = recovery.on_target("cat tierlift-case/report.txt");
        recovery
    }

    /// What a line of shell says that is run on the target.
    pub fn on_target(&mut self, line: &str) -> String {
        let line = format!("mount -o ro {} /mnt && (cd /mnt && {line}); code=$?; umount /mnt; exit $code", self.device);
        let said = self.machine.shell(&line).unwrap();
        assert_eq!(said.code, 0, "{line}: {said:?}\n{}", self.said);
        said.stdout
    }

    /// What the report says of the copy of a volume; `None` when it was not copied.
    pub fn copied(&self, volume: &str) -> Option<&Value> {
        self.report["case"]["copies"].as_array().unwrap().iter().find(|copy| copy["source"] == volume)
    }

    /// The ranges of a volume that give errors in the appliance, and the hash of the rest: from the image that `auto` made, or copied
    /// now, beside the files.
    pub fn image(&mut self, volume: &str) -> Option<(String, Vec<Range>)> {
        let name = volume.replace('/', "-");
        let mut told = self.on_target(&format!("cat {name}.img*.json 2>/dev/null || true"));
        if told.is_empty() {
            let target = format!("{}:images", self.device);
            let copied = self.machine.run(&["copy", "--image", volume, &target]).unwrap();
            if copied.code & !3 != 0 {
                return None;
            }
            told = self.on_target(&format!("cat images/{name}.img*.json"));
        }
        let image: Value = serde_json::from_str(&told).unwrap();
        Some((image["sha256"].as_str().unwrap().to_owned(), ranges(&image["lost"])))
    }

    /// Holds every file of a volume, the manifest and the report's numbers against its file system as it was.
    pub fn assert_files(&mut self, volume: &str, tree: &Tree, lost: &[Range]) -> Loss {
        let folder = volume.replace('/', "-");
        let list = self.on_target(&format!("cd {folder} && find . -type f -exec sha256sum {{}} +"));
        let on_target: BTreeMap<String, String> =
            list.lines().map(|line| (line[68..].to_owned(), line[..64].to_owned())).collect();
        let manifest: Value =
            serde_json::from_str(&self.on_target(&format!("cat {folder}/tierlift-manifest.json"))).unwrap();
        let entries = manifest["files"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "file");
        let mut entries: BTreeMap<String, &Value> =
            entries.map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry)).collect();
        let mut loss = Loss { all_files: tree.files.len() as u64, ..Loss::default() };
        let mut hidden = BTreeSet::new();
        for (path, expected) in tree.expect(lost) {
            let content = &tree.files[&path];
            let entry = entries.remove(&path);
            match expected {
                Expected::Unreachable => {
                    assert!(
                        entry.is_none_or(|entry| entry["state"] == "failed"),
                        "{path} cannot be reached: {entry:?}"
                    );
                    hidden.extend(tree.nameless(&path, lost).map(|lost| (hash_without(content, &lost), lost)));
                }
                expected => {
                    let lost = if let Expected::Damaged(lost) = expected { lost } else { Vec::new() };
                    let entry = entry.unwrap_or_else(|| panic!("{path} is missing\n{}", self.said));
                    let state = if lost.is_empty() { "copied" } else { "damaged" };
                    let suffix = if lost.is_empty() { "" } else { ".damaged" };
                    let hash = hash_without(content, &lost);
                    assert_eq!(
                        (&entry["state"], ranges(&entry["lost"])),
                        (&state.into(), lost.clone()),
                        "{path}: {entry}"
                    );
                    assert_eq!(entry["sha256"], hash, "{path}");
                    assert_eq!(on_target.get(&format!("{path}{suffix}")), Some(&hash), "{path} on the target");
                    loss.bytes += lost.iter().map(|(_, length)| length).sum::<u64>();
                    loss.files += u64::from(!lost.is_empty());
                }
            }
        }
        loss.nameless = self.assert_nameless(entries, &on_target, &hidden);
        self.assert_numbers(volume, tree, &loss);
        loss
    }

    /// What is left in the manifest has no name any more, and each is a file that cannot be reached, lost in exactly the ranges that
    /// are lost of it.
    fn assert_nameless(
        &self,
        entries: BTreeMap<String, &Value>,
        on_target: &BTreeMap<String, String>,
        hidden: &BTreeSet<(String, Vec<Range>)>,
    ) -> u64 {
        let mut whole = 0;
        for (path, entry) in entries {
            assert!(path.starts_with("lost+found/"), "{path} is none of the volume's files: {entry}");
            if entry["state"] == "failed" {
                continue;
            }
            let (hash, lost) = (entry["sha256"].as_str().unwrap().to_owned(), ranges(&entry["lost"]));
            let suffix = if entry["state"] == "damaged" { ".damaged" } else { "" };
            assert_eq!(on_target.get(&format!("{path}{suffix}")), Some(&hash), "{path} on the target");
            assert_eq!(lost.is_empty(), suffix.is_empty(), "{path}: {entry}");
            assert!(hidden.contains(&(hash, lost)), "{path} is no file that was lost: {entry}");
            whole += u64::from(suffix.is_empty());
        }
        whole
    }

    /// The report's counts and its percentages.
    fn assert_numbers(&self, volume: &str, tree: &Tree, loss: &Loss) {
        let copy = self.copied(volume).unwrap_or_else(|| panic!("{volume} is not in the report"));
        let counts = |name: &str| copy["counts"][name].as_u64().unwrap();
        let unreachable = tree.files.len() as u64 - loss.nameless - loss.files - (counts("copied") - loss.nameless);
        if unreachable > 0 {
            // How many there were nobody can know; that there were some must be told.
            let told = counts("damaged") > loss.files || self.text.contains("are lost with their inodes");
            assert!(told, "{unreachable} files of {volume} are missing without a word: {copy}");
            return;
        }
        let bytes: u64 = tree.files.values().map(|content| content.len() as u64).sum();
        assert_eq!(counts("copied"), loss.all_files - loss.files, "{copy}");
        assert_eq!((counts("damaged"), counts("failed")), (loss.files, 0), "{copy}");
        assert_eq!((counts("lost_bytes"), counts("bytes")), (loss.bytes, bytes), "{copy}");
        let share = |part: u64, all: u64| match part {
            0 => "0 %".to_owned(),
            _ => format!("{:.2} %", (part * 10_000 / all) as f64 / 100.0),
        };
        if loss.nameless == 0 {
            let line = format!(
                "lost: {} of all bytes, {} of all files",
                share(loss.bytes, bytes),
                share(loss.files, loss.all_files)
            );
            assert!(self.text.contains(&line), "{line} is not in {}", self.text);
        }
    }

    /// Ends the machine, proving that no source changed and the kernel is well.
    pub fn finish(mut self) {
        self.machine.run(&["deactivate", "--all"]).unwrap().success().unwrap();
        self.machine.finish().unwrap();
    }
}

fn ranges(value: &Value) -> Vec<Range> {
    let range = |range: &Value| (range["offset"].as_u64().unwrap(), range["length"].as_u64().unwrap());
    value.as_array().map(|ranges| ranges.iter().map(range).collect()).unwrap_or_default()
}
