//! Copies of the superblock, for file systems that lost the first one.

use super::field16;
use super::layout::Layout;
use super::superblock::{Probe, probe};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Where the first superblock lies in bytes, and its length.
pub(super) const FIRST: u64 = 1024;
pub(super) const LENGTH: usize = 1024;
/// Sizes of blocks in bytes, the usual one first.
const BLOCK_SIZES: [u64; 7] = [4096, 1024, 2048, 8192, 16384, 32768, 65536];
/// Groups that have a copy.
const GROUPS: [u16; 6] = [1, 3, 5, 7, 9, 25];
/// The group a copy says it is in.
const GROUP_AT: usize = 0x5a;
const CHECKSUM_AT: usize = 0x3fc;

/// A copy of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuperblockCopy {
    /// Block it lies in.
    pub block: u64,
    /// Bytes of a block.
    pub block_size: u64,
}

/// Places where copies may lie, in bytes, each with the copy that would be there and its group.
pub(super) fn places() -> impl Iterator<Item = (u64, SuperblockCopy, u16)> {
    BLOCK_SIZES.into_iter().flat_map(|block_size| {
        GROUPS.into_iter().filter_map(move |group| {
            // A bitmap of one block tells how long a group is. Blocks of 1 KiB are counted from behind the boot block.
            let first = u64::from(block_size == FIRST);
            let block = u64::from(group).checked_mul(block_size.checked_mul(8)?)?.checked_add(first)?;
            Some((block.checked_mul(block_size)?, SuperblockCopy { block, block_size }, group))
        })
    })
}

/// The first sound copy, when the first superblock cannot be read or is none; `None` also for what never was such a file system.
pub fn lost_superblock(view: &dyn ReadAt) -> Option<SuperblockCopy> {
    match probe(view) {
        Ok(Probe::Ext4(_) | Probe::Luks) => None,
        Ok(Probe::Unknown) | Err(_) => {
            places().find(|(place, copy, group)| is_sound(view, *place, copy, *group)).map(|(_, copy, _)| copy)
        }
    }
}

fn is_sound(view: &dyn ReadAt, place: u64, copy: &SuperblockCopy, group: u16) -> bool {
    let mut block = [0; LENGTH];
    view.read_at(Bytes(place), &mut block).is_ok()
        && field16(&block, GROUP_AT) == group
        && Layout::decode(view, &block, place).is_some_and(|layout| layout.block_size == copy.block_size)
}

/// The bytes that belong in the place of the first superblock: the copy, for group 0, with its checksum made right where it has one.
/// `None` when it cannot be read.
pub fn first_from(view: &dyn ReadAt, copy: SuperblockCopy) -> Option<[u8; LENGTH]> {
    let mut block = [0; LENGTH];
    view.read_at(Bytes(copy.block.checked_mul(copy.block_size)?), &mut block).ok()?;
    block.get_mut(GROUP_AT..GROUP_AT.checked_add(2)?)?.fill(0);
    let Ok(Probe::Ext4(found)) = probe(&at_first(&block)) else { return None };
    if found.checksums && !found.qnap {
        let sum = !crc32c::crc32c(block.get(..CHECKSUM_AT)?);
        block.get_mut(CHECKSUM_AT..)?.copy_from_slice(&sum.to_le_bytes());
    }
    Some(block)
}

fn at_first(block: &[u8; LENGTH]) -> Vec<u8> {
    [[0; LENGTH].as_slice(), block].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn volume(options: &[&str], mib: u64) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mib << 20).unwrap();
        let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).args(options).arg(file.path()).status();
        assert!(made.unwrap().success());
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn a_copy_stands_in_for_the_first_superblock() {
        for (options, mib, block, block_size) in [
            (&["-b", "4096"][..], 300, 32768, 4096),
            (&["-b", "1024"], 20, 8193, 1024),
            (&["-b", "2048", "-O", "^metadata_csum"], 40, 16384, 2048),
        ] {
            let mut volume = volume(options, mib);
            assert_eq!(lost_superblock(&volume), None, "nothing is lost");
            let first = volume[1024..2048].to_vec();
            volume[..65536].fill(0);
            let copy = lost_superblock(&volume).unwrap();
            assert_eq!((copy.block, copy.block_size), (block, block_size));
            let restored = first_from(&volume, copy).unwrap();
            // Times and counts of mounts are those of the copy; the rest is the same, the checksum with it.
            assert_eq!(restored[..0x2c], first[..0x2c]);
            assert_eq!(restored[0x3fc..] == [0; 4], first[0x3fc..] == [0; 4]);
            volume[1024..2048].copy_from_slice(&restored);
            assert_eq!(lost_superblock(&volume), None);
        }
    }

    #[test]
    fn what_never_was_a_file_system_has_no_copies() {
        assert_eq!(lost_superblock(&vec![0; 64 << 20]), None);
        let mut luks = volume(&["-b", "4096"], 300);
        luks[..6].copy_from_slice(b"LUKS\xba\xbe");
        assert_eq!(lost_superblock(&luks), None);
    }

    #[test]
    fn a_copy_of_another_file_system_is_none() {
        // A disk image stored as a file: its superblock lies at a place of a copy, but says that it is the first.
        let inner = volume(&["-b", "4096"], 300);
        let mut outer = vec![0; 400 << 20];
        outer[32768 * 4096..][..1024].copy_from_slice(&inner[1024..2048]);
        assert_eq!(lost_superblock(&outer), None);
    }
}
