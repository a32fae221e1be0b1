//! Writing the planned mapping trees: each node once.

use super::entries::Entries;
use super::error::RebuildError;
use super::output::Writer;
use super::plan::{Content, NodeId, Plan, Planned};
use super::tree::write_inner;
use crate::counts::Counts;
use tierlift_ondisk::thin::NodeKind;
use tierlift_ondisk::units::MetaBlock;

/// Bits of a mapping below its chunk number.
const CHUNK_SHIFT: u32 = 24;

pub(super) struct Trees<'a> {
    nodes: Vec<Planned>,
    source: Entries<'a>,
    /// Where each node was written; 0 for not yet.
    places: Vec<MetaBlock>,
    /// Those of the leaf being written.
    entries: Vec<(u64, [u8; 8])>,
    /// How many entries name each chunk.
    pub chunks: Counts,
}

impl<'a> Trees<'a> {
    pub(super) fn new(plan: Plan<'a>, chunks: u64) -> Self {
        let (nodes, source) = plan.into_nodes();
        let places = vec![MetaBlock(0); nodes.len()];
        Self { nodes, source, places, entries: Vec::new(), chunks: Counts::new(chunks) }
    }

    /// Writes a tree, but for what was written before, and gives its root.
    pub(super) fn write(&mut self, writer: &mut Writer<'_>, node: NodeId) -> Result<MetaBlock, RebuildError> {
        if let Some(place) = self.places.get(node.index()).filter(|place| place.0 != 0) {
            return Ok(*place);
        }
        let content = self.nodes.get(node.index()).map(|node| node.content.clone()).ok_or(RebuildError::TooLarge)?;
        let place = match &content {
            Content::Inner(children) => self.inner(writer, children)?,
            leaf => self.leaf(writer, leaf)?,
        };
        if let Some(known) = self.places.get_mut(node.index()) {
            *known = place;
        }
        Ok(place)
    }

    fn inner(&mut self, writer: &mut Writer<'_>, children: &[NodeId]) -> Result<MetaBlock, RebuildError> {
        let mut entries = Vec::with_capacity(children.len());
        for child in children {
            let place = self.write(writer, *child)?;
            let first_key = self.nodes.get(child.index()).map_or(0, |child| child.first_key);
            entries.push((first_key, place.0.to_le_bytes()));
        }
        write_inner(writer, &entries)
    }

    fn leaf(&mut self, writer: &mut Writer<'_>, leaf: &Content) -> Result<MetaBlock, RebuildError> {
        self.entries.clear();
        for part in leaf.parts() {
            self.source.read(part, &mut self.entries)?;
        }
        for (_, value) in &self.entries {
            self.chunks.add(u64::from_le_bytes(*value) >> CHUNK_SHIFT);
        }
        writer.write_node(NodeKind::Leaf, 8, &self.entries)
    }
}
