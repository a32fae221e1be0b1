//! Where the files go: asked for, formatted when it is blank and the user says so.

use super::Args;
use super::questions::Questions;
use crate::activate::session::Session;
use crate::activate::{signature, sysfs};
use crate::block::FileView;
use crate::case::programs;
use crate::commands::text::say;
use crate::commands::{Failure, Outcome};
use crate::extract::target;
use anyhow::Context;
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
        let agreed = if args.format.is_some() { args.format } else { agreed(&device, ask)? };
        let Some(kind) = agreed else {
            return Err(refusal(&device, "it has no file system; --format makes one on a blank disk"));
        };
        format(&device, kind, &session.sources())?;
    }
    Ok(text)
}

fn refusal(device: &Path, why: &str) -> anyhow::Error {
    let message = format!("{} cannot be the target: {why}. Nothing was written to it", device.display());
    Failure { outcome: Outcome::FAILED, message }.into()
}

fn asked(session: &Session, ask: &Questions) -> anyhow::Result<String> {
    let sources = session.sources();
    say!("Disks that are no part of the NAS:");
    let free = session.inventory.disks.iter().filter(|disk| !sources.contains(&disk.path));
    let mut any = false;
    for disk in free {
        any = true;
        say!("  {}  {}  {}", disk.path.display(), disk.size.human(), disk.content.as_deref().unwrap_or(&disk.table));
        disk.partitions.iter().for_each(|part| say!("    partition {}: {}", part.number, part.content));
    }
    if !any {
        say!("  none: attach a disk for the files and start again, or name a folder");
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

/// A file system for the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Linux's own: keeps owners, modes, links and attributes
    Ext4,
    /// For Windows; keeps no owners and modes of Linux
    Ntfs,
    /// For Windows and macOS; keeps no owners, modes and links
    Exfat,
}

impl Kind {
    /// The program that makes it.
    fn command(self) -> Command {
        let words: &[&str] = match self {
            Self::Ext4 => &["mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", "recovered"],
            Self::Ntfs => &["mkntfs", "--quiet", "--fast", "--force", "--label", "recovered"],
            Self::Exfat => &["mkfs.exfat", "-L", "recovered"],
        };
        let (program, arguments) = words.split_first().unwrap_or((&"false", &[]));
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ntfs => "NTFS",
            Self::Exfat => "exFAT",
        }
    }
}

/// Asks for the device's name once more, with the file system behind it when it shall be another than ext4.
fn agreed(device: &Path, ask: &Questions) -> anyhow::Result<Option<Kind>> {
    if ask.is_silent() {
        return Ok(None);
    }
    let (size, name) = (FileView::open(device)?.size().human(), device.display());
    say!("{name} ({size}) is blank. A file system would be made on it: ext4 for Linux or another NAS;");
    say!("for a Windows machine type '{name} ntfs', for Windows and macOS '{name} exfat'.");
    let answer = ask.line(&format!("Type {name} once more to have it formatted: "), "")?;
    Ok(kind_typed(&answer, device))
}

fn kind_typed(answer: &str, device: &Path) -> Option<Kind> {
    let mut words = answer.split_whitespace();
    if Path::new(words.next()?) != device {
        return None;
    }
    match (words.next(), words.next()) {
        (None, _) => Some(Kind::Ext4),
        (Some(word), None) => clap::ValueEnum::from_str(word, true).ok(),
        _ => None,
    }
}

fn format(device: &Path, kind: Kind, sources: &[PathBuf]) -> anyhow::Result<()> {
    let number = sysfs::number_of(device)?.context("no block device")?;
    target::check_disk(device, number, sources)?;
    if sysfs::is_in_use(device).with_context(|| format!("{} cannot be opened", device.display()))? {
        return Err(refusal(device, "it, or a part of it, is mounted or in use"));
    }
    target::make_writable(&sysfs::disks_under(number), device)?;
    let mut command = kind.command();
    let program = command.get_program().to_string_lossy().into_owned();
    let output = programs::output(command.arg(device).stdin(Stdio::null()));
    let output = output.with_context(|| format!("{program} cannot be started; is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        anyhow::bail!("{} cannot be formatted: {program} says: {said}", device.display());
    }
    say!("{} was formatted ({}).", device.display(), kind.name());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_disk_agrees() {
        let device = Path::new("/dev/sdb");
        assert_eq!(kind_typed("/dev/sdb", device), Some(Kind::Ext4));
        assert_eq!(kind_typed(" /dev/sdb  NTFS ", device), Some(Kind::Ntfs));
        for other in ["", "yes", "/dev/sdc", "/dev/sdb fat", "/dev/sdb exfat now"] {
            assert_eq!(kind_typed(other, device), None, "{other}");
        }
    }
}
