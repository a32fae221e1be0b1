//! What kind of pool is simulated.

use tierlift_ondisk::thin::{BlockSize, DetailsSize, Family, flags};
use tierlift_ondisk::units::Sectors;

/// Tier block size of every kernel.
pub(super) const TIER_BLOCK: Sectors = Sectors(8192);

/// The kind of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Metadata block size.
    pub block_size: BlockSize,
    /// Whose kernel.
    pub family: Family,
    /// Superblock version, 1 to 4.
    pub version: u32,
    /// Tiers: 0 or 3.
    pub tiers: u32,
    /// With tiers: only the slowest is in use, and the tier tree stays empty.
    pub bypass: bool,
    /// Length of the metadata device in its blocks.
    pub metadata_blocks: u64,
    /// Length of the pool in chunks.
    pub chunks: u64,
    /// Chunk size.
    pub chunk_size: Sectors,
    /// Superblock copies are kept; only QNAP's versions 3 and 4 can.
    pub ring: bool,
    /// Decides which tier new pieces go to.
    pub seed: u64,
}

impl Shape {
    /// A pool of stock Linux.
    pub const MAINLINE: Self = Self {
        block_size: BlockSize::K4,
        family: Family::Mainline,
        version: 2,
        tiers: 0,
        bypass: false,
        metadata_blocks: 4096,
        chunks: 200_000,
        chunk_size: Sectors(128),
        ring: false,
        seed: 1,
    };

    /// A pool that QNAP's kernel spreads over three tiers.
    pub const QNAP_TIERS: Self = Self {
        block_size: BlockSize::K8,
        family: Family::Qnap,
        version: 4,
        tiers: 3,
        metadata_blocks: 2048,
        chunk_size: Sectors(1024),
        ring: true,
        ..Self::MAINLINE
    };

    /// The common QNAP pool: three tiers declared, one used, no tier tree.
    pub const QNAP_BYPASS: Self = Self { bypass: true, ..Self::QNAP_TIERS };

    /// A QNAP pool without tiers.
    pub const QNAP_PLAIN: Self = Self { tiers: 0, ..Self::QNAP_TIERS };

    /// An old QNAP pool: small blocks, no copies, no tiers.
    pub const QNAP_V2: Self =
        Self { block_size: BlockSize::K4, version: 2, metadata_blocks: 4096, ring: false, ..Self::QNAP_PLAIN };

    /// An old QNAP pool with copies.
    pub const QNAP_V3: Self = Self { version: 3, ring: true, ..Self::QNAP_V2 };

    /// All of these, by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("mainline", Self::MAINLINE),
        ("tiers", Self::QNAP_TIERS),
        ("bypass", Self::QNAP_BYPASS),
        ("plain", Self::QNAP_PLAIN),
        ("v2", Self::QNAP_V2),
        ("v3", Self::QNAP_V3),
    ];

    /// Length of a device record.
    pub fn details_size(&self) -> DetailsSize {
        match (self.family, self.version) {
            (Family::Mainline, _) => DetailsSize::Mainline,
            (Family::Qnap, 4) => DetailsSize::QnapClone,
            (Family::Qnap, _) => DetailsSize::Qnap,
        }
    }

    /// Flags of a fresh superblock.
    pub(super) fn flags(&self) -> u32 {
        let copies = if self.ring { flags::SUPERBLOCK_BACKUP } else { 0 };
        let clones = if self.has_clones() { flags::FAST_BLOCK_CLONE } else { 0 };
        copies | clones
    }

    /// Whether there are clones.
    pub fn has_clones(&self) -> bool {
        self.details_size() == DetailsSize::QnapClone
    }

    /// Whether written chunks get a place in the tier tree.
    pub fn has_tier_map(&self) -> bool {
        self.tiers > 0 && !self.bypass
    }

    /// Pool time after formatting.
    pub(super) fn first_time(&self) -> u32 {
        u32::from(self.version > 2)
    }

    /// What a snapshot adds to the pool time.
    pub(super) fn time_step(&self) -> u32 {
        if self.family == Family::Qnap { 2 } else { 1 }
    }

    /// Tier-block-sized pieces of the pool's address space.
    pub fn pieces(&self) -> u64 {
        (self.chunks * self.chunk_size.0).div_ceil(TIER_BLOCK.0)
    }

    /// Blocks of each tier's map: with a tier map the fast ones are smaller; in bypass they were never enabled.
    pub(super) fn tier_blocks(&self) -> [u64; 3] {
        match (self.tiers, self.bypass) {
            (0, _) => [0; 3],
            (_, true) => [0, 0, self.pieces()],
            (_, false) => [self.pieces() / 8 + 1, self.pieces() / 2 + 1, self.pieces() + 1],
        }
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let mainline = self.family == Family::Mainline;
        anyhow::ensure!((1..=4).contains(&self.version), "versions are 1 to 4");
        anyhow::ensure!(matches!(self.tiers, 0 | 3), "0 or 3 tiers");
        anyhow::ensure!(!self.ring || !mainline && self.version > 2, "only QNAP's versions 3 and 4 keep copies");
        anyhow::ensure!(
            !mainline || self.version < 3 && self.tiers == 0 && self.block_size == BlockSize::K4,
            "stock Linux has versions 1 and 2, blocks of 4096 bytes and no tiers"
        );
        Ok(())
    }
}
