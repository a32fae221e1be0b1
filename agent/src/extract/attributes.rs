//! Owners, modes, times and extended attributes, as far as the target can take them.

use crate::case::Counts;
use nix::fcntl::AtFlags;
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use rustix::fs::{XattrFlags, flistxattr, fsetxattr, lgetxattr, llistxattr, lsetxattr};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Longest list and value the kernel hands out.
const MAX_XATTR: usize = 64 << 10;
/// Room for the list of most files.
const USUAL_XATTR: usize = 512;
/// Permissions, with the set-id and sticky bits.
pub(super) const MODE: u32 = 0o7777;

/// A clock of FAT counts in steps of two seconds.
pub(super) const CLOCK_STEP: u64 = 2;

/// What a target did not take of the attributes of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Its owner or group.
    pub owner: bool,
    /// Its mode.
    pub mode: bool,
    /// The time of its last change.
    pub times: bool,
    /// An extended attribute, or several.
    pub extended: bool,
}

impl Dropped {
    /// Adds it to the counts.
    pub fn count(self, counts: &mut Counts) {
        for (dropped, counter) in [
            (self.owner, &mut counts.owners_dropped),
            (self.mode, &mut counts.modes_dropped),
            (self.times, &mut counts.times_dropped),
            (self.extended, &mut counts.extended_dropped),
        ] {
            *counter = counter.saturating_add(u64::from(dropped));
            counts.attributes_dropped = counts.attributes_dropped.saturating_add(u64::from(dropped));
        }
    }
}

/// A thing on the target that is given attributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum To<'a> {
    /// Where it lies. A link is not followed.
    Path(&'a Path),
    /// A file that is open: the way to it costs as much as what is done there.
    Open(&'a File),
}

impl To<'_> {
    fn found(self) -> Option<Metadata> {
        let found = match self {
            Self::Path(path) => fs::symlink_metadata(path),
            Self::Open(file) => file.metadata(),
        };
        found.ok()
    }

    fn own(self, owner: u32, group: u32) {
        let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
        let _ = match self {
            Self::Path(path) => fchownat(nix::fcntl::AT_FDCWD, path, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW),
            Self::Open(file) => fchown(file, owner, group),
        };
    }

    fn permit(self, mode: u32) {
        let permissions = Permissions::from_mode(mode);
        let _ = match self {
            Self::Path(path) => fs::set_permissions(path, permissions),
            Self::Open(file) => file.set_permissions(permissions),
        };
    }

    fn date(self, accessed: &TimeSpec, modified: &TimeSpec) {
        let flags = UtimensatFlags::NoFollowSymlink;
        let _ = match self {
            Self::Path(path) => utimensat(nix::fcntl::AT_FDCWD, path, accessed, modified, flags),
            Self::Open(file) => futimens(file, accessed, modified),
        };
    }

    /// Sets an extended attribute; answers whether it was taken.
    pub(super) fn extend(self, name: &OsStr, value: &[u8]) -> bool {
        let set = match self {
            Self::Path(path) => lsetxattr(path, name, value, XattrFlags::empty()),
            Self::Open(file) => fsetxattr(file, name, value, XattrFlags::empty()),
        };
        set.is_ok()
    }
}

/// What a thing shall have on the target, whoever read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Number of the user it belongs to.
    pub owner: u32,
    /// Number of the group.
    pub group: u32,
    /// Permissions, with the set-id and sticky bits; of a symbolic link nothing, because it would go to what that leads to.
    pub mode: Option<u32>,
    /// When it was read last.
    pub accessed: TimeSpec,
    /// When it was changed last.
    pub modified: TimeSpec,
}

impl Wanted {
    fn of(found: &Metadata) -> Self {
        Self {
            owner: found.uid(),
            group: found.gid(),
            mode: (!found.is_symlink()).then(|| found.mode() & MODE),
            accessed: TimeSpec::new(found.atime(), found.atime_nsec()),
            modified: TimeSpec::new(found.mtime(), found.mtime_nsec()),
        }
    }

    /// Gives it to `to`, with the extended attributes that `extended` gives; that answers whether all of them came over.
    pub(super) fn give(&self, to: To<'_>, extended: impl FnOnce() -> bool) -> Dropped {
        // A look is cheap, a change is not. What changes answer is not enough to go by: FAT and exFAT take a mode without a complaint
        // and keep another.
        if self.look(to).owner {
            to.own(self.owner, self.group);
        }
        let extended = !extended();
        to.date(&self.accessed, &self.modified);
        let mut dropped = self.look(to);
        // At the end, because a change of owner takes the set-id bits away.
        if let Some(mode) = self.mode.filter(|_| dropped.mode) {
            to.permit(mode);
            dropped = self.look(to);
        }
        Dropped { extended, ..dropped }
    }

    /// What is not on the target as it should be; all of it, when nobody can look.
    fn look(&self, to: To<'_>) -> Dropped {
        self.differing(to.found().as_ref())
    }

    fn differing(&self, there: Option<&Metadata>) -> Dropped {
        let modified = self.modified.tv_sec();
        Dropped {
            owner: there.is_none_or(|there| (there.uid(), there.gid()) != (self.owner, self.group)),
            mode: there.is_none_or(|there| self.mode.is_some_and(|mode| there.mode() & MODE != mode)),
            times: there.is_none_or(|there| there.mtime().abs_diff(modified) > CLOCK_STEP),
            extended: false,
        }
    }
}

/// Gives `to` the attributes of `from`; answers what the target did not take.
pub fn transfer(from: &Path, found: &Metadata, to: &Path) -> Dropped {
    let to = To::Path(to);
    Wanted::of(found).give(to, || extended(from, to))
}

/// The same for a file that is open on the target. Without `is_extended`, [`may_be_extended`] told that there are no extended
/// attributes.
pub(super) fn transfer_open(from: &Path, found: &Metadata, is_extended: bool, to: &File) -> Dropped {
    let to = To::Open(to);
    Wanted::of(found).give(to, || !is_extended || extended(from, to))
}

/// Whether a file has extended attributes, as far as that can be told.
pub(super) fn may_be_extended(file: &File) -> bool {
    flistxattr(file, &mut [0_u8; 0][..]) != Ok(0)
}

/// Whether every extended attribute (access control lists are among them) came over.
fn extended(from: &Path, to: To<'_>) -> bool {
    // Hardly a file has many: the large room is made only when the small one is not enough.
    let mut list = vec![0; USUAL_XATTR];
    let mut listed = llistxattr(from, list.as_mut_slice());
    if listed == Err(rustix::io::Errno::RANGE) {
        list = vec![0; MAX_XATTR];
        listed = llistxattr(from, list.as_mut_slice());
    }
    let length = match listed {
        Ok(0) => return true,
        Ok(length) => length,
        // A file system without attributes has lost none.
        Err(error) => return error == rustix::io::Errno::OPNOTSUPP,
    };
    let names = list.get(..length).unwrap_or_default().split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut complete = true;
    let mut value = vec![0; MAX_XATTR];
    for name in names.map(OsStr::from_bytes) {
        let copied = lgetxattr(from, name, value.as_mut_slice())
            .is_ok_and(|length| to.extend(name, value.get(..length).unwrap_or_default()));
        complete &= copied;
    }
    complete
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_times_and_attributes_come_over() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, "x").unwrap();
        std::fs::write(&to, "x").unwrap();
        std::fs::set_permissions(&from, Permissions::from_mode(0o640)).unwrap();
        let takes_attributes = lsetxattr(&from, "user.note", b"hello", XattrFlags::empty()).is_ok();
        times_of(&from, 1_000_000_000);
        assert_eq!(transfer(&from, &std::fs::metadata(&from).unwrap(), &to), Dropped::default());
        let found = std::fs::metadata(&to).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o640, 1_000_000_000));
        if takes_attributes {
            let mut value = [0; 16];
            assert_eq!(lgetxattr(&to, "user.note", value.as_mut_slice()), Ok(5));
            assert_eq!(&value[..5], b"hello");
        }
    }

    #[test]
    fn modes_are_right_whatever_was_there() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, "x").unwrap();
        std::fs::write(&to, "x").unwrap();
        for (wanted, there) in [(0o640, 0o640), (0o4711, 0o600), (0o2755, 0o2755), (0o400, 0o777)] {
            std::fs::set_permissions(&from, Permissions::from_mode(wanted)).unwrap();
            std::fs::set_permissions(&to, Permissions::from_mode(there)).unwrap();
            // Only root gives files away, and a change of owner takes the set-id bits.
            let _ = std::os::unix::fs::chown(&to, Some(4711), Some(4711));
            assert_eq!(transfer(&from, &std::fs::metadata(&from).unwrap(), &to), Dropped::default());
            assert_eq!(std::fs::metadata(&to).unwrap().mode() & MODE, wanted);
        }
    }

    fn times_of(path: &Path, seconds: i64) {
        let time = TimeSpec::new(seconds, 0);
        utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
    }

    #[test]
    fn what_the_target_does_not_take_is_counted() {
        let found = std::fs::metadata("/").unwrap();
        let dropped = transfer(Path::new("/"), &found, Path::new("/does/not/exist"));
        assert!(dropped.owner && dropped.mode && dropped.times);
        let mut counts = Counts::default();
        Dropped { extended: false, ..dropped }.count(&mut counts);
        let expected = Counts {
            attributes_dropped: 3,
            owners_dropped: 1,
            modes_dropped: 1,
            times_dropped: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn what_the_target_takes_and_does_not_keep_is_seen() {
        let files = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
        let found = |number: usize| std::fs::metadata(files[number].path()).unwrap();
        times_of(files[0].path(), 1_000_000_000);
        times_of(files[1].path(), 1_000_000_002);
        assert_eq!(Wanted::of(&found(0)).differing(Some(&found(1))), Dropped::default());
        times_of(files[1].path(), 1_000_000_003);
        std::fs::set_permissions(files[1].path(), Permissions::from_mode(0o755)).unwrap();
        let expected = Dropped { mode: true, times: true, ..Dropped::default() };
        assert_eq!(Wanted::of(&found(0)).differing(Some(&found(1))), expected);
    }
}
