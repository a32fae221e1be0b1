//! New pool metadata being written to a file or device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tierlift_ondisk::units::MetaBlock;
use tierlift_pool::rebuild;

/// How much is written at once.
const PIECE: usize = 1 << 20;

/// Blocks on a file or device; neighbours are written together.
#[derive(Debug)]
pub struct BlockFile<'f> {
    file: &'f File,
    start: u64,
    pending: Vec<u8>,
}

impl<'f> BlockFile<'f> {
    /// Begins at the start of `file`.
    pub fn new(file: &'f File) -> Self {
        Self { file, start: 0, pending: Vec::with_capacity(PIECE) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.pending, self.start)?;
        self.pending.clear();
        Ok(())
    }
}

impl rebuild::Output for BlockFile<'_> {
    fn write(&mut self, block: MetaBlock, bytes: &[u8]) -> io::Result<()> {
        let offset = block.0.checked_mul(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        let end = self.start.checked_add(self.pending.len() as u64);
        if end != Some(offset) || self.pending.len() >= PIECE {
            self.flush()?;
            self.start = offset;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_pool::rebuild::Output as _;

    #[test]
    fn blocks_land_where_they_belong() {
        let file = tempfile::tempfile().unwrap();
        let mut blocks = BlockFile::new(&file);
        for (block, byte) in [(1, 1), (2, 2), (9, 9), (3, 3), (0, 7)] {
            blocks.write(MetaBlock(block), &[byte; 512]).unwrap();
        }
        blocks.sync().unwrap();
        let mut found = vec![0; 10 * 512];
        file.read_exact_at(&mut found, 0).unwrap();
        let firsts: Vec<_> = found.chunks(512).map(|block| block[0]).collect();
        assert_eq!(firsts, [7, 1, 2, 3, 0, 0, 0, 0, 0, 9]);
    }
}
