//! What speaks for or against one disk in one role.

use super::assignment::{self, Best};
use super::candidates::Candidates;
use super::rows::Facts;
use super::shapes::Shape;
use crate::discover::sampling::Block;
use crate::discover::verify::blocks_of;
use crate::discover::{Search, read};
use crate::inventory::{LogicalVolumeKind, PvPlace, StretchTarget, VolumeGroup};
use crate::volume::group::{find_group, read_group};
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::lvm_history::{Extent, texts_in_area};
use tierlift_ondisk::lvm_label::{LABEL_BYTES, Label};
use tierlift_ondisk::lvm_text::parse;
use tierlift_ondisk::raid::{Geometry, Run, Target};
use tierlift_ondisk::thin::{BlockSize, identify, own_number};
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// LVM's label lies here, and its texts in the first MiB of the array.
const LABEL_SECTOR: Sectors = Sectors(1);
const TEXT_BYTES: usize = 2 << 20;
/// Texts and metadata volumes that are followed.
const MOST_TEXTS: usize = 32;
const MOST_PARTS: usize = 8;
/// Blocks of metadata that are looked for, for each size of block and volume.
const MOST_BLOCKS: usize = 256;

/// The pieces of a metadata volume: where in it, where on the array, how long.
pub(super) type Parts = Vec<(Sectors, Sectors, Sectors)>;

/// Where pool metadata may lie on the array, by every text that can be found: on the disks themselves, where a text is whole
/// within one chunk, and in backups.
pub(super) fn metadata_parts(search: &Search, candidates: &Candidates) -> Vec<Parts> {
    let mut texts: BTreeSet<Vec<u8>> = search.texts.iter().map(|text| text.bytes.clone()).collect();
    for disk in &candidates.disks {
        let length = TEXT_BYTES.min(usize::try_from(disk.view.size().0).unwrap_or(usize::MAX));
        let bytes = read(&disk.view, 0, length).unwrap_or_default();
        texts.extend(
            texts_in_area(&bytes).into_iter().filter(|text| text.extent == Extent::Whole).map(|text| text.bytes),
        );
    }
    let volumes: BTreeSet<String> =
        candidates.disks.iter().filter_map(|disk| label(&disk.view)).map(|label| label.id).collect();
    let mut all = Vec::new();
    for text in texts.into_iter().take(MOST_TEXTS) {
        let Ok(parsed) = parse(&text) else { continue };
        let Some((name, section)) = find_group(&parsed) else { continue };
        // Where its volumes lie on their disks is not known yet; where on the physical volume is.
        let group = read_group(name, section, |_| Some(PvPlace::Array(usize::MAX)));
        all.extend(parts_of(&group, &volumes));
    }
    all.sort_unstable();
    all.dedup();
    all.truncate(MOST_PARTS);
    all
}

fn label(view: &dyn ReadAt) -> Option<Label> {
    let bytes = read(view, LABEL_SECTOR.to_bytes()?.0, LABEL_BYTES)?;
    Label::decode(&bytes).ok().filter(|label| label.checksum_ok)
}

/// The metadata volumes of a group as far as they lie on the physical volume with one of these ids, or on any when no id is
/// known.
fn parts_of(group: &VolumeGroup, ids: &BTreeSet<String>) -> Vec<Parts> {
    let pools = group.logical_volumes.iter().filter_map(|volume| match &volume.kind {
        LogicalVolumeKind::Pool(pool) => Some(pool.metadata.as_str()),
        _ => None,
    });
    let mut all = Vec::new();
    for metadata in pools {
        let volume = group.logical_volumes.iter().find(|volume| volume.name == metadata);
        let Some(LogicalVolumeKind::Mapped(stretches)) = volume.map(|volume| &volume.kind) else { continue };
        for (index, volume) in group.physical_volumes.iter().enumerate() {
            if !ids.is_empty() && !ids.contains(&volume.id) {
                continue;
            }
            let (mut parts, mut start) = (Vec::new(), Sectors(0));
            for stretch in stretches {
                if let StretchTarget::Pv(_, sector) = stretch.target {
                    let here = matches!(stretch.target, StretchTarget::Pv(pv, _) if pv == index);
                    parts.extend(here.then_some((start, sector, stretch.length)));
                }
                start = Sectors(start.0.saturating_add(stretch.length.0));
            }
            all.extend((!parts.is_empty()).then_some(parts));
        }
    }
    all
}

/// Blocks of metadata, and on which disks each lies where it must for one chunk size and number of data members.
pub(super) struct Blocks {
    found: Vec<(Block, Vec<usize>)>,
}

impl Blocks {
    pub(super) fn look(candidates: &Candidates, parts: &[Parts], data_members: usize, chunk: Sectors) -> Self {
        let mut found = Vec::new();
        for size in BlockSize::PROBE_ORDER {
            for parts in parts {
                let blocks = blocks_of(parts, size, MOST_BLOCKS);
                let here = blocks.into_iter().map(|block| (block, on(candidates, &block, data_members, chunk)));
                found.extend(here.filter(|(_, disks)| !disks.is_empty()));
            }
        }
        Self { found }
    }
}

/// The disks on which the block lies: its checksum is right, and it is the one that belongs there.
fn on(candidates: &Candidates, block: &Block, data_members: usize, chunk: Sectors) -> Vec<usize> {
    let sector = || {
        let number = block.sector.0.checked_div(chunk.0)?;
        let inside = block.sector.0.checked_rem(chunk.0)?;
        let sectors = block.size.bytes() as u64 / 512;
        let row = number.checked_div(data_members as u64)?;
        // One that goes over the end of a chunk lies on two disks.
        (inside.checked_add(sectors)? <= chunk.0).then_some(Sectors(row.checked_mul(chunk.0)?.checked_add(inside)?))
    };
    let Some(sector) = sector() else { return Vec::new() };
    let is_here = |view: &dyn ReadAt| {
        let mut bytes = vec![0; block.size.bytes()];
        let read = sector.to_bytes().is_some_and(|offset| view.read_at(offset, &mut bytes).is_ok());
        read && identify(&bytes).is_some() && own_number(&bytes).is_some_and(|number| number.0 == block.number)
    };
    candidates.disks.iter().enumerate().filter(|(_, disk)| is_here(&disk.view)).map(|(disk, _)| disk).collect()
}

/// What speaks for and against each disk in each role of one shape.
pub(super) struct Votes {
    /// By role and disk: blocks of metadata that lie where they must.
    hits: BTreeMap<(usize, usize), u64>,
    /// Rows of chunks in which the disk holds what this role must hold.
    holds: BTreeMap<(usize, usize), u64>,
    /// Rows of chunks in which it does not.
    denied: BTreeMap<(usize, usize), u64>,
    /// The role LVM's label lies on, and the disks that have it.
    label: Option<(usize, Vec<usize>)>,
    roles: usize,
    /// The blocks that were found.
    pub(super) blocks: Vec<Block>,
}

impl Votes {
    pub(super) fn count(candidates: &Candidates, facts: &Facts, shape: &Shape, blocks: &Blocks) -> Option<Self> {
        let geometry = shape.geometry(candidates)?;
        let labels: Vec<usize> = (0..candidates.disks.len())
            .filter(|disk| candidates.view(*disk).is_some_and(|view| label(&view).is_some()))
            .collect();
        let first = role_of(&geometry, LABEL_SECTOR)?;
        let mut votes = Self {
            hits: BTreeMap::new(),
            holds: BTreeMap::new(),
            denied: BTreeMap::new(),
            label: (!labels.is_empty()).then_some((first, labels)),
            roles: shape.members,
            blocks: blocks.found.iter().map(|(block, _)| *block).collect(),
        };
        for (block, disks) in &blocks.found {
            let Some(role) = role_of(&geometry, block.sector) else { continue };
            for disk in disks {
                add(&mut votes.hits, (role, *disk));
            }
        }
        if shape.missing(candidates) == 0 && candidates.disks.len() == shape.members {
            votes.of_rows(facts, shape, &geometry);
        }
        Some(votes)
    }

    /// Rows of the same chunks say the same, so they count once.
    fn of_rows(&mut self, facts: &Facts, shape: &Shape, geometry: &Geometry) {
        let (mut holds, mut denied) = (BTreeSet::new(), BTreeSet::new());
        for row in &facts.rows {
            let (Some(roles), Some(stripe)) = (geometry.row_of(row.sector), row.sector.0.checked_div(shape.chunk.0))
            else {
                continue;
            };
            match roles.q {
                Some(q) => {
                    // Which one is the second syndrome is clear where only one can be.
                    if let [disk] = row.sum.as_slice() {
                        holds.insert((stripe, q, *disk));
                        let others = (0..row.full.len()).filter(|other| other != disk);
                        denied.extend(others.map(|other| (stripe, q, other)));
                        let empty = row.full.iter().enumerate().filter(|(_, full)| !**full);
                        denied.extend(empty.map(|(disk, _)| (stripe, roles.p, disk)));
                    }
                }
                None if row.cancels => {
                    let empty = row.full.iter().enumerate().filter(|(_, full)| !**full);
                    denied.extend(empty.map(|(disk, _)| (stripe, roles.p, disk)));
                }
                None => {}
            }
        }
        holds.into_iter().for_each(|(_, role, disk)| add(&mut self.holds, (role, disk)));
        denied.into_iter().for_each(|(_, role, disk)| add(&mut self.denied, (role, disk)));
    }

    fn of(votes: &BTreeMap<(usize, usize), u64>, role: usize, disk: usize) -> u64 {
        votes.get(&(role, disk)).copied().unwrap_or_default()
    }

    pub(super) fn hits(&self, role: usize, disk: usize) -> u64 {
        Self::of(&self.hits, role, disk)
    }

    /// The best order.
    pub(super) fn assign(&self, candidates: &Candidates, shape: &Shape) -> Option<Best> {
        let disks = candidates.disks.len();
        let allowed = |role: usize, disk: usize| {
            let labelled = self.label.as_ref().is_none_or(|(first, labels)| role != *first || labels.contains(&disk));
            let fixed = candidates.frame.as_ref().and_then(|frame| *frame.fixed.get(disk)?);
            let others = candidates.frame.as_ref().is_some_and(|frame| frame.fixed.contains(&Some(role)));
            labelled && fixed.map_or(!others, |fixed| fixed == role)
        };
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let weight = |role: usize, disk: usize| {
            let good = self.hits(role, disk).saturating_add(Self::of(&self.holds, role, disk));
            let bad = Self::of(&self.denied, role, disk);
            allowed(role, disk).then(|| signed(good).saturating_sub(signed(bad)))
        };
        let weights: Vec<Vec<Option<i64>>> =
            (0..self.roles).map(|role| (0..disks).map(|disk| weight(role, disk)).collect()).collect();
        assignment::best(&weights, disks, shape.missing(candidates).max(self.roles.saturating_sub(disks)))
    }

    fn sum(&self, votes: &BTreeMap<(usize, usize), u64>, order: &[Option<usize>]) -> u64 {
        let each = order.iter().enumerate().filter_map(|(role, disk)| Some(Self::of(votes, role, (*disk)?)));
        each.fold(0, u64::saturating_add)
    }

    /// What speaks against an order.
    pub(super) fn against(&self, order: &[Option<usize>]) -> u64 {
        self.sum(&self.denied, order)
    }

    /// What speaks for an order: also what speaks against all others.
    pub(super) fn support(&self, order: &[Option<usize>]) -> u64 {
        let denied: u64 = self.denied.values().fold(0, |all, count| all.saturating_add(*count));
        let others = denied.saturating_sub(self.against(order));
        self.sum(&self.hits, order).saturating_add(self.sum(&self.holds, order)).saturating_add(others)
    }

    /// The evidence for an order, in sentences.
    pub(super) fn told(&self, order: &[Option<usize>]) -> Vec<String> {
        let mut told = Vec::new();
        let label = self
            .label
            .as_ref()
            .filter(|(role, labels)| order.get(*role).copied().flatten().is_some_and(|disk| labels.contains(&disk)));
        if let Some((role, _)) = label {
            told.push(format!("LVM's label lies on the disk in role {role}, where the array begins"));
        }
        let hits = self.sum(&self.hits, order);
        if hits > 0 {
            told.push(format!("{hits} blocks of pool metadata, which know their own number, lie where they belong"));
        }
        let holds = self.sum(&self.holds, order);
        if holds > 0 {
            told.push(format!("in {holds} rows of chunks the second syndrome lies where it belongs"));
        }
        let against = self.against(order);
        let denied: u64 = self.denied.values().fold(0, |all, count| all.saturating_add(*count));
        if denied > against {
            told.push(format!(
                "empty parts of {} rows of chunks rule out other orders; {against} speak against this one",
                denied.saturating_sub(against)
            ));
        }
        told
    }
}

fn role_of(geometry: &Geometry, sector: Sectors) -> Option<usize> {
    match geometry.locate(sector)? {
        Run { target: Target::Copies(places), .. } => places.first().map(|place| place.role),
        Run { target: Target::Parity(place, _), .. } => Some(place.role),
    }
}

fn add(votes: &mut BTreeMap<(usize, usize), u64>, key: (usize, usize)) {
    let count = votes.entry(key).or_default();
    *count = count.saturating_add(1);
}
