//! What several trees have in common: when a device had one of them and it cannot be told which, this much is certain.

use super::scan::Scan;
use super::synthesize::{Child, Synthesizer};
use crate::blocks::Blocks;
use crate::fault::KeyRange;
use crate::walk::{Item, ValueSize, walk};
use tierlift_ondisk::thin::max_entries;
use tierlift_ondisk::units::MetaBlock;

/// Entries of a tree that are held at once.
const MOST_ENTRIES: usize = 16_000_000;

/// Entries by key.
type Entries = Vec<(u64, u64)>;

/// Builds a tree of the entries that all these trees have; keys that they disagree about are lost. `None` when they have
/// nothing in common, or are not whole, or too large.
pub(crate) fn tree(
    blocks: &Blocks,
    scan: &mut Scan,
    synthesizer: &mut Synthesizer,
    trees: &[MetaBlock],
) -> Option<MetaBlock> {
    let mut trees = trees.iter();
    let mut common = entries(blocks, *trees.next()?)?;
    let mut lost = Vec::new();
    for tree in trees {
        (common, lost) = meet(&common, &entries(blocks, *tree)?, &lost);
    }
    let size = max_entries(blocks.size(), 8).max(1);
    let mut children: Vec<Child> = Vec::new();
    for part in parts(&common, &lost, size) {
        let (first, last) = (part.first()?.0, part.last()?.0);
        let part = part.iter().map(|(key, value)| (*key, value.to_le_bytes().to_vec())).collect();
        let block = synthesizer.leaf(scan, 8, part);
        children.push(Child { block, first, end: Some(last) });
    }
    widen(&mut children, &lost);
    if children.is_empty() {
        return None;
    }
    let root = synthesizer.take_number();
    synthesizer.inner(scan, root, KeyRange::ALL, &children, true);
    Some(root)
}

/// All entries of a whole tree.
fn entries(blocks: &Blocks, root: MetaBlock) -> Option<Entries> {
    let mut found = Vec::new();
    walk(blocks, root, ValueSize::EIGHT, |item| match item {
        Item::Leaf(node) if found.len() < MOST_ENTRIES => {
            found.extend(node.entries_u64());
            Ok(())
        }
        Item::Leaf(_) | Item::Lost(_) => Err(()),
    })
    .ok()?;
    Some(found)
}

/// What two lists agree on, and all keys that they or earlier ones do not agree on, in order.
fn meet(one: &Entries, other: &Entries, lost: &[u64]) -> (Entries, Vec<u64>) {
    let (mut common, mut apart) = (Vec::new(), lost.to_vec());
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    loop {
        match (one.peek(), other.peek()) {
            (Some(left), Some(right)) if left.0 == right.0 => {
                if left.1 == right.1 {
                    common.push(**left);
                } else {
                    apart.push(left.0);
                }
                one.next();
                other.next();
            }
            (Some(left), right) if right.is_none_or(|right| left.0 < right.0) => {
                apart.push(left.0);
                one.next();
            }
            (_, Some(right)) => {
                apart.push(right.0);
                other.next();
            }
            (_, None) => break,
        }
    }
    apart.sort_unstable();
    apart.dedup();
    common.retain(|(key, _)| apart.binary_search(key).is_err());
    (common, apart)
}

/// Runs of at most `most` entries without a lost key between them.
fn parts<'a>(entries: &'a Entries, lost: &'a [u64], most: usize) -> impl Iterator<Item = &'a [(u64, u64)]> {
    let is_split = |left: u64, right: u64| {
        let at = lost.partition_point(|key| *key <= left);
        lost.get(at).is_some_and(|key| *key < right)
    };
    entries.chunk_by(move |left, right| !is_split(left.0, right.0)).flat_map(move |run| run.chunks(most))
}

/// Where nothing is lost between two leaves nothing was there: the leaves speak for the keys up to the next one.
fn widen(children: &mut [Child], lost: &[u64]) {
    let mut before: Option<u64> = None;
    let nexts: Vec<_> = children.iter().skip(1).map(|child| Some(child.first)).chain([None]).collect();
    for (child, next) in children.iter_mut().zip(nexts) {
        let lost_before = lost.iter().take(lost.partition_point(|key| *key < child.first)).next_back();
        let from = lost_before.and_then(|key| key.checked_add(1)).unwrap_or(0);
        child.first = before.map_or(from, |before| from.max(before));
        let lost_after = lost.get(lost.partition_point(|key| *key <= child.end.unwrap_or(child.first)));
        let until = lost_after.map_or(u64::MAX, |key| key.saturating_sub(1));
        child.end = Some(next.map_or(until, |next| until.min(next.saturating_sub(1))));
        before = child.end.and_then(|end| end.checked_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_trees_disagree_about_is_lost() {
        let one = vec![(1, 10), (2, 20), (4, 40), (9, 90)];
        let other = vec![(1, 10), (3, 30), (4, 41), (9, 90)];
        let (common, lost) = meet(&one, &other, &[]);
        assert_eq!((common.as_slice(), lost.as_slice()), ([(1, 10), (9, 90)].as_slice(), [2, 3, 4].as_slice()));
        // A third one: what was lost stays lost even where it agrees.
        let (common, lost) = meet(&common, &vec![(1, 10), (2, 20), (8, 80), (9, 90)], &lost);
        assert_eq!((common.as_slice(), lost.as_slice()), ([(1, 10), (9, 90)].as_slice(), [2, 3, 4, 8].as_slice()));
    }

    #[test]
    fn leaves_speak_for_all_keys_but_the_lost_ones() {
        let entries: Entries = [5, 6, 7, 20, 30, 31].map(|key| (key, key)).to_vec();
        let lost = [2, 25, 27];
        let cut: Vec<_> = parts(&entries, &lost, 3).map(|part| (part[0].0, part[part.len() - 1].0)).collect();
        assert_eq!(cut, [(5, 7), (20, 20), (30, 31)]);
        let mut children: Vec<_> =
            cut.iter().map(|(first, last)| Child { block: MetaBlock(0), first: *first, end: Some(*last) }).collect();
        widen(&mut children, &lost);
        let ranges: Vec<_> = children.iter().map(|child| (child.first, child.end.unwrap())).collect();
        assert_eq!(ranges, [(3, 19), (20, 24), (28, u64::MAX)]);
    }
}
