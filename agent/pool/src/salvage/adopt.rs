//! Giving orphans back to the lost inner nodes that pointed at them, when only one answer is possible.
//!
//! Each pointer that a committed node lacks was held by a lost node. A lost node could hold an orphan when all keys of the
//! orphan lie where its parents allow and it stood higher in its tree. Siblings never overlap, so each certain child rules
//! out others. What remains possible in more than one place is left alone: it is lost, not guessed.

use super::lineage::Lineage;
use super::orphan::Orphan;
use super::reach::{Dangling, Reach, Tree};
use super::scan::Scan;
use super::synthesize::Child;
use crate::fault::KeyRange;
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::units::MetaBlock;

/// Lost nodes that are tried for one orphan; more than this is no evidence any more.
const MOST_HOLDERS: usize = 256;
/// Lost nodes looked at while searching those.
const MOST_STEPS: usize = 4096;

/// A lost inner node and what was found of its children.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub block: MetaBlock,
    pub tree: Tree,
    pub window: KeyRange,
    pub height: Option<u8>,
    pub children: Vec<Child>,
    /// First and last keys of the children, to tell overlaps.
    taken: BTreeMap<u64, u64>,
}

/// What adoption came to.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    pub holders: Vec<Holder>,
    /// Orphans with several possible parents, or none.
    pub undecided: Vec<Orphan>,
}

/// Lost nodes of one tree, searchable by key.
struct Index {
    holders: Vec<Holder>,
    /// Highest last key of this and all earlier holders, to end a search early.
    reach: Vec<u64>,
}

/// Decides for one tree. `lineage` says whose a node can be by older lists of roots; `rivals` that lost nodes exist of which not even the window is known.
pub(crate) fn adopt(
    tree: Tree,
    orphans: &[Orphan],
    reach: &Reach,
    scan: &Scan,
    lineage: &Lineage,
    rivals: bool,
) -> Adoption {
    let mut index = Index::new(tree, reach, scan);
    let owners = index.owners(reach);
    let may_own = |holder: usize, orphan: &Orphan| match owners.get(&holder) {
        Some(devices) => devices.iter().any(|device| lineage.allows(orphan.child.block, *device)),
        None => true,
    };
    let mut open: Vec<(Orphan, Vec<usize>)> = (orphans.iter())
        .filter(|orphan| orphan.tree == tree)
        .map(|orphan| {
            let mut possible = index.possible(orphan);
            possible.retain(|holder| may_own(*holder, orphan));
            (*orphan, possible)
        })
        .collect();
    let mut settled = BTreeSet::new();
    if rivals {
        return Adoption { holders: index.holders, undecided: open.into_iter().map(|(orphan, _)| orphan).collect() };
    }
    loop {
        let before = settled.len();
        for (number, (orphan, possible)) in open.iter_mut().enumerate() {
            if settled.contains(&number) {
                continue;
            }
            possible.retain(|holder| index.has_room(*holder, orphan));
            let certain = orphan.lacks.is_some_and(|lacks| lacks as usize == possible.len()) && !possible.is_empty();
            // Where several lack it, each must be its direct parent, or one of them may hold it twice over.
            let direct = possible.len() == 1 || possible.iter().all(|holder| index.is_parent_of(*holder, orphan));
            if certain && direct {
                possible.iter().for_each(|holder| index.give(*holder, orphan));
                settled.insert(number);
            }
        }
        if settled.len() == before {
            break;
        }
    }
    let undecided = open.into_iter().enumerate().filter(|(number, _)| !settled.contains(number));
    Adoption { undecided: undecided.map(|(_, (orphan, _))| orphan).collect(), holders: index.holders }
}

impl Index {
    fn new(tree: Tree, reach: &Reach, scan: &Scan) -> Self {
        let lost = reach.dangling.iter().filter(|(block, lost)| lost.tree == tree && can_hold(**block, lost, scan));
        let mut holders: Vec<_> = lost
            .map(|(block, lost)| Holder {
                block: *block,
                tree,
                window: lost.window,
                height: lost.height,
                children: Vec::new(),
                taken: BTreeMap::new(),
            })
            .collect();
        holders.sort_unstable_by_key(|holder| (holder.window.first, holder.block));
        let reach = (holders.iter())
            .scan(0, |highest, holder| {
                *highest = holder.window.last.max(*highest);
                Some(*highest)
            })
            .collect();
        Self { holders, reach }
    }

    /// The devices of each lost node that was the root of a device's tree.
    fn owners(&self, reach: &Reach) -> BTreeMap<usize, Vec<u64>> {
        let numbers: BTreeMap<_, _> =
            self.holders.iter().enumerate().map(|(number, holder)| (holder.block, number)).collect();
        let mut owners: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for (device, root) in &reach.device_roots {
            if let Some(number) = numbers.get(root) {
                owners.entry(*number).or_default().push(*device);
            }
        }
        owners
    }

    /// All lost nodes that could have been above this orphan.
    fn possible(&self, orphan: &Orphan) -> Vec<usize> {
        let end = self.holders.partition_point(|holder| holder.window.first <= orphan.child.first);
        let mut found = Vec::new();
        for (step, number) in (0..end).rev().enumerate() {
            let enough = found.len() > MOST_HOLDERS || step > MOST_STEPS;
            let none_left = self.reach.get(number).is_none_or(|highest| *highest < orphan.last);
            if none_left {
                break;
            }
            if enough {
                // Too many to tell: never certain.
                return Vec::new();
            }
            let Some(holder) = self.holders.get(number) else { break };
            let higher = match (holder.height, orphan.height) {
                (Some(holder), Some(orphan)) => holder > orphan,
                _ => true,
            };
            if holder.window.last >= orphan.last && higher {
                found.push(number);
            }
        }
        found
    }

    fn has_room(&self, holder: usize, orphan: &Orphan) -> bool {
        self.holders.get(holder).is_some_and(|holder| {
            let before = holder.taken.range(..=orphan.last).next_back();
            before.is_none_or(|(_, last)| *last < orphan.child.first)
        })
    }

    fn is_parent_of(&self, holder: usize, orphan: &Orphan) -> bool {
        let holder = self.holders.get(holder).and_then(|holder| holder.height);
        holder.is_some() && holder == orphan.height.and_then(|height| height.checked_add(1))
    }

    fn give(&mut self, holder: usize, orphan: &Orphan) {
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.taken.insert(orphan.child.first, orphan.last);
            let at = holder.children.partition_point(|child| child.first < orphan.child.first);
            holder.children.insert(at, orphan.child);
        }
    }
}

/// Whether the lost block was an inner node as far as is known, and nothing sound is there that belongs to somebody else.
fn can_hold(block: MetaBlock, lost: &Dangling, scan: &Scan) -> bool {
    lost.height != Some(0) && lost.window.first <= lost.window.last && block.0 != 0 && !scan.is_sound(block)
}
