//! The ISO image: a CD, or copied as it is a USB stick, that both a BIOS and UEFI start.

use super::files::{Content, EPOCH, Fat, TIME};
use super::grub::Grub;
use crate::process;
use std::fs;
use std::path::Path;
use std::process::Command;
use tierlift_ondisk::gpt::APPLIANCE_DISK;

/// The volume's time, which is also how GRUB names the volume.
const VOLUME: &str = "2026-01-01-00-00-00-00";
/// The volume id of the file system UEFI reads.
const FAT: &str = "71E2F11E";

/// Writes the image to `output`.
pub fn write(content: &Content, grub: &Grub, output: &Path) -> anyhow::Result<()> {
    let tree = grub.work.join("iso");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(tree.join("boot/grub"))?;
    for (from, to) in
        [(&content.kernel, "bzImage"), (&content.initramfs, "initramfs"), (&content.menu, "grub/grub.cfg")]
    {
        fs::copy(from, tree.join("boot").join(to))?;
    }
    fs::write(tree.join("boot/grub/cd.img"), grub.bios_cd()?)?;
    efi_files(grub, &tree.join("boot/grub/efi.img"))?;
    process::output(Command::new("find").arg(&tree).args(["-exec", "touch", "-d", TIME, "{}", "+"]))?;
    let _ = fs::remove_file(output);
    process::output(&mut xorriso(grub, &tree, output))?;
    Ok(())
}

/// The file system in which UEFI finds its program.
fn efi_files(grub: &Grub, path: &Path) -> anyhow::Result<()> {
    let program = grub.work.join("CDX64.EFI");
    fs::write(&program, grub.efi_cd(VOLUME)?)?;
    let sectors = (fs::metadata(&program)?.len() + (256 << 10)).div_ceil(512);
    Fat { path, sectors, bits: "12", id: FAT }.write(&[(&program, "/EFI/BOOT/BOOTX64.EFI")])
}

fn xorriso(grub: &Grub, tree: &Path, output: &Path) -> Command {
    let mut command = Command::new("xorriso");
    command
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("TZ", "UTC")
        .args(["-as", "mkisofs", "-quiet", "-r", "-J", "-V", "TIERLIFT"])
        .arg(format!("--modification-date={}", VOLUME.replace('-', "")))
        .args(["--set_all_file_dates", &VOLUME.replace('-', "")])
        .args(["--gpt_disk_guid", &disk_guid()])
        .args(["-c", "boot/boot.cat", "-b", "boot/grub/cd.img"])
        .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info", "--grub2-mbr"])
        .arg(grub.hybrid_sector())
        .args(["--protective-msdos-label", "--efi-boot", "boot/grub/efi.img", "-efi-boot-part", "--efi-boot-image"])
        .arg("-o")
        .arg(output)
        .arg(tree);
    command
}

/// The disk GUID as 32 digits in the order of bytes on the disk, which is what xorriso takes.
fn disk_guid() -> String {
    APPLIANCE_DISK.iter().map(|byte| format!("{byte:02x}")).collect()
}
