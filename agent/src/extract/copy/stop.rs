//! Why a copy stops: for one file, or for all that would follow.

use crate::commands::{Failure, Outcome};
use crate::extract::manifest::State;
use std::io::{self, ErrorKind};

/// Why the copying stops.
pub(in crate::extract) enum Stop {
    /// The target cannot take more; nothing after this can succeed.
    Target(anyhow::Error),
    /// Only this file: it is told and the copy goes on.
    File(State, String),
}

pub(super) fn full() -> anyhow::Error {
    let message = "the target is full; what was copied so far is complete and checked. Make room there and run the same command \
                   again, or use a larger disk, or copy parts (VG/LV:PATH)";
    Failure { outcome: Outcome::FAILED, message: message.to_owned() }.into()
}

/// Whether an error of the target concerns one file or all that would follow.
pub(in crate::extract) fn judge(error: io::Error, what: &str) -> Stop {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Stop::Target(full()),
        ErrorKind::ReadOnlyFilesystem => Stop::Target(anyhow::anyhow!("the target is read-only")),
        _ if error.raw_os_error() == Some(nix::libc::EIO) => {
            Stop::Target(anyhow::anyhow!("the target disk fails ({error}); use another disk"))
        }
        _ => Stop::File(State::Failed, format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_failing_target_stops_the_copy() {
        for code in [nix::libc::ENOSPC, nix::libc::EDQUOT, nix::libc::EIO, nix::libc::EROFS] {
            assert!(matches!(judge(io::Error::from_raw_os_error(code), "x"), Stop::Target(_)), "{code}");
        }
        for code in [nix::libc::EINVAL, nix::libc::ENAMETOOLONG, nix::libc::EFBIG] {
            assert!(matches!(judge(io::Error::from_raw_os_error(code), "x"), Stop::File(..)), "{code}");
        }
    }
}
