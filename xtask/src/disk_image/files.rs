//! The file system that firmware and boot loader read: FAT, made without root, the same bytes each time.

use crate::process;
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Time of every file: seconds since 1970 of 2026-01-01.
pub const EPOCH: &str = "1767225600";
/// The same as `touch` and `xorriso` take it.
pub const TIME: &str = "2026-01-01 00:00:00 UTC";

/// What boots, whatever it lies on.
pub struct Content {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub menu: PathBuf,
}

/// A file system as it shall be made.
pub struct Fat<'a> {
    pub path: &'a Path,
    pub sectors: u64,
    /// 12 or 32.
    pub bits: &'a str,
    /// The volume id, eight hexadecimal digits.
    pub id: &'a str,
}

impl Fat<'_> {
    /// Makes the file system with these files in it; folders come from their paths.
    pub fn write(&self, files: &[(&Path, &str)]) -> anyhow::Result<()> {
        let _ = fs::remove_file(self.path);
        fs::File::create(self.path)?.set_len(self.sectors * 512)?;
        process::output(
            Command::new("mkfs.vfat")
                .args(["--invariant", "-F", self.bits, "-S", "512", "-s", "1", "-n", "TIERLIFT", "-i", self.id])
                .arg(self.path),
        )?;
        let mut made = Vec::new();
        for (from, to) in files {
            for folder in folders(to) {
                if !made.contains(&folder) {
                    process::output(self.mtools("mmd").arg(format!("::{folder}")))?;
                    made.push(folder);
                }
            }
            process::output(Command::new("touch").args(["-d", TIME]).arg(from))?;
            process::output(self.mtools("mcopy").arg("-m").arg(from).arg(format!("::{to}")))
                .with_context(|| format!("cannot put {to} into the boot file system"))?;
        }
        Ok(())
    }

    fn mtools(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        command.env("MTOOLS_SKIP_CHECK", "1").env("TZ", "UTC").env("SOURCE_DATE_EPOCH", EPOCH).arg("-i").arg(self.path);
        command
    }
}

/// Every folder above a file, outermost first.
fn folders(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(end, _)| path[..end].to_owned()).filter(|folder| !folder.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn folders_come_outermost_first() {
        assert_eq!(super::folders("/EFI/BOOT/BOOTX64.EFI"), ["/EFI", "/EFI/BOOT"]);
    }
}
