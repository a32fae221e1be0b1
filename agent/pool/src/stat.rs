//! The state of a pool in figures, for people and programs.

use crate::fault::Lost;
use crate::format::FormatEvidence;
use crate::mode::{ModeDecision, TierUse, decide};
use crate::pool::{DeviceTable, Pool, ThinDevice};
use crate::ring::{CopyPlace, RingState};
use crate::tally::Counter;
use serde::Serialize;
use tierlift_ondisk::thin::{BlockSize, Family, SpaceMapRoot, Superblock, flags};
use tierlift_ondisk::units::{Bytes, DeviceId, MetaBlock, Sectors};

/// Blocks there are and blocks in use, by a space map's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Blocks in the address space.
    pub total: u64,
    /// Blocks in use.
    pub used: u64,
}

impl From<SpaceMapRoot> for Usage {
    fn from(map: SpaceMapRoot) -> Self {
        Self { total: map.nr_blocks, used: map.nr_allocated }
    }
}

/// The superblock's flags by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlagsStat {
    /// As a number.
    pub value: u32,
    /// The kernel wanted a check before writing again.
    pub needs_check: bool,
    /// Clone times are in use.
    pub fast_block_clone: bool,
    /// Superblock copies are kept.
    pub superblock_backup: bool,
    /// Bits nobody knows.
    pub unknown: u32,
}

/// One tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TierStat {
    /// Its number.
    pub tier: u8,
    /// Blocks by its space map; a total of 0 means it was never enabled.
    pub blocks: Usage,
    /// Tier tree entries that name it.
    pub mapped: u64,
}

/// One thin device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceStat {
    /// Its id.
    pub id: DeviceId,
    /// Chunks mapped, by its record.
    pub mapped: Option<u64>,
    /// Chunks counted in its mapping tree; `None` when the tree is lost or was too entangled to count.
    pub counted: Option<u64>,
    /// Blocks of its mapping tree that cannot be used.
    pub broken_blocks: u64,
    /// The pool's transaction id at its making.
    pub transaction: Option<u64>,
    /// Pool time at its making.
    pub creation_time: Option<u32>,
    /// Pool time of its last snapshot.
    pub snapshot_time: Option<u32>,
    /// Pool time of its last clone (version 4).
    pub clone_time: Option<u32>,
    /// The device it is a snapshot of; it may be gone.
    pub origin: Option<DeviceId>,
    /// Root of its mapping tree.
    pub root: Option<MetaBlock>,
    /// Highest mapped virtual chunk.
    pub highest_chunk: Option<u64>,
    /// End of that chunk: the device is at least this long. Its true size is recorded by LVM, not here.
    pub minimal_size: Option<Bytes>,
}

/// The state of a pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stat {
    /// Who wrote it.
    pub family: Family,
    /// Superblock version.
    pub version: u32,
    /// Metadata block size in bytes.
    pub block_size: BlockSize,
    /// Why family and block size were taken to be these.
    pub format_evidence: FormatEvidence,
    /// Flags.
    pub flags: FlagsStat,
    /// UUID in the superblock, hexadecimal; `None` when zero, as kernels write it.
    pub uuid: Option<String>,
    /// Pool time.
    pub time: u32,
    /// Transaction id, to be compared with LVM's.
    pub transaction: u64,
    /// Metadata blocks.
    pub metadata: Usage,
    /// Metadata blocks that the file or device really has.
    pub metadata_present: u64,
    /// Chunk size.
    pub chunk_size: Sectors,
    /// Chunks.
    pub chunks: Usage,
    /// Tier block size; 0 without tiers.
    pub tier_block_size: Sectors,
    /// Tiers by number.
    pub tiers: Vec<TierStat>,
    /// How pool sectors lie on devices.
    #[serde(flatten)]
    pub mode: ModeDecision,
    /// Block of the reserved metadata snapshot.
    pub held_root: Option<MetaBlock>,
    /// What the ring of copies says of block 0.
    pub ring: RingState,
    /// Valid copies in the ring.
    pub ring_copies: usize,
    /// The newest copy.
    pub ring_newest: Option<CopyPlace>,
    /// Thin devices by id.
    pub devices: Vec<DeviceStat>,
    /// Device ids whose records are lost.
    pub lost_details: Vec<Lost>,
    /// Device ids whose mapping trees are lost.
    pub lost_roots: Vec<Lost>,
    /// Damage: something of the pool cannot be read or does not fit together.
    pub damage: Vec<String>,
    /// Noteworthy, each with what it means.
    pub warnings: Vec<String>,
}

impl Pool {
    /// Reads every tree once and tells the pool's state. Damage makes the answer smaller, never absent.
    pub fn stat(&self) -> Stat {
        let superblock = self.superblock();
        let usage = TierUse::read(self);
        let table = self.devices();
        let devices = device_stats(self, &table);
        Stat {
            family: self.family(),
            version: superblock.version,
            block_size: self.blocks().size(),
            format_evidence: self.format_evidence().clone(),
            flags: flag_stat(superblock.flags),
            uuid: uuid_text(&superblock.uuid),
            time: superblock.time,
            transaction: superblock.transaction,
            metadata: superblock.metadata_map.into(),
            metadata_present: self.blocks().present(),
            chunk_size: superblock.chunk_size,
            chunks: superblock.data_map.into(),
            tier_block_size: superblock.tier_block_size,
            tiers: tier_stats(superblock, &usage),
            mode: decide(self, &usage),
            held_root: Some(superblock.held_root).filter(|block| block.0 != 0),
            ring: self.ring_state(),
            ring_copies: self.ring().copies.len(),
            ring_newest: self.ring().newest_place(),
            damage: damage(self, &usage, &table, &devices),
            warnings: self.warnings(),
            devices,
            lost_details: table.lost_details,
            lost_roots: table.lost_roots,
        }
    }

    /// What a reader of this pool must know before trusting it: a stale superblock, a file cut short, odd values.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.ring_warning().into_iter().collect();
        let superblock = self.superblock();
        let (recorded, present) = (superblock.metadata_map.nr_blocks, self.blocks().present());
        if present < recorded {
            lines.push(format!(
                "the metadata is cut short: {present} of {recorded} blocks are there; what the missing ones held is lost"
            ));
        }
        if superblock.has(flags::NEEDS_CHECK) {
            lines.push(
                "needs_check is set: the kernel met an error or ran out of space while writing; reading is safe".into(),
            );
        }
        if superblock.compat_ro_flags != 0 {
            lines.push(format!("unknown read-only features ({:#x}): must not be written", superblock.compat_ro_flags));
        }
        let sectors = superblock.chunk_size.0;
        if sectors % 128 != 0 {
            lines
                .push(format!("the chunk size of {sectors} sectors is no multiple of 128: no kernel makes such pools"));
        }
        lines
    }

    fn ring_warning(&self) -> Option<String> {
        let newest = self.ring().newest_place().map(|place| place.to_string()).unwrap_or_default();
        let Superblock { transaction, time, .. } = self.superblock();
        match self.ring_state() {
            RingState::Off | RingState::Agrees => None,
            RingState::NoCopies => Some(
                "the pool keeps copies of its superblock, but no valid one was found at the end of the metadata".into(),
            ),
            RingState::Behind { commits: Some(1) } => Some(format!(
                "block 0 (transaction {transaction}, time {time}) is one commit older than the newest copy ({newest}): normal \
                 after a power cut, and both states are whole; what was written in that last commit is only in the copy"
            )),
            RingState::Behind { commits } => Some(format!(
                "STALE SUPERBLOCK: block 0 (transaction {transaction}, time {time}) is {} older than the newest copy \
                 ({newest}). Devices may be missing or hold wrong data; the copy is to be preferred",
                commits
                    .map(|count| format!("{count} commits"))
                    .unwrap_or_else(|| "an unknown number of commits".into())
            )),
            RingState::Differs => Some(format!(
                "block 0 (transaction {transaction}, time {time}) and the newest copy ({newest}) are different states: \
                 normal for one commit after a power cut, otherwise the superblock is stale"
            )),
        }
    }
}

fn flag_stat(value: u32) -> FlagsStat {
    FlagsStat {
        value,
        needs_check: value & flags::NEEDS_CHECK != 0,
        fast_block_clone: value & flags::FAST_BLOCK_CLONE != 0,
        superblock_backup: value & flags::SUPERBLOCK_BACKUP != 0,
        unknown: value & !(flags::NEEDS_CHECK | flags::FAST_BLOCK_CLONE | flags::SUPERBLOCK_BACKUP),
    }
}

fn uuid_text(uuid: &[u8; 16]) -> Option<String> {
    uuid.iter().any(|byte| *byte != 0).then(|| tierlift_ondisk::field::hex(uuid))
}

fn tier_stats(superblock: &Superblock, usage: &TierUse) -> Vec<TierStat> {
    let tiers = (0..).zip(superblock.tier_maps).zip(usage.mapped).take(superblock.tier_num as usize);
    tiers.map(|((tier, map), mapped)| TierStat { tier, blocks: map.into(), mapped }).collect()
}

fn device_stats(pool: &Pool, table: &DeviceTable) -> Vec<DeviceStat> {
    let mut counter = Counter::new(pool.blocks());
    table.devices.iter().map(|(id, device)| device_stat(pool, &mut counter, *id, device)).collect()
}

fn device_stat(pool: &Pool, counter: &mut Counter<'_>, id: DeviceId, device: &ThinDevice) -> DeviceStat {
    let tally = device.root.and_then(|root| counter.count(root));
    let highest_chunk = tally.and_then(|tally| tally.last);
    let end = highest_chunk.and_then(|chunk| chunk.checked_add(1)?.checked_mul(pool.chunk_bytes().0));
    let details = device.details;
    DeviceStat {
        id,
        mapped: details.map(|details| details.mapped.0),
        counted: tally.map(|tally| tally.entries),
        broken_blocks: tally.map_or(0, |tally| tally.broken),
        transaction: details.map(|details| details.transaction),
        creation_time: details.map(|details| details.creation_time),
        snapshot_time: details.map(|details| details.snapshot_time),
        clone_time: details.and_then(|details| details.clone).map(|clone| clone.time),
        origin: details.and_then(|details| details.snapshot_of()),
        root: device.root,
        highest_chunk,
        minimal_size: end.map(Bytes),
    }
}

fn damage(pool: &Pool, usage: &TierUse, table: &DeviceTable, devices: &[DeviceStat]) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, lost) in [("records", &table.lost_details), ("mapping trees", &table.lost_roots)] {
        lines.extend(lost.iter().map(|lost| {
            format!("the {what} of device ids {} are lost with block {}: {}", lost.keys, lost.block, lost.fault)
        }));
    }
    if usage.broken > 0 && pool.superblock().tier_num > 0 {
        lines.push(format!("the tier tree is damaged: {} of its blocks cannot be used", usage.broken));
    }
    lines.extend(devices.iter().filter_map(device_damage));
    lines
}

fn device_damage(device: &DeviceStat) -> Option<String> {
    let id = device.id;
    match (device.mapped, device.counted) {
        (_, Some(_)) if device.broken_blocks > 0 => {
            Some(format!("device {id}: {} blocks of its mapping tree cannot be used", device.broken_blocks))
        }
        (Some(mapped), Some(counted)) if mapped != counted => {
            Some(format!("device {id}: its record says {mapped} chunks are mapped, but its tree has {counted}"))
        }
        (Some(_), None) if device.root.is_none() => Some(format!("device {id}: its mapping tree is lost or missing")),
        (None, _) => Some(format!("device {id}: its record is lost or missing")),
        (_, None) => Some(format!("device {id}: its mapping tree is too entangled to count")),
        _ => None,
    }
}
