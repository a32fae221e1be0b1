//! Check against damage of every kind: it ends, it does not panic, and damage to a block in use is never passed over.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::forged::{Forged, texts};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, LazyLock};
use tierlift_forge::Dice;
use tierlift_forge::damage::{ACCIDENTS, Layout};
use tierlift_forge::simulator::{Population, Shape, Size};
use tierlift_ondisk::thin::{BlockKind, identify, seal};
use tierlift_ondisk::units::{Bytes, MetaBlock};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::check::{Check, Kind, Severity, Structure, Verdict, check};
use tierlift_pool::{Pool, Step};

fn run(pool: &Pool) -> Check {
    let found = check(pool, &mut |_| {});
    serde_json::to_string(&found).unwrap();
    assert!(found.findings.len() < 20_000);
    found
}

/// Bytes of which one block gives an I/O error.
struct BadBlock {
    bytes: Arc<Vec<u8>>,
    bad: std::ops::Range<u64>,
}

impl ReadAt for BadBlock {
    fn size(&self) -> Bytes {
        Bytes(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> io::Result<()> {
        if offset.0 < self.bad.end && offset.0 + buffer.len() as u64 > self.bad.start {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.bytes.read_at(offset, buffer)
    }
}

/// What is in use of a pool, but block 0: as its trees say, and as its ring does.
fn in_use(pool: &Forged) -> (BTreeSet<MetaBlock>, BTreeSet<MetaBlock>) {
    (pool.layout.used().into_iter().collect(), pool.layout.ring.iter().copied().collect())
}

/// Each block of a genuine pool unreadable, one at a time.
#[test]
fn every_block_unreadable_once() {
    let pool = Forged::new(common::metadata("F1-plain-ext4"));
    let (used, ring) = in_use(&pool);
    assert!(used.len() > 15 && ring.len() == 128);
    let bytes = Arc::new(pool.bytes.clone());
    for number in 1..(bytes.len() / pool.size) as u64 {
        let bad = number * pool.size as u64..(number + 1) * pool.size as u64;
        let found = run(&Pool::open(Arc::new(BadBlock { bytes: bytes.clone(), bad })).unwrap());
        let block = MetaBlock(number);
        if ring.contains(&block) {
            assert_eq!(found.verdict, Verdict::Reported, "slot {number}");
        } else if used.contains(&block) {
            assert!(matches!(found.verdict, Verdict::Damaged | Verdict::Unusable), "block {number}");
            assert!(texts(&found).iter().any(|text| text.contains(&format!("block {number} "))), "block {number}");
        } else {
            assert_eq!(texts(&found), Vec::<String>::new(), "block {number} is not in use");
        }
    }
}

/// Each block of a genuine pool replaced by noise that carries its number and a right checksum of its kind.
#[test]
fn every_block_forged_once() {
    let pool = Forged::new(common::metadata("F1-plain-ext4"));
    let (used, ring) = in_use(&pool);
    let mut dice = Dice::new(7);
    for number in 1..(pool.bytes.len() / pool.size) as u64 {
        let block = MetaBlock(number);
        let mut forged = pool.clone();
        let kind = identify(forged.block(block)).unwrap_or(BlockKind::Node);
        let noise: Vec<u8> = (0..pool.size).map(|_| dice.below(256) as u8).collect();
        forged.place(block, kind, &noise);
        let found = run(&forged.open());
        if ring.contains(&block) {
            assert_eq!(found.verdict, Verdict::Reported, "slot {number}");
        } else if used.contains(&block) {
            assert!(found.totals.damage + found.totals.leak > 0, "block {number}: {:?}", texts(&found));
        } else {
            assert_eq!(texts(&found), Vec::<String>::new(), "block {number} is not in use");
        }
    }
}

/// The simulator writes pools from the same description that the check reads them by: neither may find fault with the other.
#[test]
fn simulated_pools_are_clean() {
    for (name, shape) in Shape::ALL {
        for population in Population::ALL {
            let made = population.make(shape, Size { writes: 9000, commits: 40 }, 3).unwrap();
            let found = run(&Pool::open(Arc::new(made.image)).unwrap());
            let name = format!("{name}, {}", population.name());
            assert_eq!((found.verdict, texts(&found)), (Verdict::Clean, vec![]), "{name}");
            let counted: u64 = found.devices.iter().map(|device| device.counted.unwrap()).sum();
            assert_eq!(counted, made.truth.count(), "{name}");
        }
    }
}

/// Every accident to every shape. What the check reaches is what a plain walk of each device reaches, and what it calls lost
/// is the rest.
#[test]
fn accidents_are_told() {
    for (name, shape) in Shape::ALL {
        let made = Population::Growing.make(shape, Size { writes: 12_000, commits: 60 }, 5).unwrap();
        let layout = Layout::read(&made.image).unwrap().with_history(made.commits.clone());
        for accident in ACCIDENTS {
            let mut image = made.image.clone();
            let Some(changed) = accident.apply(&mut image, &layout, 1) else { continue };
            let Ok(pool) = Pool::open(Arc::new(image)) else {
                assert!(changed.contains(&MetaBlock(0)), "{name}, {}: does not open", accident.name);
                continue;
            };
            let found = run(&pool);
            let name = format!("{name}, {}", accident.name);
            if changed.contains(&MetaBlock(0)) || changed.is_disjoint(&layout.working()) {
                continue;
            }
            assert!(found.verdict >= Verdict::Damaged, "{name}: {:?}", texts(&found));
            let reached: u64 = found.devices.iter().filter_map(|device| device.counted).sum();
            assert_eq!(reached, walked(&pool), "{name}");
            assert!(reached <= layout.live_mappings(&changed), "{name}");
            if layout.details.nodes().all(|node| !changed.contains(&node)) {
                assert_eq!(reached + told_lost(&found), made.truth.count(), "{name}: {:?}", texts(&found));
            }
        }
    }
}

fn walked(pool: &Pool) -> u64 {
    let mut count = 0;
    for (_, root) in pool.roots().found {
        let done: Result<(), Infallible> = pool.mappings(root, |step| {
            count += u64::from(matches!(step, Step::Found(..)));
            Ok(())
        });
        let Ok(()) = done;
    }
    count
}

/// Chunks that the findings of whole devices call lost.
fn told_lost(found: &Check) -> u64 {
    let lost = |kind: &Kind| match kind {
        Kind::ChunksLost { expected, found, .. } => expected - found,
        Kind::NoTree { mapped, .. } => *mapped,
        _ => 0,
    };
    found.findings.iter().map(|finding| lost(&finding.kind)).sum()
}

#[test]
fn needs_check_is_told_and_nothing_else() {
    let made = Population::Compact.make(Shape::QNAP_V3, Size { writes: 3000, commits: 1 }, 5).unwrap();
    let layout = Layout::read(&made.image).unwrap();
    let accident = ACCIDENTS.iter().find(|accident| accident.name == "needs_check").unwrap();
    let mut image = made.image;
    accident.apply(&mut image, &layout, 1).unwrap();
    let found = run(&Pool::open(Arc::new(image)).unwrap());
    assert_eq!(found.verdict, Verdict::Reported);
    assert!(matches!(found.findings[..], [ref only] if only.kind == Kind::NeedsCheck));
}

static BASES: LazyLock<[Forged; 3]> =
    LazyLock::new(|| ["F2-snaps", "F3-3tiers", "F5-v2-4k"].map(|name| Forged::new(common::metadata(name))));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Bytes changed and sealed again, mostly where headers, keys and first values are: everything ends, nothing panics.
    #[test]
    fn forged_bytes(which in 0..3_usize, changes in proptest::collection::vec(any::<(u16, u16, u64)>(), 1..40)) {
        let mut pool = BASES[which].clone();
        let used: Vec<_> = pool.layout.used().into_iter().chain([MetaBlock(0)]).collect();
        for (place, at, value) in changes {
            let block = used[place as usize % used.len()];
            let at = 4 + (at as usize % 512) / 4 * 4;
            let value = if value % 3 == 0 { value } else { value % 1200 };
            let bytes = pool.block(block);
            let Some(kind) = identify(bytes) else { continue };
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            seal(kind, bytes);
        }
        if let Ok(opened) = Pool::open(Arc::new(pool.bytes)) {
            run(&opened);
        }
    }

    /// One entry of a mapping leaf changed: either nothing it says has changed, or it is told.
    #[test]
    fn a_forged_mapping_is_told(which in 0..3_usize, leaf: prop::sample::Index, entry: prop::sample::Index, bit in 22..64_u32) {
        let mut pool = BASES[which].clone();
        let leaves: Vec<_> = pool.layout.mappings.leaves.iter().copied().collect();
        let leaf = leaves[leaf.index(leaves.len())];
        let entries = u32::from_le_bytes(pool.block(leaf)[16..20].try_into().unwrap()) as usize;
        prop_assume!(entries > 0);
        let entry = entry.index(entries);
        let value = pool.value_u64(leaf, entry) ^ 1 << bit;
        pool.put_value(leaf, entry, &value.to_le_bytes());
        let found = run(&pool.open());
        if bit < 24 {
            // The zeroed flag: nothing else of the pool says what it must be.
            prop_assert_eq!(found.verdict, Verdict::Clean);
        } else {
            prop_assert!(found.totals.damage > 0, "another chunk: {:?}", texts(&found));
        }
    }

    /// Counts of a metadata bitmap changed: lower is damage, higher a leak.
    #[test]
    fn a_forged_count_is_told(which in 0..3_usize, at in 0..1024_u64, count in 0..3_u8) {
        let mut pool = BASES[which].clone();
        let (bitmap, _) = pool.metadata_bitmap();
        let old = pool.count(bitmap, at);
        prop_assume!(old < 3 && old != count);
        pool.set_counts(bitmap, [(at, count)]);
        let found = run(&pool.open());
        let ring = pool.layout.ring.contains(&MetaBlock(at));
        let expected = match count < old {
            true if ring && count == 0 => Severity::Suspicion,
            true => Severity::Damage,
            false => Severity::Leak,
        };
        let places = [Structure::Bitmaps(tierlift_pool::check::Map::Metadata), Structure::Ring];
        let told = |finding: &tierlift_pool::check::Finding| places.contains(&finding.place.structure) && finding.severity == expected;
        prop_assert!(found.findings.iter().any(told), "{:?}", texts(&found));
    }
}
