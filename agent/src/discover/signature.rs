//! What is told by its first bytes (or its last) and not followed: file systems, other makers' RAID, boot media.

use super::read;
use tierlift_ondisk::units::SECTOR_BYTES;
use tierlift_ondisk::view::ReadAt;

/// Byte offset, bytes, what they are. A disk shows at most one; where two may be there, the one that goes on being true after
/// the other was written over comes first.
const SIGNATURES: [(u64, &[u8], &str); 25] = [
    (0, b"LUKS\xba\xbe", "LUKS encrypted volume"),
    (0, b"XFSB", "XFS file system"),
    (65_600, b"_BHRfS_M", "Btrfs file system"),
    (1080, &[0x53, 0xef], "ext file system"),
    (3, b"NTFS    ", "NTFS file system (Windows)"),
    (3, b"EXFAT   ", "exFAT file system (a USB disk?)"),
    (3, b"-FVE-FS-", "BitLocker encrypted volume (Windows)"),
    (3, b"ReFS\0\0\0\0", "ReFS file system (Windows)"),
    (82, b"FAT32   ", "FAT32 file system"),
    (54, b"FAT16   ", "FAT16 file system"),
    (54, b"FAT12   ", "FAT12 file system"),
    (32, b"NXSB", "APFS file system (Apple)"),
    (1024, b"H+\x00\x04", "HFS+ file system (Apple)"),
    (1024, b"HX\x00\x05", "HFSX file system (Apple)"),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], "F2FS file system"),
    (65_588, b"ReIsEr", "ReiserFS file system"),
    (32_768, b"JFS1", "JFS file system"),
    (1_048_576, &[0x0d, 0xd0, 0x01, 0xc0], "VMFS volume (VMware)"),
    (4120, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca], "bcache device (Linux)"),
    (32_769, b"CD001", "ISO 9660 image: a CD, a DVD, or a boot medium such as this appliance's own"),
    // Swap begins behind the first page; NAS with ARM processors have larger ones.
    (4086, b"SWAPSPACE2", "swap"),
    (4086, b"SWAP-SPACE", "swap"),
    (16_374, b"SWAPSPACE2", "swap"),
    (32_758, b"SWAPSPACE2", "swap"),
    (65_526, b"SWAPSPACE2", "swap"),
];

/// First byte of ZFS's uberblocks in the first of its labels, the distance between two, how many there are.
const UBERBLOCKS: (u64, usize, usize) = (131_072, 1024, 128);
const UBERBLOCK: u64 = 0x00ba_b10c;
const ZFS: &str = "ZFS: QuTS hero or another ZFS system, not supported here; try an OpenZFS read-only import (QNAP's ZFS is a \
                   variant and may be refused), else a QNAP that runs QuTS hero";

/// Sectors from the end of the disk, byte in that sector, bytes, whose they are.
const FIRMWARE_RAID: [(u64, u64, &[u8], &str); 6] = [
    (1, 0, &[0xde, 0x11, 0xde, 0x11], "a RAID controller with DDF metadata (Dell PERC, LSI, Adaptec, HP and others)"),
    (257, 0, &[0xde, 0x11, 0xde, 0x11], "an Adaptec RAID controller (DDF metadata)"),
    (2, 0, b"Intel Raid ISM Cfg Sig. ", "Intel's firmware RAID (Rapid Storage, IMSM)"),
    (1, 0, b"$XIDE$", "an LSI MegaRAID controller"),
    (1, 256, b"DPTM", "an Adaptec HostRAID controller"),
    (2, 0, b"NVIDIA", "NVIDIA's firmware RAID"),
];

/// What begins here, when it is known.
pub(super) fn at_start(view: &dyn ReadAt) -> Option<String> {
    let here = |offset: u64, bytes: &[u8]| read(view, offset, bytes.len()).is_some_and(|found| found == bytes);
    if let Some((_, _, what)) = SIGNATURES.iter().find(|(offset, bytes, _)| here(*offset, bytes)) {
        return Some((*what).to_owned());
    }
    if has_uberblock(view) {
        return Some(ZFS.into());
    }
    let start = read(view, 0, usize::try_from(view.size().0.min(1 << 20)).ok()?)?;
    start.iter().all(|byte| *byte == 0).then(|| "zeros (at its start)".into())
}

fn has_uberblock(view: &dyn ReadAt) -> bool {
    let (start, step, count) = UBERBLOCKS;
    let Some(bytes) = read(view, start, step.saturating_mul(count)) else { return false };
    let magics = [UBERBLOCK.to_le_bytes(), UBERBLOCK.to_be_bytes()];
    bytes.chunks_exact(step).any(|slot| magics.iter().any(|magic| slot.starts_with(magic)))
}

/// Marks on a whole disk that are beside its partitions: another maker's RAID at its end, a boot loader at its start.
pub(super) fn on_disk(disk: &dyn ReadAt) -> Option<String> {
    let mut marks = Vec::new();
    let sectors = disk.size().0.checked_div(SECTOR_BYTES).unwrap_or_default();
    for (from_end, offset, bytes, whose) in FIRMWARE_RAID {
        let place = sectors.checked_sub(from_end).and_then(|sector| sector.checked_mul(SECTOR_BYTES));
        let found = place.and_then(|place| read(disk, place.checked_add(offset)?, bytes.len()));
        if found.is_some_and(|found| found == bytes) {
            marks.push(format!(
                "metadata of {whose} at its end: a leftover, unless this disk comes from a machine with that RAID; QNAP's \
                 arrays do not use it"
            ));
        }
    }
    let boot = read(disk, 0, 440).unwrap_or_default();
    if boot.windows(5).any(|word| word == b"GRUB ") {
        marks.push("boots with GRUB: a system disk of a computer, or a boot medium, not a NAS's data disk".into());
    }
    (!marks.is_empty()).then(|| marks.join("; "))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut disk = vec![0x11; 2 << 20];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        disk
    }

    #[test]
    fn every_signature_is_told_by_its_own_bytes_only() {
        for (offset, bytes, what) in SIGNATURES {
            assert_eq!(at_start(&disk(offset as usize, bytes)).as_deref(), Some(what));
            assert_eq!(at_start(&disk(offset as usize, &bytes[..bytes.len() - 1])), None, "{what}");
        }
        for (from_end, offset, bytes, whose) in FIRMWARE_RAID {
            let at = (2 << 20) - (from_end as usize) * 512 + offset as usize;
            assert!(on_disk(&disk(at, bytes)).is_some_and(|text| text.contains(whose)), "{whose}");
        }
        assert_eq!((at_start(&disk(0, &[])), on_disk(&disk(0, &[]))), (None, None));
    }

    #[test]
    fn zfs_is_found_by_any_of_its_uberblocks_in_either_byte_order() {
        for (slot, magic) in [(0, UBERBLOCK.to_le_bytes()), (127, UBERBLOCK.to_be_bytes())] {
            assert_eq!(at_start(&disk(131_072 + slot * 1024, &magic)).as_deref(), Some(ZFS));
        }
        assert_eq!(at_start(&disk(131_072 + 128 * 1024, &UBERBLOCK.to_le_bytes())), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let _ = (at_start(&bytes), on_disk(&bytes));
        }
    }
}
