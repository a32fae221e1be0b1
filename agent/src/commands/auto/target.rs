//! Where the files go: asked for, formatted when it is blank and the user says so.

use super::Args;
use super::questions::Questions;
use crate::activate::session::Session;
use crate::activate::{ioctl, signature, sysfs};
use crate::block::FileView;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tierlift_ondisk::view::ReadAt;

/// The target as the user named it, with a file system on it.
pub(super) fn choose(args: &Args, session: &Session, ask: &mut Questions) -> anyhow::Result<String> {
    let text = match &args.target {
        Some(target) => target.clone(),
        None => asked(session, ask)?,
    };
    let device = PathBuf::from(text.split_once(':').map_or(text.as_str(), |(device, _)| device));
    if is_blank(&device) {
        let agreed = if args.format { true } else { agreed(&device, ask)? };
        if !agreed {
            return Err(refusal(&device, "it has no file system; --format makes one on a blank disk"));
        }
        format(&device, &session.sources())?;
    }
    Ok(text)
}

fn refusal(device: &Path, why: &str) -> anyhow::Error {
    let message = format!("{} cannot be the target: {why}. Nothing was written to it", device.display());
    Failure { outcome: Outcome::FAILED, message }.into()
}

fn asked(session: &Session, ask: &Questions) -> anyhow::Result<String> {
    let sources = session.sources();
    println!("Disks that are no part of the NAS:");
    let free = session.inventory.disks.iter().filter(|disk| !sources.contains(&disk.path));
    let mut any = false;
    for disk in free {
        any = true;
        println!(
            "  {}  {}  {}",
            disk.path.display(),
            disk.size.human(),
            disk.content.as_deref().unwrap_or(&disk.table)
        );
        disk.partitions.iter().for_each(|part| println!("    partition {}: {}", part.number, part.content));
    }
    if !any {
        println!("  none: attach a disk for the files and start again, or name a folder");
    }
    let answer = ask.line("Where shall the files go? (a disk with a file system, or a blank one) ", "")?;
    if answer.is_empty() { Err(Failure::usage("no target was named").into()) } else { Ok(answer) }
}

/// A device without anything on it.
fn is_blank(device: &Path) -> bool {
    let is_device = sysfs::number_of(device).ok().flatten().is_some();
    let blank = |view: &FileView| {
        signature::found(view).is_ok_and(|signs| signs.is_empty()) && signature::is_blank(view).unwrap_or(false)
    };
    is_device && FileView::open(device).is_ok_and(|view| blank(&view))
}

fn agreed(device: &Path, ask: &Questions) -> anyhow::Result<bool> {
    if ask.is_silent() {
        return Ok(false);
    }
    let size = FileView::open(device)?.size().human();
    println!("{} ({size}) is blank. An ext4 file system would be made on it.", device.display());
    let answer = ask.line(&format!("Type {} once more to have it formatted: ", device.display()), "")?;
    Ok(Path::new(&answer) == device)
}

fn format(device: &Path, sources: &[PathBuf]) -> anyhow::Result<()> {
    let number = sysfs::number_of(device)?.context("no block device")?;
    let disks = sysfs::disks_under(number);
    let is_source = |source: &PathBuf| {
        let number = sysfs::number_of(source).ok().flatten();
        number.map(sysfs::disks_under).unwrap_or_default().iter().any(|disk| disks.contains(disk))
    };
    if sources.iter().any(is_source) {
        return Err(refusal(device, "it is a source disk"));
    }
    let file = File::open(device).with_context(|| format!("{} cannot be opened", device.display()))?;
    ioctl::set_read_only(&file, false).with_context(|| format!("{} cannot be made writable", device.display()))?;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-t", "ext4", "-m", "0", "-L", "recovered"]).arg(device).stdin(Stdio::null());
    let output = command.output().context("mke2fs cannot be started; is it installed?")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        anyhow::bail!("{} cannot be formatted: mke2fs says: {said}", device.display());
    }
    println!("{} was formatted (ext4).", device.display());
    Ok(())
}
