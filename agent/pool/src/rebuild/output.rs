//! Where new metadata go.

use super::error::RebuildError;
use crate::counts::Counts;
use std::io;
use tierlift_ondisk::thin::{BlockSize, NodeKind, encode_node};
use tierlift_ondisk::units::MetaBlock;

/// Takes the blocks of new metadata. Blocks that are never written must read as zeros.
pub trait Output {
    /// Writes one block; each block is written once, mostly in ascending order.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, block: MetaBlock, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable. Called before block 0, which is written last and makes the rest valid, and at
    /// the end.
    ///
    /// # Errors
    /// When that fails.
    fn sync(&mut self) -> io::Result<()>;
}

/// In memory.
impl Output for Vec<u8> {
    fn write(&mut self, block: MetaBlock, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(block.0).ok().and_then(|block| block.checked_mul(bytes.len()));
        let end = start.and_then(|start| start.checked_add(bytes.len()));
        let (Some(start), Some(end)) = (start, end) else { return Err(io::ErrorKind::FileTooLarge.into()) };
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(place) = self.get_mut(start..end) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nowhere: to see what would be written.
impl Output for io::Sink {
    fn write(&mut self, _: MetaBlock, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives out blocks from 1 upwards, counts what points at each, and writes them.
pub(super) struct Writer<'o> {
    output: &'o mut dyn Output,
    pub size: BlockSize,
    next: u64,
    room: u64,
    /// How many pointers lead to each block.
    pub counts: Counts,
}

impl<'o> Writer<'o> {
    /// A writer for blocks 1 up to `room`, exclusive.
    pub(super) fn new(output: &'o mut dyn Output, size: BlockSize, room: u64) -> Self {
        // Block 0 is the superblock; a count for blocks beyond the room is wanted for the copies at the end.
        Self { output, size, next: 1, room, counts: Counts::new(u64::MAX) }
    }

    /// The first block not given out.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Gives out a block.
    pub(super) fn allocate(&mut self) -> Result<MetaBlock, RebuildError> {
        self.check(1)?;
        let block = MetaBlock(self.next);
        self.next = self.next.saturating_add(1);
        Ok(block)
    }

    /// The first block that must not be given out.
    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// Refuses a need of that many more blocks when it cannot be met.
    pub(super) fn check(&self, more: u64) -> Result<(), RebuildError> {
        let fits = self.next.checked_add(more).is_some_and(|end| end <= self.room);
        if fits { Ok(()) } else { Err(self.no_room(more)) }
    }

    fn no_room(&self, more: u64) -> RebuildError {
        RebuildError::NoRoom { needed: self.next.saturating_add(more), room: self.room, bytes: self.size.bytes() }
    }

    /// Counts a pointer.
    pub(super) fn point(&mut self, block: MetaBlock) {
        self.counts.add(block.0);
    }

    /// Writes a block given out before.
    pub(super) fn write(&mut self, block: MetaBlock, bytes: &[u8]) -> Result<(), RebuildError> {
        self.output.write(block, bytes).map_err(|error| RebuildError::Write { block, error })
    }

    /// Writes a node to the next block.
    pub(super) fn write_node<V: AsRef<[u8]>>(
        &mut self,
        kind: NodeKind,
        value_size: usize,
        entries: &[(u64, V)],
    ) -> Result<MetaBlock, RebuildError> {
        let block = self.allocate()?;
        self.write(block, &encode_node(self.size, block, kind, value_size, entries))?;
        Ok(block)
    }

    /// Writes block 0 after all others are durable.
    pub(super) fn finish(&mut self, superblock: &[u8]) -> Result<(), RebuildError> {
        let block = MetaBlock(0);
        let failed = |error| RebuildError::Write { block, error };
        self.output.sync().map_err(failed)?;
        self.write(block, superblock)?;
        self.output.sync().map_err(failed)
    }
}
