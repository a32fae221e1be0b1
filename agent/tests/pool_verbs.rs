//! The pool verbs as people run them: the real program on genuine pools, whole, damaged, mixed up and cut short.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::Fixture;
use tierlift_ondisk::thin::{BlockKind, seal};

/// A genuine pool unpacked into a folder that goes away.
struct Unpacked {
    folder: TempDir,
    fixture: Fixture,
    files: BTreeMap<String, PathBuf>,
}

impl Unpacked {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Fixture::named(name).unwrap();
        let files = fixture.unpack(folder.path()).unwrap();
        Self { folder, fixture, files }
    }

    fn meta(&self) -> String {
        self.path("tmeta.img")
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).to_str().unwrap().to_owned()
    }

    /// `--tier N=FILE` for each data device.
    fn tiers(&self) -> Vec<String> {
        let tiers = (0..3).filter(|tier| self.files.contains_key(&format!("tierdata_{tier}.img")));
        tiers
            .flat_map(|tier| ["--tier".into(), format!("{tier}={}", self.path(&format!("tierdata_{tier}.img")))])
            .collect()
    }

    fn read(&self, device: u64, sectors: u64, more: &[&str]) -> Answer {
        let (meta, device, sectors) = (self.meta(), device.to_string(), sectors.to_string());
        let mut args = vec!["pool", "read", "--meta", &meta, "--device", &device, "--sectors", &sectors];
        let tiers = if more.contains(&"--tier") { Vec::new() } else { self.tiers() };
        args.extend(tiers.iter().map(String::as_str));
        args.extend(more);
        tierlift(&args)
    }

    /// A file of this content beside the others.
    fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self.path(name)
    }
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
    Answer { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
}

/// Runs and holds the answer against the contract: exit code, a telling message, no panic, no debris of Rust.
fn assert_refused(args: &[&str], code: i32, telling: &[&str]) {
    let answer = tierlift(args);
    let said = format!("{args:?}\nexit {}\n{}{}", answer.code, answer.out, answer.err);
    assert_eq!(answer.code, code, "{said}");
    for words in telling {
        assert!(answer.err.contains(words), "nothing about {words:?}: {said}");
    }
    assert!(!answer.err.contains("panicked") && !answer.err.contains("Some("), "{said}");
}

fn check_healthy(name: &str) {
    let pool = Unpacked::new(name);
    let before: Vec<_> = pool.files.values().map(|path| std::fs::read(path).unwrap()).collect();
    for (device, truth) in &pool.fixture.truth {
        let answer = pool.read(*device, truth.sectors, &["--sha256", "--json"]);
        assert_eq!(answer.code, 0, "{name}: device {device}: {}", answer.err);
        let told = answer.json();
        assert_eq!(told["schema"], "tierlift.pool-read/1");
        assert_eq!(told["sha256"], truth.sha256.as_str(), "{name}: device {device}");
        assert_eq!(told["lost"], serde_json::json!([]));
    }
    let dump = tierlift(&["pool", "dump", "--meta", &pool.meta()]);
    assert_eq!((dump.code, dump.err.contains("lost")), (0, false), "{name}: {}", dump.err);
    assert!(dump.out == pool.fixture.xml_dump().unwrap().unwrap(), "{name}: the dump is not QNAP's");
    check_stat(&pool, name);
    for (path, before) in pool.files.values().zip(before) {
        assert!(std::fs::read(path).unwrap() == before, "{} was changed", path.display());
    }
}

fn check_stat(pool: &Unpacked, name: &str) {
    let stat = tierlift(&["pool", "stat", "--json", "--meta", &pool.meta()]);
    assert_eq!(stat.code, 0, "{name}: {}", stat.err);
    let stat = stat.json();
    assert_eq!(stat["schema"], "tierlift.pool-stat/1");
    assert_eq!(stat["damage"], serde_json::json!([]), "{name}");
    if let Some(block) = &pool.fixture.superblock {
        assert_eq!(stat["version"], block["version"], "{name}");
        assert_eq!(stat["transaction"], block["trans_id"]);
        assert_eq!(stat["chunk_size"], block["data_block_size"]);
        assert_eq!(stat["chunks"]["total"], block["data_sm"]["nr_blocks"]);
        assert_eq!(stat["chunks"]["used"], block["data_sm"]["nr_allocated"]);
        assert_eq!(stat["tiers"][2]["blocks"]["used"], block["tier2_sm"]["nr_allocated"]);
        assert_eq!(stat["ring"]["state"], "agrees");
    }
    let ids: Vec<_> = stat["devices"].as_array().unwrap().iter().map(|device| device["id"].as_u64().unwrap()).collect();
    assert!(pool.fixture.truth.keys().all(|id| ids.contains(id)), "{name}: {ids:?}");
    let text = tierlift(&["pool", "stat", "--meta", &pool.meta()]);
    assert!(text.out.contains("\n  mode ") && text.out.contains("thin devices"), "{}", text.out);
}

#[test]
fn f1_plain() {
    check_healthy("F1-plain-ext4");
}

#[test]
fn f2_snapshots() {
    check_healthy("F2-snaps");
}

#[test]
fn f3_three_tiers() {
    check_healthy("F3-3tiers");
}

#[test]
fn f4_thick_and_cloned() {
    check_healthy("F4-thick-clone");
}

#[test]
fn f4c_zeroed() {
    check_healthy("F4c-zeroflag");
}

#[test]
fn f5_version_2() {
    check_healthy("F5-v2-4k");
}

#[test]
fn f6_full() {
    check_healthy("F6a-data-full");
}

#[test]
fn f7_crashed() {
    check_healthy("F7-crash-1");
}

#[test]
fn f7_crashed_with_tiers() {
    check_healthy("F7-tier-crash-1");
}

#[test]
fn an_output_is_whole_sparse_and_never_replaces_by_accident() {
    let pool = Unpacked::new("F1-plain-ext4");
    let out = pool.path("v1.img");
    let truth = &pool.fixture.truth[&1];
    let answer = pool.read(1, truth.sectors, &["--output", &out, "--sha256", "--json"]);
    assert_eq!((answer.code, answer.json()["sha256"].as_str()), (0, Some(truth.sha256.as_str())), "{}", answer.err);
    let found = std::fs::metadata(&out).unwrap();
    assert_eq!(found.len(), truth.sectors * 512);
    // The file system may need a little for itself.
    let room = answer.json()["data"].as_u64().unwrap() + (1 << 20);
    assert!(found.blocks() * 512 < room && room < found.len(), "holes stay holes: {} blocks", found.blocks());
    assert!(!Path::new(&format!("{out}.map")).exists(), "nothing lost, no map");
    let answer = pool.read(1, truth.sectors, &["--output", &out]);
    assert_eq!((answer.code, answer.err.contains("--force")), (8, true), "{}", answer.err);
    assert_eq!(pool.read(1, truth.sectors, &["--output", &out, "--force"]).code, 0);
    let meta = pool.meta();
    let answer = pool.read(1, truth.sectors, &["--output", &meta, "--force"]);
    assert_eq!((answer.code, answer.err.contains("never written")), (16, true), "{}", answer.err);
    let leftovers = std::fs::read_dir(pool.folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("partial"));
    assert_eq!(leftovers.count(), 0);
}

/// Each tier of F3 gone in turn: what is on it is lost and listed, all else is right.
#[test]
fn a_missing_tier_is_refused_and_then_listed() {
    let pool = Unpacked::new("F3-3tiers");
    let mut lost_by_tier = [0; 3];
    for (device, truth) in &pool.fixture.truth {
        let whole = pool.path("whole.img");
        assert_eq!(pool.read(*device, truth.sectors, &["--output", &whole, "--force"]).code, 0);
        let whole = std::fs::read(whole).unwrap();
        for (gone, lost_by_tier) in lost_by_tier.iter_mut().enumerate() {
            *lost_by_tier += read_without(&pool, *device, truth.sectors, gone, &whole);
        }
    }
    assert!(lost_by_tier.iter().all(|lost| *lost > 0), "{lost_by_tier:?}");
}

/// Reads a device without one tier and answers how many bytes that costs.
fn read_without(pool: &Unpacked, device: u64, sectors: u64, gone: usize, whole: &[u8]) -> u64 {
    let given = pool.tiers();
    let others = given.chunks(2).filter(|pair| !pair[1].starts_with(&format!("{gone}="))).flatten();
    let mut args: Vec<_> = others.map(String::as_str).collect();
    let answer = pool.read(device, sectors, &[args.as_slice(), &["--sha256"]].concat());
    assert_eq!((answer.code, answer.err.contains(&format!("--tier {gone}=FILE"))), (8, true), "{}", answer.err);
    let (out, map) = (pool.path("out.img"), pool.path("out.img.map"));
    args.extend(["--partial", "--force", "--sha256", "--json", "--output", &out, "--map", &map]);
    let answer = pool.read(device, sectors, &args);
    let lost = answer.json()["lost_bytes"].as_u64().unwrap();
    assert_eq!(answer.code, if lost > 0 { 2 } else { 0 }, "{}", answer.err);
    assert_eq!(answer.json()["sha256"].is_null(), lost > 0, "no hash of what is not whole");
    assert_eq!(answer.err.contains(&format!("tier {gone}, which was not given")), lost > 0, "{}", answer.err);
    assert_eq!(check_map(&out, whole), lost);
    lost
}

/// Holds a file with losses against the whole one, by its mapfile; answers how many bytes the map says are lost.
fn check_map(out: &str, whole: &[u8]) -> u64 {
    let found = std::fs::read(out).unwrap();
    let map = std::fs::read_to_string(format!("{out}.map")).unwrap();
    let (mut next, mut lost) = (0, 0);
    for line in map.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |word: &str| usize::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
        let (start, length) = (number(words[0]), number(words[1]));
        assert_eq!(start, next, "the map covers every byte once");
        next = start + length;
        match words[2] {
            "+" => assert!(found[start..next] == whole[start..next], "bytes {start} to {next} are wrong"),
            "-" => lost += length as u64,
            other => panic!("status {other}"),
        }
    }
    assert_eq!(next, whole.len());
    lost
}

#[test]
fn a_tier_cut_short_loses_its_end_and_says_so() {
    let pool = Unpacked::new("F2-snaps");
    let sectors = pool.fixture.truth[&2].sectors;
    let whole = pool.path("whole.img");
    assert_eq!(pool.read(2, sectors, &["--output", &whole]).code, 0);
    let data = std::fs::read(pool.path("tierdata_2.img")).unwrap();
    let short = pool.write("short.img", &data[..40 << 20]);
    let out = pool.path("out.img");
    let answer = pool.read(2, sectors, &["--tier", &short, "--output", &out, "--json"]);
    assert_eq!((answer.code, answer.err.contains("too short for tier 2")), (2, true), "{}", answer.err);
    assert!(check_map(&out, &std::fs::read(whole).unwrap()) > 0);
}

#[test]
fn damaged_pools_give_what_they_have() {
    let pool = Unpacked::new("F8-F2-rand20");
    let stat = tierlift(&["pool", "stat", "--meta", &pool.meta()]);
    assert_eq!((stat.code, stat.out.contains("DAMAGE: device 4")), (2, true), "{}", stat.out);
    let dump = tierlift(&["pool", "dump", "--meta", &pool.meta()]);
    assert_eq!((dump.code, dump.err.contains("NOT complete")), (2, true), "{}", dump.err);
    assert!(dump.out.contains("<!-- LOST: device 4: mappings of chunks all are lost"), "{}", dump.out);
    let truth = &pool.fixture.truth[&1];
    let sound = pool.read(1, truth.sectors, &["--sha256"]);
    assert_eq!((sound.code, sound.out.contains(&truth.sha256)), (0, true), "{}", sound.err);
    let lost = pool.read(4, truth.sectors, &["--output", &pool.path("v4.img")]);
    assert_eq!((lost.code, Path::new(&pool.path("v4.img")).exists()), (4, false), "{}", lost.err);
    let (meta, tiers) = (pool.meta(), pool.tiers());
    let mut args = vec!["pool", "read", "--meta", &meta, "--device", "4", "--sha256"];
    args.extend(tiers.iter().map(String::as_str));
    assert_refused(&args, 4, &["cannot be seen", "give its size"]);
}

#[test]
fn a_stale_superblock_is_not_read_through_unasked() {
    let pool = Unpacked::new("F8-F3-stale-valid");
    let answer = pool.read(1, 196_608, &["--sha256"]);
    assert_eq!((answer.code, answer.err.contains("STALE SUPERBLOCK")), (4, true), "{}", answer.err);
    let answer = pool.read(1, 196_608, &["--sha256", "--accept-stale"]);
    assert_eq!(answer.code, 2, "{}", answer.err);
    assert_eq!(tierlift(&["pool", "stat", "--meta", &pool.meta()]).code, 2);
}

#[test]
fn a_lost_tier_tree_loses_data_but_no_zeros() {
    let pool = Unpacked::new("F8-F3-poolmap-root");
    let answer = pool.read(1, 196_608, &["--sha256"]);
    assert_eq!((answer.code, answer.err.contains("tier mapping is lost")), (4, true), "{}", answer.err);
    let stat = tierlift(&["pool", "stat", "--meta", &pool.meta()]);
    assert_eq!((stat.code, stat.out.contains("tier map")), (2, true), "{}", stat.out);
}

#[test]
fn wrong_metadata_is_refused_with_what_it_is() {
    let pool = Unpacked::new("F2-snaps");
    let bytes = std::fs::read(pool.meta()).unwrap();
    let compressed = pool.fixture.images["tmeta.img"].path.to_str().unwrap().to_owned();
    let mut future = bytes.clone();
    future[40] = 5;
    seal(BlockKind::Superblock, &mut future[..8192]);
    let folder = pool.folder.path().to_str().unwrap().to_owned();
    let sbzero = Unpacked::new("F8-F3-sbzero");
    let details = Unpacked::new("F8-F2-sb-and-details");
    let crash = Unpacked::new("F6a-data-full");
    let table: [(String, i32, &[&str]); 13] = [
        (pool.path("gone.img"), 8, &["gone.img", "cannot be opened"]),
        (folder, 8, &["is a directory"]),
        (pool.write("empty.img", b""), 4, &["is empty"]),
        (pool.write("tiny.img", &bytes[..100]), 4, &["only 100 bytes long"]),
        (pool.write("cut.img", &bytes[..4096]), 4, &["damaged"]),
        (pool.path("tierdata_2.img"), 4, &["all zeros", "a data device", "_tmeta"]),
        (pool.path("tierdata_0.img"), 4, &["all zeros", "a data device", "_tmeta"]),
        (crash.path("tierdata_2.img"), 4, &["not the metadata of a pool", "_tmeta"]),
        (compressed, 4, &["zstd-compressed", "decompress"]),
        (pool.write("future.img", &future), 4, &["version 5", "newer tierlift"]),
        (sbzero.meta(), 4, &["all zeros", "78 valid copies", "number 77", "transaction 3, time 3", "repair verbs"]),
        (details.meta(), 4, &["all zeros", "51 valid copies", "number 50"]),
        (format!("{}@4096", pool.meta()), 4, &["not the metadata", "tmeta.img@4096"]),
    ];
    for (meta, code, telling) in &table {
        let tier = pool.path("tierdata_2.img");
        assert_refused(&["pool", "stat", "--meta", meta], *code, telling);
        assert_refused(&["pool", "stat", "--json", "--meta", meta], *code, telling);
        assert_refused(&["pool", "dump", "--meta", meta], *code, telling);
        assert_refused(&["pool", "read", "--meta", meta, "--tier", &tier, "--device", "1", "--sha256"], *code, telling);
    }
}

#[test]
fn metadata_cut_short_gives_what_is_there() {
    let pool = Unpacked::new("F2-snaps");
    let bytes = std::fs::read(pool.meta()).unwrap();
    let ring_gone = pool.write("ring-gone.img", &bytes[..600 * 8192]);
    let stat = tierlift(&["pool", "stat", "--meta", &ring_gone]);
    assert_eq!((stat.code, stat.out.contains("cut short: 600 of 1024")), (1, true), "{}", stat.out);
    let trees_gone = pool.write("trees-gone.img", &bytes[..200 * 8192]);
    let stat = tierlift(&["pool", "stat", "--meta", &trees_gone]);
    // Both: the ring is gone (1) and so are trees (2).
    assert_eq!((stat.code, stat.out.contains("DAMAGE")), (3, true), "{}", stat.out);
    assert_eq!(tierlift(&["pool", "dump", "--meta", &trees_gone]).code, 3);
}

/// A pool, its data devices as given, the device asked for, the exit code, words of the message.
type Refusal<'a> = (&'a Unpacked, Vec<String>, &'a str, i32, &'a [&'a str]);

#[test]
fn wrong_tiers_and_devices_are_refused_with_what_to_do() {
    let (plain, bypass, tiered) = (Unpacked::new("F5-v2-4k"), Unpacked::new("F2-snaps"), Unpacked::new("F3-3tiers"));
    let numbered =
        |pool: &Unpacked, number: u8, file: u8| format!("{number}={}", pool.path(&format!("tierdata_{file}.img")));
    let bare = |pool: &Unpacked, file: u8| pool.path(&format!("tierdata_{file}.img"));
    let folder = tiered.folder.path().to_str().unwrap().to_owned();
    let table: [Refusal<'_>; 14] = [
        (&plain, vec![bare(&plain, 0), bare(&plain, 0)], "1", 16, &["one data device, but 2"]),
        (&plain, vec![plain.meta()], "1", 4, &["is the metadata of a pool", "--meta"]),
        (&plain, vec![bare(&plain, 0)], "6", 16, &["no thin device 6", "1, 2, 3, 4"]),
        (&bypass, vec![numbered(&bypass, 0, 0)], "1", 8, &["tier 2 holds data", "--tier 2=FILE"]),
        (&bypass, vec![numbered(&bypass, 3, 2)], "1", 16, &["no tier 3", "3, numbered from 0"]),
        (&bypass, vec![bare(&bypass, 2)], "7", 16, &["no thin device 7", "1, 2, 3, 4, 5, 6, 8, 9, 10"]),
        (&bypass, vec![bare(&bypass, 2), numbered(&bypass, 2, 2)], "1", 16, &["tier 2 was given twice"]),
        (&tiered, vec![bare(&tiered, 2)], "1", 16, &["several tiers", "--tier N=FILE"]),
        (&tiered, vec![numbered(&tiered, 0, 0), numbered(&tiered, 1, 1)], "1", 8, &["tier 2 holds data"]),
        (&tiered, vec![numbered(&tiered, 0, 0), numbered(&tiered, 0, 1)], "1", 16, &["tier 0 was given twice"]),
        (&tiered, vec![format!("0={}", tiered.path("gone.img"))], "1", 8, &["gone.img", "cannot be opened"]),
        (&tiered, vec![format!("0={folder}")], "1", 8, &["is a directory"]),
        (&tiered, vec![format!("0={}", tiered.write("empty.img", b""))], "1", 4, &["is empty"]),
        (&tiered, vec![format!("0={}", tiered.meta())], "1", 4, &["is the metadata of a pool"]),
    ];
    for (pool, tiers, device, code, telling) in &table {
        let meta = pool.meta();
        let mut args = vec!["pool", "read", "--meta", &meta, "--device", device, "--sha256"];
        args.extend(tiers.iter().flat_map(|tier| ["--tier", tier]));
        assert_refused(&args, *code, telling);
    }
    let (meta, tier) = (plain.meta(), bare(&plain, 0));
    let with = |more: &[&'static str]| [&["pool", "read", "--meta", &meta, "--tier", &tier], more].concat();
    assert_refused(&with(&["--device", "1"]), 16, &["--sha256"]);
    assert_refused(&with(&["--sha256"]), 16, &["--device"]);
    assert_refused(&with(&["--device", "1", "--sha256", "--size", "1X"]), 16, &["suffix"]);
    assert_refused(&with(&["--device", "1", "--sha256", "--tier-map"]), 16, &["no tier tree"]);
    assert_refused(&with(&["--device", "1", "--sha256", "--sectors", "99999999999999999999"]), 16, &["--sectors"]);
}

/// The one data device of a plain pool may have any number or none; a bypass pool's may have none.
#[test]
fn one_data_device_needs_no_number() {
    for (name, ways) in [("F5-v2-4k", vec!["", "0=", "2=", "7="]), ("F2-snaps", vec!["", "2="])] {
        let pool = Unpacked::new(name);
        let file = if name == "F2-snaps" { "tierdata_2.img" } else { "tierdata_0.img" };
        let truth = &pool.fixture.truth[&1];
        for way in ways {
            let tier = format!("{way}{}", pool.path(file));
            let answer = pool.read(1, truth.sectors, &["--tier", &tier, "--sha256"]);
            assert_eq!((answer.code, answer.out.contains(&truth.sha256)), (0, true), "{tier}: {}", answer.err);
        }
    }
}

/// Metadata and data in the middle of larger files.
#[test]
fn parts_of_files_can_be_named() {
    let pool = Unpacked::new("F5-v2-4k");
    let embed = |name: &str, file: &str| {
        let bytes = std::fs::read(pool.path(file)).unwrap();
        let padded = [&[0xaa; 4096], bytes.as_slice(), &[0xbb; 100]].concat();
        format!("{}@4096+{}", pool.write(name, &padded), bytes.len())
    };
    let (meta, tier) = (embed("a", "tmeta.img"), format!("0={}", embed("b", "tierdata_0.img")));
    let truth = &pool.fixture.truth[&3];
    let sectors = truth.sectors.to_string();
    let answer = tierlift(&[
        "pool",
        "read",
        "--meta",
        &meta,
        "--tier",
        &tier,
        "--device",
        "3",
        "--sectors",
        &sectors,
        "--sha256",
    ]);
    assert_eq!((answer.code, answer.out.contains(&truth.sha256)), (0, true), "{}", answer.err);
}

/// Going through the tier tree of a pool that never used it gives zeros, and straight through tier 2 of one that did gives
/// other bytes: the override does what it says and nothing is silently mixed.
#[test]
fn the_mode_can_be_overridden() {
    let pool = Unpacked::new("F3-3tiers");
    let truth = &pool.fixture.truth[&2];
    for (more, right) in [(&["--tier-map"][..], true), (&["--bypass"], false), (&["--bypass=2"], false)] {
        let answer = pool.read(2, truth.sectors, &[&["--sha256"], more].concat());
        assert_eq!(answer.out.contains(&truth.sha256), right, "{more:?}: {}", answer.out);
    }
    let answer = pool.read(2, truth.sectors, &["--sha256", "--bypass=3"]);
    assert_eq!((answer.code, answer.err.contains("no tier 3")), (16, true), "{}", answer.err);
}

#[test]
fn dumps_go_to_files_too() {
    let pool = Unpacked::new("F4c-zeroflag");
    let (meta, out) = (pool.meta(), pool.path("dump.xml"));
    let dump = |more: &[&str]| tierlift(&[&["pool", "dump", "--meta", &meta], more].concat());
    assert_eq!(dump(&["--output", &out]).code, 0);
    assert!(std::fs::read_to_string(&out).unwrap() == pool.fixture.xml_dump().unwrap().unwrap());
    assert_eq!(dump(&["--output", &out]).code, 8);
    assert_eq!(dump(&["--output", &out, "--force", "--format", "human"]).code, 0);
    assert!(std::fs::read_to_string(&out).unwrap().contains("reads as zeros"));
    assert_eq!(dump(&["--format", "json"]).json()["schema"], "tierlift.pool-dump/1");
    assert_eq!(dump(&["--json"]).json()["devices"].as_array().unwrap().len(), 4);
    assert_eq!(dump(&["--format", "yaml"]).code, 16);
}

#[test]
fn check_says_clean_reported_damaged_or_unusable() {
    for (name, code, words) in [
        ("F3-3tiers", 0, "Clean:"),
        ("F6a-data-full", 1, "SUSPICION: superblock, block 0 (byte 0): needs_check"),
        ("F8-F2-rand20", 2, "mapping tree of device 4, block 118 (byte 966656): it cannot be used: it is all zeros"),
        ("F8-F3-poolmap-root", 2, "concerned: chunks 0 to 191 of device 1"),
        ("F8-F3-stale-valid", 2, "STALE SUPERBLOCK"),
        ("F8-F3-sbzero", 4, ""),
    ] {
        let pool = Unpacked::new(name);
        let answer = tierlift(&["pool", "check", "--meta", &pool.meta()]);
        assert_eq!(answer.code, code, "{name}: {}{}", answer.out, answer.err);
        assert!(answer.out.contains(words), "{name}: {}", answer.out);
    }
    let pool = Unpacked::new("F2-snaps");
    let mut lost = std::fs::read(pool.meta()).unwrap();
    let root = u64::from_le_bytes(lost[320..328].try_into().unwrap()) as usize;
    lost[root * 8192..][..8192].fill(0);
    let answer = tierlift(&["pool", "check", "--meta", &pool.write("lost", &lost)]);
    assert_eq!(answer.code, 4, "{}", answer.out);
    assert!(answer.out.contains("NOTHING can be reached"), "{}", answer.out);
    let nothing = tierlift(&["pool", "check", "--meta", &pool.write("empty", b"")]);
    assert_eq!((nothing.code, tierlift(&["pool", "check", "--meta", "/no/such/file"]).code), (4, 8));
}

#[test]
fn check_tells_programs_what_it_tells_people() {
    let pool = Unpacked::new("F8-F2-rand20");
    let answer = tierlift(&["pool", "check", "--meta", &pool.meta(), "--json"]);
    let told = answer.json();
    assert_eq!(
        (answer.code, &told["schema"], &told["verdict"]),
        (2, &"tierlift.pool-check/1".into(), &"damaged".into())
    );
    let findings = told["findings"].as_array().unwrap();
    assert_eq!(
        told["totals"]["damage"].as_u64().unwrap() + told["totals"]["leak"].as_u64().unwrap(),
        findings.len() as u64
    );
    let lost = findings.iter().find(|finding| finding["kind"] == "lost" && finding["block"] == 118).unwrap();
    assert_eq!(
        (&lost["severity"], &lost["offset"], &lost["cost"]["device"]),
        (&"damage".into(), &966_656.into(), &4.into())
    );
    assert_eq!((&lost["cost"]["chunks_at_most"], &lost["fault"]), (&35.into(), &"it is all zeros".into()));
    assert!(lost["text"].as_str().unwrap().contains("mapping tree of device 4"));
}

#[test]
fn block_size_and_family_can_be_told() {
    let pool = Unpacked::new("F5-v2-4k");
    let stat = |more: &[&str]| {
        let meta = pool.meta();
        tierlift(&[&["pool", "stat", "--meta", &meta], more].concat())
    };
    let probed = stat(&[]);
    assert!(probed.out.contains("4096-byte blocks: 4 of 4 roots are sound"), "{}", probed.out);
    assert!(probed.out.contains("QNAP: device records have 32 bytes"), "{}", probed.out);
    let told = stat(&["--block-size", "8192", "--family", "mainline", "--json"]).json();
    assert_eq!((&told["block_size"], &told["family"]), (&8192.into(), &"mainline".into()));
    let evidence = told["format_evidence"].as_array().unwrap();
    assert_eq!(evidence.iter().filter(|line| line.as_str().unwrap().contains("told so by the user")).count(), 2);
    assert_eq!(stat(&["--block-size", "512"]).code, 16);
    assert_eq!(stat(&["--family", "zfs"]).code, 16);
}

/// Stock Linux's tools write a superblock of 4096 bytes over that of a pool with blocks of 8192.
#[test]
fn a_superblock_rewritten_by_stock_tools_does_not_hide_the_block_size() {
    let pool = Unpacked::new("F3-3tiers");
    let mut rewritten = std::fs::read(pool.meta()).unwrap();
    seal(BlockKind::Superblock, &mut rewritten[..4096]);
    let answer = tierlift(&["pool", "check", "--meta", &pool.write("rewritten", &rewritten), "--json"]);
    assert_eq!(answer.code, 0, "{}{}", answer.out, answer.err);
    assert_eq!(answer.json()["figures"]["mappings"], 359);
}

/// A snapshot deleted thirteen commits ago: dumped, read and repaired with today's volumes, and never with exit code 0.
#[test]
fn one_device_can_be_taken_from_another_generation() {
    let pool = Unpacked::new("F2-snaps");
    let meta = pool.meta();
    let dump = |more: &[&str]| tierlift(&[&["pool", "dump", "--json", "--meta", &meta], more].concat());
    let devices = |answer: &Answer| answer.json()["devices"].as_array().unwrap().clone();
    let of = |devices: &[Value], id: u64| devices.iter().find(|device| device["id"] == id).unwrap().clone();
    let (now, then) = (devices(&dump(&[])), devices(&dump(&["--generation", "copy:986"])));
    let answer = dump(&["--device-generation", "7=copy:986"]);
    assert_eq!((answer.code, answer.err.contains("Device 7 is that of the superblock copy in block 986")), (1, true));
    let mixed = devices(&answer);
    assert_eq!(of(&mixed, 7)["mappings"], of(&then, 7)["mappings"]);
    let rest: Vec<_> = mixed.into_iter().filter(|device| device["id"] != 7).collect();
    assert!(rest == now && rest.len() == 9, "all other devices are those of today");
    let hash = |more: &[&str]| {
        let answer = pool.read(7, 1 << 16, &[&["--sha256", "--json"], more].concat());
        assert_eq!(answer.code, 1, "{}", answer.err);
        answer.json()["sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!(hash(&["--device-generation", "7=copy:986"]), hash(&["--generation", "copy:986"]));
    let out = pool.path("new.img");
    let repair = |more: &[&str]| tierlift(&[&["pool", "repair", "--meta", &meta, "--output", &out], more].concat());
    let answer = repair(&["--device-generation", "7=copy:986", "--json"]);
    let told = &answer.json()["salvage"]["chosen_devices"][0];
    assert_eq!((answer.code, &told["device"], &told["mappings"]), (1, &7.into(), &30.into()));
    let check = tierlift(&["pool", "check", "--meta", &out]);
    assert_eq!((check.code, check.out.contains("10 thin devices, 301 mappings")), (0, true), "{}", check.out);
    for (choice, telling) in [
        ("7=copy:3", "pool generations lists"),
        ("7=block0", "devices 1, 2, 3, 4, 5, 6, 8, 9, 10"),
        ("7", "ID=GENERATION"),
        ("7=copy", "expected block0"),
    ] {
        assert_refused(&["pool", "dump", "--meta", &meta, "--device-generation", choice], 16, &[telling]);
    }
    let twice = ["--device-generation", "7=copy:986", "--device-generation", "7=block0"];
    assert_refused(&[&["pool", "dump", "--meta", &meta], &twice[..]].concat(), 16, &["given twice for device 7"]);
}
