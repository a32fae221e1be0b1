//! Giving orphans back to the lost inner nodes that pointed at them, when only one answer is possible.
//!
//! Each pointer that a committed node lacks was held by a lost node. A lost node could hold an orphan when all keys of the
//! orphan lie where its parents allow and it stood higher in its tree. Siblings never overlap, so each certain child rules
//! out others. Every older generation asks the same question with other lost nodes and other counts; a lost node that was in
//! use ever since held the same children then, so what one generation answers helps in all. What remains possible in more
//! than one place is left alone: it is lost, not guessed.

use super::ages::Ages;
use super::history::Past;
use super::lineage::Lineage;
use super::orphan::Orphan;
use super::reach::{Dangling, Reach, Tree};
use super::scan::Scan;
use super::synthesize::Child;
use crate::fault::KeyRange;
use std::collections::{BTreeMap, BTreeSet, HashSet};
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
    /// Some orphan can have no parent at all: something that was taken for granted is wrong.
    pub homeless: bool,
}

/// Whether a lost node can have held an orphan.
pub(crate) type MayOwn<'a> = dyn Fn(&Orphan, MetaBlock) -> bool + 'a;

/// What tells whose an orphan can be.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub reach: &'a Reach,
    pub scan: &'a Scan,
    pub pasts: &'a [Past],
    /// Which devices can have a node.
    pub lineage: Option<&'a Lineage<'a>>,
    /// Which lost nodes can have held an orphan, by whatever else is known.
    pub may_own: Option<&'a MayOwn<'a>>,
    /// Devices that each lost node is part of, as far as that is known.
    pub owners: &'a BTreeMap<MetaBlock, BTreeSet<u64>>,
    /// Lost inner nodes that only older generations name, with what is known of them.
    pub hidden: &'a [(MetaBlock, Dangling)],
    /// The least height of the trees of devices with so many mappings.
    pub least_height: &'a BTreeMap<u64, u8>,
    /// No other lost node can be hidden below another: every lost block in use is named by some pointer.
    pub all_named: bool,
    /// What the ages of entries tell of snapshots.
    pub ages: Option<&'a Ages>,
}

static NO_OWNERS: BTreeMap<MetaBlock, BTreeSet<u64>> = BTreeMap::new();
static NO_HEIGHTS: BTreeMap<u64, u8> = BTreeMap::new();

impl<'a> Evidence<'a> {
    /// Only what lies there now.
    pub(crate) fn plain(reach: &'a Reach, scan: &'a Scan) -> Self {
        Self {
            reach,
            scan,
            pasts: &[],
            lineage: None,
            may_own: None,
            owners: &NO_OWNERS,
            hidden: &[],
            least_height: &NO_HEIGHTS,
            all_named: false,
            ages: None,
        }
    }
}

/// Decides for one tree. `rivals` says that lost nodes exist of which not even the window is known.
pub(crate) fn adopt(tree: Tree, orphans: &[Orphan], evidence: &Evidence<'_>, rivals: bool) -> Adoption {
    let mut board = Board::new(tree, evidence);
    let ours = orphans.iter().filter(|orphan| orphan.tree == tree);
    let mut now = Scene::new(&board, (0..board.holders.len()).collect(), ours);
    now.all_named = evidence.all_named;
    if !rivals {
        board.rule_out(&mut now, evidence);
        let pasts = if tree == Tree::Mapping { evidence.pasts } else { &[] };
        let mut scenes: Vec<_> = pasts.iter().filter_map(|past| board.scene(past, evidence.scan)).collect();
        while now.settle(&mut board) | scenes.iter_mut().fold(false, |any, scene| scene.settle(&mut board) | any) {}
    }
    let homeless = now.open.iter().any(|open| !open.settled && open.possible.is_empty());
    let undecided = now.open.into_iter().filter(|open| rivals || !open.settled).map(|open| open.orphan).collect();
    board.holders.truncate(board.present);
    Adoption { holders: board.holders, undecided, homeless }
}

/// All lost nodes, and what is still possible.
struct Board {
    /// Those of the chosen generation first, then those that only older ones had.
    holders: Vec<Holder>,
    /// How many belong to the chosen generation.
    present: usize,
    /// Orphans with holders of the chosen generation that may hold them.
    possible: HashSet<(MetaBlock, usize)>,
    certain: HashSet<(MetaBlock, usize)>,
}

/// One generation's question.
struct Scene {
    /// Holders by first key.
    order: Vec<usize>,
    /// Highest last key of this and all earlier ones, to end a search early.
    reach: Vec<u64>,
    open: Vec<Open>,
    /// Whoever holds an orphan is its direct parent.
    all_named: bool,
}

struct Open {
    orphan: Orphan,
    possible: Vec<usize>,
    settled: bool,
}

impl Board {
    fn new(tree: Tree, evidence: &Evidence<'_>) -> Self {
        let lost = evidence.reach.dangling.iter();
        let lost = lost.filter(|(block, lost)| lost.tree == tree && can_hold(**block, lost));
        // What is sound there belongs to somebody else.
        let lost = lost.filter(|(block, _)| !evidence.scan.is_sound(**block));
        let hidden = evidence.hidden.iter().filter(|(block, lost)| lost.tree == tree && can_hold(*block, lost));
        let lost = lost.chain(hidden.map(|(block, lost)| (block, lost)));
        let holders: Vec<_> = lost.map(|(block, lost)| Holder::new(*block, lost)).collect();
        Self { present: holders.len(), holders, possible: HashSet::new(), certain: HashSet::new() }
    }

    /// The question of an older generation; `None` when it does not know all its lost nodes.
    fn scene(&mut self, past: &Past, scan: &Scan) -> Option<Scene> {
        let dangling = &past.reach.dangling;
        if dangling.values().any(|lost| lost.tree == Tree::Roots) || past.superblock.held_root.0 != 0 {
            return None;
        }
        let numbers: BTreeMap<_, _> = (self.holders.iter().take(self.present).enumerate())
            .map(|(number, holder)| (holder.block, number))
            .collect();
        let mut order = Vec::new();
        for (block, lost) in
            dangling.iter().filter(|(block, lost)| lost.tree == Tree::Mapping && can_hold(**block, lost))
        {
            let same = numbers.get(block).filter(|_| past.is_unbroken(*block) && !scan.is_sound(*block));
            order.push(same.copied().unwrap_or(self.holders.len()));
            if same.is_none() {
                self.holders.push(Holder::new(*block, lost));
            }
        }
        Some(Scene::new(self, order, past.orphans.iter()))
    }

    /// Strikes out what devices' pasts, or the pasts of lost nodes, make impossible.
    fn rule_out(&mut self, now: &mut Scene, evidence: &Evidence<'_>) {
        let allows = |block: MetaBlock, device: u64| {
            evidence.lineage.is_none_or(|lineage| lineage.allows(block, device))
                && evidence.ages.is_none_or(|ages| ages.allows(block, device))
        };
        for open in &mut now.open {
            let block = open.orphan.child.block;
            open.possible.retain(|number| {
                let Some(holder) = self.holders.get(*number) else { return false };
                // What a node holds is part of every device that the node is part of.
                let owners = evidence.owners.get(&holder.block).into_iter().flatten();
                let by_devices = owners.clone().all(|device| allows(block, *device));
                let roots = evidence.reach.device_roots.iter().filter(|(_, root)| **root == holder.block);
                let least = roots.filter_map(|(device, _)| evidence.least_height.get(device)).max();
                // Where nothing is hidden between the two, one is the direct parent of the other.
                let above = open.orphan.height.and_then(|height| height.checked_add(1));
                let is_next = match (above, holder.height, least) {
                    (Some(above), Some(height), _) => above == height,
                    (Some(above), None, Some(least)) => above >= *least,
                    _ => true,
                };
                (is_next || !evidence.all_named)
                    && by_devices
                    && evidence.may_own.is_none_or(|may_own| may_own(&open.orphan, holder.block))
                    && evidence.pasts.iter().all(|past| may_have_held(past, holder.block, block))
            });
            self.possible.extend(open.possible.iter().map(|number| (block, *number)));
        }
    }

    fn is_possible(&self, number: usize, orphan: &Orphan) -> bool {
        let pair = (orphan.child.block, number);
        if self.certain.contains(&pair) {
            return true;
        }
        let Some(holder) = self.holders.get(number) else { return false };
        let before = holder.taken.range(..=orphan.last).next_back();
        let has_room = before.is_none_or(|(_, last)| *last < orphan.child.first);
        has_room && (number >= self.present || self.possible.contains(&pair))
    }

    fn is_parent_of(&self, holder: usize, orphan: &Orphan) -> bool {
        let holder = self.holders.get(holder).and_then(|holder| holder.height);
        holder.is_some() && holder == orphan.height.and_then(|height| height.checked_add(1))
    }

    /// Answers whether that is new.
    fn give(&mut self, number: usize, orphan: &Orphan) -> bool {
        let Some(holder) = self.holders.get_mut(number).filter(|_| number < self.present) else { return false };
        if !self.certain.insert((orphan.child.block, number)) {
            return false;
        }
        holder.taken.insert(orphan.child.first, orphan.last);
        let at = holder.children.partition_point(|child| child.first < orphan.child.first);
        holder.children.insert(at, orphan.child);
        true
    }
}

impl Holder {
    fn new(block: MetaBlock, lost: &Dangling) -> Self {
        let Dangling { tree, window, height, .. } = *lost;
        Self { block, tree, window, height, children: Vec::new(), taken: BTreeMap::new() }
    }
}

impl Scene {
    fn new<'o>(board: &Board, mut order: Vec<usize>, orphans: impl Iterator<Item = &'o Orphan>) -> Self {
        let window = |number: &usize| board.holders.get(*number).map_or(KeyRange::ALL, |holder| holder.window);
        order.sort_unstable_by_key(|number| (window(number).first, *number));
        let reach = (order.iter())
            .scan(0, |highest, number| {
                *highest = window(number).last.max(*highest);
                Some(*highest)
            })
            .collect();
        let mut scene = Self { order, reach, open: Vec::new(), all_named: false };
        let open = |orphan: &Orphan| Open { orphan: *orphan, possible: scene.possible(board, orphan), settled: false };
        scene.open = orphans.map(open).collect();
        scene
    }

    /// All lost nodes that could have been above this orphan.
    fn possible(&self, board: &Board, orphan: &Orphan) -> Vec<usize> {
        let holder = |at: usize| self.order.get(at).and_then(|number| Some((*number, board.holders.get(*number)?)));
        let end = self
            .order
            .partition_point(|number| board.holders.get(*number).is_some_and(|h| h.window.first <= orphan.child.first));
        let mut found = Vec::new();
        for (step, at) in (0..end).rev().enumerate() {
            let none_left = self.reach.get(at).is_none_or(|highest| *highest < orphan.last);
            if none_left {
                break;
            }
            if found.len() > MOST_HOLDERS || step > MOST_STEPS {
                // Too many to tell: never certain.
                return Vec::new();
            }
            let Some((number, holder)) = holder(at) else { break };
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

    /// Draws every conclusion there is now; answers whether there was any.
    fn settle(&mut self, board: &mut Board) -> bool {
        let mut any = false;
        for open in self.open.iter_mut().filter(|open| !open.settled) {
            let Open { orphan, possible, settled } = open;
            possible.retain(|number| board.is_possible(*number, orphan));
            let Some(lacks) = orphan.lacks.map(|lacks| lacks as usize).filter(|_| !possible.is_empty()) else {
                continue;
            };
            // Where several lack it, each must be its direct parent, or one of them may hold it twice over.
            let direct = self.all_named
                || possible.len() == 1
                || possible.iter().all(|number| board.is_parent_of(*number, orphan));
            if lacks == possible.len() && direct {
                *settled = true;
                any |= possible.iter().fold(false, |any, number| board.give(*number, orphan) | any);
            } else if direct {
                let is_certain = |number: &usize| board.certain.contains(&(orphan.child.block, *number));
                let others: Vec<_> = possible.iter().copied().filter(|number| !is_certain(number)).collect();
                if possible.len().saturating_sub(others.len()) == lacks {
                    *settled = true;
                    for number in others {
                        any |= board.possible.remove(&(orphan.child.block, number));
                    }
                }
            }
        }
        any
    }
}

/// Whether a lost node may have held an orphan, as far as one generation knows. What it holds it held ever since it was
/// written.
fn may_have_held(past: &Past, holder: MetaBlock, orphan: MetaBlock) -> bool {
    use super::committed::Count;
    if !past.is_unbroken(holder) {
        return true;
    }
    let was_free = past.committed.count(orphan) == Count::Exactly(0);
    let held_by_others = past.is_unbroken(orphan) && past.is_accounted_for(orphan);
    !was_free && !held_by_others
}

/// Whether the lost block was an inner node as far as is known.
fn can_hold(block: MetaBlock, lost: &Dangling) -> bool {
    lost.height != Some(0) && lost.window.first <= lost.window.last && block.0 != 0
}
