//! The metadata device in blocks: each block is held against its checksum, its kind and its own number before it is used.

use crate::fault::Fault;
use std::collections::HashMap;
use std::sync::Arc;
use tierlift_ondisk::thin::ring::SLOTS;
use tierlift_ondisk::thin::{BlockKind, BlockSize, identify, own_number};
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;

/// A read-only view that can be shared between threads.
pub type View = Arc<dyn ReadAt + Send + Sync>;

/// The largest metadata the format can describe, in blocks.
const MOST_BLOCKS: u64 = 511 * (32_768 - 64);

/// Where a pointer leads whose block is not even known by number: salvage put its parent together again without it.
pub const VOID: MetaBlock = MetaBlock(u64::MAX);

/// What stands in for a block of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch {
    /// A block put together in memory.
    Whole(Vec<u8>),
    /// The block as found at another place.
    Elsewhere(MetaBlock),
    /// The block with one bit turned back.
    Flip {
        /// Byte inside the block.
        byte: usize,
        /// The bit.
        mask: u8,
    },
}

/// Blocks that stand in for what the device holds: damage undone, nodes put together again. They may have numbers beyond
/// the device. They are held against checksum, kind and number like any other block.
pub type Patches = HashMap<MetaBlock, Patch>;

/// A metadata device with its block size.
#[derive(Clone)]
pub struct Blocks {
    view: View,
    size: BlockSize,
    /// Blocks that pointers may name.
    count: u64,
    patches: Arc<Patches>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({} of {} bytes)", self.count, self.size.bytes())
    }
}

impl Blocks {
    /// The device as long as it is.
    pub fn new(view: View, size: BlockSize) -> Self {
        let count = size.blocks_in(view.size().0);
        Self { view, size, count, patches: Arc::default() }
    }

    /// The same with blocks replaced.
    #[must_use]
    pub fn with_patches(self, patches: Patches) -> Self {
        Self { patches: Arc::new(patches), ..self }
    }

    /// What stands in for blocks of the device.
    pub fn patches(&self) -> &Patches {
        &self.patches
    }

    /// The device itself, without the patches.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The same with the length that the metadata's own space map records; a file cut short is shorter.
    #[must_use]
    pub fn with_recorded_count(self, count: u64) -> Self {
        let count = if count == 0 { self.count } else { count.min(MOST_BLOCKS) };
        Self { count, ..self }
    }

    /// Block size.
    pub fn size(&self) -> BlockSize {
        self.size
    }

    /// Blocks that pointers may name: 1 up to this, exclusive.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whole blocks the device or file really has.
    pub fn present(&self) -> u64 {
        self.size.blocks_in(self.view.size().0)
    }

    /// End of what a scan of the whole device needs to read: no format puts anything beyond it, however long the device is.
    pub(crate) fn scan_end(&self) -> u64 {
        self.present().min(MOST_BLOCKS.saturating_add(SLOTS))
    }

    /// Reads a block into `buffer` without judging it.
    ///
    /// # Errors
    /// When it lies outside, beyond the end of the file, or cannot be read.
    pub fn read_raw(&self, block: MetaBlock, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        match self.patches.get(&block) {
            None => self.read_device(block, buffer),
            Some(Patch::Elsewhere(place)) => self.read_device(*place, buffer),
            Some(Patch::Whole(bytes)) => {
                buffer.clone_from(bytes);
                buffer.resize(self.size.bytes(), 0);
                Ok(())
            }
            Some(Patch::Flip { byte, mask }) => {
                self.read_device(block, buffer)?;
                if let Some(byte) = buffer.get_mut(*byte) {
                    *byte ^= mask;
                }
                Ok(())
            }
        }
    }

    fn read_device(&self, block: MetaBlock, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        let size = self.size.bytes();
        buffer.resize(size, 0);
        if block.0 >= self.present() {
            return Err(Fault::CutShort(self.present()));
        }
        let offset = block.0.checked_mul(size as u64).ok_or(Fault::OutOfRange(self.count))?;
        self.view.read_at(Bytes(offset), buffer).map_err(|error| Fault::Unreadable(error.to_string()))
    }

    /// Reads a block that a pointer promises to be of this kind.
    ///
    /// # Errors
    /// What is wrong with it: its place, its checksum, its kind, or its own number.
    pub fn read(&self, block: MetaBlock, kind: BlockKind, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        if block == VOID {
            return Err(Fault::Void);
        }
        if block.0 == 0 || block.0 >= self.count && !self.patches.contains_key(&block) {
            return Err(Fault::OutOfRange(self.count));
        }
        self.read_raw(block, buffer)?;
        judge(block, kind, buffer)
    }

    /// Reads `count` adjacent blocks of one kind, with one call to the view where that works, and hands each out with its
    /// position or with what is wrong with it: as [`Blocks::read`] would, but faster.
    pub(crate) fn read_run(
        &self,
        first: MetaBlock,
        count: usize,
        kind: BlockKind,
        buffer: &mut Vec<u8>,
        mut take: impl FnMut(usize, Result<&[u8], Fault>),
    ) {
        // `VOID` is the last number there is.
        let numbers = || (0..count).map(|position| (position, MetaBlock(first.0.saturating_add(position as u64))));
        if count > 1 && self.read_together(first, count, buffer) {
            for ((position, block), bytes) in numbers().zip(buffer.chunks_exact(self.size.bytes())) {
                take(position, judge(block, kind, bytes).map(|()| bytes));
            }
            return;
        }
        for (position, block) in numbers() {
            let judged = self.read(block, kind, buffer);
            take(position, judged.map(|()| buffer.as_slice()));
        }
    }

    /// Whether all of the blocks lie on the device, none is patched, and one call read them.
    fn read_together(&self, first: MetaBlock, count: usize, buffer: &mut Vec<u8>) -> bool {
        let end = first.0.saturating_add(count as u64);
        let patched = || !self.patches.is_empty() && (first.0..end).any(|n| self.patches.contains_key(&MetaBlock(n)));
        if first.0 == 0 || end > self.count.min(self.present()) || patched() {
            return false;
        }
        let Some(length) = count.checked_mul(self.size.bytes()) else { return false };
        let Some(offset) = first.0.checked_mul(self.size.bytes() as u64) else { return false };
        buffer.resize(length, 0);
        self.view.read_at(Bytes(offset), buffer).is_ok()
    }
}

/// Holds the bytes found at a place against what they must be.
fn judge(block: MetaBlock, kind: BlockKind, bytes: &[u8]) -> Result<(), Fault> {
    match identify(bytes) {
        Some(found) if found == kind => match own_number(bytes) {
            Some(own) if own != block => Err(Fault::Displaced(own)),
            _ => Ok(()),
        },
        Some(found) => Err(Fault::Kind { expected: kind, found }),
        None if bytes.iter().all(|byte| *byte == 0) => Err(Fault::Zeroed),
        None => Err(Fault::Checksum),
    }
}
