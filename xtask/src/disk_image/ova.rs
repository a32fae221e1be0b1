//! An OVA: a tar of the machine's description, the sums of its parts, and its disk.

use super::files::TIME;
use super::sums;
use crate::process;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The description of the machine; `@SIZE@` and `@CAPACITY@` are bytes of the disk's file and of the disk.
const DESCRIPTION: &str = include_str!("machine.ovf");
/// Names inside, in the order the format wants.
const PARTS: [&str; 3] = ["tierlift.ovf", "tierlift.mf", "tierlift-disk1.vmdk"];

/// Writes the OVA for the raw image, using `work` for its parts.
pub fn write(raw: &Path, work: &Path, output: &Path) -> anyhow::Result<()> {
    let [description, manifest, disk] = PARTS.map(|name| work.join(name));
    super::converted::stream_vmdk(raw, &disk)?;
    let text = DESCRIPTION
        .replace("@SIZE@", &fs::metadata(&disk)?.len().to_string())
        .replace("@CAPACITY@", &fs::metadata(raw)?.len().to_string());
    fs::write(&description, text)?;
    let mut lines = String::new();
    for (name, path) in [(PARTS[0], &description), (PARTS[2], &disk)] {
        lines += &format!("SHA256({name})= {}\n", sums::of(path)?);
    }
    fs::write(&manifest, lines)?;
    tar(work, &PARTS, output)
}

/// A tar of these files in this order, with nothing of this machine or this hour in it.
pub fn tar(folder: &Path, names: &[&str], output: &Path) -> anyhow::Result<()> {
    process::output(
        Command::new("tar")
            .args(["--format=ustar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"])
            .args(["--mtime", TIME, "--create", "--file"])
            .arg(output)
            .arg("--directory")
            .arg(folder)
            .args(names),
    )?;
    Ok(())
}
