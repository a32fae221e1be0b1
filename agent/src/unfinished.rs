//! Files that are being written: whoever stops the program (Ctrl-C, a closed terminal, `kill`) leaves none of them behind.
//!
//! The stopping signals are blocked in all threads but one, which waits for them, removes what is unfinished, and then lets the
//! signal do what it does. What cannot be caught (SIGKILL, power) leaves a file whose name says that it is not finished.

use nix::sys::signal::{SigSet, Signal, raise};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

/// Files to be removed should the program be stopped.
static FILES: Mutex<BTreeMap<u64, PathBuf>> = Mutex::new(BTreeMap::new());

/// A file that goes away with the program until this is dropped.
#[derive(Debug)]
pub struct Unfinished {
    number: u64,
}

impl Unfinished {
    /// Makes a file, of which `path` tells the name, so that no signal finds it unguarded.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn make<T>(make: impl FnOnce() -> io::Result<T>, path: impl FnOnce(&T) -> PathBuf) -> io::Result<(T, Self)> {
        watch();
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        let made = make()?;
        let number = files.last_key_value().map_or(0, |(last, _)| last.saturating_add(1));
        files.insert(number, path(&made));
        Ok((made, Self { number }))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(&self.number);
    }
}

/// Begins to wait for the signals, once. Threads started later inherit that they are blocked.
fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let signals = stopping(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let wait = move || {
            let Ok(signal) = signals.wait() else { return };
            let files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
            for file in files.values() {
                // Finished or gone in the meantime: nothing to remove.
                let _ = std::fs::remove_file(file);
            }
            // Locked to the end: no new file comes up, and none of these is taken for finished.
            let _ = signals.thread_unblock().and_then(|()| raise(signal));
        };
        let blocked = signals.thread_block().is_ok();
        let watcher = std::thread::Builder::new().name("signals".into());
        if blocked && watcher.spawn(wait).is_err() {
            let _ = signals.thread_unblock();
        }
    });
}

/// The signals that stop the program, without those it was told to ignore (`nohup`): blocked, these would arrive after all.
fn stopping(status: &str) -> SigSet {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let is_ignored = |signal: Signal| {
        let bit = u32::try_from((signal as i32).saturating_sub(1)).ok().and_then(|bit| 1_u64.checked_shl(bit));
        bit.is_some_and(|bit| ignored & bit != 0)
    };
    // Where Ctrl-C asks first, its yes is a SIGTERM.
    let is_asked = |signal: Signal| signal == Signal::SIGINT && crate::interrupt::asks();
    let all = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter();
    all.filter(|signal| !is_ignored(*signal) && !is_asked(*signal)).collect()
}

/// Removes what a killed run left beside `target`: files of its name and `mark`, with the six characters that were drawn for
/// them, that nobody holds locked.
pub fn remove_leftovers(target: &Path, mark: &str) {
    let Some(name) = target.file_name().and_then(|name| name.to_str()) else { return };
    let prefix = format!("{name}{mark}");
    for entry in std::fs::read_dir(folder_of(target)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let drawn = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        let is_ours = drawn.is_some_and(|drawn| drawn.len() == 6 && drawn.chars().all(|c| c.is_ascii_alphanumeric()));
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) && !is_locked(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The folder a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether another run writes this file. Where that cannot be told, it may.
fn is_locked(path: &Path) -> bool {
    std::fs::File::open(path).map_or(true, |file| !lock(&file))
}

/// Marks a file as being written, as long as it is open.
pub fn lock(file: &std::fs::File) -> bool {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_stay_ignored() {
        let all = stopping("Name:\ttierlift\nSigIgn:\t0000000000001000\n");
        assert!([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].iter().all(|signal| all.contains(*signal)));
        let under_nohup = stopping("SigIgn:\t0000000000000001\n");
        assert!(!under_nohup.contains(Signal::SIGHUP) && under_nohup.contains(Signal::SIGINT));
    }

    #[test]
    fn only_leftovers_of_dead_runs_go() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let make = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        let living = make("out.partial-a1B2c3");
        assert!(lock(&living));
        for name in ["out", "out.partial-dEaD00", "out.partial-notes", "out.partial-", "other.partial-dEaD00"] {
            drop(make(name));
        }
        remove_leftovers(&target, ".partial-");
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other.partial-dEaD00", "out", "out.partial-", "out.partial-a1B2c3", "out.partial-notes"]);
    }
}
