//! Lost nodes below lost nodes: nothing points at them any more, but older generations tell where in their tree they were.

use super::committed::{Committed, Count};
use super::history::Past;
use super::orphan::Orphan;
use super::reach::{Dangling, Tree};
use super::synthesize::Child;
use std::collections::BTreeMap;
use tierlift_ondisk::thin::{BlockSize, DeviceDetails, max_entries};
use tierlift_ondisk::units::MetaBlock;

/// What older generations, in which these blocks were the same already, say of them; those of mapping trees only.
pub(crate) fn named_by(pasts: &[Past], unnamed: &[MetaBlock]) -> Vec<(MetaBlock, Dangling)> {
    let named = |block: MetaBlock| {
        let mut all = pasts.iter().filter(|past| past.is_unbroken(block));
        let mut found = all.find_map(|past| past.reach.dangling.get(&block))?.clone();
        for other in all.filter_map(|past| past.reach.dangling.get(&block)) {
            found.window.first = found.window.first.max(other.window.first);
            found.window.last = found.window.last.min(other.window.last);
            found.height = found.height.or(other.height);
        }
        (found.tree == Tree::Mapping).then_some((block, found))
    };
    unnamed.iter().copied().filter_map(named).collect()
}

/// They lack their own parents.
pub(crate) fn orphans(hidden: &[(MetaBlock, Dangling)], committed: &Committed) -> Vec<Orphan> {
    let orphan = |(block, lost): &(MetaBlock, Dangling)| {
        let lacks = match committed.count(*block) {
            Count::Exactly(count) => Some(count),
            Count::Many | Count::Unknown => None,
        };
        let child = Child { block: *block, first: lost.window.first, end: Some(lost.window.last) };
        let last = lost.window.last;
        Orphan { tree: Tree::Mapping, child, last, height: lost.height, lacks, entries: 0, whole: false }
    };
    hidden.iter().map(orphan).collect()
}

/// How high a tree with so many mappings must be at least.
pub(crate) fn least_heights(records: &BTreeMap<u64, DeviceDetails>, size: BlockSize) -> BTreeMap<u64, u8> {
    let most = max_entries(size, 8) as u64;
    let height = |mapped: u64| {
        let mut height = 0_u8;
        let mut room = most;
        while room < mapped && height < super::reach::MOST_LEVELS {
            room = room.saturating_mul(most.max(2));
            height = height.saturating_add(1);
        }
        height
    };
    records.iter().map(|(device, record)| (*device, height(record.mapped.0))).collect()
}
