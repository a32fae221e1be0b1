//! Twelve disks of 16 TB: what a scan of them reads.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tierlift_forge::mishaps::grow;
use tierlift_forge::{Fixture, ForgeOptions, Raid, forge_disks};

/// Sectors of the data partition of a disk of 16 TB.
const SECTORS: u64 = 31_231_838_504;
const LIMIT: u64 = 64 << 20;

#[test]
fn twelve_disks_of_16_tb_are_scanned_with_few_bytes_read() {
    let dir = tempfile::tempdir().unwrap();
    let options = ForgeOptions { raid: Some(Raid::new(6, 12)), ..ForgeOptions::default() };
    let mut forged = forge_disks(&Fixture::named(crate::row::POOL).unwrap(), &options, dir.path()).unwrap();
    grow(&mut forged, 0, SECTORS).unwrap();
    let before = Instant::now();
    let (bytes, text) = scan(&forged.disks);
    println!("{} disks: {bytes} bytes read in {:?}", forged.disks.len(), before.elapsed());
    for expected in ["14.6 TiB, partition table: gpt", "12 of 12 members here): usable", "lv1: volume"] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    assert!(!text.contains("What is wrong"), "{text}");
    assert!(bytes < LIMIT, "{bytes} bytes");
}

/// Bytes the scan read in all, its own program included, and what it said.
fn scan(disks: &[PathBuf]) -> (u64, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierlift"));
    let child = command.arg("scan").args(disks).stdout(Stdio::piped()).spawn().unwrap();
    // A text this short fits the pipe, so the scan ends before anybody reads it.
    let bytes = bytes_when_ended(&child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    (bytes, String::from_utf8(output.stdout).unwrap())
}

/// The kernel's count for a process that has ended and was not yet waited for.
fn bytes_when_ended(child: &Child) -> u64 {
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    loop {
        let state = std::fs::read_to_string(process.join("stat")).unwrap();
        if state.rsplit(')').next().unwrap().trim_start().starts_with('Z') {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let counts = std::fs::read_to_string(process.join("io")).unwrap();
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    read.parse().unwrap()
}
