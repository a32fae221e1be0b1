//! The raw image: one disk that both a BIOS and UEFI start.

use super::files::{Content, Fat};
use super::gpt;
use super::grub::Grub;
use std::fs;
use std::path::Path;

/// The volume id of the file system.
const VOLUME: &str = "71E2F11F";
/// FAT with 32 bits has at least so many clusters, here of one sector; fewer would make it another kind of FAT.
const LEAST_SECTORS: u64 = 34 * 2048;
/// Room for the tables of the file system, and for whoever adds a note.
const SPARE: u64 = 4 << 20;

/// Writes the image to `output`; the boot loader's parts and the file system are made in GRUB's work folder.
pub fn write(content: &Content, grub: &Grub, output: &Path) -> anyhow::Result<()> {
    let (boot, core) = grub.bios_disk()?;
    let (program, files) = (grub.work.join("BOOTX64.EFI"), grub.work.join("files.img"));
    fs::write(&program, grub.efi_disk()?)?;
    let mut bytes = SPARE;
    for file in [&content.kernel, &content.initramfs, &program] {
        bytes += fs::metadata(file)?.len();
    }
    let sectors = bytes.div_ceil(1 << 20) * 2048;
    Fat { path: &files, sectors: sectors.max(LEAST_SECTORS), bits: "32", id: VOLUME }.write(&[
        (&program, "/EFI/BOOT/BOOTX64.EFI"),
        (&content.menu, "/boot/grub/grub.cfg"),
        (&content.kernel, "/boot/bzImage"),
        (&content.initramfs, "/boot/initramfs"),
    ])?;
    fs::write(output, gpt::disk(&boot, &core, &fs::read(&files)?))?;
    fs::remove_file(files)?;
    Ok(())
}
