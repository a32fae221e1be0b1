//! The block size when neither superblock nor ring tells it: a look at some places saves reading everything twice.

use crate::blocks::View;
use tierlift_ondisk::thin::{BlockKind, BlockSize, identify, own_number};
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;

/// Places looked at, and bytes at each: a multiple of both block sizes.
const PLACES: u64 = 64;
const BYTES: u64 = 64 << 10;
/// Sound nodes of one size from which it is known, when there is none of the other. The checksum says yes by chance once in
/// a billion times.
const ENOUGH: usize = 8;

/// The one block size of which there are nodes; `None` when that is not clear.
pub(super) fn block_size(view: &View) -> Option<BlockSize> {
    let mut counts = BlockSize::PROBE_ORDER.map(|size| (size, 0_usize));
    let mut buffer = Vec::new();
    let stretch = view.size().0 / PLACES;
    let mut next = 0;
    for place in 0..PLACES {
        // A sparse or short device has fewer places to look at.
        let Some(at) = view.next_data(Bytes(place.saturating_mul(stretch).max(next))) else { break };
        let at = at.0.saturating_sub(at.0 % BYTES).max(next);
        next = at.saturating_add(BYTES);
        let length = BYTES.min(view.size().0.saturating_sub(at));
        buffer.resize(usize::try_from(length).unwrap_or_default(), 0);
        if view.read_at(Bytes(at), &mut buffer).is_ok() {
            for (size, count) in &mut counts {
                *count = count.saturating_add(nodes(*size, at, &buffer));
            }
        }
    }
    match counts {
        [(size, count), (_, 0)] | [(_, 0), (size, count)] if count >= ENOUGH => Some(size),
        _ => None,
    }
}

/// Sound nodes at their own places.
fn nodes(size: BlockSize, at: u64, bytes: &[u8]) -> usize {
    let numbered = (size.blocks_in(at)..).map(MetaBlock).zip(bytes.chunks_exact(size.bytes()));
    let sound = |(number, block): &(MetaBlock, &[u8])| {
        own_number(block) == Some(*number) && identify(block) == Some(BlockKind::Node)
    };
    numbered.filter(sound).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tierlift_ondisk::thin::{NodeKind, encode_node};

    fn device(size: BlockSize, nodes: u64) -> Vec<u8> {
        let node = |number| encode_node(size, MetaBlock(number), NodeKind::Leaf, 8, &[(number, [7; 8])]);
        (0..nodes).flat_map(node).collect()
    }

    #[test]
    fn the_size_of_the_nodes_is_found_and_a_mixture_is_left_open() {
        for size in BlockSize::PROBE_ORDER {
            assert_eq!(block_size(&(Arc::new(device(size, 400)) as View)), Some(size));
            assert_eq!(block_size(&(Arc::new(device(size, 1)) as View)), None, "too few to tell");
        }
        let mut mixed = device(BlockSize::K4, 200);
        mixed.extend_from_slice(&device(BlockSize::K8, 400)[200 * 4096..]);
        assert_eq!(block_size(&(Arc::new(mixed) as View)), None);
        assert_eq!(block_size(&(Arc::new(vec![0_u8; 1 << 20]) as View)), None);
    }
}
