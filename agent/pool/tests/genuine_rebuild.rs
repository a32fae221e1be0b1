//! Genuine pools written anew, in their own form and in stock Linux's, still say the same and still read the same bytes.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::{Content, content, hash, rebuilt};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tierlift_ondisk::thin::{BlockSize, Family, flags};
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::check::check;
use tierlift_pool::rebuild::{Format, RebuildOptions, Rebuilt, Segment, Target};
use tierlift_pool::{Mode, Pool, RingState, ThinReader, View};

fn open(name: &str) -> Pool {
    Pool::open(Arc::new(common::metadata(name))).unwrap()
}

/// Blocks the source had in use, with everything that is not rebuilt.
fn used_bytes(pool: &Pool) -> u64 {
    pool.superblock().metadata_map.nr_allocated * pool.blocks().size().bytes() as u64
}

fn check_own_form(name: &str) {
    let old = open(name);
    let (new, report) = rebuilt(&old, &RebuildOptions::default());
    assert!(report.is_whole(), "{name}: {report:?}");
    assert_eq!(content(&new), content(&old), "{name}");
    assert_eq!(new.devices().devices.keys().collect::<Vec<_>>(), old.devices().devices.keys().collect::<Vec<_>>());
    for (id, device) in old.devices().devices {
        assert_eq!(new.devices().devices[&id].details, device.details, "{name}: {id}");
    }
    let (was, is) = (old.superblock(), new.superblock());
    assert_eq!((new.blocks().size(), new.family()), (old.blocks().size(), old.family()));
    assert_eq!(is.flags, was.flags & !flags::NEEDS_CHECK);
    assert_eq!((is.uuid, is.version, is.time, is.transaction), (was.uuid, was.version, was.time, was.transaction));
    assert_eq!((is.chunk_size, is.tier_num, is.tier_block_size), (was.chunk_size, was.tier_num, was.tier_block_size));
    assert_eq!(is.data_map.nr_blocks, was.data_map.nr_blocks);
    assert_eq!(is.data_map.nr_allocated, was.data_map.nr_allocated, "{name}");
    assert_eq!(is.metadata_map.nr_blocks, was.metadata_map.nr_blocks);
    assert_eq!(is.tier_maps.map(|map| map.nr_blocks), was.tier_maps.map(|map| map.nr_blocks));
    assert_eq!((is.held_root, is.clone_root, is.reserve_block_count), (MetaBlock(0), MetaBlock(0), 0));
    let findings = check(&new, &mut |_| {}).findings;
    assert!(findings.is_empty(), "{name}: {findings:?}");
    assert!(used_bytes(&new) * 10 <= used_bytes(&old) * 13, "{name}: {} {}", used_bytes(&new), used_bytes(&old));
    check_copies(&old, &new, &report);
    check_bytes(name, &new, new.mode().mode, &common::tiers(name));
}

fn check_copies(old: &Pool, new: &Pool, report: &Rebuilt) {
    if old.superblock().version < 3 {
        assert_eq!((report.copy, new.ring_state()), (None, RingState::Off));
        return;
    }
    assert_eq!(new.ring_state(), RingState::Agrees);
    assert_eq!((new.ring().copies.len(), new.ring().placeholders), (1, 127));
    let (place, newest) = new.ring().newest().unwrap();
    assert_eq!(place.0, new.superblock().metadata_map.nr_blocks - 1);
    assert_eq!(Some(newest.backup_id), report.copy);
    assert_eq!(newest.backup_id, old.ring().newest().map_or(0, |(_, copy)| copy.backup_id + 1));
}

fn check_bytes(name: &str, pool: &Pool, mode: Mode, tiers: &BTreeMap<u8, View>) {
    for truth in common::truth(name) {
        let reader = ThinReader::new(pool, tiers.clone(), truth.device, mode, Some(truth.size)).unwrap();
        assert_eq!(hash(&reader), truth.sha256, "{name}: device {}", truth.device);
    }
}

#[test]
fn in_their_own_form() {
    common::HEALTHY.into_iter().for_each(check_own_form);
}

/// A data device put together as the layout says.
struct Assembled {
    segments: Vec<Segment>,
    tiers: BTreeMap<u8, View>,
}

impl ReadAt for Assembled {
    fn size(&self) -> Bytes {
        let last = self.segments.last().unwrap();
        Bytes((last.start.0 + last.length.0) * 512)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        for (index, byte) in buffer.chunks_mut(512).enumerate() {
            let sector = offset.0 / 512 + index as u64;
            let at = self.segments.partition_point(|segment| segment.start.0 + segment.length.0 <= sector);
            let segment = self.segments[at];
            match segment.target {
                Target::Zero => byte.fill(0),
                Target::Error => return Err(io::Error::other("lost")),
                Target::Linear { tier, offset } => {
                    self.tiers[&tier].read_at(Bytes((offset.0 + sector - segment.start.0) * 512), byte)?;
                }
            }
        }
        Ok(())
    }
}

fn check_mainline_form(name: &str) {
    let old = open(name);
    let (new, report) = rebuilt(&old, &RebuildOptions { format: Format::Mainline, ..RebuildOptions::default() });
    assert!(report.is_whole(), "{name}: {report:?}");
    assert_eq!((new.blocks().size(), new.family(), new.superblock().version), (BlockSize::K4, Family::Mainline, 2));
    assert_eq!(new.superblock().flags, 0);
    assert_eq!(report.error_chunk, None);
    assert_eq!(new.superblock().data_map.nr_blocks, old.superblock().data_map.nr_blocks);
    let expected = content(&old).mappings.into_iter().filter(|(_, value)| value.zeroed == 0).collect();
    assert_eq!(content(&new), Content { mappings: expected, ..Content::default() }, "{name}");
    assert!(used_bytes(&new) * 10 <= used_bytes(&old) * 13, "{name}: {} {}", used_bytes(&new), used_bytes(&old));
    let findings = check(&new, &mut |_| {}).findings;
    assert!(findings.is_empty(), "{name}: {findings:?}");
    let segments = report.layout.unwrap();
    let mut end = 0;
    for segment in &segments {
        assert_eq!(segment.start.0, end);
        end += segment.length.0;
    }
    assert_eq!(end, old.chunks() * old.chunk_size().0);
    let data: View = Arc::new(Assembled { segments, tiers: common::tiers(name) });
    check_bytes(name, &new, Mode::Plain, &BTreeMap::from([(0, data)]));
}

#[test]
fn in_the_form_of_stock_linux() {
    common::HEALTHY.into_iter().for_each(check_mainline_form);
}
