//! Targets with every file system that is offered or accepted: the same files on each, and what one of them cannot keep is said.

mod common;

use common::files::attached;
use common::{sha256, sparse};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::{ForgeOptions, Forged, forge_bare};
use tierlift_tests::Machine;

const VOLUME: &str = "md1/volume";

/// A volume with names that Windows does not take, links, and owners; and the hash of each file.
fn volume(folder: &Path) -> (Forged, BTreeMap<String, String>) {
    let content = folder.join("content");
    fs::create_dir_all(content.join("Fotos: 2019")).unwrap();
    let names = ["Readme", "README", "12:30.txt", "con.txt", "Grüße.txt", "dot.", "Fotos: 2019/was?.jpg", "plain.txt"];
    let mut hashes = BTreeMap::new();
    for name in names {
        let bytes = name.repeat(9000).into_bytes();
        fs::write(content.join(name), &bytes).unwrap();
        hashes.insert(name.to_owned(), sha256(&bytes));
    }
    fs::write(content.join(std::ffi::OsStr::from_bytes(b"latin-\xe4")), "no UTF-8").unwrap();
    fs::hard_link(content.join("plain.txt"), content.join("second.txt")).unwrap();
    symlink("plain.txt", content.join("link")).unwrap();
    std::os::unix::fs::chown(content.join("plain.txt"), Some(1000), Some(100)).unwrap();
    let image = sparse(&folder.join("volume.img"), 64 << 20);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d"]).arg(&content).arg(&image);
    assert!(mke2fs.status().unwrap().success());
    (forge_bare(&image, &ForgeOptions { compact: true, ..ForgeOptions::default() }, folder).unwrap(), hashes)
}

fn made(path: &Path, program: &str, words: &[&str], mib: u64) -> PathBuf {
    let path = sparse(path, mib << 20);
    let said = Command::new(program).args(words).arg(&path).output().unwrap();
    assert!(said.status.success(), "{program}: {said:?}");
    path
}

/// Copies to a device and holds every file on it against the truth, each under the name the manifest tells.
fn assert_copied(
    machine: &mut Machine,
    device: &str,
    kind: &str,
    code: i32,
    hashes: &BTreeMap<String, String>,
) -> String {
    let said = machine.run(&["copy", VOLUME, device]).unwrap();
    assert_eq!(said.code, code, "{kind}: {said:?}");
    let options = match kind {
        "ntfs3" | "exfat" => "ro,iocharset=utf8",
        "vfat" => "ro,iocharset=utf8,utf8=1",
        _ => "ro",
    };
    let mount = format!("mkdir -p /mnt/check && mount -t {kind} -o {options} {device} /mnt/check");
    machine.shell(&mount).unwrap().success().unwrap();
    let manifest = machine.shell("cat /mnt/check/tierlift-manifest.json").unwrap().success().unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest["files"].as_array().unwrap();
    let entry = |path: &str| {
        entries.iter().find(|entry| entry["path"] == path).unwrap_or_else(|| panic!("{path} in {manifest}"))
    };
    let written = |path: &str| {
        entry(path)["written_as"].as_str().map_or_else(|| path.rsplit('/').next().unwrap().to_owned(), str::to_owned)
    };
    for (path, hash) in hashes {
        let place = match path.split_once('/') {
            Some((folder, _)) => format!("{}/{}", written(folder), written(path)),
            None => written(path),
        };
        let line = format!("sha256sum '/mnt/check/{place}'");
        let there = machine.shell(&line).unwrap().success().unwrap();
        assert!(there.contains(hash.as_str()), "{kind}: {path} as {place}: {there}");
    }
    machine.shell("umount /mnt/check").unwrap().success().unwrap();
    let again = machine.run(&["copy", VOLUME, device]).unwrap();
    assert!(again.code == code && again.stdout.contains(" 0 files copied"), "{kind}, a second time: {again:?}");
    said.stdout
}

#[test]
fn every_kind_of_target_takes_every_file() {
    let folder = TempDir::new().unwrap();
    let (forged, hashes) = volume(folder.path());
    let at = |name: &str| folder.path().join(name);
    let targets = [
        ("ext4", made(&at("ext4"), "mke2fs", &["-q", "-F", "-t", "ext4"], 64)),
        ("xfs", made(&at("xfs"), "mkfs.xfs", &["-q"], 320)),
        ("btrfs", made(&at("btrfs"), "mkfs.btrfs", &["-q"], 160)),
        ("vfat", made(&at("vfat"), "mkfs.vfat", &["-F", "32"], 64)),
    ];
    let blank = [sparse(&at("ntfs"), 64 << 20), sparse(&at("exfat"), 64 << 20)];
    let mut settings = attached(&forged);
    for (_, path) in &targets {
        settings = settings.writable(path);
    }
    let settings = blank.iter().fold(settings, |settings, path| settings.writable(path));
    let mut machine = settings.boot().unwrap();
    let mut letter = b'a' + u8::try_from(forged.disks.len()).unwrap();
    let mut next = || {
        letter += 1;
        format!("/dev/vd{}", char::from(letter - 1))
    };
    for (kind, _) in &targets {
        let code = i32::from(*kind == "vfat");
        let said = assert_copied(&mut machine, &next(), kind, code, &hashes);
        let unchanged = !said.contains("changed") && !said.contains("not kept");
        assert_eq!(unchanged, code == 0, "{kind}: {said}");
    }
    for (kind, program, words) in [("ntfs3", "mkntfs", "--quiet --fast --force"), ("exfat", "mkfs.exfat", "-L x")] {
        let device = next();
        machine.shell(&format!("blockdev --setrw {device} && {program} {words} {device}")).unwrap().success().unwrap();
        let said = assert_copied(&mut machine, &device, kind, 1, &hashes);
        assert!(said.contains("names were changed because Windows does not take them"), "{kind}: {said}");
        if kind == "exfat" {
            assert!(said.contains("not kept on the target: owners of "), "{said}");
            assert!(said.contains("1 symbolic link (the manifest tells where it leads)"), "{said}");
        }
    }
    machine.finish().unwrap();
}

/// The power goes while a disk with NTFS is written to. Where a copy of ours lies on it the same command goes on; where none does
/// the disk is left alone.
#[test]
fn a_disk_with_ntfs_after_a_power_cut() {
    let folder = TempDir::new().unwrap();
    let (forged, hashes) = volume(folder.path());
    let disks = [sparse(&folder.path().join("ours"), 64 << 20), sparse(&folder.path().join("theirs"), 64 << 20)];
    let settings = disks.iter().fold(attached(&forged), |settings, path| settings.writable(path));
    let letter = |number: usize| char::from(b'a' + u8::try_from(forged.disks.len() + number).unwrap());
    let (ours, theirs) = (format!("/dev/vd{}", letter(0)), format!("/dev/vd{}", letter(1)));
    let mut machine = settings.boot().unwrap();
    for device in [&ours, &theirs] {
        let format = format!("blockdev --setrw {device} && mkntfs --quiet --fast --force {device}");
        machine.shell(&format).unwrap().success().unwrap();
    }
    assert_eq!(machine.run(&["copy", VOLUME, &ours]).unwrap().code, 1);
    for (name, device) in [("ours", &ours), ("theirs", &theirs)] {
        // What is written reaches the disk by itself: a sync would mark it clean again.
        let write = format!(
            "echo 50 > /proc/sys/vm/dirty_expire_centisecs; echo 50 > /proc/sys/vm/dirty_writeback_centisecs; \
             blockdev --setrw {device} && mkdir -p /mnt/{name} && mount -t ntfs3 {device} /mnt/{name} && \
             echo new > /mnt/{name}/new && sleep 6"
        );
        machine.shell(&write).unwrap().success().unwrap();
    }
    // No goodbye: the process of the machine is killed.
    drop(machine);
    let mut machine = settings.boot().unwrap();
    let refused = machine.run(&["copy", VOLUME, &theirs]).unwrap();
    assert!(refused.code == 8 && refused.stderr.contains("chkdsk"), "{refused:?}");
    let again = machine.run(&["copy", VOLUME, &ours]).unwrap();
    assert!(again.code == 1 && again.stderr.contains("was not shut down cleanly"), "{again:?}");
    assert!(again.stdout.contains(" 0 files copied"), "{again:?}");
    assert_copied(&mut machine, &ours, "ntfs3", 1, &hashes);
    machine.finish().unwrap();
}

/// What is no disk is not taken for a folder, and a mount that a command left that was killed is released.
#[test]
fn names_that_are_no_targets_and_a_mount_that_was_left() {
    let folder = TempDir::new().unwrap();
    let (forged, _) = volume(folder.path());
    let target = made(&folder.path().join("target"), "mke2fs", &["-q", "-F", "-t", "ext4"], 64);
    let mut machine = attached(&forged).writable(&target).boot().unwrap();
    let name = format!("vd{}", char::from(b'a' + u8::try_from(forged.disks.len()).unwrap()));
    let device = format!("/dev/{name}");
    let wrong = [
        (name.as_str(), "the disk is called"),
        ("/dev/vdz9", "there is no such disk"),
        ("/mnt/network/nas", "network mount"),
        ("/root/files", "memory"),
        ("/run/files", "memory"),
    ];
    for (typed, why) in wrong {
        let said = machine.run(&["copy", VOLUME, typed]).unwrap();
        assert!(said.code == 8 && said.stderr.contains(why), "{typed}: {said:?}");
    }
    let auto = machine.run(&["auto", "--yes", "--target", "me@10.0.0.1:files"]).unwrap();
    assert!(auto.code == 8 && auto.stderr.contains("only `copy` goes there"), "{auto:?}");
    let leave = format!("blockdev --setrw {device}; mkdir -p /mnt/target && mount {device} /mnt/target");
    let is_left = "grep -q ' /mnt/target ' /proc/mounts";
    machine.shell(&leave).unwrap().success().unwrap();
    machine.run(&["copy", VOLUME, &device]).unwrap().success().unwrap();
    assert_eq!(machine.shell(is_left).unwrap().code, 1, "it stayed mounted");
    machine.shell(&leave).unwrap().success().unwrap();
    let kept = machine.run(&["deactivate", "--all"]).unwrap();
    assert!(kept.code == 8 && kept.stdout.contains("a target disk is mounted on /mnt/target"), "{kept:?}");
    let released = machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
    assert!(released.contains("unmounted /mnt/target"), "{released}");
    assert_eq!(machine.shell(is_left).unwrap().code, 1, "it stayed mounted");
    machine.finish().unwrap();
}
