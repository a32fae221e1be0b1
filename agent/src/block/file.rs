//! A file or block device as a view.

use anyhow::{Context, bail};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// A regular file or block device, opened read-only.
#[derive(Debug)]
pub struct FileView {
    path: PathBuf,
    file: File,
    size: Bytes,
}

impl FileView {
    /// Opens `path` with `O_RDONLY | O_CLOEXEC` and takes its size now; later growth is not seen.
    ///
    /// # Errors
    /// When it does not exist, may not be read, or is neither a file nor a block device. An empty file opens: whether that
    /// is a fault is for the reader to say ([`FileView::require_content`]).
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        // Asked before opening, because opening a pipe would wait for a writer.
        let kind = std::fs::metadata(path).with_context(|| advice(path))?.file_type();
        if kind.is_dir() {
            bail!("{} is a directory; name the image file or the disk device itself", path.display());
        }
        if !kind.is_file() && !kind.is_block_device() {
            bail!(
                "{} is neither a file nor a block device; name an image file or a disk such as /dev/sdb",
                path.display()
            );
        }
        let mut file = File::open(path).with_context(|| advice(path))?;
        let size = if kind.is_file() { file.metadata().map(|m| m.len()) } else { file.seek(SeekFrom::End(0)) };
        let size = Bytes(size.with_context(|| format!("{}: its size cannot be read", path.display()))?);
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Refuses an empty file, for readers that need at least one byte.
    ///
    /// # Errors
    /// When the size is 0 (exit code 4).
    pub fn require_content(self) -> anyhow::Result<Self> {
        if self.size.0 == 0 {
            let message =
                format!("{} is empty: it holds nothing to recover; was the copy finished?", self.path.display());
            return Err(crate::commands::Failure::unusable(message).into());
        }
        Ok(self)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn advice(path: &Path) -> String {
    format!("{} cannot be opened; check the name, and that you may read it (disks need root)", path.display())
}

impl ReadAt for FileView {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset.0).map_err(|error| {
            let what = format!("{}: {} bytes at byte {offset}: {error}", self.path.display(), buffer.len());
            io::Error::new(error.kind(), what)
        })
    }

    fn next_data(&self, offset: Bytes) -> Option<Bytes> {
        if offset >= self.size {
            return None;
        }
        // Moves the file's own position, which nothing else uses.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset.0)) {
            Ok(found) => Some(Bytes(found).max(offset)).filter(|found| *found < self.size),
            Err(rustix::io::Errno::NXIO) => None,
            // Not every file system can tell.
            Err(_) => Some(offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_and_ends_where_it_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"0123456789").unwrap();
        let view = FileView::open(file.path()).unwrap();
        let mut bytes = [0; 4];
        view.read_at(Bytes(6), &mut bytes).unwrap();
        assert_eq!((&bytes, view.size()), (b"6789", Bytes(10)));
        let beyond = view.read_at(Bytes(7), &mut bytes).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        assert!(beyond.to_string().contains(file.path().to_str().unwrap()), "{beyond}");
    }

    #[test]
    fn what_is_no_disk_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| format!("{:#}", FileView::open(path).unwrap_err());
        assert!(refused(dir.path()).contains("is a directory"));
        assert!(refused(Path::new("/dev/null")).contains("neither a file nor a block device"));
        assert!(refused(&dir.path().join("gone")).contains("cannot be opened"));
    }

    #[test]
    fn holes_of_a_sparse_file_are_skipped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        file.as_file().write_all_at(b"data", 32 << 20).unwrap();
        let view = FileView::open(file.path()).unwrap();
        let found = view.next_data(Bytes(0)).unwrap();
        assert!(found <= Bytes(32 << 20) && found > Bytes(0), "{found}: this file system makes no holes");
        assert_eq!(view.next_data(Bytes(32 << 20)), Some(Bytes(32 << 20)));
        assert_eq!((view.next_data(Bytes(48 << 20)), view.next_data(Bytes(u64::MAX))), (None, None));
    }

    #[test]
    fn an_empty_file_opens_but_is_no_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let view = FileView::open(file.path()).unwrap();
        assert_eq!(view.size(), Bytes(0));
        assert!(view.require_content().unwrap_err().to_string().contains("is empty"));
    }
}
