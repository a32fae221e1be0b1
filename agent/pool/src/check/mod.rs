//! Full check of one generation of a pool: every tree, every space map, every count.
//!
//! Nothing is repaired and nothing ends the check early: what cannot be used is told with what it costs, and everything else
//! is checked all the same. Memory follows the metadata in use; findings are bounded.

mod devices;
mod finding;
mod findings;
mod forest;
mod kind;
mod ring;
mod space_map;
mod spread;
mod structure;
mod superblock;
mod tiers;

pub use devices::DeviceCheck;
pub use finding::{Cost, Finding, Place, Severity};
pub use findings::Totals;
pub use forest::Progress;
pub use kind::Kind;
pub use spread::Spread;
pub use structure::{Map, Structure};

use crate::pool::Pool;
use devices::Mappings;
use forest::Forest;
use serde::Serialize;
use space_map::Gathered;
use tierlift_ondisk::thin::{BlockKind, Superblock};

/// What the findings come to, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was found.
    Clean,
    /// Something was found, but nothing is lost or wrong: notes, suspicions, leaks.
    Reported,
    /// Damage; a part of the pool's content can be reached.
    Damaged,
    /// Damage; nothing of the pool's content can be reached from this generation.
    Unusable,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Tree nodes, each counted once however many trees share it.
    pub nodes: u64,
    /// Entries of all mapping trees, each counted once however many devices share it.
    pub mappings: u64,
    /// Chunks of the pool that are in use.
    pub chunks_used: u64,
    /// Nodes less than a third full: legal, and no finding.
    pub underfull_nodes: u64,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it comes to.
    pub verdict: Verdict,
    /// How many findings there were.
    pub totals: Totals,
    /// Findings that were counted but not kept, because there were too many of their kind.
    pub omitted: u64,
    /// What was read.
    pub figures: Figures,
    /// Thin devices by id.
    pub devices: Vec<DeviceCheck>,
    /// The findings, worst first.
    pub findings: Vec<Finding>,
}

/// Checks the generation that the pool was opened at.
pub fn check(pool: &Pool, progress: &mut dyn FnMut(Progress)) -> Check {
    let superblock = pool.superblock();
    let mut forest = Forest::new(pool.blocks(), superblock.metadata_map.nr_allocated, progress);
    superblock::check(pool, &mut forest.findings);
    forest.refs.add(0);
    let mut mappings = Mappings::new(pool);
    let devices = devices::check(&mut forest, &mut mappings, pool, false);
    check_held(&mut forest, &mut mappings, pool);
    let tiers = tiers::check(&mut forest, pool);
    tiers::check_clones(&mut forest, superblock.clone_root);
    tiers::tell_devices(&mut forest.findings, pool, &tiers);
    let holes = forest.findings.totals.damage > 0;
    check_maps(&mut forest, pool, &mappings, &tiers, holes);
    forest.finish();
    conclude(forest, &mappings, devices)
}

/// The reserved metadata snapshot: a superblock of its own whose mapping and details trees are pinned, and nothing else.
fn check_held(forest: &mut Forest<'_>, mappings: &mut Mappings, pool: &Pool) {
    let root = pool.superblock().held_root;
    if root.0 == 0 {
        return;
    }
    forest.refs.add(root.0);
    let mut buffer = Vec::new();
    let read = forest.blocks.read(root, BlockKind::Superblock, &mut buffer);
    match read.and_then(|()| Ok(Superblock::decode(&buffer)?)) {
        Ok(held) => drop(devices::check(forest, mappings, &pool.at(held), true)),
        Err(fault) => forest.findings.add(Structure::Held, root, Kind::Unusable { fault }),
    }
}

/// The metadata's own map comes last: it counts the blocks of all the others.
fn check_maps(forest: &mut Forest<'_>, pool: &Pool, mappings: &Mappings, tiers: &tiers::Tiers, holes: bool) {
    let superblock = pool.superblock();
    let data = Gathered::gather(forest, Map::Data, superblock.data_map);
    let tier_maps = (0_u8..).zip(superblock.tier_maps).take(superblock.tier_num as usize);
    let tier_maps: Vec<_> = tier_maps.map(|(tier, map)| Gathered::gather(forest, Map::Tier(tier), map)).collect();
    let metadata = Gathered::gather(forest, Map::Metadata, superblock.metadata_map);
    data.compare(forest, &mappings.chunks, None, holes);
    for (map, blocks) in tier_maps.iter().zip(&tiers.blocks) {
        map.compare(forest, blocks, None, holes);
    }
    let slots = ring::slots(pool);
    if let Some(slots) = &slots {
        ring::check(forest, slots);
    }
    let refs = std::mem::take(&mut forest.refs);
    metadata.compare(forest, &refs, slots, holes);
}

fn conclude(forest: Forest<'_>, mappings: &Mappings, devices: Vec<DeviceCheck>) -> Check {
    let nodes = forest.nodes();
    let underfull_nodes = forest.underfull;
    let findings::Findings { mut list, totals, .. } = forest.findings;
    list.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let unreachable = mappings.entries == 0 && devices.iter().all(|device| device.counted.unwrap_or(0) == 0);
    let nothing_left = unreachable && list.iter().any(hides_mappings);
    let verdict = match totals {
        Totals { damage: 0, .. } if totals.sum() == 0 => Verdict::Clean,
        Totals { damage: 0, .. } => Verdict::Reported,
        _ if nothing_left => Verdict::Unusable,
        _ => Verdict::Damaged,
    };
    let figures =
        Figures { nodes, mappings: mappings.entries, chunks_used: mappings.chunks.non_zero(), underfull_nodes };
    let omitted = totals.sum().saturating_sub(list.len() as u64);
    Check { verdict, totals, omitted, figures, devices, findings: list }
}

/// Whether the finding is a hole in the device tree or in a mapping tree.
fn hides_mappings(finding: &Finding) -> bool {
    let in_trees = matches!(finding.place.structure, Structure::Devices { .. } | Structure::Mapping { .. });
    in_trees && matches!(finding.kind, Kind::Lost { .. } | Kind::NoTree { .. })
}
