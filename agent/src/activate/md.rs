//! The kernel's md: assembling by mdadm, what is assembled, and taking it apart again.

use super::array::{PlannedArray, member_paths};
use super::plan::ExistingArray;
use super::{names, sysfs};
use crate::case::programs;
use anyhow::{Context, bail};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_ondisk::units::Sectors;

const BLOCK: &str = "/sys/block";

/// Arrays that stand on our overlays.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn existing() -> anyhow::Result<Vec<ExistingArray>> {
    let mut arrays = Vec::new();
    for entry in std::fs::read_dir(BLOCK).context("the kernel's list of disks cannot be read")? {
        let folder = entry?.path();
        let number = folder.file_name().and_then(|name| names::array_number(&name.to_string_lossy()));
        let Some(number) = number else { continue };
        let mut overlays = overlays_under(&folder);
        overlays.sort_unstable();
        arrays.push(ExistingArray { number, overlays });
    }
    Ok(arrays)
}

/// Numbers of the overlays below an md device; empty for one that is not ours.
fn overlays_under(folder: &Path) -> Vec<u32> {
    let slaves = std::fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten();
    let names = slaves.filter_map(|slave| std::fs::read_to_string(slave.path().join("dm/name")).ok());
    names.filter_map(|name| names::number_of(name.trim(), names::MEMBER)).collect()
}

/// Assembles an array read-only; `false` when it was assembled already.
///
/// # Errors
/// When a superblock cannot be written to its overlay, or mdadm or the kernel refuses. Then nothing is left assembled.
pub fn assemble(array: &PlannedArray) -> anyhow::Result<bool> {
    let overlays = array.overlays();
    if existing()?.iter().any(|other| other.number == array.number && other.overlays == overlays) {
        return Ok(false);
    }
    for (member, path) in array.members.iter().zip(member_paths(array)) {
        let device = File::options().write(true).open(&path).with_context(|| format!("{path} cannot be opened"))?;
        let at = member.superblock_at.to_bytes().context("a member larger than any disk")?;
        let log = at.0.checked_sub(member.log.len() as u64).context("a member without room for its log")?;
        let written =
            device.write_all_at(&member.log, log).and_then(|()| device.write_all_at(&member.superblock, at.0));
        written.and_then(|()| device.sync_all()).with_context(|| format!("{path}: no superblock can be written"))?;
    }
    mdadm(["--assemble", &array.path, "--readonly", "--run"].into_iter().map(str::to_owned).chain(member_paths(array)))
        .and_then(|()| verify(array))
        .inspect_err(|_| {
            // It may be half assembled; what matters is the error above.
            let _ = stop(array.number);
        })?;
    Ok(true)
}

/// Stops every array of ours that nothing stands on; answers with their names.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn stop_unused() -> anyhow::Result<Vec<String>> {
    let mut stopped = Vec::new();
    for array in existing()?.into_iter().filter(|array| !array.overlays.is_empty()) {
        let name = names::array(array.number);
        let holders = folder(array.number).join("holders");
        if std::fs::read_dir(holders).is_ok_and(|mut holders| holders.next().is_some()) {
            continue;
        }
        match stop(array.number) {
            Ok(()) => stopped.push(name),
            Err(error) => log::warn!("{name} cannot be stopped: {error:#}"),
        }
    }
    Ok(stopped)
}

/// Stops one array.
///
/// # Errors
/// When mdadm cannot.
pub fn stop(number: u32) -> anyhow::Result<()> {
    mdadm(["--stop".to_owned(), names::array(number)].into_iter())
}

fn mdadm(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let arguments: Vec<String> = arguments.collect();
    let output = programs::output(Command::new("mdadm").args(&arguments));
    let output = output.context("mdadm, which assembles arrays, cannot be started; is it installed?")?;
    if !output.status.success() {
        bail!("mdadm {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    log::info!("mdadm {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The array must be as large as was decided, and read-only.
fn verify(array: &PlannedArray) -> anyhow::Result<()> {
    let read = |name: &str| std::fs::read_to_string(folder(array.number).join(name)).unwrap_or_default();
    let state = read("md/array_state");
    if !["readonly", "read-auto"].contains(&state.trim()) {
        bail!("{}: its state is \"{}\", and read-only was wanted", array.path, state.trim());
    }
    let size: u64 = read("size").trim().parse().unwrap_or_default();
    if Sectors(size) < array.sectors {
        bail!("{}: it has {size} sectors, and its superblocks promised {}", array.path, array.sectors);
    }
    if array.prefer_first {
        prefer_first(array);
    }
    Ok(())
}

/// Of a mirror, reads go to the first member alone; the others are asked where it cannot answer.
fn prefer_first(array: &PlannedArray) {
    for path in member_paths(array).iter().skip(1) {
        let number = sysfs::number_of(Path::new(path)).ok().flatten();
        let device = number.map(|number| folder(array.number).join(format!("md/dev-dm-{}/state", number.minor)));
        let done = device.map(|device| std::fs::write(device, "writemostly"));
        if !matches!(done, Some(Ok(()))) {
            log::warn!("{}: {path} will be read as often as the others", array.path);
        }
    }
}

fn folder(number: u32) -> PathBuf {
    Path::new(BLOCK).join(format!("md{number}"))
}
