//! Reading ahead: the disk is asked for the files that come next while those before them are still being dealt with.
//!
//! Small files are the reason: one by one, the disk waits for us and then we for the disk. Where the disk cannot read something,
//! asking for it beforehand costs no further attempt: the kernel tries such a page a second time when it is read, whoever asked
//! for it the first time.

use super::walk::Met;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Things taken before their turn; each may be an open file.
const MOST: usize = 32;
/// Bytes asked for of each file; the rest of it the kernel reads ahead by itself, as it is read.
const OF_EACH: u64 = 256 << 10;

/// Takes things from an iterator before their turn, in their order.
pub(super) struct Ahead<I: Iterator> {
    from: I,
    waiting: VecDeque<I::Item>,
}

impl<I: Iterator> Ahead<I> {
    /// Takes them from `from`.
    pub(super) fn of(from: I) -> Self {
        Self { from, waiting: VecDeque::with_capacity(MOST) }
    }
}

impl<I: Iterator> Iterator for Ahead<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let room = MOST.saturating_sub(self.waiting.len());
        self.waiting.extend(self.from.by_ref().take(room));
        self.waiting.pop_front()
    }
}

/// What was met, with the file opened and asked for where it is one that is `wanted`. An error waits for the file's turn.
pub(super) fn met(root: &Path, met: Met, wanted: impl FnOnce(&Path) -> bool) -> (Met, Option<io::Result<File>>) {
    let file = match &met {
        Met::Entry(path, found) if found.is_file() && wanted(path) => {
            Some(open(&root.join(path)).inspect(|file| ask(file, found.len())))
        }
        _ => None,
    };
    (met, file)
}

/// Opens a file to read it. A link in its place is not followed.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

/// Asks for the beginning of a file of this size, and waits for nothing.
pub(super) fn ask(file: &File, size: u64) {
    let length = i64::try_from(size.min(OF_EACH)).unwrap_or(0);
    // A file system that knows no reading ahead reads when it is read.
    let _ = posix_fadvise(file, 0, length, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
}

#[cfg(test)]
mod tests {
    use super::super::walk::Walk;
    use super::*;
    use std::io::Read;

    #[test]
    fn things_are_taken_before_their_turn_and_come_in_their_order() {
        let taken = std::cell::Cell::new(0);
        let mut ahead = Ahead::of((0..MOST * 3).inspect(|_| taken.set(taken.get() + 1)));
        assert_eq!((ahead.next(), taken.get()), (Some(0), MOST));
        assert_eq!((ahead.next(), taken.get()), (Some(1), MOST + 1));
        assert!(ahead.eq(2..MOST * 3));
        assert_eq!(taken.get(), MOST * 3);
    }

    #[test]
    fn files_that_are_wanted_are_opened_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        for name in ["known", "new"] {
            std::fs::write(root.path().join(name), name).unwrap();
        }
        let walk = Walk::new(root.path()).unwrap();
        let mut opened = walk.filter_map(|found| met(root.path(), found, |path| path != Path::new("known")).1);
        let mut text = String::new();
        opened.next().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "new");
        assert!(opened.next().is_none());
    }
}
