//! Sectors that cannot be read under a pool: exactly the files on them are damaged, in exactly those ranges; older snapshots
//! that have them whole are found.

mod common;

use common::{Loose, Whole, sha256};
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tierlift_forge::{ForgeOptions, KnownFile, Mirror};
use tierlift_pool::{Pool, Step};
use tierlift_tests::{Image, Machine, Settings, fingerprint};

/// What one bad sector costs: files are read in pages, and no smaller.
const PAGE: u64 = 4096;

/// A genuine pool in bypass mode on half a mirror, and what is needed to find a byte of a volume on the disk.
struct Genuine {
    whole: Whole,
    pool: Pool,
    disk: PathBuf,
    /// Sector of the disk where the pool's data begin.
    data: u64,
}

impl Genuine {
    fn new(name: &str) -> Self {
        let options = ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() };
        let whole = Whole::forge(name, &options);
        let pool = Pool::open(Arc::new(fs::read(&Loose::unpack(name).tmeta).unwrap())).unwrap();
        let place = whole.forged.placed.iter().find(|volume| volume.name.ends_with("_tierdata_2")).unwrap();
        let [piece] = place.pieces[..] else { panic!("{place:?}") };
        let (disk, data) = (whole.forged.disks[piece.array].clone(), piece.disk_sector);
        Self { whole, pool, disk, data }
    }

    /// The sector of the disk that a byte of a volume lies in.
    fn sector(&self, device: u64, byte: u64) -> u64 {
        let chunk_sectors = self.pool.chunk_size().0;
        let wanted = byte / 512 / chunk_sectors;
        let (_, root) = self.pool.roots().found.into_iter().find(|(id, _)| *id == device).unwrap();
        let mut found = None;
        let walked: Result<(), Infallible> = self.pool.mappings(root, |step| {
            match step {
                Step::Found(chunk, value) if chunk == wanted => found = Some(value.chunk.0),
                _ => {}
            }
            Ok(())
        });
        let Ok(()) = walked;
        self.data + found.expect("the chunk is mapped") * chunk_sectors + byte / 512 % chunk_sectors
    }

    /// A machine that cannot read these sectors of the disk.
    fn boot(&self, bad: &[u64], target: &Path) -> Machine {
        let rules = self.whole.folder().join("rules");
        let rule =
            |sector: &u64| format!("[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"{sector}\"\n\n");
        fs::write(&rules, bad.iter().map(rule).collect::<String>()).unwrap();
        let drive = format!(
            "if=none,id=bad,format=raw,file.driver=blkdebug,file.config={},file.image.driver=file,file.image.filename={}",
            rules.display(),
            self.disk.display()
        );
        let settings = Settings::new(&Image::from_environment().unwrap()).writable(target);
        settings.with(&["-drive", &drive, "-device", "virtio-blk-pci,drive=bad"]).boot().unwrap()
    }
}

fn target(folder: &Path) -> PathBuf {
    let path = common::sparse(&folder.join("target.img"), 512 << 20);
    assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).status().unwrap().success());
    path
}

/// Where a file's bytes from `offset` on lie in its volume, as ext4 says.
fn byte_in_volume(machine: &mut Machine, volume: &str, path: &str, offset: u64) -> u64 {
    let device = format!("/dev/mapper/{}", volume.replace('/', "-"));
    let size = machine.shell(&format!("dumpe2fs -h {device} 2>/dev/null | grep '^Block size:' | cut -d: -f2")).unwrap();
    let size: u64 = size.stdout.trim().parse().unwrap();
    let blocks = machine.shell(&format!("debugfs -R 'blocks \"{path}\"' {device} 2>/dev/null")).unwrap().stdout;
    let blocks: Vec<u64> = blocks.split_whitespace().map(|word| word.parse().unwrap()).collect();
    blocks[usize::try_from(offset / size).unwrap()] * size
}

/// The manifest of a copied volume, by path.
fn manifest(machine: &mut Machine, volume: &str) -> BTreeMap<String, Value> {
    let path = format!("{}/tierlift-manifest.json", volume.replace('/', "-"));
    let text = machine.shell(&format!("mount -o ro /dev/vda /mnt && cat /mnt/{path}; umount /mnt")).unwrap();
    let object: Value = serde_json::from_str(&text.success().unwrap()).unwrap();
    let entries = object["files"].as_array().unwrap().iter();
    entries.map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry.clone())).collect()
}

/// All files are as the truth says but these, which are damaged in these ranges of bytes.
fn assert_files(found: &BTreeMap<String, Value>, truth: &[KnownFile], damaged: &BTreeMap<&str, Vec<(u64, u64)>>) {
    assert!(!truth.is_empty());
    for file in truth {
        let path = file.path.trim_start_matches("./");
        let entry = &found[path];
        match damaged.get(path) {
            None => assert_eq!(
                (&entry["state"], &entry["sha256"]),
                (&"copied".into(), &file.sha256.clone().into()),
                "{path}"
            ),
            Some(expected) => {
                let range = |range: &Value| (range["offset"].as_u64().unwrap(), range["length"].as_u64().unwrap());
                let lost: Vec<(u64, u64)> = entry["lost"].as_array().unwrap().iter().map(range).collect();
                assert_eq!((&entry["state"], &lost), (&"damaged".into(), expected), "{path}: {entry}");
            }
        }
    }
}

#[test]
fn exactly_the_files_on_bad_sectors_are_damaged() {
    let genuine = Genuine::new("F1-plain-ext4");
    let before = fingerprint(&genuine.disk).unwrap();
    let target = target(genuine.whole.folder());
    let places = [
        ("Multimedia/2021/movie.bin", 5_242_880),
        ("Multimedia/2021/movie.bin", 8_192_000),
        ("Public/doc3.txt", 40_960),
    ];
    let mut machine = genuine.boot(&[], &target);
    machine.run(&["activate", "vg1/lv1"]).unwrap().success().unwrap();
    let bytes: Vec<u64> =
        places.iter().map(|(path, offset)| byte_in_volume(&mut machine, "vg1/lv1", path, *offset)).collect();
    drop(machine);
    let bad: Vec<u64> = bytes.iter().map(|byte| genuine.sector(1, *byte)).collect();
    let mut machine = genuine.boot(&bad, &target);
    let said = machine.run(&["auto", "--yes", "--target", "/dev/vda"]).unwrap();
    assert_eq!(said.code, 2, "{said:?}");
    let found = manifest(&mut machine, "vg1/lv1");
    let mut damaged: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for (path, offset) in &places {
        damaged.entry(path).or_default().push((*offset, PAGE));
    }
    assert_files(&found, &genuine.whole.fixture.files["final"], &damaged);
    let report =
        machine.shell("mount -o ro /dev/vda /mnt && cat /mnt/tierlift-case/report.txt; umount /mnt").unwrap().stdout;
    assert!(report.contains("/dev/vdb: at least ") && report.contains(" requests FAILED"), "{report}");
    assert!(report.contains("2 damaged (12288 bytes lost), 0 not copied"), "{report}");
    assert!(report.contains("lost: 0.07 % of all bytes, 18.18 % of all files"), "{report}");
    machine.finish().unwrap();
    assert_eq!(before, fingerprint(&genuine.disk).unwrap(), "the source was changed");
}

#[test]
fn a_snapshot_has_the_older_form_of_a_damaged_file() {
    let genuine = Genuine::new("F2-snaps");
    let before = fingerprint(&genuine.disk).unwrap();
    let target = target(genuine.whole.folder());
    let (volume, oldest) = (genuine.whole.volume(1), genuine.whole.volume(3));
    let mut machine = genuine.boot(&[], &target);
    machine.run(&["activate", &volume]).unwrap().success().unwrap();
    let byte = byte_in_volume(&mut machine, &volume, "/f1.txt", 0);
    drop(machine);
    let mut machine = genuine.boot(&[genuine.sector(1, byte)], &target);
    let said =
        machine.run(&["auto", "--yes", "--from-snapshots", "--volume", &volume, "--target", "/dev/vda"]).unwrap();
    assert_eq!(said.code, 2, "{said:?}");
    let found = manifest(&mut machine, &volume);
    assert_eq!(found["f1.txt"]["state"], "damaged");
    for file in genuine.whole.fixture.files["origin1"].iter().filter(|file| file.path != "./f1.txt") {
        assert_eq!(found[file.path.trim_start_matches("./")]["sha256"], file.sha256, "{}", file.path);
    }
    let path = format!("{}/from-snapshots/{}/f1.txt", volume.replace('/', "-"), oldest.replace('/', "-"));
    let fetched = machine.bytes(&[
        "shell",
        "--",
        "sh",
        "-c",
        &format!("mount -o ro /dev/vda /mnt; cat /mnt/{path}; umount /mnt"),
    ]);
    let older = genuine.whole.fixture.files["snap3"].iter().find(|file| file.path == "./f1.txt").unwrap();
    assert_eq!(sha256(&fetched.unwrap()), older.sha256, "{}", said.stdout);
    machine.finish().unwrap();
    assert_eq!(before, fingerprint(&genuine.disk).unwrap(), "the source was changed");
}

/// Volumes and snapshots, each with its files as they were at its time.
#[test]
fn files_of_a_volume_and_its_snapshots() {
    let genuine = Genuine::new("F2-snaps");
    let target = target(genuine.whole.folder());
    let mut machine = genuine.boot(&[], &target);
    let said = machine.run(&["auto", "--yes", "--snapshots", "--target", "/dev/vda"]).unwrap();
    assert_eq!(said.code & !3, 0, "{said:?}");
    for (device, key) in [(1, "origin1"), (3, "snap3"), (4, "snap4")] {
        let found = manifest(&mut machine, &genuine.whole.volume(device));
        assert_files(&found, &genuine.whole.fixture.files[key], &BTreeMap::new());
    }
    machine.finish().unwrap();
}
