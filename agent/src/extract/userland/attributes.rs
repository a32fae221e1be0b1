//! Owner, mode, times and extended attributes of something read without the kernel.

use crate::ext4::{Attributes, Identity};
use ext4_view::{Metadata, Timestamp};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{XattrFlags, lsetxattr};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const REGULAR: u16 = 0x8000;
const DIRECTORY: u16 = 0x4000;
const LINK: u16 = 0xa000;

/// Gives `to` what is known; answers how much of it is lost or not taken by the target. Without `extended`, nobody knows
/// whether there are extended attributes: that counts as one that is lost.
pub(super) fn give(found: &Metadata, extended: Option<&Attributes>, to: &Path) -> u64 {
    let (owner, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    let owned = fchownat(AT_FDCWD, to, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
    let refused = extended.map_or(1, |extended| set(extended, to));
    // After the owner, because a change of owner takes the set-id bits away. Links have no mode, and it would go to what they
    // lead to.
    let mode = Permissions::from_mode(u32::from(found.mode()) & 0o7777);
    let moded = found.is_symlink() || std::fs::set_permissions(to, mode).is_ok();
    let time = |time: Timestamp| TimeSpec::new(time.seconds(), i64::from(time.nanoseconds()));
    let (accessed, modified) = (time(found.accessed()), time(found.modified()));
    let timed = utimensat(AT_FDCWD, to, &accessed, &modified, UtimensatFlags::NoFollowSymlink).is_ok();
    let dropped = [owned, moded, timed].iter().filter(|done| !**done).count() as u64;
    dropped.saturating_add(refused)
}

fn set(extended: &Attributes, to: &Path) -> u64 {
    let refused = |(name, value): &(&Vec<u8>, &Vec<u8>)| {
        lsetxattr(to, OsStr::from_bytes(name), value, XattrFlags::empty()).is_err()
    };
    extended.lost.saturating_add(extended.values.iter().filter(refused).count() as u64)
}

/// What the reader of the files knows of something; `None` for kinds that are not copied.
pub(super) fn identity(found: &Metadata) -> Option<Identity> {
    let kind = found.file_type();
    let kind = [(kind.is_regular_file(), REGULAR), (kind.is_dir(), DIRECTORY), (kind.is_symlink(), LINK)];
    let (_, kind) = kind.into_iter().find(|(is, _)| *is)?;
    let time = |time: Timestamp| (time.seconds(), time.nanoseconds());
    Some(Identity {
        mode: kind | found.mode(),
        owner: found.uid(),
        group: found.gid(),
        size: found.len(),
        modified: time(found.modified()),
        made: found.created().map(time),
    })
}
