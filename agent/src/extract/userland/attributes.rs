//! Owner, mode, times and extended attributes of something read without the kernel.

use crate::ext4::{Attributes, Identity};
use crate::extract::attributes::{Dropped, MODE, To, Wanted};
use ext4_view::{Metadata, Timestamp};
use nix::sys::time::TimeSpec;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const REGULAR: u16 = 0x8000;
const DIRECTORY: u16 = 0x4000;
const LINK: u16 = 0xa000;

/// Gives `to` what is known; answers what of it is lost or not taken by the target. Without `extended`, nobody knows whether
/// there are extended attributes: then they count as lost.
pub(super) fn give(found: &Metadata, extended: Option<&Attributes>, to: &Path) -> Dropped {
    let time = |time: Timestamp| TimeSpec::new(time.seconds(), i64::from(time.nanoseconds()));
    let wanted = Wanted {
        owner: found.uid(),
        group: found.gid(),
        mode: (!found.is_symlink()).then(|| u32::from(found.mode()) & MODE),
        accessed: time(found.accessed()),
        modified: time(found.modified()),
    };
    let to = To::Path(to);
    wanted.give(to, || extended.is_some_and(|extended| set(extended, to)))
}

/// Whether all of them came over.
fn set(extended: &Attributes, to: To<'_>) -> bool {
    let mut complete = extended.lost == 0;
    for (name, value) in &extended.values {
        complete &= to.extend(OsStr::from_bytes(name), value);
    }
    complete
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
