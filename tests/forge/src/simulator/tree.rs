//! B-trees on a [`Store`]: every change copies the nodes on its way down that the last commit or another tree still needs.

use super::node::{Node, number};
use super::store::{Holds, Store};

/// A tree: its root, and what kind it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) root: u64,
    holds: Holds,
}

impl Tree {
    /// A tree at a known root.
    pub(super) fn at(root: u64, holds: Holds) -> Self {
        Self { root, holds }
    }

    /// An empty one.
    pub(super) fn create(store: &mut Store, value_size: usize, holds: Holds) -> anyhow::Result<Self> {
        Ok(Self { root: store.add(Node::empty_leaf(value_size))?, holds })
    }

    /// The value of a key.
    pub(super) fn get<'a>(&self, store: &'a Store, key: u64) -> Option<&'a [u8]> {
        let mut node = store.node(self.root);
        while !node.is_leaf() {
            node = store.node(node.number(node.child_for(key)));
        }
        node.keys.binary_search(&key).ok().map(|index| node.value(index))
    }

    /// Sets the value of a key. A chunk that the old value named and the new one does not loses a reference; that of the
    /// new one is the caller's.
    pub(super) fn insert(&mut self, store: &mut Store, key: u64, value: &[u8]) -> anyhow::Result<()> {
        self.root = store.shadow(self.root, self.holds)?;
        if store.node(self.root).is_full(store.size) {
            split_root(store, self.root)?;
        }
        let mut block = self.root;
        while !store.node(block).is_leaf() {
            block = self.step_to_insert(store, block, key)?;
        }
        self.put(store, block, key, value);
        Ok(())
    }

    /// From an inner node with room to the child for the key, which has room when this is done.
    fn step_to_insert(&self, store: &mut Store, parent: u64, key: u64) -> anyhow::Result<u64> {
        let index = store.node(parent).child_for(key);
        if key < store.node(parent).keys[index] {
            store.node_mut(parent).keys[index] = key;
        }
        let child = self.shadow_child(store, parent, index)?;
        if !store.node(child).is_full(store.size) {
            return Ok(child);
        }
        let half = store.node(child).len() / 2;
        let right = store.node_mut(child).split_off(half);
        let middle = right.keys[0];
        let right = store.add(right)?;
        store.node_mut(parent).insert(index + 1, middle, &right.to_le_bytes());
        Ok(if key < middle { child } else { right })
    }

    fn shadow_child(&self, store: &mut Store, parent: u64, index: usize) -> anyhow::Result<u64> {
        let before = store.node(parent).number(index);
        let child = store.shadow(before, self.holds)?;
        if child != before {
            store.node_mut(parent).set(index, &child.to_le_bytes());
        }
        Ok(child)
    }

    fn put(&self, store: &mut Store, leaf: u64, key: u64, value: &[u8]) {
        let node = store.node_mut(leaf);
        match node.keys.binary_search(&key) {
            Err(index) => node.insert(index, key, value),
            Ok(index) => {
                let (old, new) = (node.value(index).to_vec(), value);
                node.set(index, new);
                if self.holds == Holds::Chunks && old[3..] != new[3..] {
                    release_chunk(store, &old);
                }
            }
        }
    }

    /// Removes a key, which must be there; the chunk or tree that it names loses a reference.
    pub(super) fn remove(&mut self, store: &mut Store, key: u64) -> anyhow::Result<()> {
        self.root = store.shadow(self.root, self.holds)?;
        let mut block = self.root;
        while !store.node(block).is_leaf() {
            block = self.step_to_remove(store, block, key)?;
        }
        let node = store.node_mut(block);
        let Ok(index) = node.keys.binary_search(&key) else {
            anyhow::bail!("no entry {key} to remove");
        };
        let value = node.value(index).to_vec();
        node.remove(index);
        match self.holds {
            Holds::Values => {}
            Holds::Chunks => release_chunk(store, &value),
            Holds::Roots => store.release(number(&value), Holds::Chunks),
        }
        Ok(())
    }

    /// From an inner node to the child for the key, which can spare an entry when this is done; or the same node again when
    /// its children had to be put in order first.
    fn step_to_remove(&self, store: &mut Store, parent: u64, key: u64) -> anyhow::Result<u64> {
        if store.node(parent).len() == 1 {
            return self.swallow_only_child(store, parent);
        }
        let index = store.node(parent).child_for(key);
        let child = store.node(store.node(parent).number(index));
        if child.len() <= child.least(store.size) {
            self.balance(store, parent, index.saturating_sub(1))?;
            return Ok(parent);
        }
        self.shadow_child(store, parent, index)
    }

    /// A root with one child becomes that child.
    fn swallow_only_child(&self, store: &mut Store, parent: u64) -> anyhow::Result<u64> {
        let child = self.shadow_child(store, parent, 0)?;
        let content = store.node(child).clone();
        *store.node_mut(parent) = content;
        store.metadata.release(child);
        Ok(parent)
    }

    /// Merges children `left` and `left + 1`, or shares their entries out evenly when they are too many for one.
    fn balance(&self, store: &mut Store, parent: u64, left: usize) -> anyhow::Result<()> {
        let left_block = self.shadow_child(store, parent, left)?;
        let right_block = self.shadow_child(store, parent, left + 1)?;
        let right = store.node(right_block).clone();
        let size = store.size;
        let joined = store.node_mut(left_block);
        joined.append(right);
        if joined.len() < 2 * (joined.least(size) + 1) {
            store.node_mut(parent).remove(left + 1);
            store.metadata.release(right_block);
            return Ok(());
        }
        let half = joined.len() / 2;
        let right = joined.split_off(half);
        let middle = right.keys[0];
        *store.node_mut(right_block) = right;
        store.node_mut(parent).keys[left + 1] = middle;
        Ok(())
    }
}

/// The root keeps its block and gets two children that share its entries.
fn split_root(store: &mut Store, root: u64) -> anyhow::Result<()> {
    let mut left = store.node(root).clone();
    let right = left.split_off(left.len() / 2);
    let keys = (left.keys[0], right.keys[0]);
    let children = [(keys.0, store.add(left)?), (keys.1, store.add(right)?)];
    *store.node_mut(root) = Node::inner(&children);
    Ok(())
}

fn release_chunk(store: &mut Store, value: &[u8]) {
    store.data.release(number(value) >> 24);
}
