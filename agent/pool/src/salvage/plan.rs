//! The work of a salvage, step by step, on one chosen generation.

use super::adopt::{Adoption, Evidence, Holder, adopt};
use super::ages::Ages;
use super::borrow::{self, Wish};
use super::choose::Candidate;
use super::classify::{Classifier, tiers_whole};
use super::committed::Committed;
use super::history::{Chronicle, MOST_PASTS, Past};
use super::lineage::Lineage;
use super::options::{Adopted, Generation, Origin, SalvageOptions, SalvageReport, SalvagedDevice};
use super::orphan::{Orphan, follow_unreached, orphans};
use super::reach::{Reach, Tree};
use super::scan::Scan;
use super::synthesize::Synthesizer;
use super::{Salvage, is_ordinary};
use super::{hidden, maps};
use crate::blocks::{Blocks, Patches};
use crate::error::PoolError;
use crate::pool::Pool;
use crate::ring::Ring;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::thin::ring::SLOTS;
use tierlift_ondisk::thin::{BlockKind, DeviceDetails, Family, Node, NodeKind, Superblock, flags};
use tierlift_ondisk::units::{DeviceId, MetaBlock};

/// Inner nodes looked at when searching which devices a lost node belongs to.
const MOST_STEPS: usize = 10_000_000;

pub(super) struct Work<'a> {
    pub(super) scan: &'a mut Scan,
    pub(super) ring: &'a Ring,
    pub(super) superblock: Superblock,
    pub(super) family: Family,
    pub(super) blocks: Blocks,
    pub(super) synthesizer: Synthesizer,
    pub(super) holders: Vec<Holder>,
    pub(super) undecided: usize,
    pub(super) roots: BTreeMap<u64, Origin>,
    pub(super) records: BTreeMap<u64, Origin>,
    pub(super) notes: Vec<String>,
    tiers_unknown: bool,
}

/// Salvages one generation.
///
/// # Errors
/// When its superblock cannot be handled.
pub(super) fn carry_out(
    blocks: &Blocks,
    scan: &mut Scan,
    ring: &Ring,
    candidate: Candidate,
    contradictions: u64,
    wishes: &[Wish],
    options: &SalvageOptions,
) -> Result<Salvage, PoolError> {
    let superblock = candidate.superblock;
    let pool = Pool::with_blocks(blocks.clone(), superblock.clone())?;
    let family = options.family.unwrap_or_else(|| pool.family());
    let find = |wish: &Wish| {
        let superblock = &wish.latest;
        let chronicle = Chronicle { blocks: pool.blocks(), scan, ring, superblock, family, most: SLOTS as usize };
        borrow::find(&chronicle, wish)
    };
    let borrowed: Vec<_> = wishes.iter().map(find).collect::<Result<_, _>>()?;
    let (flipped_bits, displaced) = (scan.flipped_bits(), scan.displaced.len());
    let (broken, unreadable) = (scan.broken, scan.unreadable);
    let mut work = Work {
        scan,
        ring,
        blocks: pool.blocks().clone(),
        synthesizer: Synthesizer::new(blocks.size(), scan_patches(blocks)),
        superblock,
        family,
        holders: Vec::new(),
        undecided: 0,
        roots: BTreeMap::new(),
        records: BTreeMap::new(),
        notes: Vec::new(),
        tiers_unknown: false,
    };
    let undecided = work.run(contradictions == 0);
    let adopted = work.settle();
    let chosen_devices = work.graft_all(&borrowed)?;
    let devices = work.devices(&work.records());
    work.tell_unknown_tiers(candidate.generation);
    let lost_blocks = work.lost_blocks();
    let lost_map_blocks = maps::lost_blocks(&work.blocks, work.scan, &work.superblock);
    let lost_mappings = lost_mappings(&devices).saturating_add(work.lost_without_record(&undecided));
    let unattributed = if options.unattributed { work.hand_out(&undecided) } else { Vec::new() };
    let pool = Pool::with_blocks(work.patched(), work.superblock.clone())?.with_family(family);
    let report = SalvageReport {
        generation: candidate.generation,
        reason: candidate.reason,
        rival: candidate.rival,
        newest_copy: ring.newest_place(),
        contradictions,
        flipped_bits,
        displaced,
        broken,
        unreadable,
        adopted,
        undecided: work.undecided,
        unattributed,
        devices,
        chosen_devices,
        lost_mappings,
        lost_blocks,
        lost_map_blocks,
        notes: work.notes,
    };
    Ok(Salvage { pool, report })
}

/// Mappings that the devices' records count and that were not found.
fn lost_mappings(devices: &[SalvagedDevice]) -> u64 {
    let lost = |device: &SalvagedDevice| device.recorded.unwrap_or(0).saturating_sub(device.found);
    devices.iter().map(lost).fold(0, u64::saturating_add)
}

fn scan_patches(blocks: &Blocks) -> Patches {
    blocks.patches().clone()
}

impl Work<'_> {
    pub(super) fn patched(&self) -> Blocks {
        self.blocks.clone().with_patches(self.synthesizer.patches.clone())
    }

    pub(super) fn reach(&self) -> Reach {
        Reach::from_superblock(&self.patched(), self.scan, &self.superblock)
    }

    /// Answers the orphans that nothing could be found for at first.
    fn run(&mut self, trusted: bool) -> Vec<Orphan> {
        let mut reach = self.reach();
        let mut undecided = Vec::new();
        if trusted {
            let committed = Committed::load(&self.blocks, self.scan, &self.superblock.metadata_map, &reach);
            let classifier = Classifier {
                blocks: &self.blocks,
                scan: self.scan,
                superblock: &self.superblock,
                family: self.family,
                tiers_whole: tiers_whole(&self.superblock, &reach),
            };
            follow_unreached(&classifier, &committed, &mut reach);
            let orphans = orphans(&self.blocks, self.scan, &committed, &reach);
            undecided = self.adopt_all(&orphans, &reach, &committed);
        }
        self.restore_roots(&undecided);
        self.restore_details();
        undecided
    }

    /// Puts lost inner nodes of every tree together again; hands back the orphans no inner node could have held.
    fn adopt_all(&mut self, orphans: &[Orphan], reach: &Reach, committed: &Committed) -> Vec<Orphan> {
        let held_unknown =
            is_ordinary(self.superblock.held_root) && !self.scan.superblocks.contains_key(&self.superblock.held_root);
        let roots_lost = reach.dangling.values().any(|lost| lost.tree == Tree::Roots);
        let ring = if self.superblock.has(flags::SUPERBLOCK_BACKUP) { SLOTS } else { 0 };
        let ring = MetaBlock(self.superblock.metadata_map.nr_blocks.saturating_sub(ring));
        let unnamed = committed.unnamed(self.scan, reach, ring);
        let all_named = unnamed.as_ref().is_some_and(Vec::is_empty);
        let mut rest = Vec::new();
        for tree in [Tree::Mapping, Tree::Tier, Tree::Details, Tree::Roots] {
            let rivals = held_unknown && tree != Tree::Tier || roots_lost && tree == Tree::Mapping;
            let plain = Evidence { all_named, ..Evidence::plain(reach, self.scan) };
            let mut adoption = adopt(tree, orphans, &plain, rivals);
            if tree == Tree::Mapping && !rivals && !adoption.undecided.is_empty() && !adoption.holders.is_empty() {
                adoption = self.adopt_by_history(orphans, reach, committed, unnamed.as_deref());
            }
            adoption.holders.retain(|holder| !holder.children.is_empty());
            for holder in &adoption.holders {
                self.synthesizer.inner(self.scan, holder.block, holder.window, &holder.children, true);
            }
            self.holders.extend(adoption.holders);
            rest.extend(adoption.undecided);
        }
        self.undecided = rest.len();
        rest
    }

    /// Adoption of parts of mapping trees with all that older generations and the ages of entries tell. `unnamed` are lost
    /// blocks that no present pointer names.
    fn adopt_by_history(
        &self,
        orphans: &[Orphan],
        reach: &Reach,
        committed: &Committed,
        unnamed: Option<&[MetaBlock]>,
    ) -> Adoption {
        let children = orphans.iter().map(|orphan| orphan.child.block);
        let lost = reach.dangling.keys().chain(reach.device_roots.values()).chain(unnamed.unwrap_or_default()).copied();
        let pasts = self.pasts(committed, children.chain(lost));
        let records = self.records();
        let lineage = Lineage::new(&self.blocks, self.scan, &reach.device_roots, &records, &pasts);
        let named = hidden::named_by(&pasts, unnamed.unwrap_or_default());
        let hidden: Vec<_> = named.iter().filter(|(_, lost)| lost.height != Some(0)).cloned().collect();
        let mut ours: Vec<_> = orphans.iter().filter(|orphan| orphan.tree == Tree::Mapping).copied().collect();
        ours.extend(hidden::orphans(&hidden, committed));
        let owners = self.owners_of_lost(reach);
        let least_height = hidden::least_heights(&records, self.blocks.size());
        let evidence = Evidence {
            pasts: &pasts,
            lineage: Some(&lineage),
            owners: &owners,
            hidden: &hidden,
            least_height: &least_height,
            all_named: unnamed.is_some_and(|unnamed| unnamed.len() == named.len()),
            ..Evidence::plain(reach, self.scan)
        };
        let adoption = adopt(Tree::Mapping, &ours, &evidence, false);
        let unchanged = |device: u64| {
            reach.device_roots.get(&device).is_some_and(|root| pasts.iter().all(|past| past.had(device, *root)))
        };
        let ages = Ages::new(&self.blocks, self.family, &ours, &records, &unchanged);
        if adoption.undecided.is_empty() || ages.is_empty() {
            return adoption;
        }
        let by_age = adopt(Tree::Mapping, &ours, &Evidence { ages: Some(&ages), ..evidence }, false);
        // A snapshot that was written to after all shows: what it wrote fits nowhere then.
        if by_age.homeless { adoption } else { by_age }
    }

    /// Devices whose trees, as far as they can be seen, point at each lost block.
    fn owners_of_lost(&self, reach: &Reach) -> BTreeMap<MetaBlock, BTreeSet<u64>> {
        let mut owners: BTreeMap<MetaBlock, BTreeSet<u64>> = BTreeMap::new();
        let mut steps = 0_usize;
        for (device, root) in &reach.device_roots {
            let mut open = vec![*root];
            while let Some(block) = open.pop().filter(|_| steps < MOST_STEPS) {
                steps = steps.saturating_add(1);
                if reach.dangling.contains_key(&block) {
                    owners.entry(block).or_default().insert(*device);
                } else if reach.facts.get(&block).is_some_and(|fact| !fact.whole) {
                    open.extend(children_of(&self.blocks, block).into_iter().map(MetaBlock));
                }
            }
        }
        owners
    }

    pub(super) fn chronicle(&self) -> Chronicle<'_> {
        Chronicle {
            blocks: &self.blocks,
            scan: self.scan,
            ring: self.ring,
            superblock: &self.superblock,
            family: self.family,
            most: MOST_PASTS,
        }
    }

    /// The generations before this one, with the lives of blocks of interest.
    pub(super) fn pasts(&self, committed: &Committed, interest: impl Iterator<Item = MetaBlock>) -> Vec<Past> {
        self.chronicle().pasts(committed, interest)
    }

    /// Holds what was put together against the devices' records: takes back what is too much, closes gaps where nothing is
    /// missing.
    fn settle(&mut self) -> Vec<Adopted> {
        let before = self.reach();
        let records = self.records();
        let proven = |id: &u64| !self.records.contains_key(id);
        let too_many: Vec<_> =
            counts(&before, &records).filter(|(id, found, recorded)| proven(id) && found > recorded).collect();
        let taken_back = self.holders_below(&before, too_many.iter().map(|(id, ..)| *id));
        for block in &taken_back {
            self.synthesizer.patches.remove(block);
            self.scan.nodes.remove(block);
        }
        if !taken_back.is_empty() {
            self.notes.push(format!(
                "{} lost nodes were not put together again, because a device would have had more mappings than its record says",
                taken_back.len()
            ));
        }
        let after = self.reach();
        let exact: Vec<_> =
            counts(&after, &records).filter(|(id, found, recorded)| proven(id) && found == recorded).collect();
        let complete = self.holders_below(&after, exact.iter().map(|(id, ..)| *id));
        let complete: BTreeSet<_> = complete.into_iter().chain(self.complete_tiers(&after)).collect();
        self.holders.retain(|holder| !taken_back.contains(&holder.block));
        for holder in self.holders.iter().filter(|holder| complete.contains(&holder.block)) {
            self.synthesizer.inner(self.scan, holder.block, holder.window, &holder.children, false);
        }
        let adopted = |holder: &Holder| Adopted {
            block: holder.block,
            children: holder.children.len(),
            complete: complete.contains(&holder.block),
        };
        self.holders.iter().map(adopted).collect()
    }

    /// Without any superblock it is not known whether the pool has tiers, and so not where its chunks lie.
    fn tell_unknown_tiers(&mut self, generation: Generation) {
        let by_scan = matches!(generation, Generation::Index { .. } | Generation::Trees { .. });
        self.tiers_unknown =
            by_scan && self.family == Family::Qnap && self.superblock.tier_num == 0 && self.superblock.version >= 4;
        if self.tiers_unknown {
            self.notes.push(
                "no superblock is left to tell the pool's tiers: the volumes' mappings are right, but where their data lie is only \
                 known if all data were on one tier (bypass)"
                    .to_owned(),
            );
        }
    }

    /// Blocks of devices, records and tiers that stay lost.
    fn lost_blocks(&self) -> usize {
        let ours = |tree: Tree| matches!(tree, Tree::Mapping | Tree::Roots | Tree::Details | Tree::Tier);
        let lost = self.reach().dangling.values().filter(|lost| ours(lost.tree)).count();
        lost.saturating_add(usize::from(self.tiers_unknown))
    }

    /// Mappings in parts of trees that no device was found for, where no record counts them.
    fn lost_without_record(&self, undecided: &[Orphan]) -> u64 {
        let reach = self.reach();
        if !reach.dangling.values().any(|lost| lost.tree == Tree::Details) {
            return 0;
        }
        let homeless = undecided.iter().filter(|orphan| !reach.facts.contains_key(&orphan.child.block));
        let ours = homeless.filter(|orphan| orphan.tree == Tree::Mapping);
        let times = |orphan: &Orphan| orphan.entries.saturating_mul(orphan.lacks.unwrap_or(1).into());
        ours.map(times).fold(0, u64::saturating_add)
    }

    /// Nodes of the tier tree, when every allocated tier block is mapped.
    fn complete_tiers(&self, reach: &Reach) -> Vec<MetaBlock> {
        let maps = self.superblock.tier_maps.iter().take(self.superblock.tier_num as usize);
        let allocated: u64 = maps.map(|map| map.nr_allocated).fold(0, u64::saturating_add);
        let found = reach.facts.get(&self.superblock.tier_root).map_or(0, |fact| fact.entries);
        let tier = |holder: &&Holder| holder.tree == Tree::Tier && found == allocated;
        self.holders.iter().filter(tier).map(|holder| holder.block).collect()
    }

    pub(super) fn records(&self) -> BTreeMap<u64, DeviceDetails> {
        let pool = Pool::with_blocks(self.patched(), self.superblock.clone());
        pool.map(|pool| pool.details().found.into_iter().collect()).unwrap_or_default()
    }

    /// The nodes put together again that belong to these devices.
    fn holders_below(&self, reach: &Reach, devices: impl Iterator<Item = u64>) -> BTreeSet<MetaBlock> {
        let ours: BTreeSet<_> = self.holders.iter().map(|holder| holder.block).collect();
        let blocks = self.patched();
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open: Vec<_> = devices.filter_map(|id| reach.device_roots.get(&id).copied()).collect();
        let mut steps = 0_usize;
        while let Some(block) = open.pop() {
            steps = steps.saturating_add(1);
            // Whole subtrees hold nothing that was put together with gaps.
            let fact = reach.facts.get(&block).filter(|fact| !fact.whole);
            if fact.is_none() || steps > MOST_STEPS || !seen.insert(block) {
                continue;
            }
            if ours.contains(&block) {
                found.insert(block);
            }
            open.extend(children_of(&blocks, block).into_iter().map(MetaBlock));
        }
        found
    }

    fn devices(&self, records: &BTreeMap<u64, DeviceDetails>) -> Vec<SalvagedDevice> {
        let reach = self.reach();
        let ids: BTreeSet<u64> = records.keys().chain(reach.device_roots.keys()).copied().collect();
        let device = |id: u64| {
            let record = match (self.records.get(&id), records.contains_key(&id)) {
                (Some(origin), _) => *origin,
                (None, true) => Origin::Committed,
                (None, false) => Origin::Lost,
            };
            let root = match (self.roots.get(&id), reach.device_roots.contains_key(&id)) {
                (Some(origin), _) => *origin,
                (None, true) => Origin::Committed,
                (None, false) => Origin::Lost,
            };
            let found =
                reach.device_roots.get(&id).and_then(|root| reach.facts.get(root)).map_or(0, |fact| fact.entries);
            let recorded = records.get(&id).filter(|_| record != Origin::Blank).map(|record| record.mapped.0);
            SalvagedDevice { id: DeviceId(id), recorded, found, record, root }
        };
        ids.into_iter().map(device).collect()
    }
}

/// Id, mappings found and mappings recorded of each device that has both.
fn counts<'a>(
    reach: &'a Reach,
    records: &'a BTreeMap<u64, DeviceDetails>,
) -> impl Iterator<Item = (u64, u64, u64)> + 'a {
    reach.device_roots.iter().filter_map(|(id, root)| {
        let found = reach.facts.get(root)?.entries;
        Some((*id, found, records.get(id)?.mapped.0))
    })
}

/// The blocks an inner node points at.
pub(super) fn children_of(blocks: &Blocks, block: MetaBlock) -> BTreeSet<u64> {
    let mut buffer = Vec::new();
    if blocks.read(block, BlockKind::Node, &mut buffer).is_err() {
        return BTreeSet::new();
    }
    match Node::decode(&buffer) {
        Ok(node) if node.kind() == NodeKind::Internal => node.entries_u64().map(|(_, child)| child).collect(),
        _ => BTreeSet::new(),
    }
}
