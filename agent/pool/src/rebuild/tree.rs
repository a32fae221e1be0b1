//! Building a tree from entries that come in key order, in memory for a few nodes a level.

use super::error::RebuildError;
use super::output::Writer;
use tierlift_ondisk::thin::{NodeKind, max_entries};
use tierlift_ondisk::units::MetaBlock;

/// A tree under construction. Its nodes are full but for the last two of each level, which share what is left.
pub(super) struct TreeBuilder<V> {
    value_size: usize,
    leaf: Vec<(u64, V)>,
    /// Children that have no parent yet, from the lowest level up.
    levels: Vec<Vec<(u64, [u8; 8])>>,
}

impl<V: AsRef<[u8]>> TreeBuilder<V> {
    pub(super) fn new(value_size: usize) -> Self {
        Self { value_size, leaf: Vec::new(), levels: Vec::new() }
    }

    /// Takes the next entry; keys must ascend.
    pub(super) fn push(&mut self, writer: &mut Writer<'_>, key: u64, value: V) -> Result<(), RebuildError> {
        self.leaf.push((key, value));
        let most = max_entries(writer.size, self.value_size);
        // Two nodes' worth are held back, so that the last two can share.
        if self.leaf.len() < most.saturating_mul(2) {
            return Ok(());
        }
        let node = write_first(writer, NodeKind::Leaf, self.value_size, &mut self.leaf, most)?;
        self.push_child(writer, 0, node)
    }

    fn push_child(&mut self, writer: &mut Writer<'_>, at: usize, child: (u64, [u8; 8])) -> Result<(), RebuildError> {
        if self.levels.len() <= at {
            self.levels.push(Vec::new());
        }
        let Some(level) = self.levels.get_mut(at) else { return Ok(()) };
        level.push(child);
        let most = max_entries(writer.size, 8);
        if level.len() < most.saturating_mul(2) {
            return Ok(());
        }
        let node = write_first(writer, NodeKind::Internal, 8, level, most)?;
        self.push_child(writer, at.saturating_add(1), node)
    }

    /// Writes what is left and gives the root, which nothing points at yet.
    pub(super) fn finish(mut self, writer: &mut Writer<'_>) -> Result<MetaBlock, RebuildError> {
        let most = max_entries(writer.size, self.value_size);
        let mut leaf = std::mem::take(&mut self.leaf);
        if self.levels.is_empty() && leaf.len() <= most {
            return writer.write_node(NodeKind::Leaf, self.value_size, &leaf);
        }
        for node in write_rest(writer, NodeKind::Leaf, self.value_size, &mut leaf)? {
            self.push_child(writer, 0, node)?;
        }
        let mut at: usize = 0;
        loop {
            let mut level = self.levels.get_mut(at).map(std::mem::take).unwrap_or_default();
            at = at.saturating_add(1);
            if self.levels.len() <= at && level.len() <= max_entries(writer.size, 8) {
                return write_inner(writer, &level);
            }
            for node in write_rest(writer, NodeKind::Internal, 8, &mut level)? {
                self.push_child(writer, at, node)?;
            }
        }
    }
}

/// Writes the remaining entries as one node, or as two even ones.
fn write_rest<V: AsRef<[u8]>>(
    writer: &mut Writer<'_>,
    kind: NodeKind,
    value_size: usize,
    rest: &mut Vec<(u64, V)>,
) -> Result<Vec<(u64, [u8; 8])>, RebuildError> {
    let most = max_entries(writer.size, value_size);
    let mut nodes = Vec::new();
    if rest.len() > most {
        let half = rest.len().div_ceil(2);
        nodes.push(write_first(writer, kind, value_size, rest, half)?);
    }
    if !rest.is_empty() {
        let all = rest.len();
        nodes.push(write_first(writer, kind, value_size, rest, all)?);
    }
    Ok(nodes)
}

/// Writes a node of the first `count` entries and takes them away; gives the parent's entry for it.
fn write_first<V: AsRef<[u8]>>(
    writer: &mut Writer<'_>,
    kind: NodeKind,
    value_size: usize,
    entries: &mut Vec<(u64, V)>,
    count: usize,
) -> Result<(u64, [u8; 8]), RebuildError> {
    let now: Vec<(u64, V)> = entries.drain(..count.min(entries.len())).collect();
    let first = now.first().map_or(0, |(key, _)| *key);
    let block = match kind {
        NodeKind::Leaf => writer.write_node(kind, value_size, &now)?,
        NodeKind::Internal => write_inner(writer, &now)?,
    };
    Ok((first, block.0.to_le_bytes()))
}

/// Writes an inner node and counts its pointers.
pub(super) fn write_inner<V: AsRef<[u8]>>(
    writer: &mut Writer<'_>,
    entries: &[(u64, V)],
) -> Result<MetaBlock, RebuildError> {
    for (_, child) in entries {
        let bytes = <[u8; 8]>::try_from(child.as_ref()).unwrap_or_default();
        writer.point(MetaBlock(u64::from_le_bytes(bytes)));
    }
    writer.write_node(NodeKind::Internal, 8, entries)
}
