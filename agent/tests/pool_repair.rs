//! `pool repair`, `pack` and `unpack` as people run them: the real program on genuine pools, whole and damaged.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::Fixture;

/// A folder with the metadata and data devices of a genuine pool.
struct Bench {
    folder: TempDir,
    fixture: Fixture,
}

struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn tierlift(args: &[&str]) -> Answer {
    let done = Command::new(env!("CARGO_BIN_EXE_tierlift")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let answer = Answer { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) };
    assert!(!answer.err.contains("panicked"), "{args:?}: {}", answer.err);
    answer
}

impl Bench {
    fn new(name: &str) -> Self {
        let (folder, fixture) = (tempfile::tempdir().unwrap(), Fixture::named(name).unwrap());
        fixture.unpack(folder.path()).unwrap();
        Self { folder, fixture }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn repair(&self, output: &str, more: &[&str]) -> Answer {
        let (meta, output) = (self.path("tmeta.img"), self.path(output));
        tierlift(&[&["pool", "repair", "--meta", &meta, "--output", &output], more].concat())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn exists(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }

    /// Every device of the repaired pool has the bytes QNAP's kernel read.
    fn assert_reads_right(&self, meta: &str) {
        let meta = self.path(meta);
        let there = (0..3).filter(|tier| self.exists(&format!("tierdata_{tier}.img")));
        let tiers: Vec<_> =
            there.map(|tier| format!("{tier}={}", self.path(&format!("tierdata_{tier}.img")))).collect();
        let tiers: Vec<_> = tiers.iter().flat_map(|tier| ["--tier", tier]).collect();
        for (device, truth) in &self.fixture.truth {
            let (id, sectors) = (device.to_string(), truth.sectors.to_string());
            let args = ["pool", "read", "--meta", &meta, "--device", &id, "--sectors", &sectors, "--sha256", "--json"];
            let answer = tierlift(&[&args[..], &tiers].concat());
            assert_eq!(answer.code, 0, "device {id}: {}", answer.err);
            assert_eq!(answer.json()["sha256"], truth.sha256.as_str(), "device {id}");
        }
    }
}

#[test]
fn a_whole_pool_comes_out_whole() {
    let bench = Bench::new("F3-3tiers");
    let before = bench.bytes("tmeta.img");
    let answer = bench.repair("new", &["--json"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{}", answer.out);
    let told = answer.json();
    assert_eq!(told["schema"], "tierlift.pool-repair/1");
    assert_eq!(told["tiers"]["lost"], serde_json::json!([]));
    assert_eq!(bench.bytes("new").len(), before.len());
    assert!(bench.bytes("tmeta.img") == before, "the source was changed");
    bench.assert_reads_right("new");
    let again = tierlift(&["pool", "repair", "--meta", &bench.path("new"), "--dry-run", "--json"]);
    assert_eq!((again.code, &again.json()["devices"]), (0, &told["devices"]));
}

#[test]
fn what_a_repair_gives_back_reads_right() {
    for name in ["F8-F2-sb-and-details", "F8-F3-sbzero", "F8-F3-stale-valid"] {
        let bench = Bench::new(name);
        let answer = bench.repair("new", &[]);
        assert_eq!(answer.code, 1, "{name}: nothing is lost, but something was repaired: {}{}", answer.out, answer.err);
        assert_eq!(tierlift(&["pool", "stat", "--meta", &bench.path("new")]).code, 0, "{name}");
    }
}

#[test]
fn what_is_lost_is_told_by_device_and_range() {
    let bench = Bench::new("F8-F2-rand20");
    let answer = bench.repair("new", &[]);
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert!(answer.err.contains("lost: device 4, chunks all"), "{}", answer.err);
    assert!(answer.out.contains("would read as ZEROS"), "{}", answer.out);
    let answer = bench.repair(
        "stock",
        &["--format", "mainline", "--device-size", "4=30M", "--json", "--layout", &bench.path("table")],
    );
    let told = answer.json();
    let device = told["devices"].as_array().unwrap().iter().find(|device| device["id"] == 4).unwrap();
    assert_eq!(
        (device["found"].as_u64(), device["written"].as_u64()),
        (Some(0), Some(60)),
        "30 MiB in chunks of 512 KiB"
    );
    assert_eq!(device["marked_up_to"], 59);
    let table = String::from_utf8(bench.bytes("table")).unwrap();
    assert!(
        table.starts_with("0 ") && table.contains(" linear tierdata_2 0\n") && table.ends_with(" 1024 error\n"),
        "{table}"
    );
}

#[test]
fn stock_linux_gets_a_table_for_the_data_device() {
    let bench = Bench::new("F3-3tiers");
    let answer = bench.repair("stock", &["--format", "mainline", "--layout", &bench.path("table")]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let table = String::from_utf8(bench.bytes("table")).unwrap();
    let mut end = 0;
    for line in table.lines() {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[0].parse::<u64>().unwrap(), end, "{line}");
        end += words[1].parse::<u64>().unwrap();
        assert!(words[2] == "zero" || words[2] == "linear" && words[3].starts_with("tierdata_"), "{line}");
    }
    assert_eq!(end, bench.fixture.superblock.as_ref().unwrap()["data_sm"]["nr_blocks"].as_u64().unwrap() * 1024);
}

#[test]
fn nothing_is_written_by_accident() {
    let bench = Bench::new("F2-snaps");
    let files = bench.files();
    let (meta, before) = (bench.path("tmeta.img"), bench.bytes("tmeta.img"));
    assert_eq!(tierlift(&["pool", "repair", "--meta", &meta, "--dry-run"]).code, 0);
    let refused: [(&[&str], i32, &str); 6] = [
        (&["--output", &meta, "--force"], 16, "never written"),
        (&["--output", &bench.path("x"), "--layout", &bench.path("y")], 16, "--format mainline"),
        (&["--output", &bench.path("x"), "--device-size", "1=1G"], 16, "--format mainline"),
        (&["--output", &bench.path("x"), "--layout", &bench.path("x"), "--format", "mainline"], 16, "same file"),
        (&[], 16, "--output"),
        (&["--output", &bench.path("no/such/folder")], 8, "folder"),
    ];
    for (more, code, telling) in refused {
        let answer = tierlift(&[&["pool", "repair", "--meta", &meta], more].concat());
        assert_eq!(answer.code, code, "{more:?}: {}", answer.err);
        assert!(answer.err.contains(telling), "{more:?}: {}", answer.err);
    }
    assert_eq!(bench.files(), files, "nothing is left behind");
    std::fs::write(bench.path("old"), b"precious").unwrap();
    let answer = bench.repair("old", &[]);
    assert_eq!((answer.code, answer.err.contains("--force")), (8, true), "{}", answer.err);
    assert_eq!(bench.bytes("old"), b"precious");
    assert_eq!(bench.repair("old", &["--force"]).code, 0);
    assert!(bench.bytes("tmeta.img") == before, "the source was changed");
}

/// Peers end with 0 and an empty pool here.
#[test]
fn an_empty_pool_is_no_repair() {
    let bench = Bench::new("F5-v2-4k");
    let mut image = bench.bytes("tmeta.img");
    image[4096..].fill(0);
    std::fs::write(bench.path("tmeta.img"), image).unwrap();
    let answer = bench.repair("new", &[]);
    assert_eq!((answer.code, answer.err.contains("not a single mapping")), (4, true), "{}", answer.err);
    assert!(!bench.exists("new"));
}

#[test]
fn packed_metadata_come_back_sparse_and_equal() {
    let bench = Bench::new("F7-tier-crash-1");
    let (meta, packed, back) = (bench.path("tmeta.img"), bench.path("packed"), bench.path("back"));
    let answer = tierlift(&["pool", "pack", "--meta", &meta, "--output", &packed, "--json"]);
    assert_eq!((answer.code, &answer.json()["schema"]), (0, &"tierlift.pool-pack/1".into()), "{}", answer.err);
    assert!(bench.bytes("packed").len() < 30_000);
    let answer = tierlift(&["pool", "unpack", "--input", &packed, "--output", &back, "--json"]);
    assert_eq!((answer.code, &answer.json()["schema"]), (0, &"tierlift.pool-unpack/1".into()), "{}", answer.err);
    assert!(bench.bytes("back") == bench.bytes("tmeta.img"));
    let found = std::fs::metadata(&back).unwrap();
    assert!(found.blocks() * 512 < found.len() / 2, "holes stay holes: {} blocks", found.blocks());
}

#[test]
fn what_is_no_pack_file_or_no_metadata_is_refused() {
    let bench = Bench::new("F1-plain-ext4");
    let (meta, data, new) = (bench.path("tmeta.img"), bench.path("tierdata_2.img"), bench.path("new"));
    let packed = bench.path("packed");
    assert_eq!(tierlift(&["pool", "pack", "--meta", &meta, "--output", &packed]).code, 0);
    let mut half = bench.bytes("packed");
    half.truncate(half.len() / 2);
    std::fs::write(bench.path("half"), half).unwrap();
    let files = bench.files();
    let refused: [(&[&str], i32, &str); 6] = [
        (&["pack", "--meta", &data, "--output", &new], 4, "data device"),
        (&["pack", "--meta", &meta, "--output", &meta, "--force"], 16, "never written"),
        (&["unpack", "--input", &meta, "--output", &new], 4, "not a file made by pool pack"),
        (&["unpack", "--input", &bench.path("half"), "--output", &new], 4, "too early"),
        (&["unpack", "--input", &bench.path("gone"), "--output", &new], 8, "cannot be opened"),
        (&["unpack", "--input", &packed, "--output", &packed, "--force"], 16, "never written"),
    ];
    for (args, code, telling) in refused {
        let answer = tierlift(&[&["pool"], args].concat());
        assert_eq!(answer.code, code, "{args:?}: {}", answer.err);
        assert!(answer.err.contains(telling), "{args:?}: {}", answer.err);
    }
    assert_eq!(bench.files(), files, "nothing is left behind");
}

#[test]
fn without_any_superblock_the_length_of_the_pool_must_be_given() {
    let bench = Bench::new("F5-v2-4k");
    let mut bytes = bench.bytes("tmeta.img");
    bytes[..4096].fill(0);
    std::fs::write(bench.path("tmeta.img"), bytes).unwrap();
    let answer = bench.repair("new.img", &["--chunk-size", "128"]);
    assert_eq!(answer.code, 4, "{}", answer.err);
    assert!(answer.err.contains("--chunks") && !bench.exists("new.img"), "{}", answer.err);
    let chunks = "100000";
    let answer = bench.repair("new.img", &["--chunk-size", "128", "--chunks", chunks]);
    assert_eq!(answer.code, 1, "{}{}", answer.out, answer.err);
    bench.assert_reads_right("new.img");
}
