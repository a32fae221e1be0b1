//! A volume with files of our own making, and disks for it.

use super::{sha256, sparse};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_forge::{Dice, ForgeOptions, Forged, forge_bare};
use tierlift_tests::{Image, Settings};

/// A volume with two dozen files of a MiB each, on forged disks, and the hash of each file.
pub fn volume(folder: &Path, damage: impl FnOnce(&Path)) -> (Forged, Vec<String>) {
    let content = folder.join("content");
    fs::create_dir_all(content.join("photos")).unwrap();
    let mut dice = Dice::new(77);
    let mut hashes = Vec::new();
    for number in 0..24 {
        let bytes: Vec<u8> = (0..1 << 18).flat_map(|_| (dice.below(1 << 32) as u32).to_le_bytes()).collect();
        fs::write(content.join(format!("photos/{number}")), &bytes).unwrap();
        hashes.push(sha256(&bytes));
    }
    let image = sparse(&folder.join("volume.img"), 96 << 20);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-N", "65536", "-O", "^metadata_csum", "-d"]).arg(&content).arg(&image);
    assert!(mke2fs.status().unwrap().success());
    damage(&image);
    let forged = forge_bare(&image, &ForgeOptions { compact: true, ..ForgeOptions::default() }, folder).unwrap();
    (forged, hashes)
}

/// A machine with these disks.
pub fn attached(forged: &Forged) -> Settings {
    let settings = Settings::new(&Image::from_environment().unwrap());
    forged.disks.iter().fold(settings, |settings, disk| settings.source(disk))
}

/// An empty disk with a file system of its own.
pub fn ext4(path: &Path, mib: u64) -> PathBuf {
    let path = sparse(path, mib << 20);
    assert!(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(&path).status().unwrap().success());
    path
}
