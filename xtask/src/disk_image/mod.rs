//! Everything that boots, from one kernel and one initramfs: `cargo xtask image --all`.
//!
//! No root, no loop device; the same inputs give the same bytes.

mod converted;
mod crates;
mod files;
mod gpt;
mod grub;
mod iso;
mod lock;
mod ova;
mod papers;
mod raw;
pub mod sums;
pub mod verify;
mod vhd;
mod vhdx;

use crate::debian::Unpacked;
use crate::{image, paths};
use files::Content;
use grub::Grub;
pub use lock::OnChange;
use std::fs;
use std::path::{Path, PathBuf};
use tierlift_ondisk::gpt::APPLIANCE_DISK;

/// Every file of the output that has a sum, in the order it is listed.
const FILES: [&str; 12] = [
    "bzImage",
    "initramfs.cpio.zst",
    "tierlift.raw",
    "tierlift.vhd",
    "tierlift.vhdx",
    "tierlift.vmdk",
    "tierlift.ova",
    "tierlift.qcow2",
    "tierlift.iso",
    "manifest.json",
    "licences.tar",
    "SOURCE.txt",
];

/// The menu of the boot loader.
const MENU: &str = include_str!("grub.cfg");

/// Builds all images into `target/image/all/`, which is given.
pub fn build(on_change: OnChange) -> anyhow::Result<PathBuf> {
    let image = image::build()?;
    let folder = paths::target().join("image/all");
    let work = paths::target().join("image/work");
    for path in [&folder, &work] {
        let _ = fs::remove_dir_all(path);
        fs::create_dir_all(path)?;
    }
    let loader = Unpacked::alone(&grub::PACKAGES, &work.join("grub"))?;
    let packages = [image.packages.packages(), loader.packages()].concat();
    lock::check(&packages, on_change)?;
    fs::copy(&image.kernel, folder.join("bzImage"))?;
    fs::copy(&image.initramfs, folder.join("initramfs.cpio.zst"))?;
    let content = Content {
        kernel: folder.join("bzImage"),
        initramfs: folder.join("initramfs.cpio.zst"),
        menu: work.join("grub.cfg"),
    };
    fs::write(&content.menu, MENU)?;
    disks(&content, &Grub { parts: work.join("grub"), work: work.clone() }, &folder)?;
    papers::write(&[&image.packages, &loader], &work, &folder)?;
    fs::write(folder.join("SHA256SUMS"), sums::list(&folder, &FILES)?)?;
    for name in FILES {
        println!("image: {name} ({:.1} MiB)", fs::metadata(folder.join(name))?.len() as f64 / 1_048_576.0);
    }
    Ok(folder)
}

fn disks(content: &Content, grub: &Grub, folder: &Path) -> anyhow::Result<()> {
    println!("image: writing the disk images");
    let raw = folder.join("tierlift.raw");
    raw::write(content, grub, &raw)?;
    let disk = fs::read(&raw)?;
    let footer = vhd::footer(disk.len() as u64, APPLIANCE_DISK);
    fs::write(folder.join("tierlift.vhd"), [disk.as_slice(), &footer].concat())?;
    fs::write(folder.join("tierlift.vhdx"), vhdx::file(&disk, APPLIANCE_DISK)?)?;
    converted::vmdk(&raw, &folder.join("tierlift.vmdk"))?;
    converted::qcow2(&raw, &folder.join("tierlift.qcow2"))?;
    ova::write(&raw, &grub.work, &folder.join("tierlift.ova"))?;
    iso::write(content, grub, &folder.join("tierlift.iso"))
}
