//! Stock tools agree with our readers about everything the forge writes: mdadm, LVM's pvck, sfdisk, blkid, cryptsetup. They run
//! on plain files, so neither root nor a loop device is needed; where a tool is missing, the test fails and says how to get it.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod encrypted;
mod lvm;
mod md;
mod signatures;
mod tables;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tierlift_forge::{Fixture, ForgeOptions, Forged, Raid, forge_disks};

/// What a tool answers.
struct Said {
    text: String,
    success: bool,
}

impl Said {
    /// What stands behind `name` and the separator on the first line that has both.
    fn value(&self, name: &str, separator: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (key, value) = line.trim().split_once(separator)?;
            (key.trim() == name).then_some(value.trim())
        })
    }
}

/// Runs a tool; one that is not installed fails the test.
fn run(tool: &str, arguments: &[&str], file: &Path) -> Said {
    said(&output(tool, arguments, file, b""))
}

fn said(output: &Output) -> Said {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Said { text, success: output.status.success() }
}

fn output(tool: &str, arguments: &[&str], file: &Path, input: &[u8]) -> Output {
    // Debian keeps these outside the path of ordinary users.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let program = path.split(':').map(|folder| Path::new(folder).join(tool)).find(|program| program.is_file());
    let program = program.unwrap_or_else(|| panic!("{tool} is not installed; `cargo xtask deps` installs it"));
    let mut command = Command::new(program);
    command.args(arguments).arg(file).env("LC_ALL", "C").env("LVM_SUPPRESS_FD_WARNINGS", "1").stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end without having read anything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn forge(name: &str, options: &ForgeOptions) -> (tempfile::TempDir, Forged) {
    let dir = tempfile::tempdir().unwrap();
    let forged = forge_disks(&Fixture::named(name).unwrap(), options, dir.path()).unwrap();
    (dir, forged)
}

fn small(raid: Raid) -> (tempfile::TempDir, Forged) {
    forge("F6a-data-full", &ForgeOptions { raid: Some(raid), compact: true, ..ForgeOptions::default() })
}
