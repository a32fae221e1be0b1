//! Arrays whose superblocks are gone: level, chunk size, layout and order of the members from what lies on them
//! ("docs/disk-layout, section 2.10").
//!
//! No order is tried as a whole. Each piece of evidence speaks for or against one disk in one role of one shape of array: blocks
//! of pool metadata know their own number and so where they must lie; a member of zeros where others have data does not hold
//! the parity; the second syndrome of RAID 6 is what the rest does not sum up to. The order is the assignment of disks to roles
//! for which most speaks, and it is proposed only when every other one is clearly worse. Reading is bounded, whatever is found.

mod assignment;
mod candidates;
mod evidence;
mod rows;
mod shapes;

use super::sampling::Sampler;
use super::{Search, physical};
use crate::block::{RaidView, View};
use crate::inventory::PvPlace;
use assignment::Best;
use candidates::Candidates;
use evidence::{Blocks, Votes};
use rows::{Facts, Parity};
use serde::Serialize;
use shapes::Shape;
use tierlift_ondisk::raid::Geometry;

/// By how much the best must be better than all others.
const MARGIN: i64 = 4;
/// Blocks of metadata each member needs where no parity can be checked.
const HITS_WITHOUT_PARITY: u64 = 2;
/// More disks than this in one array are left to the user.
const MOST_DISKS: usize = 12;

/// What may be an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// As `--array` takes it; `None` when there is not enough evidence for one.
    pub array: Option<String>,
    /// The disks it is about.
    pub disks: Vec<String>,
    /// What speaks for it, or why nothing can be proposed.
    pub evidence: Vec<String>,
    /// What comes next to it, or what else might be.
    pub others: Vec<String>,
}

/// A shape with the order that fits it best.
struct Fitted {
    shape: Shape,
    votes: Votes,
    best: Best,
}

impl Fitted {
    fn score(&self) -> i64 {
        self.best.score
    }

    fn text(&self, candidates: &Candidates) -> String {
        candidates.given(&self.shape, &self.best.order).to_string()
    }
}

impl Search {
    /// What the members without superblocks may be.
    pub(super) fn propose(&self) -> Vec<Proposal> {
        candidates::sets(self).iter().filter_map(|candidates| self.propose_for(candidates)).collect()
    }

    /// A word on members without superblocks that fit together, for every scan: few reads.
    pub(super) fn note_members(&mut self) {
        let sets = candidates::sets(self);
        for candidates in sets.iter().filter(|set| set.disks.len() >= 2 && set.disks.len() <= MOST_DISKS) {
            let facts = Facts::take(candidates, rows::FEW);
            let what = match facts.parity() {
                Parity::Mirror => "hold the same: they look like a mirror",
                Parity::Single(None) => "sum up to nothing in every row: they look like all members of one RAID 5",
                Parity::Single(Some(_)) => {
                    "but one sum up to nothing in every row: they look like the members of one RAID 5"
                }
                Parity::Double => "look like all members of one RAID 6",
                Parity::None => continue,
            };
            let disks = candidates.names().join(", ");
            self.inventory.notes.push(format!(
                "{disks}: these have no md superblock (any more), and {what}. `tierlift scan --propose-arrays` looks for their order"
            ));
        }
    }

    fn propose_for(&self, candidates: &Candidates) -> Option<Proposal> {
        if candidates.disks.len() < 2 {
            return None;
        }
        let nothing = |why: &str, others: Vec<String>| Proposal {
            array: None,
            disks: candidates.names(),
            evidence: vec![format!("not enough evidence: {why}")],
            others,
        };
        if candidates.disks.len() > MOST_DISKS {
            return Some(nothing(
                "so many disks without superblocks are too many; name those of one array only",
                Vec::new(),
            ));
        }
        let facts = Facts::take(candidates, rows::MANY);
        let parity = facts.parity();
        if let (Parity::Single(Some(extra)), None) = (parity, &candidates.frame) {
            // One of them is no member of it.
            return self.propose_for(&candidates.without(extra));
        }
        if parity == Parity::Mirror {
            let shape = Shape::mirror(candidates.disks.len());
            let order: Vec<Option<usize>> = (0..candidates.disks.len()).map(Some).collect();
            return Some(Proposal {
                array: Some(candidates.given(&shape, &order).to_string()),
                disks: candidates.names(),
                evidence: vec![facts.told(parity)],
                others: Vec::new(),
            });
        }
        let parts = evidence::metadata_parts(self, candidates);
        let mut fitted = fit_all(candidates, &facts, parity, &parts);
        fitted.sort_by_key(|fitted| std::cmp::Reverse(fitted.score()));
        let Some((first, rest)) = fitted.split_first() else { return Some(nothing("nothing fits", Vec::new())) };
        let second = rest.first();
        let others: Vec<String> = first
            .best
            .second
            .iter()
            .map(|(score, order)| (*score, candidates.given(&first.shape, order).to_string()))
            .chain(second.iter().map(|second| (second.score(), second.text(candidates))))
            .max()
            .map(|(score, text)| format!("{text} (its evidence weighs {score}, that of the first {})", first.score()))
            .into_iter()
            .collect();
        let next =
            second.map(Fitted::score).max(first.best.second.as_ref().map(|(score, _)| *score)).unwrap_or(i64::MIN);
        if let Some(why) = self.doubts(candidates, first, parity, next) {
            return Some(nothing(&why, std::iter::once(first.text(candidates)).chain(others).collect()));
        }
        let mut evidence = vec![facts.told(parity)];
        evidence.extend(first.votes.told(&first.best.order));
        evidence.retain(|line| !line.is_empty());
        Some(Proposal { array: Some(first.text(candidates)), disks: candidates.names(), evidence, others })
    }

    /// Why the best is not good enough.
    fn doubts(&self, candidates: &Candidates, first: &Fitted, parity: Parity, next: i64) -> Option<String> {
        if first.score() < next.saturating_add(MARGIN) {
            return Some("several orders fit equally well; the two best are below".into());
        }
        if first.votes.against(&first.best.order).saturating_mul(8) > first.votes.support(&first.best.order) {
            return Some("too much speaks against even the best order, which is below".into());
        }
        let checked = matches!(parity, Parity::Single(None) | Parity::Double) && first.shape.missing(candidates) == 0;
        let hits = |role: usize, disk: usize| first.votes.hits(role, disk) >= HITS_WITHOUT_PARITY;
        let each = first.best.order.iter().enumerate();
        if !checked && !each.filter_map(|(role, disk)| Some((role, (*disk)?))).all(|(role, disk)| hits(role, disk)) {
            return Some(
                "no parity can be checked, and no pool metadata vouch for each member of the best, below".into(),
            );
        }
        self.contradicted(candidates, first)
    }

    /// What the samples that every array must pass say against it.
    fn contradicted(&self, candidates: &Candidates, first: &Fitted) -> Option<String> {
        let geometry = first.shape.geometry(candidates)?;
        let members: Vec<Option<View>> =
            first.best.order.iter().map(|disk| disk.and_then(|disk| candidates.view(disk))).collect();
        let view = RaidView::new(geometry.clone(), members.clone()).ok()?;
        if physical::find(&view, PvPlace::Array(usize::MAX))
            .is_some_and(|found| found.soundness() < physical::Found::SOUND)
        {
            return Some("in the best order, below, LVM's label is there and its text is not right".into());
        }
        self.samples(&geometry, members, first).refuse
    }

    fn samples(&self, geometry: &Geometry, members: Vec<Option<View>>, first: &Fitted) -> super::sampling::Findings {
        let blocks = first.votes.blocks.clone();
        let wanted = blocks.iter().map(|block| block.sector).collect();
        let mut findings = Sampler { geometry, members, wanted, blocks, dirty: false, known: true }.look();
        findings.refuse = findings.refuse.or(findings.exclude.take().map(|(_, why)| why));
        findings
    }
}

/// Every shape the disks may have, each with its best order.
fn fit_all(candidates: &Candidates, facts: &Facts, parity: Parity, parts: &[evidence::Parts]) -> Vec<Fitted> {
    let shapes = shapes::all(candidates, parity);
    let mut fitted = Vec::new();
    for (data_members, chunk) in shapes::grids(&shapes) {
        let blocks = Blocks::look(candidates, parts, data_members, chunk);
        for shape in shapes.iter().filter(|shape| shape.grid() == (data_members, chunk)) {
            let votes = Votes::count(candidates, facts, shape, &blocks);
            let best = votes.and_then(|votes| Some((votes.assign(candidates, shape)?, votes)));
            fitted.extend(best.map(|(best, votes)| Fitted { shape: shape.clone(), votes, best }));
        }
    }
    fitted
}
