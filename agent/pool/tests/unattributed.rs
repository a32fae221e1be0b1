//! Parts of volumes whose owner cannot be told: handed out, complete, under ids of their own.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::content;
use std::collections::BTreeSet;
use std::sync::Arc;
use tierlift_forge::damage::{ACCIDENTS, Layout};
use tierlift_forge::simulator::{Population, Shape, Size};
use tierlift_ondisk::units::Sectors;
use tierlift_pool::{Hints, Salvage, SalvageOptions, salvage};

fn all_inner_nodes_lost(shape: Shape, unattributed: bool) -> (BTreeSet<(u64, u64)>, Salvage) {
    let made = Population::Compact.make(shape, Size { writes: 9000, commits: 5 }, 3).unwrap();
    let layout = Layout::read(&made.image).unwrap();
    let mut image = made.image;
    let accident = ACCIDENTS.iter().find(|accident| accident.name == "inner nodes 100 %").unwrap();
    accident.apply(&mut image, &layout, 1).unwrap();
    let devices = made.truth.mappings.values();
    let truth = devices.flatten().map(|(chunk, value)| (*chunk, value.chunk.0)).collect();
    let options = SalvageOptions { unattributed, ..SalvageOptions::default() };
    (truth, salvage(Arc::new(image), &options, &mut |_| {}).unwrap())
}

#[test]
fn nothing_is_lost_and_nothing_claimed() {
    for shape in [Shape::MAINLINE, Shape::QNAP_TIERS, Shape::QNAP_BYPASS] {
        let (truth, Salvage { pool, report }) = all_inner_nodes_lost(shape, true);
        let parts: BTreeSet<_> = report.unattributed.iter().map(|part| part.device.0).collect();
        assert!(parts.iter().all(|id| (1 << 23..1 << 24).contains(id)), "{parts:?}");
        assert!(report.lost_mappings > 0, "the volumes themselves are still lost");
        let found = content(&pool);
        let named = found.mappings.keys().filter(|(device, _)| !parts.contains(device)).count();
        assert!(named < found.mappings.len() / 2, "{named} mappings have found their volumes");
        let found: BTreeSet<_> = found.mappings.iter().map(|((_, chunk), value)| (*chunk, value.chunk.0)).collect();
        assert!(found == truth, "{} of {} mappings", found.len(), truth.len());
        let counted: u64 = report.unattributed.iter().map(|part| part.mappings).sum();
        let records = pool.details().found;
        let recorded: u64 =
            records.iter().filter(|(id, _)| parts.contains(id)).map(|(_, record)| record.mapped.0).sum();
        assert_eq!(counted, recorded);
    }
}

#[test]
fn only_when_asked_for() {
    let (_, Salvage { pool, report }) = all_inner_nodes_lost(Shape::MAINLINE, false);
    assert!(report.unattributed.is_empty() && report.undecided > 0);
    assert_eq!(content(&pool).mappings.len(), 0);
}

/// Without any superblock the length of the pool is not known, and neither are its tiers: the tier tree is still no volume.
#[test]
fn the_tier_tree_is_no_volume() {
    for name in ["F3-3tiers", "F7-tier-crash-1"] {
        let mut bytes = common::metadata(name);
        bytes[..8192].fill(0);
        let ring = bytes.len() - 128 * 8192;
        bytes[ring..].fill(0);
        let hints = Hints { chunk_size: Some(Sectors(1024)), ..Hints::default() };
        let options = SalvageOptions { unattributed: true, hints, ..SalvageOptions::default() };
        let report = salvage(Arc::new(bytes), &options, &mut |_| {}).unwrap().report;
        assert_eq!((report.undecided, report.unattributed.len(), report.lost_mappings), (0, 0, 0), "{report:?}");
        assert!(report.lost_blocks > 0, "that the tiers are unknown is told");
    }
}
