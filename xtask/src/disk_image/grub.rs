//! The boot loader: GRUB's parts, made from Debian's packages without installing anything on a disk.

use super::gpt::{CORE, SECTOR};
use crate::process;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's packages with the parts.
pub const PACKAGES: [&str; 2] = ["grub-pc-bin", "grub-efi-amd64-bin"];

/// What every form needs to show a menu on screen and serial port, and to start Linux.
const COMMON: &str =
    "normal configfile linux serial terminal echo test search search_fs_uuid part_gpt part_msdos fat iso9660";

/// The unpacked packages, and a folder for what is made of them.
pub struct Grub {
    pub parts: PathBuf,
    pub work: PathBuf,
}

/// What is made for one kind of firmware or medium.
struct Form<'a> {
    format: &'a str,
    prefix: &'a str,
    modules: &'a str,
    /// Commands before the menu is looked for.
    early: Option<&'a str>,
}

impl Grub {
    /// First sector and core for a disk that a BIOS starts.
    pub fn bios_disk(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let form = Form { format: "i386-pc", prefix: "(,gpt2)/boot/grub", modules: "biosdisk", early: None };
        let core = embed(self.make(&form, "core.img")?)?;
        let mut boot = fs::read(self.file("i386-pc/boot.img"))?;
        ensure!(boot.len() == SECTOR, "GRUB's boot.img is {} bytes; 512 expected", boot.len());
        boot[0x5c..0x64].copy_from_slice(&CORE.0.to_le_bytes());
        boot[0x64] = 0xff;
        boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
        Ok((boot, core))
    }

    /// The image a BIOS starts from a CD; it also works behind [`Self::hybrid_sector`].
    pub fn bios_cd(&self) -> anyhow::Result<Vec<u8>> {
        self.make(
            &Form { format: "i386-pc-eltorito", prefix: "/boot/grub", modules: "biosdisk", early: None },
            "cd.img",
        )
    }

    /// The first sector of an ISO image that a BIOS starts from a USB stick.
    pub fn hybrid_sector(&self) -> PathBuf {
        self.file("i386-pc/boot_hybrid.img")
    }

    /// The program UEFI starts from the disk that also holds everything else.
    pub fn efi_disk(&self) -> anyhow::Result<Vec<u8>> {
        self.make(&Form { format: "x86_64-efi", prefix: "/boot/grub", modules: EFI, early: None }, "disk.efi")
    }

    /// The program UEFI starts from an ISO image: what it starts next is on the file system `volume`, not beside it.
    pub fn efi_cd(&self, volume: &str) -> anyhow::Result<Vec<u8>> {
        let early =
            format!("search --no-floppy --fs-uuid --set=root --hint=cd0 {volume}\nset prefix=($root)/boot/grub\n");
        self.make(&Form { format: "x86_64-efi", prefix: "/boot/grub", modules: EFI, early: Some(&early) }, "cd.efi")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.parts.join("usr/lib/grub").join(name)
    }

    fn make(&self, form: &Form<'_>, name: &str) -> anyhow::Result<Vec<u8>> {
        let output = self.work.join(name);
        let mut mkimage = Command::new("grub-mkimage");
        let folder = form.format.trim_end_matches("-eltorito");
        mkimage.args(["-O", form.format, "-p", form.prefix, "-d"]).arg(self.file(folder)).arg("-o").arg(&output);
        if let Some(early) = form.early {
            let config = self.work.join("early.cfg");
            fs::write(&config, early)?;
            mkimage.arg("-c").arg(config);
        }
        process::output(mkimage.args(COMMON.split(' ')).args(form.modules.split(' ')))?;
        read(&output)
    }
}

/// `all_video` brings whatever else this release of GRUB has: `efi_uga`, say, which 2.14 has no more.
const EFI: &str = "efi_gop all_video";

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Fills the core to whole sectors, and tells its first sector where the others lie.
fn embed(mut core: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let sectors = core.len() / SECTOR;
    ensure!(sectors as u64 <= CORE.1, "GRUB's core takes {sectors} sectors; its partition has {}", CORE.1);
    let rest = u16::try_from(sectors - 1).context("GRUB's core is too large")?;
    core[SECTOR - 12..SECTOR - 4].copy_from_slice(&(CORE.0 + 1).to_le_bytes());
    core[SECTOR - 4..SECTOR - 2].copy_from_slice(&rest.to_le_bytes());
    core[SECTOR - 2..SECTOR].copy_from_slice(&0x820u16.to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_knows_where_it_goes_on() {
        let core = embed(vec![7; 3 * SECTOR - 5]).unwrap();
        assert_eq!(core.len(), 3 * SECTOR);
        assert_eq!(core[SECTOR - 12..SECTOR], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08]);
        assert!(embed(vec![0; 2 << 20]).is_err());
    }
}
