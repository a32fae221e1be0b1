//! `tierlift auto`: one command from damaged disks to verified files; cut short at any moment it goes on; finished it changes
//! nothing; and the same for a person who types answers.

mod common;

use common::{Loose, Whole, sha256, sparse};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tierlift_forge::{Dice, ForgeOptions, KnownFile, Mirror, Raid};
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::Pool;
use tierlift_tests::{Image, Machine, Settings};

fn target(folder: &Path) -> PathBuf {
    let path = sparse(&folder.join("target.img"), 256 << 20);
    assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).status().unwrap().success());
    path
}

fn half() -> ForgeOptions {
    ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() }
}

/// Superblock and the list of device roots are gone from the pool of a mirror's disk.
fn damage(whole: &Whole) {
    let place = whole.forged.placed.iter().find(|volume| volume.name.ends_with("_tmeta")).unwrap();
    let [piece] = place.pieces[..] else { panic!("{place:?}") };
    let loose = Loose::unpack(&whole.fixture.name);
    let pool = Pool::open(Arc::new(std::fs::read(&loose.tmeta).unwrap())).unwrap();
    let size = pool.blocks().size().bytes();
    let disk = OpenOptions::new().write(true).open(&whole.forged.disks[piece.array]).unwrap();
    for block in [MetaBlock(0), pool.superblock().mapping_root] {
        disk.write_all_at(&vec![0; size], piece.disk_sector * 512 + block.0 * size as u64).unwrap();
    }
}

fn boot(whole: &Whole, target: &Path) -> Machine {
    whole.attach(Settings::new(&Image::from_environment().unwrap())).writable(target).boot().unwrap()
}

/// Every file below a folder of the target, by path below it, with its hash.
fn files(machine: &mut Machine, device: &str, folder: &str) -> BTreeMap<String, String> {
    let list = format!(
        "mkdir -p /mnt/check && mount -o ro {device} /mnt/check && cd /mnt/check/{folder} && \
         find . -type f ! -name 'tierlift-manifest*' ! -path './lost+found/*' -exec sha256sum {{}} +; cd / && umount /mnt/check"
    );
    let list = machine.shell(&list).unwrap().success().unwrap();
    list.lines().map(|line| (line[66..].to_owned(), line[..64].to_owned())).collect()
}

fn assert_files(machine: &mut Machine, device: &str, folder: &str, expected: &[KnownFile]) {
    let found = files(machine, device, folder);
    assert!(!expected.is_empty());
    for file in expected {
        assert_eq!(found.get(&file.path), Some(&file.sha256), "{} in {found:?}", file.path);
    }
}

/// Everything on the target as its directories tell it.
fn listing(machine: &mut Machine) -> String {
    let list =
        "mkdir -p /mnt/check && mount -o ro /dev/vdb /mnt/check && ls -lR --full-time /mnt/check; umount /mnt/check";
    machine.shell(list).unwrap().success().unwrap()
}

#[test]
fn a_damaged_pool_in_one_command_and_nothing_the_second_time() {
    let whole = Whole::forge("F1-plain-ext4", &half());
    damage(&whole);
    let target = target(whole.folder());
    let mut machine = boot(&whole, &target);
    let said = machine.run(&["auto", "--yes", "--target", "/dev/vdb"]).unwrap();
    println!("{}{}", said.stdout, said.stderr);
    assert_eq!(said.code, 1, "repaired and whole: {}{}", said.stdout, said.stderr);
    assert_files(&mut machine, "/dev/vdb", "vg1-lv1", &whole.fixture.files["final"]);
    let report = machine.shell("mount -o ro /dev/vdb /mnt && cat /mnt/tierlift-case/report.txt; head -c 15 /mnt/tierlift-case/report.html; umount /mnt");
    let report = report.unwrap().success().unwrap();
    assert!(report.contains("nothing was lost") && report.ends_with("<!DOCTYPE html>"), "{report}");
    let before = listing(&mut machine);
    let again = machine.run(&["auto", "--yes", "--target", "/dev/vdb"]).unwrap();
    assert!(again.code == 1 && again.stdout.contains("finished before"), "{}{}", again.stdout, again.stderr);
    assert_eq!(before, listing(&mut machine), "a second run changed the target");
    let left = machine.shell("dmsetup ls; ls /mnt/tierlift").unwrap();
    assert!(left.stdout.contains("No devices found"), "{}", left.stdout);
    machine.finish().unwrap();
}

#[test]
fn a_degraded_raid5_with_a_pool_of_three_tiers_and_a_lun() {
    let options = ForgeOptions { raid: Some(Raid::new(5, 4)), compact: true, ..ForgeOptions::default() };
    let mut whole = Whole::forge("F3-3tiers", &options);
    whole.forged.disks.remove(2);
    let target = target(whole.folder());
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap()));
    let mut machine = settings.writable(&target).boot().unwrap();
    let said = machine.run(&["auto", "--yes", "--target", "/dev/vdd:nas"]).unwrap();
    println!("{}{}", said.stdout, said.stderr);
    // Device 2 holds no file system: it is copied as an image.
    assert_eq!(said.code & !3, 0, "{}{}", said.stdout, said.stderr);
    let image = machine
        .shell("mount -o ro /dev/vdd /mnt && sha256sum /mnt/nas/*lv2.img; umount /mnt")
        .unwrap()
        .success()
        .unwrap();
    assert!(image.starts_with(&whole.fixture.truth[&2].sha256), "{image}");
    let name = whole.volume(1).replace('/', "-");
    assert_files(&mut machine, "/dev/vdd", &format!("nas/{name}"), &whole.fixture.files["final"]);
    machine.finish().unwrap();
}

/// A blank target is formatted when that is asked for, and not otherwise; a source is never a target.
#[test]
fn targets_that_are_refused_and_one_that_is_formatted() {
    let whole = Whole::forge("F1-plain-ext4", &half());
    let blank = sparse(&whole.folder().join("blank.img"), 256 << 20);
    let mut machine = boot(&whole, &blank);
    let unasked = machine.run(&["auto", "--yes", "--target", "/dev/vdb"]).unwrap();
    assert!(unasked.code == 8 && unasked.stderr.contains("--format"), "{} {}", unasked.code, unasked.stderr);
    assert_eq!(machine.shell("tr -d '\\000' < /dev/vdb | wc -c").unwrap().stdout.trim(), "0", "it was written to");
    let source = machine.run(&["auto", "--yes", "--format", "--target", "/dev/vda"]).unwrap();
    assert!(source.code == 8 && source.stderr.contains("source disk"), "{} {}", source.code, source.stderr);
    let nowhere = machine.run(&["auto", "--yes"]).unwrap();
    assert_eq!(nowhere.code, 16, "{}", nowhere.stderr);
    let said = machine.run(&["auto", "--yes", "--format", "--target", "/dev/vdb"]).unwrap();
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    assert_files(&mut machine, "/dev/vdb", "vg1-lv1", &whole.fixture.files["final"]);
    machine.finish().unwrap();
}

/// Targets for other machines hold the same files; and a recovery finished on one target is not finished on another.
#[test]
fn targets_that_windows_reads() {
    let whole = Whole::forge("F1-plain-ext4", &half());
    let (ntfs, exfat) = (whole.folder().join("ntfs.img"), whole.folder().join("exfat.img"));
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap()));
    let settings = settings.writable(&sparse(&ntfs, 256 << 20)).writable(&sparse(&exfat, 256 << 20));
    let mut machine = settings.boot().unwrap();
    for (kind, device) in [("ntfs", "/dev/vdb"), ("exfat", "/dev/vdc")] {
        let said = machine.run(&["auto", "--yes", &format!("--format={kind}"), "--target", device]).unwrap();
        assert_eq!(said.code, 0, "{kind}: {}{}", said.stdout, said.stderr);
        let mount = if kind == "ntfs" { "mount -t ntfs3 -o ro" } else { "mount -t exfat -o ro" };
        machine.shell(&format!("mkdir -p /mnt/check && {mount} {device} /mnt/check")).unwrap().success().unwrap();
        for file in &whole.fixture.files["final"] {
            let line = format!("sha256sum '/mnt/check/vg1-lv1/{}'", file.path);
            let hash = machine.shell(&line).unwrap().success().unwrap();
            assert!(hash.starts_with(&file.sha256), "{kind}: {} {hash}", file.path);
        }
        machine.shell("umount /mnt/check").unwrap().success().unwrap();
    }
    machine.finish().unwrap();
}

/// A target that is too small is said before anything is copied; a larger one takes the same case on.
#[test]
fn a_target_that_is_too_small() {
    let whole = Whole::forge("F1-plain-ext4", &half());
    damage(&whole);
    let small = sparse(&whole.folder().join("small.img"), 8 << 20);
    assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&small).status().unwrap().success());
    let large = target(whole.folder());
    let settings = whole.attach(Settings::new(&Image::from_environment().unwrap()));
    let mut machine = settings.writable(&small).writable(&large).boot().unwrap();
    let refused = machine.run(&["auto", "--yes", "--target", "/dev/vdb"]).unwrap();
    assert!(refused.code & 8 != 0 && refused.stdout.contains("too small"), "{} {}", refused.code, refused.stdout);
    assert!(!files(&mut machine, "/dev/vdb", ".").keys().any(|path| path.contains("vg1-lv1")), "something was copied");
    let said = machine.run(&["auto", "--yes", "--target", "/dev/vdc"]).unwrap();
    assert_eq!(said.code, 0, "the pool is repaired already: {}{}", said.stdout, said.stderr);
    assert_files(&mut machine, "/dev/vdc", "vg1-lv1", &whole.fixture.files["final"]);
    machine.finish().unwrap();
}

/// Power cuts in CI; TIERLIFT_POWER_CUTS sets another number for a longer trial.
const POWER_CUTS: u64 = 4;

/// What a whole run leaves: how it ended, each file and directory with its attributes and hash, and the figures of the report.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    code: i32,
    entries: Vec<String>,
    figures: [u64; 5],
}

/// Runs `auto` to its end and answers with what it left.
fn to_the_end(machine: &mut Machine) -> Left {
    let said = machine.run(&["auto", "--yes", "--target", "/dev/vdb"]).unwrap();
    let list = "mount -o ro /dev/vdb /mnt && cd /mnt/vg1-lv1 && find . -mindepth 1 ! -name 'tierlift-manifest*' | sort | \
                while read -r path; do stat -c '%n %F %a %u %g %Y %s' \"$path\"; [ -f \"$path\" ] && sha256sum \"$path\"; done; \
                cd / && umount /mnt";
    let entries = machine.shell(list).unwrap().stdout.lines().map(str::to_owned).collect();
    let report = machine.shell("mount -o ro /dev/vdb /mnt && cat /mnt/tierlift-case/report.json; umount /mnt").unwrap();
    let report: Value =
        serde_json::from_str(&report.success().unwrap()).unwrap_or_else(|error| panic!("{error} {said:?}"));
    let counts = &report["case"]["copies"][0]["counts"];
    let figure = |name: &str| counts[name].as_u64().unwrap();
    let figures = [
        figure("copied") + figure("identical"),
        figure("damaged"),
        figure("failed"),
        figure("bytes"),
        figure("lost_bytes"),
    ];
    Left { code: said.code, entries, figures }
}

/// The power fails at a seeded moment of a whole run; the next run goes on, and at the end all is as if nothing had happened. Each
/// trial begins with an empty target.
#[test]
fn power_cuts_cost_nothing_but_time() {
    let whole = Whole::forge("F1-plain-ext4", &half());
    damage(&whole);
    let target = target(whole.folder());
    let empty = whole.folder().join("empty.img");
    let fresh = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("--sparse=always").args([from, to]).status().unwrap().success());
    };
    fresh(&target, &empty);
    let mut machine = boot(&whole, &target);
    let start = Instant::now();
    let uncut = to_the_end(&mut machine);
    let length = u64::try_from(start.elapsed().as_millis()).unwrap();
    machine.finish().unwrap();
    assert_eq!(uncut.code, 1, "repaired, and whole");
    assert!(uncut.entries.len() > whole.fixture.files["final"].len() * 2, "{uncut:?}");
    let mut dice = Dice::new(5);
    let cuts = std::env::var("TIERLIFT_POWER_CUTS").map_or(POWER_CUTS, |cuts| cuts.parse().unwrap());
    for cut in 1..=cuts {
        fresh(&empty, &target);
        let mut machine = boot(&whole, &target);
        let moment = dice.below(length);
        machine.shell("tierlift auto --yes --target /dev/vdb > /tmp/said 2>&1 &").unwrap().success().unwrap();
        std::thread::sleep(Duration::from_millis(moment));
        drop(machine);
        let mut machine = boot(&whole, &target);
        assert_eq!(to_the_end(&mut machine), uncut, "cut {cut} after {moment} of {length} ms");
        assert_files(&mut machine, "/dev/vdb", "vg1-lv1", &whole.fixture.files["final"]);
        machine.finish().unwrap();
        println!("cut {cut} of {cuts} after {moment} of {length} ms: the same end");
    }
}

/// The rows of the README's table below "ten lines": what is shown, and what is typed then.
fn ten_lines() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, behind) = readme.split_once("ten lines**").unwrap();
    let rows = behind
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let row = |line: &str| {
        let cells: Vec<String> = line.trim_matches('|').split(" | ").map(plain).collect();
        let [shown, typed] = cells.as_slice() else { panic!("{line}") };
        (shown.clone(), if typed == "Enter" { String::new() } else { typed.clone() })
    };
    rows.skip(2).map(row).collect()
}

/// A person who has never seen it types exactly what the README says, and has the files.
#[test]
fn a_person_at_the_prompt_with_the_readme() {
    let whole = Whole::forge("F1-plain-ext4", &half());
    damage(&whole);
    let target = target(whole.folder());
    let machine = boot(&whole, &target);
    let mut line = std::os::unix::net::UnixStream::connect(machine.console_socket()).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let lines = ten_lines();
    assert!((5..=10).contains(&lines.len()), "{lines:?}");
    // The prompt itself was shown before anybody listened.
    let mut transcript = "tierlift> ".to_owned();
    let mut seen = 0;
    for (shown, typed) in lines {
        let mut buffer = [0; 4096];
        while !transcript[seen..].trim_end().ends_with(&shown) {
            let count =
                line.read(&mut buffer).unwrap_or_else(|error| panic!("{error}, waiting for {shown:?}: {transcript}"));
            transcript.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        seen = transcript.len();
        line.write_all(format!("{typed}\r").as_bytes()).unwrap();
    }
    machine.off().unwrap();
    println!("{transcript}");
    assert!(transcript.is_ascii(), "{transcript}");
    // A path as a whole can be copied from the screen; everything else is broken between words.
    // Progress is written over itself.
    let sentences = transcript.split(['\n', '\r', '\x1b']).filter(|line| line.trim().contains(' '));
    let widest = sentences.max_by_key(|line| line.trim_end().len()).unwrap();
    assert!(widest.trim_end().len() <= 80, "wider than a terminal: {widest}");
    assert!(transcript.contains("there is something to know about it"), "{transcript}");
    let files = whole.folder().join("files");
    std::fs::create_dir(&files).unwrap();
    let dump = format!("rdump /vg1-lv1 {}", files.display());
    assert!(Command::new("debugfs").args(["-R", &dump]).arg(&target).output().unwrap().status.success());
    for file in &whole.fixture.files["final"] {
        let bytes = std::fs::read(files.join("vg1-lv1").join(&file.path)).unwrap();
        assert_eq!(sha256(&bytes), file.sha256, "{}", file.path);
    }
}
