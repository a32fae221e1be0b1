//! What a forged set of disks shall look like.

use crate::Raid;

/// How the text names the tiers of a pool: nobody outside QNAP has seen the true keys, so a reader must cope with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TierKeys {
    /// `pool = "…_0"`, `pool1`, `pool2`.
    #[default]
    Pool,
    /// `tiers = ["…_0", "…_1", "…_2"]`.
    List,
    /// `tier0 = "…_0"` …
    Numbered,
    /// `tier0 { pool = "…_0" }` …
    Section,
    /// No key at all: only the names of the volumes tell.
    None,
}

/// What stands for a tier that is not in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AbsentTier {
    /// A `zero` segment without extents.
    #[default]
    Zero,
    /// A placeholder of its own extents, as genuine pools have.
    Placeholder,
}

/// The disks of each array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mirror {
    /// One disk, an array of one slot (`[1/1]`).
    #[default]
    Single,
    /// Two disks with equal content.
    Both,
    /// Two slots, but only the first disk is there.
    Half,
}

/// How to build the layers around a pool. The default is one disk as QNAP's firmware makes it.
#[derive(Debug, Clone)]
pub struct ForgeOptions {
    /// Name of the volume group.
    pub volume_group: String,
    /// Name of the pool.
    pub pool: String,
    /// Everything made up (UUIDs, ids) follows from this word.
    pub seed: String,
    /// Spelling of the tiers in the text.
    pub tier_keys: TierKeys,
    /// Write `enable_map` and, with the tier map in use, `bypass_off`.
    pub mode_keys: bool,
    /// What stands for absent tiers.
    pub absent_tier: AbsentTier,
    /// Each tier on an array (and disks) of its own instead of all on one.
    pub array_per_tier: bool,
    /// Disks per array, where `raid` does not say.
    pub mirror: Mirror,
    /// Level and shape of the data arrays.
    pub raid: Option<Raid>,
    /// A DRBD tail at the end of each array.
    pub drbd: bool,
    /// Small system partitions: a disk of a few hundred MiB, but not at QNAP's sectors.
    pub compact: bool,
    /// Each data volume in two segments, the later one first on the disk.
    pub split: bool,
    /// The committed text runs over the end of the ring.
    pub wrap: bool,
    /// Extent size in sectors.
    pub extent_sectors: u64,
    /// First extent's sector on the physical volume.
    pub pe_start: u64,
}

impl Default for ForgeOptions {
    fn default() -> Self {
        Self {
            volume_group: "vg1".into(),
            pool: "tp1".into(),
            seed: "0".into(),
            tier_keys: TierKeys::default(),
            mode_keys: true,
            absent_tier: AbsentTier::default(),
            array_per_tier: false,
            mirror: Mirror::default(),
            raid: None,
            drbd: false,
            compact: false,
            split: false,
            wrap: false,
            extent_sectors: 8192,
            pe_start: 2048,
        }
    }
}
