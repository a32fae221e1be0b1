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
