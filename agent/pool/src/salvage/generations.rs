//! All generations that can still be seen: block 0, the ring's copies, and those found by their space-map index; each with
//! what speaks for and against it.

use super::choose::{self, Candidate};
use super::options::{Generation, SalvageOptions};
use super::reach::{Reach, Tree};
use super::scan::Scan;
use super::{from_index, pick, scan_at_best_size};
use crate::blocks::{Blocks, View};
use crate::error::PoolError;
use crate::ring::Ring;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::thin::{NodeKind, Superblock};
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// One generation.
#[derive(Debug, Clone, Serialize)]
pub struct GenerationView {
    /// Which one.
    #[serde(flatten)]
    pub generation: Generation,
    /// The one a salvage uses unless told otherwise.
    pub chosen: bool,
    /// Sequence number, for a copy.
    pub backup_id: Option<u64>,
    /// Commits between it and the newest copy, when both have a number.
    pub commits_behind: Option<u64>,
    /// Transaction id.
    pub transaction: u64,
    /// Pool time.
    pub time: u32,
    /// What speaks against its being whole: blocks it needs that were freed and used again since.
    pub contradictions: u64,
    /// Blocks of its trees that cannot be used.
    pub lost_blocks: u64,
    /// Devices with the mappings that can be reached; nothing put together again is counted.
    pub devices: BTreeMap<DeviceId, u64>,
    /// Mappings that it shares, leaf by leaf, with the chosen generation.
    pub shared: u64,
    /// Mappings in leaves that the chosen generation does not have: other contents, or the same rewritten.
    pub only_here: u64,
    /// Mappings in leaves of the chosen generation that this one does not have.
    pub only_chosen: u64,
    /// In words: whether it can be trusted, and why.
    pub verdict: String,
}

/// Looks at every generation there is. The chosen one comes first, then the others from new to old.
///
/// # Errors
/// As [`super::salvage`].
pub fn generations(
    metadata: View,
    options: &SalvageOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<GenerationView>, PoolError> {
    let (blocks, scan) = scan_at_best_size(&metadata, options.block_size, progress)?;
    let ring = choose::ring(&blocks, &scan);
    let chosen = pick::pick(&blocks, &scan, &ring, options);
    let chosen = chosen.ok_or_else(|| super::missing(&metadata, &scan, &ring, options))?.0;
    let mut all = choose::all(&scan, &ring);
    let known: BTreeSet<_> = all.iter().map(|known| known.superblock.metadata_map.bitmap_root).collect();
    let found = from_index::candidates(&blocks, &scan, Some(&chosen.superblock), &options.hints);
    all.extend(
        found
            .into_iter()
            .map(|(found, _)| found)
            .filter(|found| !known.contains(&found.superblock.metadata_map.bitmap_root)),
    );
    if !all.iter().any(|one| one.generation == chosen.generation) {
        all.push(chosen.clone());
    }
    let viewer = Viewer { blocks: &blocks, scan: &scan, ring: &ring, chosen: &chosen };
    let reference = viewer.leaves(&chosen);
    let mut views: Vec<_> = all.iter().map(|one| viewer.view(one, &reference)).collect();
    views.sort_by_key(|view| (!view.chosen, std::cmp::Reverse(view.backup_id)));
    Ok(views)
}

struct Viewer<'a> {
    blocks: &'a Blocks,
    scan: &'a Scan,
    ring: &'a Ring,
    chosen: &'a Candidate,
}

impl Viewer<'_> {
    fn reach(&self, candidate: &Candidate) -> Reach {
        let count = candidate.superblock.metadata_map.nr_blocks;
        Reach::from_superblock(&self.blocks.clone().with_recorded_count(count), self.scan, &candidate.superblock)
    }

    /// Leaves of mapping trees with their numbers of entries.
    fn leaves(&self, candidate: &Candidate) -> BTreeMap<MetaBlock, u64> {
        mapping_leaves(&self.reach(candidate), self.scan)
    }

    fn view(&self, candidate: &Candidate, reference: &BTreeMap<MetaBlock, u64>) -> GenerationView {
        let reach = self.reach(candidate);
        let leaves = mapping_leaves(&reach, self.scan);
        let total = |leaves: &BTreeMap<MetaBlock, u64>, other: &BTreeMap<MetaBlock, u64>, shared: bool| {
            let chosen = leaves.iter().filter(|(block, _)| other.contains_key(*block) == shared);
            chosen.map(|(_, entries)| *entries).fold(0, u64::saturating_add)
        };
        let contradictions = choose::contradictions(self.blocks, self.scan, &candidate.superblock);
        let found = |root: &MetaBlock| reach.facts.get(root).map_or(0, |fact| fact.entries);
        let backup_id = self.backup_id(candidate);
        let newest = self.ring.newest().map(|(_, newest)| newest.backup_id);
        let mut view = GenerationView {
            generation: candidate.generation,
            chosen: candidate.generation == self.chosen.generation,
            backup_id,
            commits_behind: newest.zip(backup_id).and_then(|(newest, own)| newest.checked_sub(own)),
            transaction: candidate.superblock.transaction,
            time: candidate.superblock.time,
            contradictions,
            lost_blocks: reach.dangling.len() as u64,
            devices: reach.device_roots.iter().map(|(id, root)| (DeviceId(*id), found(root))).collect(),
            shared: total(&leaves, reference, true),
            only_here: total(&leaves, reference, false),
            only_chosen: total(reference, &leaves, false),
            verdict: String::new(),
        };
        view.verdict = verdict(&view);
        view
    }

    fn backup_id(&self, candidate: &Candidate) -> Option<u64> {
        let same = |copy: &&(MetaBlock, Superblock)| match candidate.generation {
            Generation::Copy { block } => copy.0 == block,
            _ => copy.1.same_state(&candidate.superblock),
        };
        self.ring.copies.iter().rev().find(same).map(|(_, copy)| copy.backup_id)
    }
}

fn mapping_leaves(reach: &Reach, scan: &Scan) -> BTreeMap<MetaBlock, u64> {
    let is_leaf = |block: &MetaBlock| scan.nodes.get(block).is_some_and(|node| node.kind == NodeKind::Leaf);
    let leaves = reach.facts.iter().filter(|(block, fact)| fact.tree == Tree::Mapping && is_leaf(block));
    leaves.map(|(block, fact)| (*block, fact.entries)).collect()
}

fn verdict(view: &GenerationView) -> String {
    let holes = match view.lost_blocks {
        0 => String::new(),
        lost => format!("; {lost} of its blocks cannot be used"),
    };
    let trust = match (view.contradictions, view.commits_behind) {
        (0, Some(0)) => "the newest commit, and nothing contradicts it".to_owned(),
        (0, Some(1)) => "one commit old; nothing it needs was overwritten".to_owned(),
        (0, Some(commits)) => {
            format!("{commits} commits old; nothing it needs was seen to be overwritten, but user data may be")
        }
        (0, None) => "nothing contradicts it; its age is unknown".to_owned(),
        (many, Some(0)) => format!("the newest commit, but {many} blocks contradict its space map"),
        (many, _) => format!("not to be trusted: {many} of its blocks were freed and used again since"),
    };
    format!("{trust}{holes}")
}
