//! The disks and images somebody names: which format they have, and why they cannot be used.

use crate::process;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;

/// What compressed files and archives begin with: people have images packed, and QEMU would take them as they are.
const PACKED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
];

/// What is done with a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Attached read-only.
    Source,
    /// Scratch or target.
    Written,
}

/// The format of a disk image as QEMU names it, after everything that can be wrong with it was looked at.
pub fn format(path: &Path, usage: Use) -> anyhow::Result<String> {
    let mut file = open(path, usage)?;
    let size = file.seek(SeekFrom::End(0)).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(size > 0, "{} is empty: that is no disk image", path.display());
    let mut start = Vec::new();
    file.rewind()?;
    file.take(8).read_to_end(&mut start).with_context(|| format!("cannot read {}", path.display()))?;
    if let Some((_, packed)) = PACKED.iter().find(|(magic, _)| start.starts_with(magic)) {
        bail!("{} is packed with {packed}; unpack it first and name the disk image that comes out", path.display());
    }
    let format = detected(path)?;
    ensure!(
        format != "raw" || size % 512 == 0,
        "{} is no disk image: its {size} bytes are no whole number of sectors (512 bytes), and it is in no format that \
         QEMU knows. An image that is still being copied ends like that",
        path.display()
    );
    Ok(format)
}

fn open(path: &Path, usage: Use) -> anyhow::Result<fs::File> {
    let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    ensure!(!is_folder, "{} is a directory; name a disk or an image file", path.display());
    let (writable, purpose) = if usage == Use::Written { (true, " for writing") } else { (false, "") };
    fs::OpenOptions::new().read(true).write(writable).open(path).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::PermissionDenied if path.starts_with("/dev") => {
                "; disks are for root and the group disk: run this with sudo, or join that group"
            }
            ErrorKind::PermissionDenied => "; this user has no permission for it",
            ErrorKind::NotFound => "; is the name right, and the disk attached?",
            _ => "",
        };
        anyhow::anyhow!("cannot open {}{purpose}: {error}{advice}", path.display())
    })
}

#[derive(Deserialize)]
struct Information {
    format: String,
}

fn detected(path: &Path) -> anyhow::Result<String> {
    let text = process::output(Command::new("qemu-img").args(["info", "--force-share", "--output=json"]).arg(path))
        .with_context(|| format!("{} is in no order QEMU can read", path.display()))?;
    let information: Information = serde_json::from_str(&text).context("cannot read what qemu-img printed")?;
    Ok(information.format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        format(file.path(), Use::Source).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_disk_image_is_refused() {
        assert!(refused(b"").contains("is empty"));
        assert!(refused(b"\x1f\x8b12345678").contains("packed with gzip"));
        assert!(refused(b"a letter to my mother").contains("no disk image"));
        assert!(refused(&[b"QFI\xfb".as_slice(), &[0xff; 508]].concat()).contains("no order"));
        assert!(format(Path::new("/"), Use::Source).unwrap_err().to_string().contains("directory"));
        let missing = format(Path::new("/nowhere/disk.img"), Use::Source).unwrap_err().to_string();
        assert!(missing.contains("is the name right"), "{missing}");
    }

    #[test]
    fn formats_are_detected() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["raw", "qcow2", "vhdx", "vmdk"] {
            let path = folder.path().join(name);
            process::output(Command::new("qemu-img").args(["create", "-f", name]).arg(&path).arg("8M")).unwrap();
            assert_eq!(format(&path, Use::Written).unwrap(), name);
        }
    }
}
