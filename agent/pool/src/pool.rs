//! An opened pool and its trees.

use crate::blocks::{Blocks, View};
use crate::error::PoolError;
use crate::fault::{Lost, Walk};
use crate::format::{self, FormatEvidence};
use crate::probe::{self, Probed};
use crate::ring::{Ring, RingState};
use crate::walk::{Item, ValueSize, walk};
use std::collections::BTreeMap;
use std::convert::Infallible;
use tierlift_ondisk::thin::{
    BlockSize, DetailsSize, DeviceDetails, Family, MappingValue, Node, Superblock, TierValue, flags,
};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock, Sectors};

/// A pool's metadata, opened at one superblock. Nothing is kept in memory but that superblock and the ring.
#[derive(Debug, Clone)]
pub struct Pool {
    blocks: Blocks,
    superblock: Superblock,
    family: Family,
    ring: Ring,
    evidence: FormatEvidence,
}

/// What a streaming walk hands out, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<T> {
    /// An entry.
    Found(u64, T),
    /// A hole: what the tree says of these keys is lost.
    Lost(Lost),
}

/// A thin device: its record and the root of its mapping tree. One of the two may be lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThinDevice {
    /// Its record in the details tree.
    pub details: Option<DeviceDetails>,
    /// Root of its mapping tree.
    pub root: Option<MetaBlock>,
}

/// All thin devices of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceTable {
    /// By id.
    pub devices: BTreeMap<DeviceId, ThinDevice>,
    /// Device ids whose records are lost.
    pub lost_details: Vec<Lost>,
    /// Device ids whose mapping trees are lost.
    pub lost_roots: Vec<Lost>,
}

impl DeviceTable {
    /// The hole in the mapping tree's upper level that hides this device's root, if one does.
    pub fn root_hole(&self, device: DeviceId) -> Option<&Lost> {
        self.lost_roots.iter().find(|lost| lost.keys.contains(device.0))
    }
}

impl Pool {
    /// Opens the metadata device at block 0: probes the block size, refuses what it does not know, finds the ring.
    ///
    /// # Errors
    /// What is there instead, which copies of a lost superblock exist, and what to do.
    pub fn open(metadata: View) -> Result<Self, PoolError> {
        Self::open_as(metadata, None, None)
    }

    /// The same with a block size or a family that is known better than it can be probed.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub fn open_as(metadata: View, size: Option<BlockSize>, family: Option<Family>) -> Result<Self, PoolError> {
        let Probed { blocks, superblock, mut evidence } = probe::probe_as(&metadata, size)?;
        let mut pool = Self::with_blocks(blocks, superblock)?;
        evidence.0.append(&mut pool.evidence.0);
        pool = Self { evidence, ..pool };
        Ok(match family {
            Some(family) => pool.with_family(family),
            None => pool,
        })
    }

    /// Opens the pool at a superblock from elsewhere: a copy of the ring, or one rebuilt.
    ///
    /// # Errors
    /// When its version, features or values cannot be handled.
    pub fn with_superblock(metadata: View, size: BlockSize, superblock: Superblock) -> Result<Self, PoolError> {
        Self::with_blocks(Blocks::new(metadata, size), superblock)
    }

    /// The same on blocks of which some may be patched.
    ///
    /// # Errors
    /// As [`Pool::with_superblock`].
    pub fn with_blocks(blocks: Blocks, superblock: Superblock) -> Result<Self, PoolError> {
        probe::accept(&superblock)?;
        let blocks = blocks.with_recorded_count(superblock.metadata_map.nr_blocks);
        let (family, reason) = format::family(&blocks, &superblock);
        let keeps_copies = superblock.has(flags::SUPERBLOCK_BACKUP);
        let ring = if keeps_copies { Ring::find(&blocks) } else { Ring::default() };
        Ok(Self { blocks, superblock, family, ring, evidence: FormatEvidence(vec![reason]) })
    }

    /// The same as a pool of this family, whatever its records look like.
    #[must_use]
    pub fn with_family(mut self, family: Family) -> Self {
        self.evidence.0.push(format!("{}: told so by the user, which decides", family.name()));
        Self { family, ..self }
    }

    /// The same pool at another superblock that lies in it: the reserved metadata snapshot.
    pub(crate) fn at(&self, superblock: Superblock) -> Self {
        Self { superblock, ..self.clone() }
    }

    /// The superblock the pool was opened at.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The metadata device in blocks.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Who wrote the pool.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Why it was taken to have its block size and family.
    pub fn format_evidence(&self) -> &FormatEvidence {
        &self.evidence
    }

    /// The superblock copies found.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// What the ring says of the superblock the pool was opened at.
    pub fn ring_state(&self) -> RingState {
        self.ring.judge(&self.superblock)
    }

    /// Chunk size.
    pub fn chunk_size(&self) -> Sectors {
        self.superblock.chunk_size
    }

    /// Chunk size in bytes; a 32-bit number of sectors always fits.
    pub fn chunk_bytes(&self) -> Bytes {
        self.superblock.chunk_size.to_bytes().unwrap_or_default()
    }

    /// Length of the pool's address space in chunks.
    pub fn chunks(&self) -> u64 {
        self.superblock.data_map.nr_blocks
    }

    /// Every thin device, from the details tree and the upper level of the mapping tree.
    pub fn devices(&self) -> DeviceTable {
        let details = self.details();
        let roots = self.roots();
        let mut devices: BTreeMap<DeviceId, ThinDevice> = BTreeMap::new();
        for (id, record) in details.found {
            devices.entry(DeviceId(id)).or_default().details = Some(record);
        }
        for (id, root) in roots.found {
            devices.entry(DeviceId(id)).or_default().root = Some(root);
        }
        DeviceTable { devices, lost_details: details.lost, lost_roots: roots.lost }
    }

    /// The details tree.
    pub fn details(&self) -> Walk<DeviceDetails> {
        self.collect(self.superblock.details_root, ValueSize::DETAILS, |node, found| {
            let Some(size) = DetailsSize::from_bytes(node.value_size()) else { return };
            // A value of that very length always decodes.
            found.extend(
                node.entries().filter_map(|(key, value)| Some((key, DeviceDetails::decode(value, size).ok()?))),
            );
        })
    }

    /// The upper level of the mapping tree: the root of each device's own tree.
    pub fn roots(&self) -> Walk<MetaBlock> {
        self.collect(self.superblock.mapping_root, ValueSize::EIGHT, |node, found| {
            found.extend(node.entries_u64().map(|(key, value)| (key, MetaBlock(value))));
        })
    }

    fn collect<T>(
        &self,
        root: MetaBlock,
        values: ValueSize,
        mut take: impl FnMut(&Node<'_>, &mut Vec<(u64, T)>),
    ) -> Walk<T> {
        let mut result = Walk::default();
        let done: Result<(), Infallible> = walk(&self.blocks, root, values, |item| {
            match item {
                Item::Leaf(node) => take(&node, &mut result.found),
                Item::Lost(lost) => result.lost.push(lost),
            }
            Ok(())
        });
        let Ok(()) = done;
        result
    }

    /// Streams the mapping tree of one device: virtual chunk to mapping, ascending, in bounded memory.
    ///
    /// # Errors
    /// Only what `visit` returns.
    pub fn mappings<E>(
        &self,
        root: MetaBlock,
        visit: impl FnMut(Step<MappingValue>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stream(root, |value| MappingValue::decode(value, self.family), visit)
    }

    /// Streams the tier tree: number of the tier-block-sized piece of the pool to its place, ascending. A pool without a
    /// tier tree has no entries and no holes.
    ///
    /// # Errors
    /// Only what `visit` returns.
    pub fn tiers<E>(&self, visit: impl FnMut(Step<TierValue>) -> Result<(), E>) -> Result<(), E> {
        if self.superblock.tier_num == 0 {
            return Ok(());
        }
        self.stream(self.superblock.tier_root, TierValue::decode, visit)
    }

    fn stream<T, E>(
        &self,
        root: MetaBlock,
        decode: impl Fn(u64) -> T,
        mut visit: impl FnMut(Step<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        walk(&self.blocks, root, ValueSize::EIGHT, |item| match item {
            Item::Leaf(node) => node.entries_u64().try_for_each(|(key, value)| visit(Step::Found(key, decode(value)))),
            Item::Lost(lost) => visit(Step::Lost(lost)),
        })
    }
}
