//! Arrays written by a model of their own, one byte at a time, and read back with every member lost in turn.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::*;
use crate::block::{ConcatView, GuardedView, Piece};
use proptest::prelude::*;
use std::sync::Arc;
use tierlift_ondisk::raid::{multiply, power};

const SECTOR: usize = 512;

/// The bytes of the members for these array bytes.
fn members(geometry: &Geometry, component: usize, array: &[u8]) -> Vec<Vec<u8>> {
    let mut members = vec![vec![0; component * SECTOR]; geometry.members()];
    for sector in 0..geometry.size().0 {
        let bytes = &array[sector as usize * SECTOR..][..SECTOR];
        let mut put =
            |place: &Place| members[place.role][place.sector.0 as usize * SECTOR..][..SECTOR].copy_from_slice(bytes);
        match geometry.locate(Sectors(sector)).unwrap().target {
            Target::Copies(places) => places.iter().for_each(&mut put),
            Target::Parity(place, _) => put(&place),
        }
    }
    for sector in 0..component {
        if let Some(row) = geometry.row_of(Sectors(sector as u64)) {
            #[allow(clippy::needless_range_loop)]
            for at in sector * SECTOR..(sector + 1) * SECTOR {
                let data: Vec<u8> = row.data().map(|role| members[role][at]).collect();
                members[row.p][at] = data.iter().fold(0, |sum, byte| sum ^ byte);
                if let Some(q) = row.q {
                    let weighted = data.iter().enumerate().map(|(index, byte)| multiply(power(index), *byte));
                    members[q][at] = weighted.fold(0, |sum, byte| sum ^ byte);
                }
            }
        }
    }
    members
}

fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

struct Model {
    geometry: Geometry,
    array: Vec<u8>,
    members: Vec<Vec<u8>>,
}

fn model(level: i32, layout: u32, chunk: u64, count: usize, component: u64) -> Model {
    let geometry = Geometry::new(level, layout, Sectors(chunk), &vec![Sectors(component); count]).unwrap();
    let array = noise(u64::from(layout) + count as u64, geometry.size().0 as usize * SECTOR);
    let members = members(&geometry, component as usize, &array);
    Model { geometry, array, members }
}

impl Model {
    fn without(&self, lost: &[usize]) -> RaidView {
        let view = |(role, bytes): (usize, &Vec<u8>)| -> Option<View> {
            (!lost.contains(&role)).then(|| Arc::new(bytes.clone()) as View)
        };
        RaidView::new(self.geometry.clone(), self.members.iter().enumerate().map(view).collect()).unwrap()
    }

    fn reads(&self, view: &RaidView) -> bool {
        let mut bytes = vec![0xaa; self.array.len()];
        view.read_at(Bytes(0), &mut bytes).is_ok() && bytes == self.array
    }
}

fn models() -> Vec<Model> {
    let mut models = Vec::new();
    for chunk in [8, 16] {
        for count in [4, 5] {
            models.push(model(-1, 0, chunk, count, 48));
            models.push(model(0, 2, chunk, count, 48));
            models.push(model(1, 0, 0, count, 48));
            models.push(model(4, 0, chunk, count, 48));
            models.extend((0..6).map(|layout| model(5, layout, chunk, count, 48)));
            models.extend((0..6).chain(16..21).map(|layout| model(6, layout, chunk, count, 48)));
            models.extend([0x102, 0x201, 0x10201, 0x103].map(|layout| model(10, layout, chunk, count, 48)));
        }
    }
    models
}

#[test]
fn every_loss_that_can_be_survived_is_and_no_other() {
    for model in models() {
        let count = model.members.len();
        for one in 0..=count {
            for two in one..=count {
                // The number behind the last role stands for "none".
                let lost = [one, two];
                let view = model.without(&lost);
                let present: Vec<bool> = (0..count).map(|role| !lost.contains(&role)).collect();
                let expected = model.geometry.can_start(&present);
                assert_eq!(model.reads(&view), expected, "{:?} without {lost:?}", model.geometry);
            }
        }
    }
}

#[test]
fn bad_sectors_hurt_only_where_they_meet() {
    let model = model(5, 2, 8, 4, 48);
    let guarded = |bad: [(usize, u64); 2]| {
        let members = model.members.iter().enumerate().map(|(role, bytes)| {
            let bad = bad.iter().filter(|(bad, _)| *bad == role).map(|(_, sector)| (Bytes(sector * 512), Bytes(512)));
            Some(Arc::new(GuardedView::new(Arc::new(bytes.clone()), bad)) as View)
        });
        RaidView::new(model.geometry.clone(), members.collect()).unwrap()
    };
    assert!(model.reads(&guarded([(0, 3), (1, 4)])));
    let broken = guarded([(0, 3), (1, 3)]);
    let readable: Vec<usize> = (0..model.geometry.size().0 as usize)
        .filter(|sector| {
            let mut bytes = [0; SECTOR];
            let read = broken.read_at(Bytes((sector * SECTOR) as u64), &mut bytes).is_ok();
            assert!(!read || bytes[..] == model.array[sector * SECTOR..][..SECTOR]);
            read
        })
        .collect();
    // Row 0 has its parity on the last role: roles 0 and 1 are data, and one sector of each is lost.
    let lost: Vec<usize> = (0..model.geometry.size().0 as usize).filter(|sector| !readable.contains(sector)).collect();
    assert_eq!(lost, [3, 11]);
    let error = broken.read_at(Bytes(0), &mut vec![0; 8 * SECTOR]).unwrap_err().to_string();
    assert!(error.starts_with("array sector 3 cannot be read or rebuilt: role 0: byte 1536"), "{error}");
    assert!(error.contains("role 1: byte 1536"), "{error}");
}

#[test]
fn a_member_cut_short_is_rebuilt_behind_its_end() {
    let mut model = model(6, 2, 8, 5, 48);
    model.members[1].truncate(20 * SECTOR + 100);
    model.members[4].truncate(7 * SECTOR);
    assert!(model.reads(&model.without(&[])));
    assert!(!model.reads(&model.without(&[0])));
}

#[test]
fn the_first_role_is_read_before_its_copies() {
    let mut model = model(1, 0, 0, 2, 16);
    model.members[1][0] ^= 1;
    let byte = |first| {
        let mut byte = [0];
        model.without(&[]).reading_first(first).read_at(Bytes(0), &mut byte).unwrap();
        byte[0]
    };
    assert_eq!([byte(None), byte(Some(0)), byte(Some(1))], [model.array[0], model.array[0], model.array[0] ^ 1]);
}

/// Members with holes: `data` sectors are noise, the rest is known to be zeros.
fn sparse(component: u64, data: &[u64]) -> View {
    let mut view = ConcatView::new();
    for sector in 0..component {
        let bytes: View = Arc::new(noise(sector + 1, SECTOR));
        let piece = if data.contains(&sector) { Piece::Part(bytes, Bytes(0)) } else { Piece::Zeros };
        view.push(Bytes(512), piece).unwrap();
    }
    Arc::new(view)
}

#[test]
fn holes_are_where_all_that_is_needed_is_a_hole() {
    for (level, layout) in [(5, 2), (6, 2), (4, 0), (0, 2), (10, 0x102), (1, 0), (-1, 0)] {
        let count = 4;
        let geometry = Geometry::new(level, layout, Sectors(8), &[Sectors(800); 4]).unwrap();
        for lost in [None, Some(1)] {
            if lost.is_some() && matches!(level, -1 | 0) {
                continue;
            }
            let view =
                |role| Some(sparse(800, if role == 2 { &[400, 401] } else { &[] })).filter(|_| lost != Some(role));
            let raid = RaidView::new(geometry.clone(), (0..count).map(view).collect()).unwrap();
            let mut at = Bytes(0);
            let mut bytes = vec![0; raid.size().0 as usize];
            let mut told = vec![false; bytes.len()];
            raid.read_at(at, &mut bytes).unwrap();
            while let Some(data) = raid.next_data(at) {
                assert!(data >= at);
                told[data.0 as usize..][..512].fill(true);
                at = Bytes(data.0 + 512);
            }
            let untold = bytes.iter().zip(&told).filter(|(byte, told)| **byte != 0 && !**told).count();
            let share = told.iter().filter(|told| **told).count();
            assert_eq!(untold, 0, "level {level}, {lost:?} lost: data taken for a hole");
            assert!(share < bytes.len() / 16, "level {level}, {lost:?} lost: {share} of {} are no hole", bytes.len());
        }
    }
}

#[test]
fn terabytes_of_holes_are_skipped_in_no_time() {
    let component = 1u64 << 35;
    let mut hole = ConcatView::new();
    hole.push(Bytes(component * 512 - 4096), Piece::Zeros).unwrap();
    hole.push(Bytes(4096), Piece::Part(Arc::new(vec![1; 4096]), Bytes(0))).unwrap();
    let hole: View = Arc::new(hole);
    for (level, layout, data) in [(5, 2, 5), (6, 2, 4), (0, 0, 6), (10, 0x102, 3)] {
        let geometry = Geometry::new(level, layout, Sectors(1024), &[Sectors(component); 6]).unwrap();
        let raid = RaidView::new(geometry, vec![Some(hole.clone()); 6]).unwrap();
        let found = raid.next_data(Bytes(0)).unwrap();
        assert!(found.0 >= (component - 1024) * 512 * data, "level {level}: {found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_stretch_reads_as_the_model_says(
        kind in 0usize..6, count in 4usize..7, start in 0usize..20_000, length in 0usize..9000, lost in 0usize..7,
    ) {
        let (level, layout) = [(5, 2), (6, 2), (6, 0), (10, 0x102), (5, 3), (10, 0x10201)][kind];
        let model = model(level, layout, 8, count, 24);
        let view = model.without(&[lost]);
        let mut bytes = vec![0; length];
        let end = start + length;
        match view.read_at(Bytes(start as u64), &mut bytes) {
            Ok(()) => prop_assert_eq!(&bytes[..], &model.array[start..end]),
            Err(_) => prop_assert!(end > model.array.len()),
        }
    }
}
