//! A node of a B-tree: header, then `max_entries` keys, then as many values.
//!
//! The values begin after *all* key slots, used or not, so `max_entries` must be right before anything can be found.
//! An inner node's key i is the lowest key its child i may hold.

use super::bytes::{put, put_u32, put_u64};
use super::{BlockKind, BlockSize, seal};
use crate::error::DecodeError;
use crate::field::Fields;
use crate::units::MetaBlock;
use byteorder::{ByteOrder, LittleEndian};

const HEADER: usize = 32;
const KEY: usize = 8;
const STRUCTURE: &str = "tree node";

/// Inner node or leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Values are the block numbers of children.
    Internal,
    /// Values are the tree's own.
    Leaf,
}

impl NodeKind {
    const fn flags(self) -> u32 {
        match self {
            Self::Internal => 1,
            Self::Leaf => 2,
        }
    }
}

/// The number of entries a writer gives to nodes with values of this many bytes; a multiple of three.
pub fn max_entries(block_size: BlockSize, value_size: usize) -> usize {
    let space = block_size.bytes().saturating_sub(HEADER);
    let thirds = space.checked_div(value_size.saturating_add(KEY)).unwrap_or(0) / 3;
    thirds.saturating_mul(3)
}

/// A node whose header fits its block and whose keys ascend. Borrows the block.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    kind: NodeKind,
    number: MetaBlock,
    max_entries: usize,
    value_size: usize,
    keys: &'a [u8],
    values: &'a [u8],
}

impl<'a> Node<'a> {
    /// Decodes a block. The checksum is not looked at here ([`super::identify`]), nor is the block's place.
    ///
    /// # Errors
    /// When flags are neither 1 nor 2, the entries do not fit the block, an inner node's values are not 8 bytes, or the keys
    /// do not strictly ascend.
    pub fn decode(block: &'a [u8]) -> Result<Self, DecodeError> {
        let fields = Fields::new(STRUCTURE, block);
        let kind = decode_kind(fields.u32("flags", 4)?)?;
        let entries = fields.u32("nr_entries", 16)? as usize;
        let max_entries = fields.u32("max_entries", 20)? as usize;
        let value_size = fields.u32("value_size", 24)? as usize;
        if kind == NodeKind::Internal && value_size != 8 {
            return Err(DecodeError::new(STRUCTURE, "value_size", 24, "8 in an inner node", value_size));
        }
        if entries > max_entries {
            return Err(DecodeError::new(STRUCTURE, "nr_entries", 16, format_args!("at most {max_entries}"), entries));
        }
        let (keys, values) = areas(block, entries, max_entries, value_size).ok_or_else(|| {
            let found = format!("{max_entries} with values of {value_size} bytes");
            DecodeError::new(STRUCTURE, "max_entries", 20, format_args!("what fits {} bytes", block.len()), found)
        })?;
        let number = MetaBlock(fields.u64("blocknr", 8)?);
        let node = Self { kind, number, max_entries, value_size, keys, values };
        node.check_order()?;
        Ok(node)
    }

    fn check_order(&self) -> Result<(), DecodeError> {
        let later = self.keys().skip(1);
        match self.keys().zip(later).position(|(key, next)| key >= next) {
            None => Ok(()),
            Some(at) => {
                let found = self.key(at.saturating_add(1)).unwrap_or_default();
                let offset = HEADER.saturating_add(KEY).saturating_add(at.saturating_mul(KEY));
                let expected = format!("more than {}", self.key(at).unwrap_or_default());
                Err(DecodeError::new(STRUCTURE, "key", offset, expected, found))
            }
        }
    }

    /// Inner node or leaf.
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// The block number the node carries.
    pub fn number(&self) -> MetaBlock {
        self.number
    }

    /// Number of entries in use.
    pub fn len(&self) -> usize {
        self.keys.len() / KEY
    }

    /// Whether it has no entry; legal only for a leaf that is a tree's root.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of entries there is room for.
    pub fn max_entries(&self) -> usize {
        self.max_entries
    }

    /// Length of a value in bytes.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Key `index`.
    pub fn key(&self, index: usize) -> Option<u64> {
        self.keys.chunks_exact(KEY).nth(index).map(LittleEndian::read_u64)
    }

    /// All keys in use, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + Clone + use<'a> {
        self.keys.chunks_exact(KEY).map(LittleEndian::read_u64)
    }

    /// All keys in use with the bytes of their values.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        self.keys().zip(self.values.chunks_exact(self.value_size.max(1)))
    }

    /// All keys in use with values read as one 64-bit number each: children, roots, mappings, tier values. Empty when the
    /// values have another length.
    pub fn entries_u64(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let values = if self.value_size == 8 { self.values } else { &[] };
        self.keys().zip(values.chunks_exact(8).map(LittleEndian::read_u64))
    }
}

fn decode_kind(flags: u32) -> Result<NodeKind, DecodeError> {
    [NodeKind::Internal, NodeKind::Leaf]
        .into_iter()
        .find(|kind| kind.flags() == flags)
        .ok_or_else(|| DecodeError::new(STRUCTURE, "flags", 4, "1 (inner) or 2 (leaf)", format_args!("{flags:#x}")))
}

/// The used keys and the used values, when the whole of both areas lies inside the block.
fn areas(block: &[u8], entries: usize, max_entries: usize, value_size: usize) -> Option<(&[u8], &[u8])> {
    if value_size == 0 {
        return None;
    }
    let values_at = max_entries.checked_mul(KEY)?.checked_add(HEADER)?;
    let end = max_entries.checked_mul(value_size)?.checked_add(values_at)?;
    if end > block.len() {
        return None;
    }
    let keys = block.get(HEADER..entries.checked_mul(KEY)?.checked_add(HEADER)?)?;
    let values = block.get(values_at..entries.checked_mul(value_size)?.checked_add(values_at)?)?;
    Some((keys, values))
}

/// Writes a node with its checksum. Entries beyond what fits are left out; values are cut or filled to `value_size`.
pub fn encode_node<V: AsRef<[u8]>>(
    block_size: BlockSize,
    number: MetaBlock,
    kind: NodeKind,
    value_size: usize,
    entries: &[(u64, V)],
) -> Vec<u8> {
    let mut out = vec![0; block_size.bytes()];
    let max = max_entries(block_size, value_size);
    let used = entries.get(..max).unwrap_or(entries);
    put_u32(&mut out, 4, kind.flags());
    put_u64(&mut out, 8, number.0);
    put_u32(&mut out, 16, used.len() as u32);
    put_u32(&mut out, 20, max as u32);
    put_u32(&mut out, 24, value_size as u32);
    let area = out.get_mut(HEADER..).unwrap_or_default();
    if let Some((keys, values)) = area.split_at_mut_checked(max.saturating_mul(KEY)) {
        let places = keys.chunks_exact_mut(KEY).zip(values.chunks_exact_mut(value_size.max(1)));
        for ((key, value), (key_place, value_place)) in used.iter().zip(places) {
            LittleEndian::write_u64(key_place, *key);
            put(value_place, 0, value.as_ref().get(..value_size).unwrap_or(value.as_ref()));
        }
    }
    seal(BlockKind::Node, &mut out);
    out
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::thin::stored_checksum;
    use proptest::prelude::*;

    #[test]
    fn capacities_are_those_of_the_format() {
        let sizes = [4, 8, 16, 24, 32, 44];
        assert_eq!(sizes.map(|size| max_entries(BlockSize::K4, size)), [336, 252, 168, 126, 99, 78]);
        assert_eq!(sizes.map(|size| max_entries(BlockSize::K8, size)), [678, 510, 339, 255, 204, 156]);
        assert_eq!(max_entries(BlockSize::K8, usize::MAX), 0);
    }

    #[test]
    fn an_empty_leaf_has_the_known_checksum() {
        let sum = |size| stored_checksum(&encode_node(size, MetaBlock(7), NodeKind::Leaf, 8, &[] as &[(u64, [u8; 8])]));
        assert_eq!(sum(BlockSize::K4), 0x49C5_4642);
        assert_eq!(sum(BlockSize::K8), 0x0ACB_E1C4);
    }

    fn sample() -> Vec<u8> {
        let entries: Vec<_> = (1..=3_u64).map(|key| (key * 10, (key * 100).to_le_bytes().to_vec())).collect();
        encode_node(BlockSize::K4, MetaBlock(9), NodeKind::Leaf, 8, &entries)
    }

    #[test]
    fn damage_is_named_by_field() {
        let mut faults = Vec::new();
        for (offset, value) in [(4, 3), (16, 253), (20, 255), (24, 0), (24, u32::MAX), (40, 10), (48, 15)] {
            let mut block = sample();
            put_u32(&mut block, offset, value);
            faults.push(Node::decode(&block).unwrap_err().field);
        }
        assert_eq!(
            faults,
            ["flags", "nr_entries", "max_entries", "max_entries", "max_entries", "key", "key"],
            "in the order of the damages"
        );
        let mut inner = sample();
        put_u32(&mut inner, 4, 1);
        put_u32(&mut inner, 24, 4);
        assert_eq!(Node::decode(&inner).unwrap_err().field, "value_size");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut block in proptest::collection::vec(any::<u8>(), 0..512), kind in 0..4_u32,
                                       entries in 0..70_u32, size in 0..20_u32) {
            let _ = Node::decode(&block);
            put_u32(&mut block, 4, kind);
            put_u32(&mut block, 16, entries);
            put_u32(&mut block, 20, entries);
            put_u32(&mut block, 24, size);
            if let Ok(node) = Node::decode(&block) {
                prop_assert_eq!(node.entries().count(), node.len());
                prop_assert!(node.entries_u64().count() <= node.len());
            }
        }

        #[test]
        fn every_node_comes_back(keys in proptest::collection::btree_map(any::<u64>(), any::<[u8; 44]>(), 0..78),
                                 size in prop::sample::select(vec![4_usize, 8, 16, 24, 32, 44])) {
            let entries: Vec<_> = keys.iter().map(|(key, value)| (*key, value[..size].to_vec())).collect();
            let block = encode_node(BlockSize::K4, MetaBlock(5), NodeKind::Leaf, size, &entries);
            let node = Node::decode(&block).unwrap();
            let back: Vec<_> = node.entries().map(|(key, value)| (key, value.to_vec())).collect();
            prop_assert_eq!(back, entries);
            prop_assert_eq!((node.number(), node.kind(), node.value_size()), (MetaBlock(5), NodeKind::Leaf, size));
        }
    }
}
