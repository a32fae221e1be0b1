//! The metadata device under a transaction: nodes in core, copy-on-write, and the image that commits are written to.

use super::counts::Counts;
use super::node::Node;
use std::collections::BTreeSet;
use tierlift_ondisk::thin::BlockSize;

/// What the leaves of a tree refer to, and so what gains a reference when a shared leaf is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing that is counted.
    Values,
    /// Roots of mapping trees.
    Roots,
    /// Chunks, by mapping values.
    Chunks,
}

/// The metadata device.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) size: BlockSize,
    pub(super) image: Vec<u8>,
    nodes: Vec<Node>,
    dirty: BTreeSet<u64>,
    pub(super) metadata: Counts,
    pub(super) data: Counts,
}

impl Store {
    /// A device with what lies on it; nothing of that is believed or wiped.
    pub(super) fn new(size: BlockSize, image: Vec<u8>, chunks: u64) -> Self {
        let blocks = size.blocks_in(image.len() as u64);
        let nodes = vec![Node::empty_leaf(8); blocks as usize];
        let metadata = Counts::new(blocks);
        Self { size, image, nodes, dirty: BTreeSet::new(), metadata, data: Counts::new(chunks) }
    }

    pub(super) fn node(&self, block: u64) -> &Node {
        &self.nodes[block as usize]
    }

    /// The node for changes; it must be new in this transaction.
    pub(super) fn node_mut(&mut self, block: u64) -> &mut Node {
        self.dirty.insert(block);
        &mut self.nodes[block as usize]
    }

    /// Puts a node in a block of its own.
    pub(super) fn add(&mut self, node: Node) -> anyhow::Result<u64> {
        let block = self.metadata.allocate()?;
        *self.node_mut(block) = node;
        Ok(block)
    }

    /// The node where it may be changed: in place when it is new and unshared, else a copy. What a shared node points at
    /// gains a reference, for now there are two nodes that do.
    pub(super) fn shadow(&mut self, block: u64, holds: Holds) -> anyhow::Result<u64> {
        let shared = self.metadata.get(block) > 1;
        if !shared && self.metadata.is_new(block) {
            return Ok(block);
        }
        let node = self.node(block).clone();
        if shared {
            self.hold_children(&node, holds);
        }
        let copy = self.add(node)?;
        self.metadata.release(block);
        Ok(copy)
    }

    /// The same for a block that is no node: its place in this transaction. The caller writes it.
    pub(super) fn shadow_raw(&mut self, block: u64) -> anyhow::Result<u64> {
        if self.metadata.is_new(block) {
            return Ok(block);
        }
        let copy = self.allocate_raw()?;
        self.metadata.release(block);
        Ok(copy)
    }

    /// A block that will hold no node.
    pub(super) fn allocate_raw(&mut self) -> anyhow::Result<u64> {
        let block = self.metadata.allocate()?;
        self.dirty.remove(&block);
        Ok(block)
    }

    fn hold_children(&mut self, node: &Node, holds: Holds) {
        match holds {
            Holds::Chunks if node.is_leaf() => node.numbers().for_each(|value| self.data.hold(value >> 24)),
            Holds::Values if node.is_leaf() => {}
            _ => node.numbers().for_each(|child| self.metadata.hold(child)),
        }
    }

    /// Drops one reference to a tree; when it was the last, everything beneath loses one too.
    pub(super) fn release(&mut self, block: u64, holds: Holds) {
        if self.metadata.release(block) > 0 {
            return;
        }
        let leaf = self.node(block).is_leaf();
        let values: Vec<_> =
            if leaf && holds == Holds::Values { Vec::new() } else { self.node(block).numbers().collect() };
        for value in values {
            match holds {
                Holds::Chunks if leaf => drop(self.data.release(value >> 24)),
                Holds::Roots if leaf => self.release(value, Holds::Chunks),
                _ => self.release(value, holds),
            }
        }
    }

    /// Writes a whole block to the image.
    pub(super) fn write(&mut self, block: u64, bytes: &[u8]) {
        let size = self.size.bytes();
        self.image[block as usize * size..][..size].copy_from_slice(bytes);
    }

    /// Writes every node changed since the last commit; those freed again too, as a kernel's cache does.
    pub(super) fn write_nodes(&mut self) {
        for block in std::mem::take(&mut self.dirty) {
            let bytes = self.node(block).encode(self.size, block);
            self.write(block, &bytes);
        }
    }
}
