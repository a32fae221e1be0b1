//! A tree node in core.

use tierlift_ondisk::thin::{BlockSize, NodeKind, encode_node, max_entries};
use tierlift_ondisk::units::MetaBlock;

/// Keys and values of a node; values lie back to back as on disk.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) value_size: usize,
    pub(super) keys: Vec<u64>,
    values: Vec<u8>,
}

impl Node {
    pub(super) fn empty_leaf(value_size: usize) -> Self {
        Self { kind: NodeKind::Leaf, value_size, keys: Vec::new(), values: Vec::new() }
    }

    /// An inner node with these children.
    pub(super) fn inner(children: &[(u64, u64)]) -> Self {
        let keys = children.iter().map(|(key, _)| *key).collect();
        let values = children.iter().flat_map(|(_, block)| block.to_le_bytes()).collect();
        Self { kind: NodeKind::Internal, value_size: 8, keys, values }
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.kind == NodeKind::Leaf
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_full(&self, size: BlockSize) -> bool {
        self.len() >= max_entries(size, self.value_size)
    }

    /// Entries below which a node that is no root must not fall.
    pub(super) fn least(&self, size: BlockSize) -> usize {
        max_entries(size, self.value_size) / 3
    }

    fn at(&self, index: usize) -> usize {
        index * self.value_size
    }

    pub(super) fn value(&self, index: usize) -> &[u8] {
        &self.values[self.at(index)..self.at(index + 1)]
    }

    /// A value of 8 bytes as a number.
    pub(super) fn number(&self, index: usize) -> u64 {
        number(self.value(index))
    }

    /// All values of 8 bytes as numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.values.chunks_exact(8).map(number)
    }

    pub(super) fn set(&mut self, index: usize, value: &[u8]) {
        let place = self.at(index)..self.at(index + 1);
        self.values[place].copy_from_slice(value);
    }

    pub(super) fn insert(&mut self, index: usize, key: u64, value: &[u8]) {
        let at = self.at(index);
        self.keys.insert(index, key);
        self.values.splice(at..at, value.iter().copied());
    }

    pub(super) fn remove(&mut self, index: usize) {
        let place = self.at(index)..self.at(index + 1);
        self.keys.remove(index);
        self.values.drain(place);
    }

    /// The child that may hold the key: the last one whose key is not above it, or the first.
    pub(super) fn child_for(&self, key: u64) -> usize {
        self.keys.partition_point(|first| *first <= key).saturating_sub(1)
    }

    /// Cuts off the entries from `index` on.
    pub(super) fn split_off(&mut self, index: usize) -> Self {
        let values = self.values.split_off(self.at(index));
        Self { kind: self.kind, value_size: self.value_size, keys: self.keys.split_off(index), values }
    }

    /// Adds the entries of the right-hand neighbour.
    pub(super) fn append(&mut self, right: Self) {
        self.keys.extend(right.keys);
        self.values.extend(right.values);
    }

    pub(super) fn encode(&self, size: BlockSize, number: u64) -> Vec<u8> {
        let values = self.values.chunks_exact(self.value_size.max(1)).map(<[u8]>::to_vec);
        let entries: Vec<_> = self.keys.iter().copied().zip(values).collect();
        encode_node(size, MetaBlock(number), self.kind, self.value_size, &entries)
    }
}

/// A little-endian number of up to 8 bytes.
pub(super) fn number(value: &[u8]) -> u64 {
    value.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
