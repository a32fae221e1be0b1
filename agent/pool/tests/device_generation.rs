//! One device taken from another generation than the rest: nothing but what it had then, and never silently.
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod common;

use common::{Content, assert_partial, content};
use std::collections::BTreeMap;
use std::sync::Arc;
use tierlift_forge::Dice;
use tierlift_forge::simulator::{Shape, SimulatedPool, Simulator};
use tierlift_ondisk::thin::{MappingValue, Superblock};
use tierlift_ondisk::units::{DeviceId, MetaBlock};
use tierlift_pool::{DeviceChoice, Generation, Origin, Pool, PoolError, Salvage, SalvageOptions, generations, salvage};

type Mappings = BTreeMap<(u64, u64), MappingValue>;

fn with(bytes: &[u8], devices: &[(u64, Generation)]) -> Result<Salvage, PoolError> {
    let devices = devices.iter().map(|(id, generation)| (DeviceId(*id), *generation)).collect();
    let options = SalvageOptions { devices, ..SalvageOptions::default() };
    salvage(Arc::new(bytes.to_vec()), &options, &mut |_| {})
}

fn in_generation(bytes: &[u8], generation: Generation) -> Content {
    let options = SalvageOptions { generation: Some(generation), ..SalvageOptions::default() };
    content(&salvage(Arc::new(bytes.to_vec()), &options, &mut |_| {}).unwrap().pool)
}

fn of_device(content: &Content, device: u64) -> Content {
    let mut content = content.clone();
    content.mappings.retain(|(id, _), _| *id == device);
    content.holes.retain(|id, _| *id == device);
    Content { tiers: BTreeMap::new(), tier_holes: Vec::new(), ..content }
}

/// A snapshot that was deleted thirteen commits ago is there again, as it was; nothing else changes.
#[test]
fn a_deleted_snapshot_of_a_genuine_pool_comes_back() {
    let bytes = common::metadata("F2-snaps");
    let now = content(&Pool::open(Arc::new(bytes.clone())).unwrap());
    let generation = Generation::Copy { block: MetaBlock(986) };
    let then = in_generation(&bytes, generation);
    let Salvage { pool, report } = with(&bytes, &[(7, generation)]).unwrap();
    let found = content(&pool);
    assert_eq!(of_device(&found, 7), of_device(&then, 7));
    let (mut others, mut expected) = (found.mappings, now.mappings);
    others.retain(|(id, _), _| *id != 7);
    assert_eq!(others, std::mem::take(&mut expected));
    assert_eq!((report.generation, report.is_untouched(), report.lost_mappings), (Generation::Block0, false, 0));
    let [choice] = report.chosen_devices.as_slice() else { panic!("{:?}", report.chosen_devices) };
    assert_eq!((choice.mappings, choice.kept, choice.nodes, choice.unproven), (30, 30, 1, 0));
    let device = report.devices.iter().find(|device| device.id.0 == 7).unwrap();
    assert_eq!((device.record, device.root, device.found), (Origin::Chosen, Origin::Chosen, 30));
    let record = pool.details().found.into_iter().find(|(id, _)| *id == 7).unwrap().1;
    assert_eq!(record.snapshot_time, pool.superblock().time, "everything it has counts as shared");
}

/// Stock pools keep no copies; their generations are found by scanning. The chunks of a device deleted since are free.
#[test]
fn chunks_that_are_free_now_are_told() {
    let bytes = common::metadata("F5-v2-4k");
    let Salvage { pool, report } = with(&bytes, &[(5, Generation::Index { block: MetaBlock(90) })]).unwrap();
    let [DeviceChoice { mappings: 32, free: 32, kept: 0, reused: 0, .. }] = report.chosen_devices[..] else {
        panic!("{:?}", report.chosen_devices)
    };
    assert_eq!(content(&pool).mappings.keys().filter(|(id, _)| *id == 5).count(), 32);
    assert!(report.chosen_devices[0].is_doubtful());
}

#[test]
fn what_is_not_there_is_refused() {
    let bytes = common::metadata("F2-snaps");
    let copy = |block| Generation::Copy { block: MetaBlock(block) };
    assert!(matches!(with(&bytes, &[(7, copy(3))]), Err(PoolError::NoSuchGeneration(_))));
    assert!(matches!(with(&bytes, &[(7, Generation::Block0)]), Err(PoolError::NotInGeneration { .. })));
    assert!(matches!(with(&bytes, &[(7, copy(986)), (99, copy(986))]), Err(PoolError::NotInGeneration { .. })));
    let options = SalvageOptions { generation: Some(copy(3)), ..SalvageOptions::default() };
    let missing = salvage(Arc::new(bytes), &options, &mut |_| {});
    assert!(matches!(missing, Err(PoolError::NoSuchGeneration(_))));
}

/// A lost block that both generations have, put together for the newer one, must not turn up below the older one unseen.
#[test]
fn nothing_put_together_for_the_rest_is_mixed_in() {
    let bytes = common::metadata("F2-snaps");
    let pool = Pool::open(Arc::new(bytes.clone())).unwrap();
    let root = pool.devices().devices[&DeviceId(4)].root.unwrap();
    let mut hurt = bytes.clone();
    hurt[root.0 as usize * 8192..][..8192].fill(0);
    let generation = Generation::Copy { block: MetaBlock(989) };
    // Its root is the same block in both.
    assert!(matches!(with(&hurt, &[(4, generation)]), Err(PoolError::NotInGeneration { .. })));
}

/// What the pool held at each commit.
struct History {
    pool: SimulatedPool,
    states: Vec<Mappings>,
}

/// A small pool in which blocks and chunks are soon used again.
fn busy(shape: Shape, seed: u64, commits: u64) -> History {
    let shape = Shape { metadata_blocks: 500, chunks: 6000, ..shape };
    let (mut pool, mut dice, mut next) = (Simulator::format(shape).unwrap(), Dice::new(seed), 3);
    let mut states = Vec::new();
    pool.create(DeviceId(1)).unwrap();
    pool.create(DeviceId(2)).unwrap();
    for _ in 0..commits {
        for _ in 0..dice.below(4) {
            step(&mut pool, &mut dice, &mut next);
        }
        pool.commit().unwrap();
        let devices = pool.truth().mappings.iter();
        let of = |(id, chunks): (&DeviceId, &BTreeMap<u64, MappingValue>)| {
            let id = id.0;
            chunks.iter().map(move |(chunk, value)| ((id, *chunk), *value)).collect::<Vec<_>>()
        };
        states.push(devices.flat_map(of).collect());
    }
    History { pool: pool.finish().unwrap(), states }
}

fn step(pool: &mut Simulator, dice: &mut Dice, next: &mut u64) {
    let devices: Vec<_> = pool.truth().details.keys().copied().collect();
    let device = *dice.pick(&devices).unwrap();
    let first = dice.below(1500);
    match dice.below(12) {
        0 if devices.len() < 6 => {
            pool.snapshot(DeviceId(*next), device).unwrap();
            *next += 1;
        }
        1 if devices.len() > 3 => pool.delete(device).unwrap(),
        2 if pool.shape().has_tier_map() => pool.collect_pieces().unwrap(),
        2..=6 => (first..first + dice.below(400)).for_each(|chunk| pool.discard(device, chunk).unwrap()),
        _ => (first..first + dice.below(200)).for_each(|chunk| pool.write(device, chunk).unwrap()),
    }
}

/// Every device of every generation that is left, on pools that used their blocks and chunks again and again.
#[test]
fn nothing_is_handed_out_that_the_device_did_not_have() {
    let mut sum = [0; 9];
    for (shape, seed) in [(Shape::QNAP_TIERS, 1), (Shape::QNAP_BYPASS, 2), (Shape::QNAP_V3, 3), (Shape::MAINLINE, 4)] {
        let History { pool, states } = busy(shape, seed, 120);
        let now = content(&Pool::open(Arc::new(pool.image.clone())).unwrap());
        let all = generations(Arc::new(pool.image.clone()), &SalvageOptions::default(), &mut |_| {}).unwrap();
        for view in all.iter().step_by(9) {
            // Formatting is a commit too, but leaves no copy. Index blocks are used again and again.
            let index = |commit: &Superblock| commit.metadata_map.bitmap_root;
            let commit = match view.generation {
                Generation::Index { block } => pool.commits.iter().rposition(|commit| index(commit) == block),
                Generation::Copy { .. } => view.backup_id.map(|id| id as usize + 1),
                _ => Some(pool.commits.len() - 1),
            };
            let then = commit.and_then(|commit| states.get(commit.checked_sub(1)?));
            let Some(then) = then else { continue };
            for device in view.devices.keys() {
                let Ok(found) = with(&pool.image, &[(device.0, view.generation)]) else { continue };
                let truth = then.iter().filter(|((id, _), _)| *id == device.0);
                let truth =
                    Content { mappings: truth.map(|(key, value)| (*key, *value)).collect(), ..Content::default() };
                let what = content(&found.pool);
                assert_partial(&of_device(&what, device.0), &truth);
                let others = |content: &Content| {
                    let mut mappings = content.mappings.clone();
                    mappings.retain(|(id, _), _| *id != device.0);
                    mappings
                };
                assert_eq!(others(&what), others(&now));
                counts(&found.report.chosen_devices[0]).iter().zip(&mut sum).for_each(|(count, sum)| *sum += count);
            }
        }
    }
    println!("nodes, unproven, unusable, mappings, kept, free, reused, gone, choices: {sum:?}");
    assert!(sum.iter().all(|count| *count > 0), "every case comes up: {sum:?}");
}

fn counts(choice: &DeviceChoice) -> [u64; 9] {
    let DeviceChoice { nodes, unproven, unusable, .. } = *choice;
    let DeviceChoice { mappings, kept, free, unknown, reused, gone, .. } = *choice;
    assert_eq!((mappings, unknown), (kept + free, 0), "the trees of the pool are whole");
    [nodes, unproven, unusable, mappings, kept, free, reused, gone, 1]
}
