//! Everything that a check can find, with what was expected and what was found.

use super::finding::Severity;
use super::spread::Spread;
use crate::fault::{Fault, KeyRange};
use crate::ring::CopyPlace;
use serde::Serialize;
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Flag of the superblock.
    #[error(
        "needs_check is set: the kernel met an error or ran out of space while writing, and stopped. Reading is safe"
    )]
    NeedsCheck,
    /// Bits that nobody knows.
    #[error("flags {found:#x} are set, which this program does not know")]
    UnknownFlags {
        /// The unknown bits.
        found: u32,
    },
    /// Features under which it must not be written.
    #[error("unknown read-only features ({found:#x}) are set: must not be written to")]
    ReadOnlyFeatures {
        /// The bits.
        found: u32,
    },
    /// The field that says the block size is wrong.
    #[error(
        "metadata_block_size says {found} sectors, but blocks have {expected}; kernels correct this when they write"
    )]
    BlockSizeField {
        /// Sectors a block has.
        expected: u64,
        /// What the field says.
        found: u64,
    },
    /// No kernel makes such chunks.
    #[error("the chunk size is {found} sectors: no kernel makes pools with other than multiples of 128")]
    ChunkSize {
        /// Sectors.
        found: u64,
    },
    /// Tier blocks that are no multiple of chunks.
    #[error("the tier block size is {found} sectors, which is no multiple of the chunk size of {expected}")]
    TierBlockSize {
        /// Sectors of a chunk.
        expected: u64,
        /// Sectors of a tier block.
        found: u64,
    },
    /// A tier that the pool does not have but that has a space map.
    #[error("tier {tier} has a space map, but the pool has only {tiers} tiers")]
    UnusedTier {
        /// The tier.
        tier: u8,
        /// Tiers of the pool.
        tiers: u32,
    },
    /// Tiers are declared without a tree, or the other way round.
    #[error("the pool has {tiers} tiers, but the root of its tier tree is block {root}")]
    TierRoot {
        /// Tiers of the pool.
        tiers: u32,
        /// The root.
        root: MetaBlock,
    },
    /// Longer than the format allows.
    #[error("the metadata is said to have {found} blocks, but the format allows at most {expected}")]
    TooLong {
        /// The most there can be.
        expected: u64,
        /// What the superblock says.
        found: u64,
    },
    /// Shorter than it says.
    #[error("the metadata is cut short: {found} of {expected} blocks are there; what the others held is lost")]
    CutShort {
        /// Blocks there should be.
        expected: u64,
        /// Blocks there are.
        found: u64,
    },
    /// No copy of the superblock.
    #[error("the pool keeps copies of its superblock, but no valid one was found at the end of the metadata")]
    NoCopies,
    /// Normal after a power cut.
    #[error(
        "the newest copy ({newest}) is one commit newer than the superblock: normal after a power cut. Both states are whole; \
         what was written in that last commit is only in the copy"
    )]
    OneCommitBehind {
        /// The newest copy.
        newest: CopyPlace,
    },
    /// Blocks it points at may have been reused.
    #[error(
        "STALE SUPERBLOCK: the newest copy ({newest}) is {} newer. Devices may be missing or hold wrong data; prefer the copy \
         (pool generations, pool repair)",
        commits.map_or("an unknown number of commits".to_owned(), |count| format!("{count} commits"))
    )]
    Stale {
        /// The newest copy.
        newest: CopyPlace,
        /// Commits between the two, when that can be said.
        commits: Option<u64>,
    },
    /// Not the newest copy's state, and not provably older.
    #[error(
        "the newest copy ({newest}) is another state: normal for one commit after a power cut, otherwise this superblock is \
         stale"
    )]
    CopyDiffers {
        /// The newest copy.
        newest: CopyPlace,
    },
    /// Slots of the ring that hold something else.
    #[error("{count} of the 128 slots of the ring hold neither a copy nor a placeholder", count = slots.count)]
    ForeignSlots {
        /// Their blocks.
        slots: Spread,
    },
    /// A tree uses a slot of the ring.
    #[error(
        "the ring of superblock copies and the trees both use metadata blocks {slots}, as happens after metadata was enlarged: \
         the next commits would overwrite tree nodes. Never activate this pool for writing; rebuild it"
    )]
    RingInUse {
        /// The blocks.
        slots: Spread,
    },
    /// Slots of the ring that an allocator would hand out.
    #[error(
        "{found} of the 128 slots of the ring are reserved in the space map: a kernel would hand out the others, and then \
         overwrite them"
    )]
    RingNotReserved {
        /// Slots that are reserved.
        found: u64,
    },
    /// Left behind when the metadata device grew.
    #[error(
        "metadata blocks {blocks} hold an old ring of superblock copies, left behind when the metadata was enlarged"
    )]
    OldRing {
        /// The blocks.
        blocks: Spread,
    },
    /// A block that cannot be used.
    #[error("it cannot be used: {fault}. What the tree says of keys {keys} is lost")]
    Lost {
        /// The keys that may have been there.
        keys: KeyRange,
        /// What is wrong.
        fault: Fault,
    },
    /// A block that is no part of a tree of keys.
    #[error("it cannot be used: {fault}")]
    Unusable {
        /// What is wrong.
        fault: Fault,
    },
    /// A bitmap that cannot be used.
    #[error(
        "bitmap {bitmap} cannot be used: {fault}. Nothing but the counts of {unit}s {covers} is lost, and those can be computed"
    )]
    BitmapLost {
        /// Its number.
        bitmap: u64,
        /// What is wrong.
        fault: Fault,
        /// What it counts.
        unit: &'static str,
        /// The numbers it counts.
        covers: Spread,
    },
    /// Children of different heights.
    #[error("its children have different heights: {expected} and {found} levels")]
    UnevenDepth {
        /// Height of the first child.
        expected: u8,
        /// Height of another.
        found: u8,
    },
    /// The bound of the check was reached.
    #[error(
        "the trees are too entangled to be followed to the end: what comes after {blocks} blocks was not looked at"
    )]
    TooEntangled {
        /// Blocks read.
        blocks: u64,
    },
    /// A record without a tree.
    #[error("device {device} has a record{}, but no mapping tree", mapped_text(*mapped))]
    NoTree {
        /// The device.
        device: DeviceId,
        /// Chunks mapped, by the record.
        mapped: u64,
    },
    /// A tree without a record.
    #[error("device {device} has a mapping tree with {mapped} chunks, but its record is lost or missing")]
    NoRecord {
        /// The device.
        device: DeviceId,
        /// Chunks counted.
        mapped: u64,
    },
    /// Part of a device is lost.
    #[error("device {device}: {expected} chunks are recorded, {found} are left: {} lost", expected.saturating_sub(*found))]
    ChunksLost {
        /// The device.
        device: DeviceId,
        /// Chunks by its record.
        expected: u64,
        /// Chunks counted.
        found: u64,
    },
    /// A whole tree with another number of chunks than recorded.
    #[error("device {device}: its record says {found} chunks are mapped, but its whole tree has {expected}")]
    MappedCount {
        /// The device.
        device: DeviceId,
        /// Chunks counted.
        expected: u64,
        /// Chunks by its record.
        found: u64,
    },
    /// A device id no kernel accepts.
    #[error("device id {found} is larger than any kernel accepts")]
    DeviceId {
        /// The id.
        found: u64,
    },
    /// A time of the future in a record.
    #[error("device {device}: its record has {field} {found}, but the pool's is only {expected}")]
    RecordAhead {
        /// The device.
        device: DeviceId,
        /// The field.
        field: &'static str,
        /// The pool's.
        expected: u64,
        /// The record's.
        found: u64,
    },
    /// Mappings to chunks that do not exist.
    #[error("virtual chunks {keys} are mapped to chunks that do not exist, such as {found}: the pool has {expected}")]
    ChunkBeyondEnd {
        /// The virtual chunks.
        keys: Spread,
        /// Chunks of the pool.
        expected: u64,
        /// One of the chunks named.
        found: u64,
    },
    /// Mappings from the future.
    #[error("virtual chunks {keys} were mapped at a time such as {found}, but the pool's clock says {expected}")]
    MappingAhead {
        /// The virtual chunks.
        keys: Spread,
        /// Pool time.
        expected: u32,
        /// One of the times.
        found: u32,
    },
    /// Tier tree entries that name no tier of the pool.
    #[error("pieces {keys} lie on a tier such as {found}, but the pool has only {expected} tiers")]
    TierUnknown {
        /// The keys.
        keys: Spread,
        /// Tiers of the pool.
        expected: u64,
        /// One of the tiers named.
        found: u64,
    },
    /// Tier tree entries that name blocks beyond the end of their tier.
    #[error("pieces {keys} lie on blocks beyond the end of their tier, such as {found}: it has {expected}")]
    TierBlockBeyondEnd {
        /// The keys.
        keys: Spread,
        /// Blocks of that tier.
        expected: u64,
        /// One of the blocks named.
        found: u64,
    },
    /// Keys beyond the end of the pool.
    #[error(
        "pieces {keys} lie beyond the end of the pool, which has {expected}: QNAP's older kernels write outside their memory \
         when they meet them. Never activate this pool before it is rebuilt"
    )]
    TierKeyBeyondEnd {
        /// The keys.
        keys: Spread,
        /// Pieces the pool can have.
        expected: u64,
    },
    /// Two pieces of the pool on the same block.
    #[error("pieces {keys} lie on tier blocks that others lie on too, such as block {found}: one of each two is wrong")]
    TierBlockTwice {
        /// The keys that came second.
        keys: Spread,
        /// One of the blocks.
        found: u64,
    },
    /// A device's chunks whose tier place is lost.
    #[error(
        "device {device}: {chunks} of its chunks cannot be found on the tiers, because that part of the tier tree is lost"
    )]
    TierPlaceLost {
        /// The device.
        device: DeviceId,
        /// How many.
        chunks: u64,
    },
    /// Index entries that are missing.
    #[error("bitmaps {bitmaps} are missing from the index")]
    BitmapMissing {
        /// Their numbers.
        bitmaps: Spread,
    },
    /// Index entries for blocks that do not exist.
    #[error("the index has entries {bitmaps}, but the map needs only {expected}")]
    BitmapBeyondEnd {
        /// Their numbers.
        bitmaps: Spread,
        /// Bitmaps the map has.
        expected: u64,
    },
    /// Counted less often than used.
    #[error(
        "{unit}s {blocks} are used more often than counted, such as {example}: counted {found} times, used {expected} times. \
         A kernel would overwrite them; never activate this pool for writing before it is rebuilt"
    )]
    CountTooLow {
        /// What is counted.
        unit: &'static str,
        /// Their numbers.
        blocks: Spread,
        /// The first of them.
        example: u64,
        /// Times it is used.
        expected: u32,
        /// Times it is counted.
        found: u32,
    },
    /// Counted more often than used.
    #[error(
        "{unit}s {blocks} are counted more often than used, such as {example}: counted {found} times, used {expected} times. \
         Nothing is lost by that{}",
        if *holes { " (what the lost blocks of the trees pointed at is among them)" } else { "" }
    )]
    CountTooHigh {
        /// What is counted.
        unit: &'static str,
        /// Their numbers.
        blocks: Spread,
        /// The first of them.
        example: u64,
        /// Times it is used.
        expected: u32,
        /// Times it is counted.
        found: u32,
        /// Parts of the trees are lost, so that their uses are not known.
        holes: bool,
    },
    /// Bitmaps that leave a count to the tree, which does not have it.
    #[error("{unit}s {blocks} are said to be counted in the tree of counts, but are not there")]
    CountMissing {
        /// What is counted.
        unit: &'static str,
        /// Their numbers.
        blocks: Spread,
    },
    /// Entries in the tree of counts that nothing refers to.
    #[error("the tree of counts has entries for {unit}s {blocks}, whose bitmaps do not refer to it")]
    CountStray {
        /// What is counted.
        unit: &'static str,
        /// Their numbers.
        blocks: Spread,
    },
    /// Index entries with a wrong number of free entries.
    #[error(
        "the index tells a wrong number of free entries for bitmaps {bitmaps}: {found} instead of {expected} in the first"
    )]
    FreeCount {
        /// Their numbers.
        bitmaps: Spread,
        /// What it should be in the first of them.
        expected: u64,
        /// What it says there.
        found: u64,
    },
    /// Index entries whose hint hides free entries.
    #[error(
        "the index hides free entries of bitmaps {bitmaps}: none free before {found}, but {expected} is free in the first"
    )]
    FreeHint {
        /// Their numbers.
        bitmaps: Spread,
        /// The first free entry of the first of them.
        expected: u64,
        /// What the index says there.
        found: u64,
    },
    /// Counts beyond the end of a map.
    #[error("{count} entries beyond the end of the map are not zero", count = blocks.count)]
    CountBeyondEnd {
        /// The numbers they would stand for.
        blocks: Spread,
    },
    /// A total that is wrong.
    #[error("{found} {unit}s are said to be in use, but the bitmaps count {expected}")]
    Allocated {
        /// What is counted.
        unit: &'static str,
        /// By the bitmaps.
        expected: u64,
        /// By the superblock.
        found: u64,
    },
}

fn mapped_text(mapped: u64) -> String {
    if mapped == 0 { String::new() } else { format!(" of {mapped} mapped chunks") }
}

impl Kind {
    /// How bad it is, unless the place makes it milder.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::UnknownFlags { .. } | Self::BlockSizeField { .. } => Severity::Note,
            Self::NeedsCheck
            | Self::ReadOnlyFeatures { .. }
            | Self::ChunkSize { .. }
            | Self::TierBlockSize { .. }
            | Self::UnusedTier { .. }
            | Self::CutShort { .. }
            | Self::NoCopies
            | Self::OneCommitBehind { .. }
            | Self::CopyDiffers { .. }
            | Self::ForeignSlots { .. }
            | Self::RingNotReserved { .. }
            | Self::DeviceId { .. }
            | Self::BitmapBeyondEnd { .. }
            | Self::CountStray { .. }
            | Self::FreeHint { .. }
            | Self::CountBeyondEnd { .. } => Severity::Suspicion,
            Self::OldRing { .. } | Self::CountTooHigh { .. } => Severity::Leak,
            _ => Severity::Damage,
        }
    }
}
