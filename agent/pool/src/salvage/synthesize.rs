//! Putting a lost inner node together again from the children that certainly were its own.

use super::scan::{Scan, ScannedNode};
use crate::blocks::{Patch, Patches, VOID};
use crate::fault::KeyRange;
use tierlift_ondisk::thin::{BlockSize, NodeKind, encode_node, max_entries};
use tierlift_ondisk::units::MetaBlock;

/// Numbers for nodes that never had one; no device is that long.
const FIRST_VIRTUAL: u64 = 1 << 40;

/// A subtree with the keys it speaks for; without an end when its own last part is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Child {
    pub block: MetaBlock,
    pub first: u64,
    pub end: Option<u64>,
}

/// Makes nodes as patches.
#[derive(Debug)]
pub(crate) struct Synthesizer {
    size: BlockSize,
    next: u64,
    pub patches: Patches,
}

impl Synthesizer {
    pub(crate) fn new(size: BlockSize, patches: Patches) -> Self {
        Self { size, next: FIRST_VIRTUAL, patches }
    }

    /// Puts an inner node at `place`. With `gaps`, keys that no child speaks for are marked lost; without, nothing was there.
    pub(crate) fn inner(
        &mut self,
        scan: &mut Scan,
        place: MetaBlock,
        window: KeyRange,
        children: &[Child],
        gaps: bool,
    ) {
        let mut entries = entries(window, children, gaps);
        let most = max_entries(self.size, 8).max(1);
        while entries.len() > most {
            entries = entries
                .chunks(most)
                .map(|part| (part.first().map_or(0, |entry| entry.0), self.fresh(scan, part)))
                .collect();
        }
        self.node(
            scan,
            place,
            NodeKind::Internal,
            8,
            entries.iter().map(|(key, block)| (*key, block.0.to_le_bytes().to_vec())).collect(),
        );
    }

    /// A number for a node that never had one.
    pub(crate) fn take_number(&mut self) -> MetaBlock {
        let place = MetaBlock(self.next);
        self.next = self.next.saturating_add(1);
        place
    }

    /// A leaf somewhere.
    pub(crate) fn leaf(&mut self, scan: &mut Scan, value_size: usize, entries: Vec<(u64, Vec<u8>)>) -> MetaBlock {
        let place = self.take_number();
        self.node(scan, place, NodeKind::Leaf, value_size, entries);
        place
    }

    fn fresh(&mut self, scan: &mut Scan, entries: &[(u64, MetaBlock)]) -> MetaBlock {
        let place = self.take_number();
        self.node(
            scan,
            place,
            NodeKind::Internal,
            8,
            entries.iter().map(|(key, block)| (*key, block.0.to_le_bytes().to_vec())).collect(),
        );
        place
    }

    /// Puts leaves below `place`: entries with lost keys between them.
    pub(crate) fn leaves(
        &mut self,
        scan: &mut Scan,
        place: MetaBlock,
        window: KeyRange,
        value_size: usize,
        entries: Vec<(u64, Vec<u8>)>,
        lost: &[u64],
    ) {
        let most = max_entries(self.size, value_size).max(1);
        if lost.is_empty() && entries.len() <= most {
            return self.node(scan, place, NodeKind::Leaf, value_size, entries);
        }
        let mut children = Vec::new();
        let groups = entries.chunk_by(|(left, _), (right, _)| !lost.iter().any(|key| (left..right).contains(&key)));
        for part in groups.flat_map(|group| group.chunks(most)) {
            let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { continue };
            let block = self.leaf(scan, value_size, part.to_vec());
            children.push(Child { block, first: *first, end: Some(*last) });
        }
        self.inner(scan, place, window, &children, true);
    }

    fn node(
        &mut self,
        scan: &mut Scan,
        place: MetaBlock,
        kind: NodeKind,
        value_size: usize,
        entries: Vec<(u64, Vec<u8>)>,
    ) {
        let bytes = encode_node(self.size, place, kind, value_size, &entries);
        let first = entries.first().map_or(0, |entry| entry.0);
        let last = entries.last().map_or(first, |entry| entry.0);
        let value_size = u16::try_from(value_size).unwrap_or(u16::MAX);
        scan.nodes.insert(place, ScannedNode { kind, value_size, entries: entries.len() as u32, first, last });
        self.patches.insert(place, Patch::Whole(bytes));
    }
}

/// Children in key order, which never overlap, and between them what is not known.
fn entries(window: KeyRange, children: &[Child], gaps: bool) -> Vec<(u64, MetaBlock)> {
    let mut entries = Vec::new();
    let mut expected = Some(window.first);
    for child in children {
        if gaps && expected.is_some_and(|expected| expected < child.first) {
            entries.push((expected.unwrap_or_default(), VOID));
        }
        entries.push((child.first, child.block));
        expected = child.end.and_then(|end| end.checked_add(1));
    }
    if let Some(expected) = expected.filter(|expected| gaps && *expected <= window.last) {
        entries.push((expected, VOID));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(block: u64, first: u64, end: u64) -> Child {
        Child { block: MetaBlock(block), first, end: Some(end) }
    }

    #[test]
    fn what_no_child_speaks_for_is_void() {
        let window = KeyRange { first: 10, last: 99 };
        let children = [child(1, 20, 29), child(2, 30, 39), Child { block: MetaBlock(3), first: 50, end: None }];
        let with = entries(window, &children, true);
        let expected = [(10, VOID), (20, MetaBlock(1)), (30, MetaBlock(2)), (40, VOID), (50, MetaBlock(3))];
        assert_eq!(with, expected, "an open end is the child's own loss");
        assert_eq!(entries(window, &children[..2], true).last(), Some(&(40, VOID)));
        let without = entries(window, &children, false);
        assert_eq!(without, [(20, MetaBlock(1)), (30, MetaBlock(2)), (50, MetaBlock(3))]);
    }
}
