//! How pool sectors become sectors of a device: straight, through bypass, or through the tier tree.
//!
//! QNAP's kernel takes this from the table line; the metadata does not record it. What the metadata does tell is whether the
//! tier tree was ever used. Getting it wrong gives garbage, so a decision comes with its evidence.

use crate::pool::{Pool, Step};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt;
use tierlift_ondisk::thin::{MAX_TIERS, SpaceMapRoot};

/// How the pool's address space lies on its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Mode {
    /// One data device, no tiers.
    Plain,
    /// Tiers are declared but the tier tree is not used: every pool sector lies at the same sector of one tier.
    Bypass {
        /// That tier.
        tier: u8,
    },
    /// Through the tier tree.
    TierMap,
    /// No chunk is in use: the mode does not matter.
    Empty,
    /// The evidence does not say.
    Undecided,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain (one data device, no tiers)"),
            Self::Bypass { tier } => write!(f, "bypass (all data lie on tier {tier}; the tier tree is not used)"),
            Self::TierMap => f.write_str("tier map (data are spread over the tiers by the tier tree)"),
            Self::Empty => f.write_str("empty (no chunk is in use, so the mode does not matter)"),
            Self::Undecided => f.write_str("undecided"),
        }
    }
}

/// A mode with the reasons for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModeDecision {
    /// The mode.
    #[serde(flatten)]
    pub mode: Mode,
    /// What speaks for it, and what does not fit.
    pub evidence: Vec<String>,
}

/// What the metadata tells of the tiers' use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TierUse {
    /// Tier tree entries naming each tier.
    pub mapped: [u64; MAX_TIERS],
    /// Entries that name a tier or block that does not exist.
    pub impossible: u64,
    /// Blocks of the tree that could not be used.
    pub broken: u64,
}

impl TierUse {
    pub(crate) fn read(pool: &Pool) -> Self {
        let mut usage = Self::default();
        let maps = pool.superblock().tier_maps;
        let done: Result<(), Infallible> = pool.tiers(|step| {
            match step {
                Step::Lost(_) => usage.broken = usage.broken.saturating_add(1),
                Step::Found(_, value) => {
                    let tier = usize::from(value.tier);
                    let exists = maps.get(tier).is_some_and(|map| value.block.0 < map.nr_blocks);
                    match usage.mapped.get_mut(tier) {
                        Some(count) if exists => *count = count.saturating_add(1),
                        _ => usage.impossible = usage.impossible.saturating_add(1),
                    }
                }
            }
            Ok(())
        });
        let Ok(()) = done;
        usage
    }

    fn entries(&self) -> u64 {
        self.mapped.iter().fold(self.impossible, |sum, count| sum.saturating_add(*count))
    }
}

/// Decides from the figures of the superblock and the tier tree.
pub(crate) fn decide(pool: &Pool, usage: &TierUse) -> ModeDecision {
    let superblock = pool.superblock();
    if superblock.tier_num == 0 {
        return ModeDecision { mode: Mode::Plain, evidence: vec!["the superblock declares no tiers".into()] };
    }
    let maps = superblock.tier_maps.get(..superblock.tier_num as usize).unwrap_or_default();
    let mut evidence = figures(usage, maps, superblock.data_map);
    let allocated = maps.iter().any(|map| map.nr_allocated > 0);
    let mode = if usage.entries() > 0 || allocated {
        through_tree(usage, maps, &mut evidence)
    } else if superblock.data_map.nr_allocated == 0 {
        Mode::Empty
    } else {
        bypass(maps, &mut evidence)
    };
    ModeDecision { mode, evidence }
}

fn figures(usage: &TierUse, maps: &[SpaceMapRoot], data: SpaceMapRoot) -> Vec<String> {
    let mut lines = vec![format!("the tier tree has {} entries", usage.entries())];
    if usage.broken > 0 {
        lines.push(format!("{} blocks of the tier tree are damaged, so it may have had more", usage.broken));
    }
    let told = maps
        .iter()
        .enumerate()
        .map(|(tier, map)| format!("tier {tier}: {} of {} blocks allocated", map.nr_allocated, map.nr_blocks));
    lines.push(told.collect::<Vec<_>>().join(", "));
    lines.push(format!("{} of {} chunks are in use", data.nr_allocated, data.nr_blocks));
    lines
}

fn through_tree(usage: &TierUse, maps: &[SpaceMapRoot], evidence: &mut Vec<String>) -> Mode {
    if usage.entries() == 0 && usage.broken == 0 {
        evidence.push(
            "blocks are allocated on tiers though the sound tier tree is empty: this does not fit together".into(),
        );
        return Mode::Undecided;
    }
    for (tier, (map, mapped)) in maps.iter().zip(usage.mapped).enumerate() {
        if map.nr_allocated < mapped {
            evidence.push(format!("tier {tier}: {mapped} blocks are mapped, more than are allocated: damage"));
        } else if map.nr_allocated > mapped && usage.broken == 0 {
            let more = map.nr_allocated.saturating_sub(mapped);
            evidence
                .push(format!("tier {tier}: {more} blocks are allocated but not mapped, as after a crash: harmless"));
        }
    }
    if usage.impossible > 0 {
        evidence.push(format!("{} entries name a tier or block that does not exist: damage", usage.impossible));
    }
    Mode::TierMap
}

/// The tier tree was never used; a tier that was never enabled has a map of size 0.
fn bypass(maps: &[SpaceMapRoot], evidence: &mut Vec<String>) -> Mode {
    let sized: Vec<_> = (0_u8..).zip(maps).filter(|(_, map)| map.nr_blocks > 0).map(|(tier, _)| tier).collect();
    match sized.as_slice() {
        [] => {
            evidence.push("chunks are in use but no tier has a size: the bypass tier is unknown".into());
            Mode::Undecided
        }
        [tier] => {
            evidence.push(format!("chunks are in use, no tier block is, and tier {tier} is the only one with a size"));
            Mode::Bypass { tier: *tier }
        }
        [.., tier] => {
            evidence.push(format!(
                "chunks are in use, no tier block is; several tiers have a size, and bypass uses the highest one enabled: \
                 taken to be tier {tier}"
            ));
            Mode::Bypass { tier: *tier }
        }
    }
}

impl Pool {
    /// Decides how pool sectors become device sectors, with the evidence. Reads the tier tree. An enable map from elsewhere
    /// (the volume group's text) is better evidence than the sizes used here when several tiers have one.
    pub fn mode(&self) -> ModeDecision {
        decide(self, &TierUse::read(self))
    }
}
