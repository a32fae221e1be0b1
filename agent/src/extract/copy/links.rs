//! Further names of files, and symbolic links, as far as the target has them.

use super::{Ledger, Place, Weight, judge};
use crate::extract::kind::Kind;
use crate::extract::manifest::{Entry, State};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Ledger {
    /// Makes another name of the file that lies at `first` on the target already; `false` when it must be copied. `entry` tells
    /// of it what is known.
    pub(in crate::extract) fn links_again(
        &mut self,
        kind: Kind,
        first: &Path,
        place: &Place,
        weight: Weight,
        entry: Entry,
    ) -> anyhow::Result<bool> {
        let same = same_file(first, &place.target);
        let linked = match (same, kind.has_hard_links()) {
            (true, _) => Ok(()),
            (false, true) => std::fs::hard_link(first, &place.target),
            (false, false) => Err(ErrorKind::Unsupported.into()),
        };
        if let Err(error) = linked {
            // It gets a second copy. Where something of this name is there already, that is compared or told.
            let dropped = u64::from(error.kind() != ErrorKind::AlreadyExists);
            self.done.counts.hard_links_dropped = self.done.counts.hard_links_dropped.saturating_add(dropped);
            return Ok(false);
        }
        let entry = Entry { state: if same { State::Identical } else { State::Copied }, ..entry };
        self.count(&place.path, weight, &entry);
        self.note(place, &entry)?;
        Ok(true)
    }

    /// Makes a symbolic link; `true` when it is new on the target and wants its attributes. One that the target has no place for
    /// is noted with where it leads.
    pub(in crate::extract) fn symlink(&mut self, kind: Kind, place: &Place, leads_to: &Path) -> anyhow::Result<bool> {
        if !kind.has_symlinks() {
            return self.no_link(&place.path, leads_to).map(|()| false);
        }
        if std::fs::read_link(&place.target).is_ok_and(|there| there == leads_to) {
            return self.note(place, &place.entry("symlink", State::Identical)).map(|()| false);
        }
        match std::os::unix::fs::symlink(leads_to, &place.target) {
            Ok(()) => {}
            Err(error) if kind == Kind::Share && is_refusal(&error) => {
                return self.no_link(&place.path, leads_to).map(|()| false);
            }
            Err(error) => {
                let stop = judge(error, "the link cannot be made");
                return self.stopped(&place.path, "symlink", stop).map(|()| false);
            }
        }
        self.done.counts.symlinks = self.done.counts.symlinks.saturating_add(1);
        self.note(place, &place.entry("symlink", State::Copied))?;
        Ok(true)
    }
}

/// What a server says that makes no symbolic links.
fn is_refusal(error: &io::Error) -> bool {
    let codes = [nix::libc::EPERM, nix::libc::EACCES, nix::libc::EOPNOTSUPP, nix::libc::ENOSYS];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

pub(super) fn same_file(one: &Path, two: &Path) -> bool {
    let number = |path: &Path| std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    number(one).is_some_and(|found| number(two) == Some(found))
}
