//! What a device that is no pool metadata looks like: the usual mix-ups, told by their signatures.

use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// A name for people, the byte where the signature stands, and the signature.
const SIGNATURES: [(&str, u64, &[u8]); 19] = [
    ("a zstd-compressed file: decompress it first (zstd -d --sparse)", 0, b"\x28\xb5\x2f\xfd"),
    ("a gzip-compressed file: decompress it first", 0, b"\x1f\x8b\x08"),
    ("an xz-compressed file: decompress it first", 0, b"\xfd7zXZ\0"),
    ("a zip file: unpack it first", 0, b"PK\x03\x04"),
    ("an XML dump of pool metadata, not the metadata itself", 0, b"<superblock"),
    ("a qcow2 disk image: convert it to a raw image first", 0, b"QFI\xfb"),
    ("a ddrescue mapfile, not the image it describes", 0, b"# Mapfile"),
    ("a LUKS-encrypted device", 0, b"LUKS\xba\xbe"),
    ("an LVM physical volume", 512, b"LABELONE"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("an md RAID member (superblock 1.2)", 4096, b"\xfc\x4e\x2b\xa9"),
    ("an md RAID member (superblock 1.1)", 0, b"\xfc\x4e\x2b\xa9"),
    ("a disk with a GPT partition table", 512, b"EFI PART"),
    ("an ext2, ext3 or ext4 file system", 1080, b"\x53\xef"),
    ("an XFS file system", 0, b"XFSB"),
    ("a btrfs file system", 65_600, b"_BHRfS_M"),
    ("a swap area", 4086, b"SWAPSPACE2"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a disk with an MBR partition table", 510, b"\x55\xaa"),
];

/// What the device looks like, when a signature tells. Reads a few bytes at its start and near its end.
pub fn looks_like(device: &dyn ReadAt) -> Option<&'static str> {
    let holds = |at: u64, signature: &[u8]| {
        let mut found = vec![0; signature.len()];
        device.read_at(Bytes(at), &mut found).is_ok() && found == signature
    };
    let by_start = SIGNATURES.iter().find(|(_, at, signature)| holds(*at, signature)).map(|(name, ..)| *name);
    by_start.or_else(|| {
        // Version 1.0 lies 8 KiB before the end, rounded down to 4 KiB.
        let at = device.size().0.checked_sub(8192).map(|at| at & !4095)?;
        holds(at, b"\xfc\x4e\x2b\xa9").then_some("an md RAID member (superblock 1.0)")
    })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_told_at_its_place_and_nothing_else_is() {
        for (name, at, signature) in SIGNATURES {
            let mut device = vec![0; 131_072];
            device[at as usize..at as usize + signature.len()].copy_from_slice(signature);
            assert_eq!(looks_like(&device), Some(name));
        }
        assert_eq!(looks_like(&vec![0; 131_072]), None);
        assert_eq!(looks_like(&Vec::new()), None);
    }

    #[test]
    fn an_md_superblock_at_the_end_is_seen() {
        let mut device = vec![0; 100_000];
        let at = (100_000 - 8192) & !4095;
        device[at..at + 4].copy_from_slice(b"\xfc\x4e\x2b\xa9");
        assert_eq!(looks_like(&device), Some("an md RAID member (superblock 1.0)"));
    }
}
