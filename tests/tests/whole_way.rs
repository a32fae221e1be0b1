//! The way of a person with a dead NAS: disks in, verified files out, nothing written to the disks.

mod common;

use common::{Whole, sparse};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_forge::{AbsentTier, ForgeOptions, KnownFile, Mirror, TierKeys};
use tierlift_tests::{Image, Machine, Settings};

/// A new disk with an ext4 file system.
fn target(folder: &Path) -> PathBuf {
    let path = sparse(&folder.join("target.img"), 256 << 20);
    let status = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).status().unwrap();
    assert!(status.success());
    path
}

/// The hash of every file below a folder of the guest, by path (`./Public/doc1.txt`).
fn hashes(machine: &mut Machine, folder: &str) -> BTreeMap<String, String> {
    let list = machine
        .shell(&format!("cd {folder} && find . -type f ! -path './lost+found/*' -exec sha256sum {{}} +"))
        .unwrap()
        .success()
        .unwrap();
    list.lines().map(|line| (line[66..].to_owned(), line[..64].to_owned())).collect()
}

fn assert_files(found: &BTreeMap<String, String>, expected: &[KnownFile]) {
    assert!(!expected.is_empty());
    for file in expected {
        assert_eq!(found.get(&file.path), Some(&file.sha256), "{}", file.path);
    }
}

/// From half a mirror, over a scratch disk, to files on a target; then everything is taken away again.
#[test]
fn files_of_a_bypass_pool_from_half_a_mirror() {
    let options = ForgeOptions { mirror: Mirror::Half, drbd: true, ..ForgeOptions::default() };
    let whole = Whole::forge("F1-plain-ext4", &options);
    let scratch = sparse(&whole.folder().join("scratch.img"), 64 << 20);
    let target = target(whole.folder());
    let mut machine = whole
        .attach(Settings::new(&Image::from_environment().unwrap()))
        .writable(&scratch)
        .writable(&target)
        .boot()
        .unwrap();
    let volume = whole.volume(1);
    let scan = machine.run(&["scan", "/dev/vda"]).unwrap();
    assert!(scan.stdout.contains("tier-thin-pool") || scan.stdout.contains("tp1"), "{}", scan.stdout);
    machine.run(&["activate", &volume, "--scratch", "/dev/vdb"]).unwrap().success().unwrap();
    machine.run(&["activate", &volume, "--scratch", "/dev/vdb"]).unwrap().success().expect("activating twice is fine");
    machine.run(&["mount", &volume, "/mnt/volume"]).unwrap().success().unwrap();
    assert_files(&hashes(&mut machine, "/mnt/volume"), &whole.fixture.files["final"]);
    assert_ne!(machine.shell("touch /mnt/volume/new").unwrap().code, 0, "the mount takes writes");
    machine.run(&["copy", &volume, "/dev/vdc"]).unwrap().success().unwrap();
    let report = machine.run(&["report"]).unwrap().success().unwrap();
    assert!(report.contains("lv1"), "{report}");
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    machine.shell("mkdir -p /mnt/check && mount -o ro /dev/vdc /mnt/check").unwrap().success().unwrap();
    let copied = hashes(&mut machine, "/mnt/check");
    let by_name: BTreeMap<String, String> = copied
        .iter()
        .filter_map(|(path, hash)| Some((format!("./{}", path.strip_prefix("./")?.split_once('/')?.1), hash.clone())))
        .chain(copied.clone())
        .collect();
    assert_files(&by_name, &whole.fixture.files["final"]);
    machine.finish().unwrap();
}

/// Three arrays on three disks, each a complete mirror, form one volume group: a pool really spread over three tiers.
#[test]
fn files_of_a_tiered_pool_over_three_mirrors() {
    let options = ForgeOptions {
        array_per_tier: true,
        mirror: Mirror::Both,
        tier_keys: TierKeys::None,
        absent_tier: AbsentTier::Placeholder,
        split: true,
        ..ForgeOptions::default()
    };
    let whole = Whole::forge("F3-3tiers", &options);
    let mut machine = whole.attach(Settings::new(&Image::from_environment().unwrap())).boot().unwrap();
    machine.run(&["mount", &whole.volume(1), "/mnt/volume"]).unwrap().success().unwrap();
    assert_files(&hashes(&mut machine, "/mnt/volume"), &whole.fixture.files["final"]);
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    machine.finish().unwrap();
}

/// Each snapshot shows the files of its own time, also a snapshot that no text of LVM knows.
#[test]
fn files_of_each_snapshot() {
    let whole = Whole::forge("F2-snaps", &ForgeOptions::default());
    let mut machine = whole.attach(Settings::new(&Image::from_environment().unwrap())).boot().unwrap();
    for (generation, files) in &whole.fixture.files {
        let device: u64 = generation.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let folder = format!("/mnt/{generation}");
        machine.run(&["mount", &whole.volume(device), &folder]).unwrap().success().unwrap();
        assert_files(&hashes(&mut machine, &folder), files);
    }
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    machine.finish().unwrap();
}

/// Every program taken from a package starts, with all its libraries.
#[test]
fn programs_of_the_image() {
    let list = include_str!("../../image/packages.list");
    let programs: Vec<&str> =
        list.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.split_whitespace().skip(1)).collect();
    assert!(programs.len() > 4, "{programs:?}");
    let mut machine = Settings::new(&Image::from_environment().unwrap()).boot().unwrap();
    for program in programs {
        let output = machine.shell(&format!("/{program} -V 2>&1 || /{program} --version 2>&1 || /{program}")).unwrap();
        assert_ne!(output.code, 127, "{program}: {}{}", output.stdout, output.stderr);
    }
    machine.finish().unwrap();
}

/// The prompt for people works on the serial line and shares no byte with the program's line.
#[test]
fn the_human_console() {
    use std::io::{Read, Write};
    let whole = Whole::forge("F1-plain-ext4", &ForgeOptions::default());
    let mut machine = whole.attach(Settings::new(&Image::from_environment().unwrap())).boot().unwrap();
    let mut line = std::os::unix::net::UnixStream::connect(machine.console_socket()).unwrap();
    line.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    line.write_all(b"scan /dev/vda\r").unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !(said.contains("tp1") && said.ends_with("tierlift> ")) {
        let count = line.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {said:?}"));
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(said.is_ascii(), "{said}");
    machine.run(&["scan", "--json", "/dev/vda"]).unwrap().success().unwrap();
    assert_eq!(
        machine.console().matches("tierlift.scan").count(),
        0,
        "the program's answer leaked to the human console"
    );
    machine.finish().unwrap();
}
