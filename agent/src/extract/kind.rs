//! What the file system of a target can hold.

use std::io;
use std::path::Path;

/// Magic numbers that the kernel tells of a mounted file system.
const NTFS3: u64 = 0x7366_746e;
const NTFS: u64 = 0x5346_544e;
const EXFAT: u64 = 0x2011_bab0;
const MSDOS: u64 = 0x4d44;
const CIFS: u64 = 0xff53_4d42;
const SMB2: u64 = 0xfe53_4d42;

/// Most bytes of a file of FAT.
const MOST_OF_FAT: u64 = u32::MAX as u64;

/// The kind of file system a target has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of Unix (ext4, XFS, Btrfs): it takes what the NAS had.
    Unix,
    /// NTFS.
    Ntfs,
    /// exFAT.
    Exfat,
    /// FAT, with long names.
    Fat,
    /// A shared folder (SMB), which behaves as Windows does, whatever is behind it.
    Share,
}

impl Kind {
    /// The kind of the file system that a folder lies on.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let magic = rustix::fs::statfs(folder)?.f_type;
        // Its width and its sign differ between machines; the number has 32 bits.
        Ok(Self::of_magic(magic as u64 & u64::from(u32::MAX)))
    }

    fn of_magic(magic: u64) -> Self {
        match magic {
            NTFS3 | NTFS => Self::Ntfs,
            EXFAT => Self::Exfat,
            MSDOS => Self::Fat,
            CIFS | SMB2 => Self::Share,
            _ => Self::Unix,
        }
    }

    /// Whether it takes only names that Windows takes.
    pub fn is_of_windows(self) -> bool {
        self != Self::Unix
    }

    /// Whether files can have several names.
    pub fn has_hard_links(self) -> bool {
        !matches!(self, Self::Exfat | Self::Fat)
    }

    /// Whether it can hold symbolic links. A share may or may not: the attempt tells.
    pub fn has_symlinks(self) -> bool {
        !matches!(self, Self::Exfat | Self::Fat)
    }

    /// Why it cannot hold a file of so many bytes; `None` when it can.
    pub fn refusal(self, size: u64) -> Option<&'static str> {
        let too_large = self == Self::Fat && size > MOST_OF_FAT;
        too_large.then_some("FAT holds no files of 4 GiB and more; use exFAT, NTFS or ext4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_a_target_is() {
        let magics = [0xef53, 0x5846_5342, 0x9123_683e, 0x7366_746e, 0x2011_bab0, 0x4d44, 0xff53_4d42, 0xfe53_4d42];
        let kinds = [Kind::Unix; 3].into_iter().chain([Kind::Ntfs, Kind::Exfat, Kind::Fat, Kind::Share, Kind::Share]);
        assert!(magics.into_iter().map(Kind::of_magic).eq(kinds));
        assert_eq!(Kind::of(Path::new("/proc")).unwrap(), Kind::Unix);
        assert!(Kind::of(Path::new("/does/not/exist")).is_err());
    }

    #[test]
    fn only_fat_refuses_large_files() {
        assert_eq!(Kind::Fat.refusal((4 << 30) - 1), None);
        assert!(Kind::Fat.refusal(4 << 30).is_some_and(|why| why.contains("4 GiB")));
        for kind in [Kind::Unix, Kind::Ntfs, Kind::Exfat, Kind::Share] {
            assert_eq!(kind.refusal(u64::MAX), None);
        }
    }
}
