//! The disks of this machine.

use anyhow::Context;
use std::path::{Path, PathBuf};
use tierlift_ondisk::gpt::{APPLIANCE_DISK, HEADER_BYTES, Header};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Names of block devices that are no disks of their own: other devices or memory are behind them.
const VIRTUAL: [&str; 9] = ["loop", "dm-", "md", "ram", "zram", "sr", "fd", "nbd", "drbd"];

/// Every real disk of this machine with a size, in the order of their names.
///
/// # Errors
/// When the kernel's list of disks cannot be read.
pub fn default_disks() -> anyhow::Result<Vec<PathBuf>> {
    disks_in(Path::new("/sys/block"))
}

fn disks_in(list: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(list).with_context(|| format!("{}: no list of disks", list.display()))?;
    let mut disks = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let size = std::fs::read_to_string(list.join(&name).join("size")).unwrap_or_default();
        if !VIRTUAL.iter().any(|prefix| name.starts_with(prefix)) && !matches!(size.trim(), "" | "0") {
            // The kernel writes a slash inside a name as an exclamation mark.
            disks.push(Path::new("/dev").join(name.replace('!', "/")));
        }
    }
    disks.sort();
    Ok(disks)
}

/// Whether this is what the appliance was booted from, or another copy of it: its partition table says so.
pub fn is_boot_disk(disk: &dyn ReadAt) -> bool {
    /// Bytes of a sector, which is where the partition table begins.
    const SECTOR: u64 = 512;
    let mut header = [0; HEADER_BYTES];
    disk.read_at(Bytes(SECTOR), &mut header).is_ok()
        && Header::decode(&header).is_ok_and(|header| header.disk_guid == APPLIANCE_DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_disk_is_known_by_its_partition_table() {
        let header = |disk_guid| Header {
            own_lba: 1,
            other_lba: 99,
            first_usable: 34,
            last_usable: 60,
            disk_guid,
            entries_lba: 2,
            entry_count: 128,
            entry_bytes: 128,
            entries_crc: 0,
        };
        let disk = |guid| [vec![0; 512], header(guid).encode(), vec![0; 512]].concat();
        assert!(is_boot_disk(&disk(APPLIANCE_DISK).as_slice()));
        assert!(!is_boot_disk(&disk([7; 16]).as_slice()));
        assert!(!is_boot_disk(&[0u8; 600].as_slice()));
    }

    #[test]
    fn only_real_disks_with_a_size_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for (name, size) in [
            ("sdb", "8\n"),
            ("sda", "5860533168\n"),
            ("sr0", "8\n"),
            ("loop0", "8\n"),
            ("dm-0", "8\n"),
            ("nvme0n1", "0\n"),
        ] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("size"), size).unwrap();
        }
        std::fs::create_dir(dir.path().join("cciss!c0d0")).unwrap();
        std::fs::write(dir.path().join("cciss!c0d0/size"), "8").unwrap();
        let disks = disks_in(dir.path()).unwrap();
        assert_eq!(disks, [Path::new("/dev/cciss/c0d0"), Path::new("/dev/sda"), Path::new("/dev/sdb")]);
    }
}
