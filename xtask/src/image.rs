//! The appliance image: kernel and initramfs side by side in `target/image/`.

use crate::disk_image::{self, OnChange, verify};
use crate::kernel::{self, Variant};
use crate::{agent, debian, deps, paths, process};
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tierlift_ondisk::field::hex;

/// Modification time of everything in the image: builds at different times give the same bytes.
const TIME: &str = "2026-01-01 00:00:00 UTC";

/// What a built appliance consists of.
pub struct Image {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// What came from Debian.
    pub packages: debian::Unpacked,
}

#[derive(clap::Args)]
pub struct Args {
    /// Also every image that boots: raw, VHD, VHDX, VMDK, OVA, qcow2, ISO, with sums, manifest and licences
    #[arg(long)]
    all: bool,
    /// Build everything twice in two folders and compare every byte
    #[arg(long, conflicts_with_all = ["all", "update_lock"])]
    verify: bool,
    /// With --verify: compile the kernel once more too, from nothing (15 minutes)
    #[arg(long, requires = "verify")]
    kernel: bool,
    /// Take the packages as they are now into image/packages.lock
    #[arg(long)]
    update_lock: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    deps::ensure()?;
    if args.verify {
        return verify::run(args.kernel);
    }
    if args.all || args.update_lock {
        let changed = if args.update_lock { OnChange::Record } else { OnChange::Fail };
        return disk_image::build(changed).map(|folder| println!("image: everything is in {}", folder.display()));
    }
    let image = build()?;
    for file in [&image.kernel, &image.initramfs] {
        println!("image: {} ({:.1} MiB)", file.display(), fs::metadata(file)?.len() as f64 / 1048576.0);
    }
    Ok(())
}

/// Builds what changed and gives both files.
pub fn build() -> anyhow::Result<Image> {
    let folder = paths::target().join("image");
    fs::create_dir_all(&folder)?;
    let (kernel, initramfs) = (folder.join("bzImage"), folder.join("initramfs.cpio.zst"));
    let built = kernel::build(Variant::Patched)?;
    if fs::read(&built)? != fs::read(&kernel).unwrap_or_default() {
        fs::copy(&built, &kernel)?;
    }
    let packages = build_initramfs(&folder, &initramfs)?;
    Ok(Image { kernel, initramfs, packages })
}

fn build_initramfs(folder: &Path, output: &Path) -> anyhow::Result<debian::Unpacked> {
    let agent = agent::build_static()?;
    let source = paths::root().join("image");
    let root = folder.join("rootfs");
    let _ = fs::remove_dir_all(&root);
    skeleton(&root)?;
    let programs = Programs::read(&source.join("packages.list"))?;
    let unpacked = debian::Unpacked::new(&programs.packages, &folder.join("packages"))?;
    for program in &programs.programs {
        unpacked.copy_program(program, &root)?;
    }
    busybox(&root)?;
    overlay(&source.join("rootfs"), &root)?;
    install(&agent, &root.join("usr/bin/tierlift"))?;
    let archive = pack(&root)?;
    // Compressing costs seconds: only when something inside changed.
    let (sum, stamp) = (hex(&Sha256::digest(&archive)), folder.join("initramfs.sha256"));
    if !output.exists() || fs::read_to_string(&stamp).unwrap_or_default() != sum {
        println!("image: compressing the initramfs");
        fs::write(output, zstd::encode_all(archive.as_slice(), 19)?)?;
        fs::write(stamp, sum)?;
    }
    Ok(unpacked)
}

/// The list of what is taken from Debian: a line per package, the package's name and then its programs.
struct Programs {
    packages: Vec<String>,
    programs: Vec<String>,
}

impl Programs {
    fn read(list: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(list).with_context(|| list.display().to_string())?;
        let (mut packages, mut programs) = (Vec::new(), Vec::new());
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
            let mut words = line.split_whitespace().map(str::to_owned);
            packages.extend(words.next());
            programs.extend(words);
        }
        Ok(Self { packages, programs })
    }
}

fn skeleton(root: &Path) -> anyhow::Result<()> {
    for folder in
        ["dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "var"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), root.join(link))?;
    }
    symlink("/run", root.join("var/run"))?;
    // Programs name their loader here; the packages have it among the libraries.
    let loader = "ld-linux-x86-64.so.2";
    symlink(format!("../lib/x86_64-linux-gnu/{loader}"), root.join("usr/lib64").join(loader))?;
    Ok(())
}

/// Links for every applet that no package brings a program of its own for.
fn busybox(root: &Path) -> anyhow::Result<()> {
    let program = root.join("usr/bin/busybox");
    for applet in process::output(Command::new(&program).arg("--list-full"))?.lines() {
        let path = root.join("usr").join(applet.strip_prefix("usr/").unwrap_or(applet));
        if fs::symlink_metadata(&path).is_err() {
            fs::create_dir_all(path.parent().context("applet without folder")?)?;
            symlink("/usr/bin/busybox", path)?;
        }
    }
    symlink("/usr/bin/busybox", root.join("init"))?;
    Ok(())
}

/// Copies our own files over the tree; a file that starts with `#!` is a program.
fn overlay(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("file without name")?);
        if path.is_dir() {
            fs::create_dir_all(&target)?;
            overlay(&path, &target)?;
            continue;
        }
        let _ = fs::remove_file(&target);
        fs::copy(&path, &target)?;
        let mode = if fs::read(&path)?.starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn install(program: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(program, to).with_context(|| format!("cannot copy {}", program.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The tree as a cpio archive, in a fixed order, owned by root, at a fixed time.
fn pack(root: &Path) -> anyhow::Result<Vec<u8>> {
    process::output(Command::new("find").arg(root).args(["-exec", "touch", "-h", "-d", TIME, "{}", "+"]))?;
    let script = "find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0 --reproducible";
    let output = Command::new("sh").args(["-c", script]).current_dir(root).stdin(Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "cpio failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
