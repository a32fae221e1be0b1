//! Owners, modes, times and extended attributes, as far as the target can take them.

use nix::fcntl::AtFlags;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use std::ffi::OsStr;
use std::fs::{Metadata, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Longest list and value the kernel hands out.
const MAX_XATTR: usize = 64 << 10;
/// Room for the list of most files.
const USUAL_XATTR: usize = 512;

/// Gives `to` the attributes of `from`; answers how many kinds of them the target did not take.
pub fn transfer(from: &Path, found: &Metadata, to: &Path) -> u64 {
    let mut dropped = 0_u64;
    let mut need = |done: bool| dropped = dropped.saturating_add(u64::from(!done));
    let (owner, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    need(fchownat(nix::fcntl::AT_FDCWD, to, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok());
    need(extended(from, to));
    if !found.is_symlink() {
        // After the owner, because a change of owner takes the set-id bits away.
        need(std::fs::set_permissions(to, Permissions::from_mode(found.mode() & 0o7777)).is_ok());
    }
    need(times(found, to));
    dropped
}

fn times(found: &Metadata, to: &Path) -> bool {
    let accessed = TimeSpec::new(found.atime(), found.atime_nsec());
    let modified = TimeSpec::new(found.mtime(), found.mtime_nsec());
    utimensat(nix::fcntl::AT_FDCWD, to, &accessed, &modified, UtimensatFlags::NoFollowSymlink).is_ok()
}

/// Whether every extended attribute (access control lists are among them) came over.
fn extended(from: &Path, to: &Path) -> bool {
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
        let copied = lgetxattr(from, name, value.as_mut_slice()).is_ok_and(|length| {
            lsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty()).is_ok()
        });
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
        assert_eq!(transfer(&from, &std::fs::metadata(&from).unwrap(), &to), 0);
        let found = std::fs::metadata(&to).unwrap();
        assert_eq!((found.mode() & 0o7777, found.mtime()), (0o640, 1_000_000_000));
        if takes_attributes {
            let mut value = [0; 16];
            assert_eq!(lgetxattr(&to, "user.note", value.as_mut_slice()), Ok(5));
            assert_eq!(&value[..5], b"hello");
        }
    }

    fn times_of(path: &Path, seconds: i64) {
        let time = TimeSpec::new(seconds, 0);
        utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
    }

    #[test]
    fn what_the_target_does_not_take_is_counted() {
        let found = std::fs::metadata("/").unwrap();
        assert!(transfer(Path::new("/"), &found, Path::new("/does/not/exist")) >= 3);
    }
}
