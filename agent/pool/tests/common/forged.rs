//! Metadata changed by hand and sealed again, so that no checksum gives the change away.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::sync::Arc;
use tierlift_forge::damage::Layout;
use tierlift_ondisk::thin::{Bitmap, BlockKind, IndexBlock, IndexEntry, Superblock, identify, own_number, seal};
use tierlift_ondisk::units::{DeviceId, MetaBlock};
use tierlift_pool::Pool;
use tierlift_pool::check::{Check, Kind, check};

/// A whole pool whose bytes can be changed.
#[derive(Clone)]
pub struct Forged {
    pub bytes: Vec<u8>,
    pub layout: Layout,
    pub size: usize,
}

impl Forged {
    pub fn new(bytes: Vec<u8>) -> Self {
        let layout = Layout::read(&bytes).unwrap();
        Self { bytes, size: layout.block_size.bytes(), layout }
    }

    pub fn block(&mut self, block: MetaBlock) -> &mut [u8] {
        &mut self.bytes[block.0 as usize * self.size..][..self.size]
    }

    /// Changes a block and seals it as what it was.
    pub fn edit(&mut self, block: MetaBlock, change: impl FnOnce(&mut [u8])) {
        let bytes = self.block(block);
        let kind = identify(bytes).unwrap();
        change(bytes);
        seal(kind, bytes);
    }

    /// Writes a number into a block and seals it.
    pub fn put(&mut self, block: MetaBlock, at: usize, value: &[u8]) {
        self.edit(block, |bytes| bytes[at..at + value.len()].copy_from_slice(value));
    }

    pub fn put_u64(&mut self, block: MetaBlock, at: usize, value: u64) {
        self.put(block, at, &value.to_le_bytes());
    }

    pub fn put_u32(&mut self, block: MetaBlock, at: usize, value: u32) {
        self.put(block, at, &value.to_le_bytes());
    }

    /// Block 0 and the newest copy of it.
    fn superblocks(&self) -> Vec<MetaBlock> {
        let pool = Pool::open(Arc::new(self.bytes.clone())).unwrap();
        let newest = pool.ring().newest().map(|(block, _)| *block);
        [MetaBlock(0)].into_iter().chain(newest).collect()
    }

    /// Changes the superblock and its newest copy alike, so that the two still agree.
    pub fn superblock(&mut self, at: usize, value: &[u8]) {
        for block in self.superblocks() {
            self.put(block, at, value);
        }
    }

    /// The number in the superblock at this byte.
    pub fn superblock_u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    pub fn root(&self, device: u64) -> MetaBlock {
        self.layout.device_roots[&DeviceId(device)]
    }

    /// Where value `index` of a node begins.
    pub fn value_at(&mut self, block: MetaBlock, index: usize) -> usize {
        let field = |at: usize, bytes: &[u8]| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let bytes = self.block(block);
        32 + 8 * field(20, bytes) + field(24, bytes) * index
    }

    pub fn put_value(&mut self, block: MetaBlock, index: usize, value: &[u8]) {
        let at = self.value_at(block, index);
        self.put(block, at, value);
    }

    pub fn value_u64(&mut self, block: MetaBlock, index: usize) -> u64 {
        let at = self.value_at(block, index);
        u64::from_le_bytes(self.block(block)[at..at + 8].try_into().unwrap())
    }

    /// Writes a block of this kind with its own number.
    pub fn place(&mut self, block: MetaBlock, kind: BlockKind, content: &[u8]) {
        let bytes = self.block(block);
        bytes.copy_from_slice(content);
        bytes[8..16].copy_from_slice(&block.0.to_le_bytes());
        seal(kind, bytes);
        assert_eq!(own_number(bytes), Some(block));
    }

    /// The first bitmap of the metadata's own map and its index entry.
    pub fn metadata_bitmap(&mut self) -> (MetaBlock, IndexEntry) {
        let index = self.layout.superblock.metadata_map.bitmap_root;
        let entry = IndexBlock::decode(self.block(index)).unwrap().entries[0];
        (entry.block, entry)
    }

    /// The first bitmap of a map whose index is a tree of one node.
    pub fn bitmap(&mut self, index_root: MetaBlock) -> MetaBlock {
        MetaBlock(self.value_u64(index_root, 0))
    }

    /// Changes counts (0 to 3) in a bitmap.
    pub fn set_counts(&mut self, bitmap: MetaBlock, counts: impl IntoIterator<Item = (u64, u8)>) {
        let size = self.layout.block_size;
        let found = Bitmap::decode(self.block(bitmap)).unwrap();
        let mut all: Vec<u8> = (0..Bitmap::entries(size)).map(|index| found.count(index).unwrap()).collect();
        for (index, count) in counts {
            all[index as usize] = count;
        }
        let encoded = Bitmap::encode(size, bitmap, &all);
        self.block(bitmap).copy_from_slice(&encoded);
    }

    pub fn count(&mut self, bitmap: MetaBlock, index: u64) -> u8 {
        Bitmap::decode(self.block(bitmap)).unwrap().count(index as usize).unwrap()
    }

    /// Takes a metadata block that nothing uses, with all the bookkeeping of a kernel.
    pub fn allocate(&mut self) -> MetaBlock {
        let (bitmap, entry) = self.metadata_bitmap();
        let free = (1..).find(|index| self.count(bitmap, *index) == 0).unwrap();
        self.set_counts(bitmap, [(free, 1)]);
        let index = self.layout.superblock.metadata_map.bitmap_root;
        self.put_u32(index, 16 + 8, entry.nr_free - 1);
        let allocated = self.superblock_u64(192 + 8);
        self.superblock(192 + 8, &(allocated + 1).to_le_bytes());
        MetaBlock(free)
    }

    pub fn open(&self) -> Pool {
        Pool::open(Arc::new(self.bytes.clone())).unwrap()
    }

    pub fn check(&self) -> Check {
        let found = check(&self.open(), &mut |_| {});
        serde_json::to_string(&found).unwrap();
        found
    }

    pub fn superblock_now(&self) -> Superblock {
        Superblock::decode(&self.bytes).unwrap()
    }
}

/// The finding of this kind; fails with all there are when there is none, or more than one.
pub fn only<T>(found: &Check, pick: impl Fn(&Kind) -> Option<T>) -> T {
    let mut picked: Vec<T> = found.findings.iter().filter_map(|finding| pick(&finding.kind)).collect();
    assert_eq!(picked.len(), 1, "{}", texts(found).join("\n"));
    picked.remove(0)
}

pub fn texts(found: &Check) -> Vec<String> {
    found.findings.iter().map(|finding| format!("{}: {finding}", finding.severity.name())).collect()
}
