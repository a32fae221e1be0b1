//! A metadata device whose leaves are computed when they are read: pools of any size in no time and no memory.

use std::io;
use std::sync::Arc;
use tierlift_ondisk::thin::{
    BlockSize, CloneRecord, DeviceDetails, Family, MAGIC, MappingValue, NO_ORIGIN, NodeKind, SpaceMapRoot, Superblock,
    TierValue, encode_node, flags,
};
use tierlift_ondisk::units::{Bytes, Chunk, MetaBlock, Sectors, TierBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Pool, PoolError};

/// Thin devices.
const DEVICES: u64 = 4;
/// Neighbouring virtual chunks lie in runs of this many on the pool, as files mostly do.
const RUN: u64 = 8;
/// Puts the runs in no order; odd and prime, so that every run is met once.
const STRIDE: u64 = 2_654_435_761;
/// Blocks before the leaves: superblock, roots, records.
const FIRST_LEAF: u64 = 3;

/// What the pool is like.
#[derive(Debug, Clone)]
pub struct Formula {
    metadata_blocks: u64,
    size: BlockSize,
    family: Family,
    chunks: u64,
    mappings: u64,
    /// Entries in a leaf: two thirds of what fits, as kernels' splitting leaves them.
    fill: u64,
    /// Entries of the tier tree.
    pieces: u64,
}

impl Formula {
    /// A pool of stock Linux, nine tenths full.
    pub fn stock(mappings: u64, metadata_blocks: u64) -> Self {
        let (size, family) = (BlockSize::K4, Family::Mainline);
        let chunks = mappings.div_ceil(9 * RUN) * 10 * RUN;
        Self { metadata_blocks, size, family, chunks, mappings, fill: 168, pieces: 0 }
    }

    /// A full QNAP pool over three tiers, in chunks of 512 KiB.
    pub fn tiers(mappings: u64, metadata_blocks: u64) -> Self {
        let (size, family) = (BlockSize::K8, Family::Qnap);
        Self { metadata_blocks, size, family, chunks: mappings, mappings, fill: 340, pieces: mappings / 8 }
    }

    /// The pool; only what a rebuild looks at is there.
    pub fn pool(&self) -> Result<Pool, PoolError> {
        let mut view = Virtual { formula: self.clone(), inner: Vec::new() };
        let superblock = view.build();
        Pool::with_superblock(Arc::new(view), self.size, superblock)
    }

    fn each(&self) -> u64 {
        self.mappings / DEVICES
    }

    fn leaves_of_device(&self) -> u64 {
        self.each().div_ceil(self.fill)
    }

    fn mapping_leaves(&self) -> u64 {
        self.leaves_of_device() * DEVICES
    }

    fn leaves(&self) -> u64 {
        self.mapping_leaves() + self.pieces.div_ceil(self.fill)
    }

    /// The leaf with this number, those of the tier tree last.
    fn leaf(&self, number: u64) -> Vec<u8> {
        let block = MetaBlock(FIRST_LEAF + number);
        let entries: Vec<_> = match number.checked_sub(self.mapping_leaves()) {
            Some(number) => {
                let first = number * self.fill;
                let tier = |key: u64| TierValue { tier: (key % 3) as u8, block: TierBlock(key / 3), reserved: 0 };
                (first..self.pieces.min(first + self.fill)).map(|key| (key, tier(key).encode().to_le_bytes())).collect()
            }
            None => {
                let (device, first) = (number / self.leaves_of_device(), number % self.leaves_of_device() * self.fill);
                let value = |key| self.mapping(device * self.each() + key).encode(self.family).to_le_bytes();
                (first..self.each().min(first + self.fill)).map(|key| (key, value(key))).collect()
            }
        };
        encode_node(self.size, block, NodeKind::Leaf, 8, &entries)
    }

    fn mapping(&self, index: u64) -> MappingValue {
        let run = index / RUN * STRIDE % (self.chunks / RUN);
        MappingValue { chunk: Chunk(run * RUN + index % RUN), zeroed: 0, time: 0 }
    }
}

struct Virtual {
    formula: Formula,
    /// Everything but the leaves: the blocks before them, then the inner nodes after them.
    inner: Vec<Vec<u8>>,
}

impl Virtual {
    fn build(&mut self) -> Superblock {
        let formula = self.formula.clone();
        self.inner = vec![Vec::new(); FIRST_LEAF as usize];
        let each = formula.leaves_of_device();
        let roots: Vec<_> = (0..DEVICES).map(|device| (device + 1, self.tree(device * each, each))).collect();
        let records: Vec<_> = (0..DEVICES).map(|device| (device + 1, self.record().encode())).collect();
        self.inner[1] = encode_node(formula.size, MetaBlock(1), NodeKind::Leaf, 8, &roots);
        let length = self.record().size().bytes();
        self.inner[2] = encode_node(formula.size, MetaBlock(2), NodeKind::Leaf, length, &records);
        let tiers = formula.mapping_leaves()..formula.leaves();
        let tier_root =
            (formula.pieces > 0).then(|| u64::from_le_bytes(self.tree(tiers.start, tiers.end - tiers.start)));
        let superblock = self.superblock(MetaBlock(tier_root.unwrap_or(0)));
        self.inner[0] = superblock.encode(formula.size);
        superblock
    }

    /// The root over leaves that follow each other.
    fn tree(&mut self, first: u64, count: u64) -> [u8; 8] {
        let key = |number: u64| number * self.formula.fill;
        let mut level: Vec<_> =
            (0..count).map(|number| (key(number), (FIRST_LEAF + first + number).to_le_bytes())).collect();
        while level.len() > 1 {
            let nodes = level.chunks(self.formula.fill as usize).map(|children| {
                let block = self.formula.leaves() + self.inner.len() as u64;
                self.inner.push(encode_node(self.formula.size, MetaBlock(block), NodeKind::Internal, 8, children));
                (children[0].0, block.to_le_bytes())
            });
            level = nodes.collect();
        }
        level[0].1
    }

    fn record(&self) -> DeviceDetails {
        let qnap = self.formula.family == Family::Qnap;
        DeviceDetails {
            mapped: Chunk(self.formula.each()),
            transaction: 0,
            creation_time: 0,
            snapshot_time: 0,
            clone: qnap.then_some(CloneRecord { time: 0, reserved: u64::MAX }),
            origin: qnap.then_some(NO_ORIGIN),
        }
    }

    fn superblock(&self, tier_root: MetaBlock) -> Superblock {
        let Formula { metadata_blocks, chunks, mappings, pieces, .. } = self.formula;
        let qnap = self.formula.family == Family::Qnap;
        let map = |nr_blocks, nr_allocated| SpaceMapRoot { nr_blocks, nr_allocated, ..SpaceMapRoot::default() };
        let tier = map(pieces / 3 + 1, pieces / 3);
        Superblock {
            flags: if qnap { flags::SUPERBLOCK_BACKUP | flags::FAST_BLOCK_CLONE } else { 0 },
            number: MetaBlock(0),
            uuid: [0; 16],
            magic: MAGIC,
            version: if qnap { 4 } else { 2 },
            time: 1,
            transaction: 1,
            held_root: MetaBlock(0),
            data_map: map(chunks, mappings),
            tier_maps: if qnap { [tier; 3] } else { Default::default() },
            rescan_needed: 0,
            metadata_map: map(metadata_blocks, 0),
            mapping_root: MetaBlock(1),
            details_root: MetaBlock(2),
            chunk_size: Sectors(if qnap { 1024 } else { 128 }),
            metadata_block_size: Sectors(self.formula.size.bytes() as u64 / 512),
            metadata_nr_blocks: metadata_blocks,
            compat_flags: 0,
            compat_ro_flags: 0,
            incompat_flags: 0,
            backup_id: 0,
            reserve_block_count: 0,
            clone_root: MetaBlock(0),
            tier_num: if qnap { 3 } else { 0 },
            tier_root,
            tier_block_size: Sectors(if qnap { 8192 } else { 0 }),
        }
    }

    fn block(&self, number: u64) -> Option<Vec<u8>> {
        let leaves = FIRST_LEAF..FIRST_LEAF + self.formula.leaves();
        if leaves.contains(&number) {
            return Some(self.formula.leaf(number - FIRST_LEAF));
        }
        let index = if number < FIRST_LEAF { number } else { number - self.formula.leaves() };
        self.inner.get(index as usize).cloned()
    }
}

impl ReadAt for Virtual {
    fn size(&self) -> Bytes {
        Bytes(self.formula.metadata_blocks * self.formula.size.bytes() as u64)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        let size = self.formula.size.bytes();
        for (number, place) in (self.formula.size.blocks_in(offset.0)..).zip(buffer.chunks_mut(size)) {
            let bytes = self.block(number).unwrap_or_else(|| vec![0; size]);
            place.copy_from_slice(&bytes[..place.len()]);
        }
        Ok(())
    }
}
