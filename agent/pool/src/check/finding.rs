//! What a check can find: where, how bad, what was expected, what it costs.

use crate::fault::{Fault, KeyRange};
use crate::ring::CopyPlace;
use serde::{Serialize, Serializer};
use std::fmt;
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock};

/// How bad a finding is, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Odd, and without consequence.
    Note,
    /// Nothing is lost, but something is not as it should be.
    Suspicion,
    /// Space that is counted as used but is not: harmless.
    Leak,
    /// The metadata is wrong: data is lost, or would be when the pool is written to.
    Damage,
}

impl Severity {
    /// The word shown to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Suspicion => "suspicion",
            Self::Leak => "leak",
            Self::Damage => "damage",
        }
    }
}

/// One of the five space maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Map {
    /// Of the metadata device itself.
    Metadata,
    /// Of the pool's chunks.
    Data,
    /// Of a tier's blocks.
    Tier(u8),
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("metadata space map"),
            Self::Data => f.write_str("data space map"),
            Self::Tier(tier) => write!(f, "space map of tier {tier}"),
        }
    }
}

impl Map {
    /// What its blocks are called.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Metadata => "metadata block",
            Self::Data => "chunk",
            Self::Tier(_) => "tier block",
        }
    }
}

/// A part of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Structure {
    /// The superblock the pool was opened at.
    Superblock,
    /// The ring of superblock copies.
    Ring,
    /// The reserved metadata snapshot's own block.
    Held,
    /// Upper level of the mapping tree: the root of each device's own tree.
    Devices {
        /// Of the reserved metadata snapshot.
        held: bool,
    },
    /// The tree of device records.
    Details {
        /// Of the reserved metadata snapshot.
        held: bool,
    },
    /// The mapping tree of one device. Parts of it may be shared with others.
    Mapping {
        /// The device.
        device: DeviceId,
        /// Of the reserved metadata snapshot.
        held: bool,
    },
    /// The tier tree.
    Tiers,
    /// The tree of clone counts.
    Clones,
    /// A space map's index.
    Index(Map),
    /// A space map's bitmaps.
    Bitmaps(Map),
    /// A space map's tree of counts of 3 and more.
    CountTree(Map),
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_snapshot = |held: &bool| if *held { " of the metadata snapshot" } else { "" };
        match self {
            Self::Superblock => f.write_str("superblock"),
            Self::Ring => f.write_str("ring of superblock copies"),
            Self::Held => f.write_str("reserved metadata snapshot"),
            Self::Devices { held } => write!(f, "device tree{}", of_snapshot(held)),
            Self::Details { held } => write!(f, "details tree{}", of_snapshot(held)),
            Self::Mapping { device, held } => write!(f, "mapping tree of device {device}{}", of_snapshot(held)),
            Self::Tiers => f.write_str("tier tree"),
            Self::Clones => f.write_str("clone-count tree"),
            Self::Index(map) => write!(f, "{map}, index"),
            Self::Bitmaps(map) => write!(f, "{map}, bitmaps"),
            Self::CountTree(map) => write!(f, "{map}, tree of counts"),
        }
    }
}

impl Serialize for Structure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Several numbers, told in short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// How many; there may be others between them that are not meant.
    pub count: u64,
}

impl Spread {
    pub(super) fn add(&mut self, number: u64) {
        self.add_range(number, number);
    }

    pub(super) fn add_range(&mut self, first: u64, last: u64) {
        self.first = if self.count == 0 { first } else { self.first.min(first) };
        self.last = self.last.max(last);
        self.count = self.count.saturating_add(last.saturating_sub(first)).saturating_add(1);
    }

    /// The same numbers when there are any.
    pub(super) fn some(self) -> Option<Self> {
        (self.count > 0).then_some(self)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, count } = self;
        match last.checked_sub(*first).and_then(|length| length.checked_add(1)) {
            Some(1) => write!(f, "{first}"),
            Some(length) if length == *count => write!(f, "{first} to {last}"),
            _ => write!(f, "{first} to {last} ({count} of them)"),
        }
    }
}

/// Where a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The part of the metadata.
    pub structure: Structure,
    /// The metadata block, when it is one.
    pub block: Option<MetaBlock>,
    /// First byte of that block on the metadata device.
    pub offset: Option<Bytes>,
}

/// What a finding costs its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The thin device whose chunks are counted; `None` when they are chunks of the pool.
    pub device: Option<DeviceId>,
    /// The first chunk that may be concerned.
    pub first_chunk: u64,
    /// The last; `None` when it is not known.
    pub last_chunk: Option<u64>,
    /// How many at most; `None` when it is not known.
    pub chunks_at_most: Option<u64>,
    /// Their bytes.
    pub bytes_at_most: Option<Bytes>,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_chunk {
            Some(last) if last == self.first_chunk => write!(f, "concerned: chunk {last}")?,
            Some(last) => write!(f, "concerned: chunks {} to {last}", self.first_chunk)?,
            None => write!(f, "concerned: chunks from {} on", self.first_chunk)?,
        }
        match self.device {
            Some(device) => write!(f, " of device {device}")?,
            None => f.write_str(" of the pool")?,
        }
        match (self.chunks_at_most, self.bytes_at_most) {
            (Some(chunks), Some(bytes)) => write!(f, "; at most {chunks} of them hold data ({})", bytes.human()),
            _ => Ok(()),
        }
    }
}

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

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// What it costs, when it costs data.
    pub cost: Option<Cost>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { structure, block, offset } = self.place;
        write!(f, "{structure}")?;
        if let (Some(block), Some(offset)) = (block, offset) {
            write!(f, ", block {block} (byte {offset})")?;
        }
        write!(f, ": {}", self.kind)?;
        match &self.cost {
            Some(cost) => write!(f, " [{cost}]"),
            None => Ok(()),
        }
    }
}

/// For programs: the fields, and the sentence for people.
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            severity: Severity,
            #[serde(flatten)]
            place: Place,
            #[serde(flatten)]
            kind: &'a Kind,
            cost: Option<Cost>,
            text: String,
        }
        let Self { severity, place, kind, cost } = self;
        Told { severity: *severity, place: *place, kind, cost: *cost, text: self.to_string() }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_short() {
        let mut spread = Spread::default();
        assert_eq!(spread.some(), None);
        spread.add(7);
        assert_eq!(spread.to_string(), "7");
        spread.add_range(8, 9);
        assert_eq!(spread.to_string(), "7 to 9");
        spread.add(3);
        assert_eq!(spread.to_string(), "3 to 9 (4 of them)");
        let all = Spread { first: 0, last: u64::MAX, count: u64::MAX };
        assert_eq!(all.to_string(), format!("0 to {0} ({0} of them)", u64::MAX));
    }
}
