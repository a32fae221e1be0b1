//! `cargo xtask boot`: the appliance in QEMU, its console in this terminal.

use crate::{deps, image, paths, process};
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use tierlift_tests::{Image, Settings};

#[derive(clap::Args)]
pub struct Args {
    /// A disk or image to recover from (raw); attached read-only; may be given several times
    #[arg(long, value_name = "IMG")]
    disk: Vec<PathBuf>,
    /// Scratch space for overlays: an image file, or a size as 4G for a new one in target/
    #[arg(long, value_name = "SIZE|IMG")]
    scratch: Option<String>,
    /// The disk the files are copied to: an image file or a disk with a file system
    #[arg(long, value_name = "IMG")]
    target: Option<PathBuf>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    deps::ensure()?;
    let image = image::build()?;
    let mut settings = Settings::new(&Image { kernel: image.kernel, initramfs: image.initramfs });
    let mut disks = Vec::new();
    for disk in &args.disk {
        check(disk)?;
        settings = settings.protected_source(disk);
        disks.push(format!("{} (source, read-only)", disk.display()));
    }
    if let Some(scratch) = &args.scratch {
        let path = scratch_file(scratch)?;
        settings = settings.writable(&path);
        disks.push(format!("{} (scratch)", path.display()));
    }
    if let Some(target) = &args.target {
        check(target)?;
        settings = settings.writable(target);
        disks.push(format!("{} (target)", target.display()));
    }
    for (letter, disk) in ('a'..='z').zip(&disks) {
        println!("boot: /dev/vd{letter} is {disk}");
    }
    let socket = paths::target().join("program-console.sock");
    let _ = fs::remove_file(&socket);
    println!("boot: program console: tierlift remote --port unix:{} scan", socket.display());
    println!("boot: leave QEMU with Ctrl-A X");
    let mut qemu = settings.command();
    qemu.args(["-serial", "mon:stdio", "-chardev"])
        .arg(format!("socket,id=program,path={},server=on,wait=off", socket.display()))
        .args(["-serial", "chardev:program"]);
    process::run(&mut qemu)
}

fn check(path: &Path) -> anyhow::Result<()> {
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.metadata()?.is_dir() {
        bail!("{} is a directory; name a disk or a raw image file", path.display());
    }
    Ok(())
}

/// The scratch image named, or a new sparse one of the size given.
fn scratch_file(text: &str) -> anyhow::Result<PathBuf> {
    let Some(size) = size(text) else {
        let path = PathBuf::from(text);
        check(&path).context("--scratch takes a size as 4G, or an existing image file")?;
        return Ok(path);
    };
    let path = paths::target().join("scratch.img");
    fs::create_dir_all(paths::target())?;
    fs::File::create(&path)?.set_len(size)?;
    Ok(path)
}

/// Bytes of a size as `512M`, `4G`, `1T`.
fn size(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit: u64 = match unit {
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_and_names_are_told_apart() {
        assert_eq!(size("4G"), Some(4 << 30));
        assert_eq!(size("disk.img"), None);
        assert_eq!(size("G"), None);
        assert_eq!(size(""), None);
    }
}
