//! Reading the source's mapping trees into a plan: each node once, however many devices share it.
//!
//! A sound subtree says the same under every key window that allows its keys, so it is remembered by its block. A subtree
//! with a hole does not: how far the hole reaches depends on the parent. It is remembered together with its window.

use super::entries::Judged;
use super::error::RebuildError;
use super::plan::{Forest, NodeId, Plan};
use super::report::{LossReason, LostRange};
use crate::block_map::BlockMap;
use crate::fault::{Fault, KeyRange, Lost};
use crate::walk::{MOST_LEVELS, Place, ValueSize, load};
use std::collections::HashMap;
use std::mem::take;
use std::rc::Rc;
use tierlift_ondisk::thin::{Node, NodeKind};
use tierlift_ondisk::units::MetaBlock;

/// Most mappings that may be made up to mark lost keys as errors, in all devices together: 256 MiB of metadata.
const MOST_MARKS: u64 = 1 << 24;

/// What is lost in a subtree, in key order; parts are shared like the trees.
#[derive(Debug, Default)]
pub(super) struct Losses {
    items: Vec<Loss>,
    /// Number of ranges.
    pub ranges: u64,
}

#[derive(Debug)]
enum Loss {
    Here(LostRange),
    Below(Rc<Losses>),
}

impl Losses {
    pub(super) fn of(range: LostRange) -> Self {
        let mut losses = Self::default();
        losses.push(range);
        losses
    }

    fn push(&mut self, range: LostRange) {
        self.ranges = self.ranges.saturating_add(1);
        self.items.push(Loss::Here(range));
    }

    fn push_below(&mut self, below: &Rc<Self>) {
        if below.ranges > 0 {
            self.ranges = self.ranges.saturating_add(below.ranges);
            self.items.push(Loss::Below(below.clone()));
        }
    }

    /// Appends the ranges, as long as `out` is shorter than `most`.
    pub(super) fn list(&self, out: &mut Vec<LostRange>, most: usize) {
        for item in &self.items {
            match item {
                _ if out.len() >= most => return,
                Loss::Here(range) => out.push(range.clone()),
                Loss::Below(below) => below.list(out, most),
            }
        }
    }
}

/// What was found below a node.
#[derive(Debug, Clone)]
pub(super) struct Subtree {
    /// The planned nodes, all of one height.
    pub forest: Forest,
    height: usize,
    /// The node's own first key, and the highest key found.
    keys: Option<(u64, u64)>,
    /// Entries found, taken over or not.
    pub found: u64,
    pub losses: Rc<Losses>,
    /// Whether it would be the same under another window.
    sound: bool,
    /// Stands for lost keys that were too many to be marked.
    unmarked: bool,
}

impl Subtree {
    /// The highest key found.
    pub(super) fn last_key(&self) -> Option<u64> {
        self.keys.map(|(_, last)| last)
    }

    /// Whether there is a hole in it.
    pub(super) fn has_holes(&self) -> bool {
        !self.sound
    }

    /// Whether lost keys could not be marked.
    pub(super) fn is_unmarked(&self) -> bool {
        self.unmarked
    }
}

/// A [`Subtree`] of one leaf without losses, in short.
#[derive(Debug, Clone, Copy)]
struct SoundLeaf {
    node: NodeId,
    found: u32,
    first: u64,
    last: u64,
}

impl SoundLeaf {
    fn of(subtree: &Subtree) -> Option<Self> {
        let Subtree { height: 0, keys: Some((first, last)), sound: true, unmarked: false, .. } = *subtree else {
            return None;
        };
        let [node] = *subtree.forest else { return None };
        let found = u32::try_from(subtree.found).ok()?;
        (subtree.losses.ranges == 0).then_some(Self { node, found, first, last })
    }

    fn subtree(self, none: &Rc<Losses>) -> Subtree {
        Subtree {
            forest: Forest::from([self.node]),
            height: 0,
            keys: Some((self.first, self.last)),
            found: self.found.into(),
            losses: none.clone(),
            sound: true,
            unmarked: false,
        }
    }
}

/// The window of a damaged subtree, and how far its holes were marked.
type Hidden = (MetaBlock, KeyRange, Option<u64>);

pub(super) struct Survey<'a> {
    pub plan: Plan<'a>,
    sound: BlockMap<Rc<Subtree>>,
    /// Nearly all of them: sound leaves that become one leaf each.
    leaves: BlockMap<SoundLeaf>,
    damaged: HashMap<Hidden, Rc<Subtree>>,
    /// What is lost in most subtrees: nothing.
    none: Rc<Losses>,
    buffer: Vec<u8>,
    /// Mark lost keys as errors, up to this one.
    mark: Option<u64>,
    marks_left: u64,
    path: Vec<MetaBlock>,
    loads_left: u64,
    /// Entries of source leaves that are not taken over.
    pub left_out: u64,
    /// Entries of source leaves with a time from the future.
    pub ahead: u64,
}

impl<'a> Survey<'a> {
    pub(super) fn new(plan: Plan<'a>) -> Self {
        let blocks = plan.source().blocks();
        // Damaged subtrees may be read under several windows; what has no end is cut off here.
        let loads_left = blocks.count().max(blocks.present()).saturating_mul(4);
        Self {
            plan,
            sound: BlockMap::default(),
            leaves: BlockMap::default(),
            damaged: HashMap::new(),
            none: Rc::default(),
            buffer: Vec::new(),
            mark: None,
            marks_left: MOST_MARKS,
            path: Vec::new(),
            loads_left,
            left_out: 0,
            ahead: 0,
        }
    }

    /// The tree of a device. With `mark`, lost keys up to that one become entries that read as errors.
    pub(super) fn tree(&mut self, root: MetaBlock, mark: Option<u64>) -> Result<Rc<Subtree>, RebuildError> {
        self.mark = mark;
        self.subtree(Place::root(root))
    }

    /// A device of which only lost keys are known.
    pub(super) fn nothing(&mut self, reason: LossReason, mark: Option<u64>) -> Result<Rc<Subtree>, RebuildError> {
        self.mark = mark;
        self.hole(LostRange { keys: KeyRange::ALL, reason })
    }

    fn subtree(&mut self, place: Place) -> Result<Rc<Subtree>, RebuildError> {
        let hidden = (place.block, place.window, self.mark.map(|mark| mark.min(place.window.last)));
        if let Some(known) = self.known(place, &hidden) {
            return Ok(known);
        }
        let found = self.read(place)?;
        if !found.sound {
            self.damaged.insert(hidden, found.clone());
        } else if let Some(leaf) = SoundLeaf::of(&found) {
            self.leaves.insert(place.block, leaf);
        } else if found.keys.is_some() {
            self.sound.insert(place.block, found.clone());
        }
        Ok(found)
    }

    fn known(&self, place: Place, hidden: &Hidden) -> Option<Rc<Subtree>> {
        let inside = |first, last| place.window.contains(first) && place.window.contains(last);
        if let Some(leaf) = self.leaves.get(&place.block).filter(|leaf| inside(leaf.first, leaf.last)) {
            return Some(Rc::new(leaf.subtree(&self.none)));
        }
        let allowed = |subtree: &&Rc<Subtree>| subtree.keys.is_some_and(|(first, last)| inside(first, last));
        self.sound.get(&place.block).filter(allowed).or_else(|| self.damaged.get(hidden)).cloned()
    }

    fn read(&mut self, place: Place) -> Result<Rc<Subtree>, RebuildError> {
        let mut buffer = take(&mut self.buffer);
        let blocks = self.plan.source().blocks();
        let loaded =
            self.admit(place.block).and_then(|()| load(blocks, place, &mut ValueSize::EIGHT.clone(), &mut buffer));
        let node = match loaded {
            Err(fault) => return self.hole_of(&place.lost(fault)),
            Ok(node) => node,
        };
        if node.kind() == NodeKind::Leaf {
            let leaf = self.leaf(place.block, &node);
            self.buffer = buffer;
            return leaf;
        }
        let first = node.keys().next().unwrap_or_default();
        let children = place.children(&node);
        self.buffer = buffer;
        self.path.push(place.block);
        let below: Result<Vec<_>, _> = children.into_iter().map(|child| self.child(child)).collect();
        self.path.pop();
        self.inner(first, &below?)
    }

    /// Bounds the reading whatever the pointers say.
    fn admit(&mut self, block: MetaBlock) -> Result<(), Fault> {
        if self.path.contains(&block) {
            return Err(Fault::Loop);
        }
        self.loads_left = self.loads_left.checked_sub(1).ok_or(Fault::Endless)?;
        Ok(())
    }

    fn child(&mut self, place: Place) -> Result<Rc<Subtree>, RebuildError> {
        if self.path.len() >= MOST_LEVELS {
            return self.hole_of(&place.lost(Fault::TooDeep));
        }
        let found = self.subtree(place)?;
        // One that was read higher up in another tree may be too high here.
        if found.height.saturating_add(1) >= MOST_LEVELS {
            return self.hole_of(&place.lost(Fault::TooDeep));
        }
        Ok(found)
    }

    fn leaf(&mut self, block: MetaBlock, node: &Node<'_>) -> Result<Rc<Subtree>, RebuildError> {
        let Judged { keys, lost, ahead } = self.plan.source().filter().judge(node);
        self.ahead = self.ahead.saturating_add(ahead);
        self.left_out = self.left_out.saturating_add(node.len().saturating_sub(keys.len()) as u64);
        let mut losses = Losses::default();
        for range in merge(lost) {
            losses.push(range);
        }
        let losses = self.shared(losses);
        let ends = node.keys().next().zip(node.keys().next_back());
        Ok(Rc::new(Subtree {
            forest: self.plan.leaves_of(block, &keys)?,
            height: 0,
            keys: ends,
            found: node.len() as u64,
            losses,
            sound: true,
            unmarked: false,
        }))
    }

    fn shared(&self, losses: Losses) -> Rc<Losses> {
        if losses.ranges == 0 { self.none.clone() } else { Rc::new(losses) }
    }

    fn hole_of(&mut self, lost: &Lost) -> Result<Rc<Subtree>, RebuildError> {
        self.hole(LostRange { keys: lost.keys, reason: lost.into() })
    }

    fn hole(&mut self, lost: LostRange) -> Result<Rc<Subtree>, RebuildError> {
        let last = self.mark.map(|mark| mark.min(lost.keys.last));
        let wanted = last.and_then(|last| last.checked_sub(lost.keys.first)).map(|more| more.saturating_add(1));
        let room = wanted.map(|wanted| self.marks_left.checked_sub(wanted));
        let mut forest = Forest::from([]);
        if let (Some(wanted), Some(Some(left))) = (wanted, room) {
            self.marks_left = left;
            forest = self.plan.lost_leaves(lost.keys.first, wanted)?;
        }
        Ok(Rc::new(Subtree {
            forest,
            height: 0,
            keys: None,
            found: 0,
            losses: Rc::new(Losses::of(lost)),
            sound: false,
            unmarked: room == Some(None),
        }))
    }

    fn inner(&mut self, first: u64, below: &[Rc<Subtree>]) -> Result<Rc<Subtree>, RebuildError> {
        let height = below.iter().map(|child| child.height).max().unwrap_or(0);
        let mut children: Vec<NodeId> = Vec::with_capacity(below.len());
        let mut losses = Losses::default();
        for child in below {
            children.extend(self.raised(child, height)?.iter());
            losses.push_below(&child.losses);
        }
        let children = self.plan.pack(&children)?;
        let losses = self.shared(losses);
        let last = below.iter().filter_map(|child| child.last_key()).max();
        Ok(Rc::new(Subtree {
            forest: self.plan.over(&children)?,
            height: height.saturating_add(1),
            keys: last.map(|last| (first, last)),
            found: below.iter().fold(0, |sum: u64, child| sum.saturating_add(child.found)),
            losses,
            sound: below.iter().all(|child| child.sound),
            unmarked: below.iter().any(|child| child.unmarked),
        }))
    }

    /// The nodes of a subtree under as many levels as its neighbours have.
    fn raised(&mut self, subtree: &Subtree, height: usize) -> Result<Forest, RebuildError> {
        let mut forest = subtree.forest.clone();
        for _ in subtree.height..height {
            forest = self.plan.over(&forest)?;
        }
        Ok(forest)
    }
}

/// Neighbouring keys lost for the same reason, as one range.
fn merge(lost: Vec<(u64, LossReason)>) -> Vec<LostRange> {
    let mut ranges: Vec<LostRange> = Vec::new();
    for (key, reason) in lost {
        match ranges.last_mut() {
            Some(last) if last.keys.last.checked_add(1) == Some(key) && alike(&last.reason, &reason) => {
                last.keys.last = key;
            }
            _ => ranges.push(LostRange { keys: KeyRange { first: key, last: key }, reason }),
        }
    }
    ranges
}

/// A run of mappings beyond the pool names a different chunk for each key; the first stands for all.
fn alike(one: &LossReason, other: &LossReason) -> bool {
    one == other || matches!((one, other), (LossReason::BeyondPool { .. }, LossReason::BeyondPool { .. }))
}
