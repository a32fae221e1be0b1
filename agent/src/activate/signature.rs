//! What a device carries, as far as it must not be written to: looked at before a disk is used as scratch or target.

use std::io;
use tierlift_ondisk::gpt::APPLIANCE_DISK;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// A sign of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// For people: "an md array member".
    pub what: &'static str,
    /// Part of a NAS or another stack: never written to, whatever the user says.
    pub sacred: bool,
}

/// A magic number at a fixed place.
struct Magic {
    at: u64,
    bytes: &'static [u8],
    sign: Signature,
}

const fn sacred(at: u64, bytes: &'static [u8], what: &'static str) -> Magic {
    Magic { at, bytes, sign: Signature { what, sacred: true } }
}

const fn common(at: u64, bytes: &'static [u8], what: &'static str) -> Magic {
    Magic { at, bytes, sign: Signature { what, sacred: false } }
}

/// md's magic number, little-endian.
const MD: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
const MD_WHAT: &str = "an md array member";
const DRBD_WHAT: &str = "DRBD metadata";
const LVM_WHAT: &str = "an LVM physical volume";

const FIXED: [Magic; 20] = [
    sacred(0, MD, MD_WHAT),
    sacred(4096, MD, MD_WHAT),
    sacred(0, b"LABELONE", LVM_WHAT),
    sacred(512, b"LABELONE", LVM_WHAT),
    sacred(1024, b"LABELONE", LVM_WHAT),
    sacred(1536, b"LABELONE", LVM_WHAT),
    sacred(0, b"LUKS\xba\xbe", "a LUKS volume"),
    // The superblock of dm-thin and QNAP's pools: 27022010 at byte 32.
    sacred(32, &[0xba, 0x52, 0x9c, 0x01, 0, 0, 0, 0], "metadata of a thin pool"),
    sacred(2044, b"QNAP", "a QNAP file system"),
    // The disk GUID of the partition table, and the label of the file system on it.
    sacred(568, &APPLIANCE_DISK, "the boot disk of the appliance"),
    sacred(0x47, b"TIERLIFT   FAT32", "what the appliance boots from"),
    // Its maker overwrites the place of ext4's magic, but not the other way round; Btrfs's place is nobody else's, so what
    // was made over it later comes first.
    common(0, b"XFSB", XFS),
    common(1080, &[0x53, 0xef], EXT),
    common(3, b"EXFAT   ", EXFAT),
    common(3, b"NTFS    ", NTFS),
    common(0x52, b"FAT32", VFAT),
    common(0x36, b"FAT1", VFAT),
    common(BTRFS_AT, b"_BHRfS_M", BTRFS),
    common(512, b"EFI PART", "a partition table"),
    common(4096, b"EFI PART", "a partition table"),
];

/// Names of file systems a target may have, as the kernel calls their drivers.
pub const EXT: &str = "ext4";
/// See [`EXT`].
pub const EXFAT: &str = "exfat";
/// See [`EXT`].
pub const NTFS: &str = "ntfs3";
/// See [`EXT`].
pub const VFAT: &str = "vfat";

/// See [`EXT`].
pub const XFS: &str = "xfs";
/// See [`EXT`].
pub const BTRFS: &str = "btrfs";
/// Where Btrfs keeps its magic: at byte 64 of the superblock, which lies at 64 KiB.
const BTRFS_AT: u64 = (64 << 10) + 64;

/// All signs found on a device.
///
/// # Errors
/// When the device cannot be read: then nobody can say that it is empty.
pub fn found(device: &dyn ReadAt) -> io::Result<Vec<Signature>> {
    let mut signs = Vec::new();
    for magic in &FIXED {
        if holds(device, Some(magic.at), magic.bytes)? {
            signs.push(magic.sign);
        }
    }
    // The copy of the table lies in the last sector of the disk; it is all that is left where the beginning was wiped.
    for sector in [512, 4096] {
        if holds(device, device.size().0.checked_sub(sector), b"EFI PART")? {
            signs.push(Signature { what: "a partition table", sacred: false });
        }
    }
    let sectors = device.size().to_sectors().0;
    // md 1.0 lies 8 KiB before the end on a 4 KiB boundary, md 0.90 on the last 64 KiB boundary but one.
    let md_1_0 = sectors.checked_sub(16).map(|sector| sector & !7);
    let md_0_90 = (sectors & !127).checked_sub(128);
    for place in [md_1_0, md_0_90] {
        if holds(device, place.and_then(|sector| sector.checked_mul(512)), MD)? {
            signs.push(Signature { what: MD_WHAT, sacred: true });
        }
    }
    // DRBD's superblock is the last whole 4 KiB block, its magic at byte 60, big-endian.
    let drbd = (sectors & !7).checked_sub(8).and_then(|sector| sector.checked_mul(512)?.checked_add(60));
    for magic in [[0x83, 0x74, 0x02, 0x6b], [0x83, 0x74, 0x02, 0x6c]] {
        if holds(device, drbd, &magic)? {
            signs.push(Signature { what: DRBD_WHAT, sacred: true });
        }
    }
    if signs.is_empty() && holds(device, Some(510), &[0x55, 0xaa])? {
        signs.push(Signature { what: "a partition table", sacred: false });
    }
    signs.dedup();
    Ok(signs)
}

/// Whether the first MiB (or all of a smaller device) is zeros.
///
/// # Errors
/// When it cannot be read.
pub fn is_blank(device: &dyn ReadAt) -> io::Result<bool> {
    let length = usize::try_from(device.size().0.min(1 << 20)).unwrap_or(1 << 20);
    let mut start = vec![0; length];
    device.read_at(Bytes(0), &mut start)?;
    Ok(start.iter().all(|&byte| byte == 0))
}

/// What lies beyond the end is no sign; what cannot be read is an error.
fn holds(device: &dyn ReadAt, at: Option<u64>, magic: &[u8]) -> io::Result<bool> {
    let mut bytes = vec![0; magic.len()];
    let end = at.and_then(|at| at.checked_add(magic.len() as u64));
    match at.zip(end) {
        Some((at, end)) if end <= device.size().0 => {
            device.read_at(Bytes(at), &mut bytes)?;
            Ok(bytes == magic)
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut disk = vec![0; 1 << 20];
        disk[at..][..bytes.len()].copy_from_slice(bytes);
        disk
    }

    #[test]
    fn what_a_nas_wrote_is_sacred() {
        let end = 1_usize << 20;
        let cases: [(usize, &[u8]); 8] = [
            (end.saturating_sub(8192), MD),
            (end.saturating_sub(65536), MD),
            (4096, MD),
            (512, b"LABELONE"),
            (end.saturating_sub(4096).saturating_add(60), &[0x83, 0x74, 0x02, 0x6b]),
            (0, b"LUKS\xba\xbe"),
            (32, &27_022_010_u64.to_le_bytes()),
            (2044, b"QNAP"),
        ];
        for (at, bytes) in cases {
            let signs = found(&disk(at, bytes)).unwrap();
            assert!(signs.iter().any(|sign| sign.sacred), "{at}: {signs:?}");
        }
    }

    #[test]
    fn ordinary_content_is_told_but_not_sacred() {
        let end = 1_usize << 20;
        let cases: [(usize, &[u8], &str); 7] = [
            (end.saturating_sub(512), b"EFI PART", "a partition table"),
            (end.saturating_sub(4096), b"EFI PART", "a partition table"),
            (1080, &[0x53, 0xef], EXT),
            (3, b"NTFS    ", NTFS),
            (0, b"XFSB", XFS),
            (65_600, b"_BHRfS_M", BTRFS),
            (510, &[0x55, 0xaa], "a partition table"),
        ];
        for (at, bytes, what) in cases {
            assert_eq!(found(&disk(at, bytes)).unwrap(), [Signature { what, sacred: false }]);
        }
        assert!(found(&disk(0, &[])).unwrap().is_empty());
    }

    #[test]
    fn what_was_made_over_an_older_file_system_comes_first() {
        let mut disk = disk(65_600, b"_BHRfS_M");
        disk[1080..1082].copy_from_slice(&[0x53, 0xef]);
        let signs: Vec<&str> = found(&disk).unwrap().into_iter().map(|sign| sign.what).collect();
        assert_eq!(signs, [EXT, BTRFS]);
        // Too small for a superblock of Btrfs: not there, and no error.
        assert!(found(&vec![0; 65_603]).unwrap().is_empty());
    }

    #[test]
    fn blank_means_zeros() {
        assert!(is_blank(&disk(0, &[])).unwrap());
        assert!(!is_blank(&disk(700_000, &[1])).unwrap());
        assert!(is_blank(&vec![0; 100]).unwrap());
        assert!(found(&vec![0; 100]).unwrap().is_empty());
    }
}
