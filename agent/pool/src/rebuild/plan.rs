//! The plan of the new mapping trees: every node they will have, before one is written.
//!
//! A leaf is a list of parts of source leaves (mostly one whole leaf) and of stretches of lost keys; an inner node is a list
//! of nodes. Nodes that are put together alike are one node, which is how snapshots go on sharing. Entries themselves are
//! never kept: a node costs some tens of bytes.

use super::entries::Entries;
use super::error::RebuildError;
use std::collections::HashMap;
use std::rc::Rc;
use tierlift_ondisk::thin::{BlockSize, max_entries};
use tierlift_ondisk::units::MetaBlock;

/// A node of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Entries of a new leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Entries `from` up to `to` of a source leaf, counted after what is not taken over was left out.
    Source { leaf: MetaBlock, from: u32, to: u32 },
    /// Keys that are lost and must read as errors.
    Lost { first: u64, count: u32 },
}

impl Part {
    fn len(&self) -> u32 {
        match self {
            Self::Source { from, to, .. } => to.saturating_sub(*from),
            Self::Lost { count, .. } => *count,
        }
    }

    /// The first `at` entries and the rest.
    fn split(self, at: u32) -> (Self, Self) {
        match self {
            Self::Source { leaf, from, to } => {
                let middle = from.saturating_add(at);
                (Self::Source { leaf, from, to: middle }, Self::Source { leaf, from: middle, to })
            }
            Self::Lost { first, count } => {
                let rest = Self::Lost { first: first.saturating_add(at.into()), count: count.saturating_sub(at) };
                (Self::Lost { first, count: at }, rest)
            }
        }
    }
}

/// What a node is put together from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Leaf(Part),
    Leaves(Rc<[Part]>),
    Inner(Rc<[NodeId]>),
}

impl Content {
    pub(super) fn parts(&self) -> &[Part] {
        match self {
            Self::Leaf(part) => std::slice::from_ref(part),
            Self::Leaves(parts) => parts,
            Self::Inner(_) => &[],
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub content: Content,
    /// Lowest key of an entry.
    pub first_key: u64,
    /// Entries of the node itself.
    entries: u32,
    /// Entries of all leaves below.
    pub mapped: u64,
}

/// Neighbours of one height, in key order.
pub(super) type Forest = Rc<[NodeId]>;

pub(super) struct Plan<'a> {
    source: Entries<'a>,
    nodes: Vec<Planned>,
    alike: HashMap<Content, NodeId>,
    joined: HashMap<Box<[NodeId]>, Forest>,
    most: usize,
    least: usize,
}

impl<'a> Plan<'a> {
    pub(super) fn new(source: Entries<'a>, size: BlockSize) -> Self {
        let most = max_entries(size, 8);
        Self { source, nodes: Vec::new(), alike: HashMap::new(), joined: HashMap::new(), most, least: most / 3 }
    }

    pub(super) fn source(&self) -> &Entries<'a> {
        &self.source
    }

    /// Ends planning.
    pub(super) fn into_nodes(self) -> (Vec<Planned>, Entries<'a>) {
        (self.nodes, self.source)
    }

    pub(super) fn mapped(&self, node: NodeId) -> u64 {
        self.nodes.get(node.index()).map_or(0, |node| node.mapped)
    }

    fn entries(&self, node: NodeId) -> usize {
        self.nodes.get(node.index()).map_or(0, |node| node.entries as usize)
    }

    fn content(&self, node: NodeId) -> Content {
        let none = || Content::Leaves(Rc::from([]));
        self.nodes.get(node.index()).map_or_else(none, |node| node.content.clone())
    }

    fn add(&mut self, node: Planned) -> Result<NodeId, RebuildError> {
        // A whole source leaf is planned once, so there is nothing to be alike.
        let unique = matches!(node.content, Content::Leaf(Part::Source { .. }));
        let known = if unique { None } else { self.alike.get(&node.content) };
        if let Some(known) = known {
            return Ok(*known);
        }
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| RebuildError::TooLarge)?);
        if !unique {
            self.alike.insert(node.content.clone(), id);
        }
        self.nodes.push(node);
        Ok(id)
    }

    /// Leaves for the entries of a source leaf, given the keys that are taken over.
    pub(super) fn leaves_of(&mut self, leaf: MetaBlock, keys: &[u64]) -> Result<Forest, RebuildError> {
        let mut from: u32 = 0;
        let sizes = even(keys.len(), self.most);
        let nodes = sizes.map(|size| {
            let first_key = keys.get(from as usize).copied().unwrap_or_default();
            let to = from.saturating_add(size as u32);
            let content = Content::Leaf(Part::Source { leaf, from, to });
            from = to;
            self.add(Planned { content, first_key, entries: size as u32, mapped: size as u64 })
        });
        nodes.collect()
    }

    /// Leaves that say of `count` keys from `first` on that they are lost.
    pub(super) fn lost_leaves(&mut self, first: u64, count: u64) -> Result<Forest, RebuildError> {
        let mut first_key = first;
        let count = usize::try_from(count).map_err(|_| RebuildError::TooLarge)?;
        let nodes = even(count, self.most).map(|size| {
            let content = Content::Leaf(Part::Lost { first: first_key, count: size as u32 });
            let node = Planned { content, first_key, entries: size as u32, mapped: size as u64 };
            first_key = first_key.saturating_add(size as u64);
            self.add(node)
        });
        nodes.collect()
    }

    /// A leaf without entries, the tree of a device without mappings.
    pub(super) fn empty(&mut self) -> Result<NodeId, RebuildError> {
        self.add(Planned { content: Content::Leaves(Rc::from([])), first_key: 0, entries: 0, mapped: 0 })
    }

    /// Inner nodes over children, as even as can be.
    pub(super) fn over(&mut self, children: &[NodeId]) -> Result<Forest, RebuildError> {
        let mut rest = children;
        let nodes = even(children.len(), self.most).map(|size| {
            let (group, more) = rest.split_at_checked(size).unwrap_or((rest, &[]));
            rest = more;
            self.inner(group)
        });
        nodes.collect()
    }

    fn inner(&mut self, children: &[NodeId]) -> Result<NodeId, RebuildError> {
        let first = children.first().and_then(|child| self.nodes.get(child.index()));
        let first_key = first.map_or(0, |child| child.first_key);
        let mapped = children.iter().fold(0_u64, |sum, child| sum.saturating_add(self.mapped(*child)));
        let content = Content::Inner(Rc::from(children));
        self.add(Planned { content, first_key, entries: children.len() as u32, mapped })
    }

    /// Neighbours of one height of which none is too empty, unless it is the only one.
    pub(super) fn pack(&mut self, nodes: &[NodeId]) -> Result<Vec<NodeId>, RebuildError> {
        if nodes.iter().all(|node| self.entries(*node) >= self.least) {
            return Ok(nodes.to_vec());
        }
        let mut out: Vec<NodeId> = Vec::with_capacity(nodes.len());
        let mut group: Vec<NodeId> = Vec::new();
        for node in nodes {
            group.push(*node);
            let sum = group.iter().fold(0_usize, |sum, node| sum.saturating_add(self.entries(*node)));
            if sum >= self.least {
                out.extend(self.join(&group)?.iter());
                group.clear();
                // Joining inner nodes joins their children too, so fewer may be left than were counted.
                group.extend(self.pop_small(&mut out));
            }
        }
        while !group.is_empty() {
            let Some(before) = out.pop() else {
                return Ok(self.join(&group)?.to_vec());
            };
            group.insert(0, before);
            out.extend(self.join(&group)?.iter());
            group.clear();
            if out.len() > 1 {
                group.extend(self.pop_small(&mut out));
            }
        }
        Ok(out)
    }

    /// Takes the last node away when it is too empty.
    fn pop_small(&self, nodes: &mut Vec<NodeId>) -> Option<NodeId> {
        nodes.last().copied().filter(|last| self.entries(*last) < self.least).and_then(|_| nodes.pop())
    }

    /// One or two nodes with all that is in these neighbours; always the same for the same neighbours.
    fn join(&mut self, group: &[NodeId]) -> Result<Forest, RebuildError> {
        if let [node] = group {
            return Ok(Rc::from([*node]));
        }
        if let Some(known) = self.joined.get(group) {
            return Ok(known.clone());
        }
        let contents: Vec<Content> = group.iter().map(|node| self.content(*node)).collect();
        let joined = if contents.iter().any(|content| matches!(content, Content::Inner(_))) {
            let children: Vec<NodeId> = contents.iter().flat_map(children).copied().collect();
            let children = self.pack(&children)?;
            self.over(&children)?
        } else {
            let parts: Vec<Part> = contents.iter().flat_map(Content::parts).copied().collect();
            self.leaves(parts)?
        };
        self.joined.insert(Box::from(group), joined.clone());
        Ok(joined)
    }

    /// Leaves for these parts, as even as can be.
    fn leaves(&mut self, parts: Vec<Part>) -> Result<Forest, RebuildError> {
        let total = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len() as usize));
        let mut rest = parts.into_iter();
        let mut carried = None;
        let nodes = even(total, self.most).map(|size| {
            let mut wanted = size as u32;
            let mut taken = Vec::new();
            while wanted > 0 {
                let Some(part) = carried.take().or_else(|| rest.next()) else { break };
                let (now, later) = part.split(part.len().min(wanted));
                wanted = wanted.saturating_sub(now.len());
                carried = Some(later).filter(|later| later.len() > 0);
                taken.push(now);
            }
            let first_key = taken.first().map(|part| self.source.first_key(part)).transpose()?.unwrap_or_default();
            let content = Content::Leaves(Rc::from(taken));
            self.add(Planned { content, first_key, entries: size as u32, mapped: size as u64 })
        });
        nodes.collect()
    }

    /// The root of a tree over neighbours of one height.
    pub(super) fn root(&mut self, forest: &[NodeId]) -> Result<NodeId, RebuildError> {
        let mut level = self.pack(forest)?;
        while level.len() > 1 {
            level = self.over(&level)?.to_vec();
        }
        let Some(mut root) = level.first().copied() else { return self.empty() };
        while let Content::Inner(children) = self.content(root) {
            let [only] = *children else { break };
            root = only;
        }
        Ok(root)
    }
}

fn children(content: &Content) -> &[NodeId] {
    match content {
        Content::Inner(children) => children,
        _ => &[],
    }
}

/// The sizes of the fewest groups of at most `most` that hold `count`; they differ by one at most.
fn even(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let groups = count.div_ceil(most.max(1));
    let size = count.checked_div(groups).unwrap_or(0);
    let larger = count.checked_rem(groups).unwrap_or(0);
    (0..groups).map(move |group| if group < larger { size.saturating_add(1) } else { size })
}
