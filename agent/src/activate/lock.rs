//! Who may work at the same time in the appliance.
//!
//! Verbs that use devices may run side by side, but not beside `auto`, which takes everything down at its end. And only one at a time
//! makes or takes away devices: half a stack looks like what a killed run left.

use super::is_appliance;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const FOLDER: &str = "/run/tierlift";

/// Held while a verb works.
#[derive(Debug)]
pub struct WorkLock {
    _held: Flock<File>,
}

impl WorkLock {
    /// For what suits nobody beside it. `None` elsewhere than in the appliance.
    ///
    /// # Errors
    /// When another verb is at work.
    pub fn alone(verb: &str) -> anyhow::Result<Option<Self>> {
        is_appliance().then(|| Self::take(Path::new(FOLDER), verb, FlockArg::LockExclusiveNonblock)).transpose()
    }

    /// For verbs that may run side by side. `None` elsewhere than in the appliance.
    ///
    /// # Errors
    /// When one is at work that wants to be alone.
    pub fn beside(verb: &str) -> anyhow::Result<Option<Self>> {
        is_appliance().then(|| Self::take(Path::new(FOLDER), verb, FlockArg::LockSharedNonblock)).transpose()
    }

    fn take(folder: &Path, verb: &str, how: FlockArg) -> anyhow::Result<Self> {
        let path = folder.join("work.lock");
        match Flock::lock(open(&path)?, how) {
            Ok(mut held) => {
                let text = format!("{verb} (process {})", std::process::id());
                // Only for the words of a refusal.
                let _ = held.set_len(0).and_then(|()| held.write_all(text.as_bytes()));
                Ok(Self { _held: held })
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let who = std::fs::read_to_string(&path).unwrap_or_default();
                let message = format!(
                    "another command is at work: {who}. Let it end first; one that was started as a job is shown by `job list` and \
                     stopped by `job cancel NUMBER`"
                );
                Err(Failure { outcome: Outcome::FAILED, message }.into())
            }
            Err((_, errno)) => Err(errno).with_context(|| format!("{} cannot be locked", path.display())),
        }
    }
}

/// Waits until nobody else makes or takes away devices. `None` elsewhere than in the appliance.
///
/// # Errors
/// When the lock cannot be had.
pub fn devices() -> anyhow::Result<Option<Flock<File>>> {
    if !is_appliance() {
        return Ok(None);
    }
    let file = open(&Path::new(FOLDER).join("devices.lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map(Some).map_err(|(_, errno)| errno).context("devices cannot be locked")
}

fn open(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("{} cannot be made", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_wants_to_be_alone_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        let take = |verb, how| WorkLock::take(folder.path(), verb, how);
        let (alone, beside) = (FlockArg::LockExclusiveNonblock, FlockArg::LockSharedNonblock);
        let (one, other) = (take("copy", beside).unwrap(), take("mount", beside).unwrap());
        assert!(take("auto", alone).unwrap_err().to_string().contains("mount (process"));
        drop((one, other));
        let auto = take("auto", alone).unwrap();
        assert!(take("mount", beside).unwrap_err().to_string().contains("auto (process"));
        drop(auto);
        take("mount", beside).unwrap();
    }
}
