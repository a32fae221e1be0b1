//! What an ext2/3/4 superblock says about whether and how a volume can be mounted ("docs/disk-layout, section 6").

use super::{field16, field32};
use std::io;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Place and length of the superblock in bytes.
const PLACE: u64 = 1024;
const LENGTH: usize = 1024;
/// The kernel mounts blocks up to the size of a memory page.
const MAX_BLOCK: u64 = 4096;

const COMPAT_AT: usize = 0x5c;
const RO_COMPAT_AT: usize = 0x64;
const COMPAT_DIR_INDEX: u32 = 0x20;
const INCOMPAT_RECOVER: u32 = 0x4;
const RO_COMPAT_CHECKSUMS: u32 = 0x400;
const STATE_ERRORS: u16 = 0x2;

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4 {
    /// Label; empty when there is none.
    pub label: String,
    /// Block size in bytes; `None` when the field cannot be one.
    pub block_size: Option<u64>,
    /// The journal holds changes that are not yet in place.
    pub wants_replay: bool,
    /// The kernel found errors in it once.
    pub has_errors: bool,
    /// QNAP's mark in the place of the checksum: directory indexes are ordered in QNAP's own way.
    pub qnap: bool,
    /// Directory indexes are used for finding names.
    pub dir_index: bool,
    /// Metadata carry checksums.
    pub checksums: bool,
    /// Number of inodes.
    pub inodes: u32,
    /// Size of an inode in bytes.
    pub inode_size: u16,
    /// Number of blocks; of file systems beyond 16 TiB only the lower 32 bits.
    pub blocks: u32,
}

/// A feature bit to switch off on an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Where its word lies, from the start of the volume.
    pub place: Bytes,
    /// The bit in that word.
    pub bit: u32,
}

/// What a volume begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An ext2, ext3 or ext4 file system.
    Ext4(Ext4),
    /// A LUKS volume.
    Luks,
    /// Nothing known.
    Unknown,
}

/// Looks at the start of a volume.
///
/// # Errors
/// When it cannot be read.
pub fn probe(volume: &dyn ReadAt) -> io::Result<Probe> {
    let mut start = [0; 6];
    volume.read_at(Bytes(0), &mut start)?;
    if start == *b"LUKS\xba\xbe" {
        return Ok(Probe::Luks);
    }
    let mut block = [0; LENGTH];
    volume.read_at(Bytes(PLACE), &mut block)?;
    Ok(decode(&block).map_or(Probe::Unknown, Probe::Ext4))
}

fn decode(block: &[u8; LENGTH]) -> Option<Ext4> {
    if field16(block, 0x38) != 0xef53 {
        return None;
    }
    let label = block.get(0x78..0x88).unwrap_or_default();
    let label = label.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(Ext4 {
        label: String::from_utf8_lossy(label).into_owned(),
        block_size: field32(block, 0x18)
            .checked_add(10)
            .and_then(|shift| 1_u64.checked_shl(shift))
            .filter(|&size| size > 0),
        wants_replay: field32(block, 0x60) & INCOMPAT_RECOVER != 0,
        has_errors: field16(block, 0x3a) & STATE_ERRORS != 0,
        qnap: block.get(0x3fc..) == Some(b"QNAP"),
        dir_index: field32(block, COMPAT_AT) & COMPAT_DIR_INDEX != 0,
        checksums: field32(block, RO_COMPAT_AT) & RO_COMPAT_CHECKSUMS != 0,
        inodes: field32(block, 0),
        inode_size: field16(block, 0x58),
        blocks: field32(block, 4),
    })
}

impl Ext4 {
    /// Why the kernel cannot or should not mount it, if so.
    pub fn obstacle(&self) -> Option<String> {
        match self.block_size {
            None => Some("its superblock is damaged: the block size makes no sense".to_owned()),
            Some(size) if size > MAX_BLOCK => Some(format!(
                "its blocks are {size} bytes long, and this machine's kernel mounts at most {MAX_BLOCK}; it was written by a NAS \
                 with larger memory pages (some ARM models). Its files are read without the kernel: `tierlift copy --without-mount VG/LV \
                 TARGET` (`auto` does so by itself)"
            )),
            Some(_) => None,
        }
    }

    /// Features that must be off for a stock kernel to read what QNAP's wrote.
    pub fn traps(&self) -> Vec<Trap> {
        let all = [
            // Looking a name up by an index that is ordered in another way does not find it.
            (self.dir_index, COMPAT_AT, COMPAT_DIR_INDEX),
            // The superblock's checksum lies where QNAP's mark is, so it is wrong by design.
            (self.checksums, RO_COMPAT_AT, RO_COMPAT_CHECKSUMS),
        ];
        let set = all.into_iter().filter(|(is_set, _, _)| self.qnap && *is_set);
        set.map(|(_, at, bit)| Trap { place: Bytes(PLACE.saturating_add(at as u64)), bit }).collect()
    }

    /// What a repair may write at most, roughly: all inodes, the bitmaps (a bit for each block and inode), and the journal's
    /// usual size. Directories and lists of blocks come on top, but hardly all of the inodes change.
    pub fn metadata_size(&self) -> Bytes {
        const JOURNAL: u64 = 1 << 28;
        let inodes = u64::from(self.inodes).saturating_mul(u64::from(self.inode_size));
        let bits = u64::from(self.inodes).saturating_add(u64::from(self.blocks));
        Bytes(inodes.saturating_add(bits / 8).saturating_add(JOURNAL))
    }

    /// What to know before trusting what is seen on it.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.wants_replay {
            notes.push(
                "the journal was not played back (nothing is written here): the newest changes may be missing"
                    .to_owned(),
            );
        }
        if self.has_errors {
            notes.push("the file system is marked as having errors: some files may be damaged".to_owned());
        }
        if self.qnap && self.checksums {
            notes.push("QNAP's mark lies where the checksum should be: checksums are off on the overlay".to_owned());
        }
        match (self.qnap, self.dir_index) {
            (true, true) => notes.push(
                "made by QNAP, which orders directory indexes in its own way, yet they are on: they are off on the overlay, so \
                 that every name is found"
                    .to_owned(),
            ),
            (true, false) => notes.push("made by QNAP (its mark in the superblock); harmless for reading".to_owned()),
            (false, _) => {}
        }
        notes
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut volume = vec![0; 4096];
        volume[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        for (at, bytes) in fields {
            volume[1024 + at..][..bytes.len()].copy_from_slice(bytes);
        }
        volume
    }

    fn ext4(fields: &[(usize, &[u8])]) -> Ext4 {
        match probe(&volume(fields)).unwrap() {
            Probe::Ext4(found) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_of_a_nas() {
        let found = ext4(&[(0x18, &[2]), (0x60, &[4]), (0x78, b"DataVol1"), (0x3fc, b"QNAP")]);
        assert_eq!((found.block_size, found.label.as_str(), found.obstacle()), (Some(4096), "DataVol1", None));
        assert!(found.notes()[0].contains("newest changes may be missing"));
        assert!(found.notes()[1].contains("QNAP"));
    }

    #[test]
    fn what_cannot_be_mounted_says_why() {
        assert!(ext4(&[(0x18, &[5])]).obstacle().unwrap().contains("32768 bytes"));
        assert!(ext4(&[(0x18, &[0xff; 4])]).obstacle().unwrap().contains("makes no sense"));
    }

    #[test]
    fn traps_are_only_those_of_qnap() {
        let places = |found: Ext4| found.traps().iter().map(|trap| (trap.place.0, trap.bit)).collect::<Vec<_>>();
        let fields: [(usize, &[u8]); 3] = [(0x18, &[2]), (0x5c, &[0x20]), (0x65, &[4])];
        assert_eq!(places(ext4(&fields)), []);
        let marked = ext4(&[fields[0], fields[1], fields[2], (0x3fc, b"QNAP")]);
        assert_eq!(marked.obstacle(), None);
        assert!(marked.notes().iter().filter(|note| note.contains("overlay")).count() == 2);
        assert_eq!(places(marked), [(1024 + 0x5c, 0x20), (1024 + 0x64, 0x400)]);
    }

    #[test]
    fn other_content() {
        assert_eq!(probe(&vec![0; 4096]).unwrap(), Probe::Unknown);
        let mut luks = vec![0; 4096];
        luks[..6].copy_from_slice(b"LUKS\xba\xbe");
        assert_eq!(probe(&luks).unwrap(), Probe::Luks);
        assert!(probe(&vec![0; 100]).is_err());
    }

    proptest! {
        #[test]
        fn any_superblock_is_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 4096)) {
            if let Probe::Ext4(found) = probe(&bytes).unwrap() {
                let _ = (found.obstacle(), found.notes());
            }
        }
    }
}
