//! Geometry against formulas written down a second time, in the manner of the kernel's own, and parity against brute force.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

/// (data role, P, Q) of an array chunk, for every layout of levels 4, 5 and 6.
fn reference(level: i32, layout: u32, n: usize, chunk: usize) -> (usize, usize, Option<usize>) {
    let data = if level == 6 { n - 2 } else { n - 1 };
    let (stripe, dd) = (chunk / data, chunk % data);
    match (level, layout) {
        (4, _) | (5, 5) => (dd, data, None),
        (5, 0) => {
            let pd = data - stripe % n;
            (if dd >= pd { dd + 1 } else { dd }, pd, None)
        }
        (5, 1) => {
            let pd = stripe % n;
            (if dd >= pd { dd + 1 } else { dd }, pd, None)
        }
        (5, 2) => {
            let pd = data - stripe % n;
            ((pd + 1 + dd) % n, pd, None)
        }
        (5, 3) => {
            let pd = stripe % n;
            ((pd + 1 + dd) % n, pd, None)
        }
        (5, 4) => (dd + 1, 0, None),
        (6, 0 | 1) => {
            let pd = if layout == 0 { n - 1 - stripe % n } else { stripe % n };
            if pd == n - 1 { (dd + 1, pd, Some(0)) } else { (if dd >= pd { dd + 2 } else { dd }, pd, Some(pd + 1)) }
        }
        (6, 2 | 3) => {
            let pd = if layout == 2 { n - 1 - stripe % n } else { stripe % n };
            ((pd + 2 + dd) % n, pd, Some((pd + 1) % n))
        }
        (6, 4) => (dd + 2, 0, Some(1)),
        (6, 5) => (dd, data, Some(data + 1)),
        (6, 16 | 17) => {
            let pd = if layout == 16 { data - stripe % (n - 1) } else { stripe % (n - 1) };
            (if dd >= pd { dd + 1 } else { dd }, pd, Some(n - 1))
        }
        (6, 18 | 19) => {
            let pd = if layout == 18 { data - stripe % (n - 1) } else { stripe % (n - 1) };
            ((pd + 1 + dd) % (n - 1), pd, Some(n - 1))
        }
        (6, 20) => (dd + 1, 0, Some(n - 1)),
        _ => unreachable!(),
    }
}

fn parity_layouts() -> Vec<(i32, u32)> {
    let five = (0..6).map(|layout| (5, layout));
    let six = (0..6).chain(16..21).map(|layout| (6, layout));
    [(4, 0)].into_iter().chain(five).chain(six).collect()
}

#[test]
fn every_parity_layout_is_the_kernels() {
    for (level, layout) in parity_layouts() {
        for n in 4..9 {
            let geometry = Geometry::new(level, layout, Sectors(8), &vec![Sectors(8 * 40 + 5); n]).unwrap();
            let data = if level == 6 { n - 2 } else { n - 1 };
            assert_eq!(geometry.size(), Sectors(8 * 40 * data as u64));
            for chunk in 0..40 * data {
                let (role, p, q) = reference(level, layout, n, chunk);
                let run = geometry.locate(Sectors(chunk as u64 * 8 + 3)).unwrap();
                let row = Row { number: (chunk / data) as u64, members: n, p, q };
                let place = Place { role, sector: Sectors((chunk / data) as u64 * 8 + 3) };
                let expected = Run { length: Sectors(5), target: Target::Parity(place, row) };
                assert_eq!(run, expected, "level {level} layout {layout} of {n}: chunk {chunk}");
                assert_eq!(geometry.row_of(place.sector), Some(row));
            }
            assert_eq!(geometry.locate(geometry.size()), None);
        }
    }
}

#[test]
fn qnaps_label_is_where_the_specification_says() {
    let role = |level| match Geometry::new(level, 2, Sectors(1024), &[Sectors(4096); 4]).unwrap().locate(Sectors(1)) {
        Some(Run { target: Target::Parity(place, row), .. }) => (place.role, row.p, row.q),
        other => panic!("{other:?}"),
    };
    assert_eq!((role(5), role(6)), ((0, 3, None), (1, 3, Some(0))));
}

/// Brute force: Q by multiplication, no doubling on the way.
fn syndromes(row: &Row, bytes: &[u8]) -> (u8, u8) {
    let mut order: Vec<usize> = (0..row.members).collect();
    order.rotate_left(row.q.map_or(0, |q| (q + 1) % row.members));
    order.retain(|role| *role != row.p && Some(*role) != row.q);
    let mut weight = 1;
    let (mut p, mut q) = (0, 0);
    for role in order {
        p ^= bytes[role];
        q ^= slow_multiply(bytes[role], weight);
        weight = slow_multiply(weight, 2);
    }
    (p, q)
}

/// Polynomials over one bit, divided by 0x11d.
fn slow_multiply(a: u8, b: u8) -> u8 {
    let mut product = (0..8).filter(|bit| b >> bit & 1 == 1).fold(0u32, |sum, bit| sum ^ u32::from(a) << bit);
    for bit in (8..16).rev().filter(|bit| *bit >= 8) {
        if product >> bit & 1 == 1 {
            product ^= 0x11d << (bit - 8);
        }
    }
    product as u8
}

#[test]
fn any_one_or_two_lost_members_come_back() {
    for (level, layout) in parity_layouts() {
        let n = 6;
        let geometry = Geometry::new(level, layout, Sectors(8), &[Sectors(80); 6]).unwrap();
        for stripe in 0..10u64 {
            let row = geometry.row_of(Sectors(stripe * 8)).unwrap();
            let mut bytes: Vec<u8> = (0..n).map(|role| (role as u64 * 91 + stripe * 57 + 13) as u8).collect();
            let (p, q) = syndromes(&row, &bytes);
            bytes[row.p] = p;
            row.q.into_iter().for_each(|role| bytes[role] = q);
            for one in 0..n {
                for two in 0..n {
                    if level != 6 && one != two {
                        continue;
                    }
                    let holders: Vec<[u8; 1]> = bytes.iter().map(|byte| [*byte]).collect();
                    let known: Vec<Option<&[u8]>> =
                        (0..n).map(|role| (role != one && role != two).then_some(&holders[role][..])).collect();
                    let got = row.rebuild(one, &known).unwrap();
                    assert_eq!(got, [bytes[one]], "level {level} layout {layout}, {one} and {two} lost, {row:?}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_come_back_is_not_made_up() {
    let five = Row { number: 0, members: 4, p: 3, q: None };
    let six = Row { number: 0, members: 5, p: 3, q: Some(4) };
    let byte: Option<&[u8]> = Some(&[7]);
    assert_eq!(five.rebuild(0, &[None, None, byte, byte]), None);
    assert_eq!(five.rebuild(0, &[byte, byte, byte, None]), None);
    assert_eq!(six.rebuild(0, &[None, None, None, byte, byte]), None);
    assert_eq!(six.rebuild(0, &[None, None, byte, None, byte]), None);
    assert_eq!(six.rebuild(3, &[None, None, byte, None, byte]), None);
    assert_eq!(six.rebuild(0, &[]), None);
}

#[test]
fn the_field_is_a_field() {
    for a in 0..=255u8 {
        for b in 0..=255u8 {
            assert_eq!(multiply(a, b), slow_multiply(a, b));
        }
    }
    let all: std::collections::BTreeSet<u8> = (0..255).map(power).collect();
    assert_eq!((all.len(), power(255), power(8)), (255, 1, 0x1d));
}

fn place(geometry: &Geometry, sector: u64) -> (usize, u64) {
    match geometry.locate(Sectors(sector)).unwrap().target {
        Target::Copies(places) => (places[0].role, places[0].sector.0),
        Target::Parity(place, _) => (place.role, place.sector.0),
    }
}

#[test]
fn linear_members_follow_each_other() {
    let geometry = Geometry::new(-1, 0, Sectors(0), &[Sectors(10), Sectors(3), Sectors(7)]).unwrap();
    assert_eq!(geometry.size(), Sectors(20));
    let places = [0, 9, 10, 12, 13, 19].map(|sector| place(&geometry, sector));
    assert_eq!(places, [(0, 0), (0, 9), (1, 0), (1, 2), (2, 0), (2, 6)]);
    assert_eq!(geometry.locate(Sectors(10)).unwrap().length, Sectors(3));
    // Members are used in whole chunks when the array names a chunk size.
    let rounded = Geometry::new(-1, 0, Sectors(4), &[Sectors(10), Sectors(7)]).unwrap();
    assert_eq!((rounded.size(), place(&rounded, 8)), (Sectors(12), (1, 0)));
}

/// The kernel's way through the zones of RAID 0, on chunks of two sectors.
fn raid0_reference(original: bool, sizes: &[u64], sector: u64) -> (usize, u64) {
    let mut levels: Vec<u64> = sizes.iter().map(|size| size / 2 * 2).collect();
    let sizes = levels.clone();
    levels.sort();
    levels.dedup();
    let (mut zone_start, mut dev_start) = (0, 0);
    for level in levels {
        let devices: Vec<usize> = (0..sizes.len()).filter(|device| sizes[*device] > dev_start).collect();
        let count = devices.len() as u64;
        let zone_end = zone_start + (level - dev_start) * count;
        if sector < zone_end {
            let offset = sector - zone_start;
            let picked = if original { sector } else { offset } / 2 % count;
            return (devices[picked as usize], dev_start + offset / (2 * count) * 2 + sector % 2);
        }
        (zone_start, dev_start) = (zone_end, level);
    }
    unreachable!()
}

#[test]
fn unequal_members_of_raid_0_are_placed_as_their_kernel_did() {
    for sizes in [vec![8, 8, 8], vec![4, 10, 7], vec![12, 4, 8, 8, 21], vec![5]] {
        for layout in [0, 1, 2] {
            let components: Vec<Sectors> = sizes.iter().copied().map(Sectors).collect();
            let geometry = Geometry::new(0, layout, Sectors(2), &components).unwrap();
            assert_eq!(geometry.size().0, sizes.iter().map(|size| size / 2 * 2).sum::<u64>());
            for sector in 0..geometry.size().0 {
                let expected = raid0_reference(layout == 1, &sizes, sector);
                assert_eq!(place(&geometry, sector), expected, "{sizes:?}, layout {layout}, sector {sector}");
            }
        }
    }
}

/// Every copy of a RAID 10 chunk: no two on one member, none used twice, all members full.
fn check_copies(layout: u32, members: usize, component: u64) {
    let geometry = Geometry::new(10, layout, Sectors(8), &vec![Sectors(component); members]).unwrap();
    let copies = ((layout & 255) * (layout >> 8 & 255)) as usize;
    let mut seen = std::collections::BTreeSet::new();
    for sector in (0..geometry.size().0).step_by(8) {
        let Some(Run { target: Target::Copies(places), length }) = geometry.locate(Sectors(sector)) else { panic!() };
        let roles: std::collections::BTreeSet<usize> = places.iter().map(|place| place.role).collect();
        assert_eq!((places.len(), roles.len(), length.0), (copies, copies, 8), "layout {layout:#x} of {members}");
        for place in places {
            assert!(place.sector.0 + 8 <= component, "layout {layout:#x} of {members}: {place:?}");
            assert!(seen.insert((place.role, place.sector.0)), "layout {layout:#x} of {members}: {place:?} twice");
        }
    }
    assert!(geometry.size().0 * copies as u64 <= component * members as u64);
}

#[test]
fn copies_never_share_a_member_or_a_place() {
    for members in 2..8 {
        for layout in [0x101, 0x102, 0x103, 0x201, 0x10201, 0x10301, 0x202, 0x40201] {
            let copies = (layout & 255) * (layout >> 8 & 255);
            if copies as usize <= members {
                for component in [64, 72, 200] {
                    check_copies(layout, members, component);
                }
            }
        }
    }
}

#[test]
fn near_far_and_offset_copies_lie_where_the_manual_shows_them() {
    let all = |layout, members: usize, sector| {
        let geometry = Geometry::new(10, layout, Sectors(1), &vec![Sectors(8); members]).unwrap();
        match geometry.locate(Sectors(sector)).unwrap().target {
            Target::Copies(places) => places.iter().map(|place| (place.role, place.sector.0)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(all(0x102, 4, 3), [(2, 1), (3, 1)]);
    // Three members, two near copies: a chunk may run over the end of a row.
    assert_eq!(all(0x102, 3, 1), [(2, 0), (0, 1)]);
    assert_eq!(all(0x201, 4, 5), [(1, 1), (2, 5)]);
    assert_eq!(all(0x10201, 4, 5), [(1, 2), (2, 3)]);
}

#[test]
fn who_is_enough_depends_on_the_level() {
    let can = |level, layout, present: &[bool]| {
        Geometry::new(level, layout, Sectors(8), &vec![Sectors(64); present.len()]).unwrap().can_start(present)
    };
    let (y, n) = (true, false);
    assert!(can(5, 2, &[y, n, y]) && !can(5, 2, &[y, n, n]) && can(6, 2, &[y, n, n, y]) && !can(6, 2, &[n, n, n, y]));
    assert!(can(1, 0, &[n, y]) && !can(1, 0, &[n, n]) && can(0, 0, &[y, y]) && !can(0, 0, &[y, n]));
    assert!(can(10, 0x102, &[y, n, n, y]) && !can(10, 0x102, &[n, n, y, y]) && can(10, 0x201, &[y, n, y, n]));
    assert!(!can(-1, 0, &[y, n]) && !can(4, 0, &[n, n, y]) && can(4, 0, &[y, y, n]));
}

#[test]
fn impossible_numbers_are_refused_by_name() {
    let refused = |level, layout, chunk, members: usize| {
        Geometry::new(level, layout, Sectors(chunk), &vec![Sectors(64); members]).unwrap_err().to_string()
    };
    assert!(refused(7, 0, 8, 4).contains("level 7"));
    assert!(refused(6, 8, 8, 4).contains("hardware controller"));
    assert!(refused(5, 9, 8, 4).contains("layout 0x9"));
    assert!(refused(5, 2, 0, 4).contains("chunk size 0") && refused(5, 2, 3, 4).contains("chunk size 3"));
    assert!(refused(5, 2, 8, 1).contains("1 members") && refused(6, 2, 8, 256).contains("256 members"));
    assert!(refused(1, 0, 0, 1921).contains("1921") && refused(10, 0x105, 8, 4).contains("layout 0x105"));
    assert!(refused(0, 0, 128, 2).contains("64 sectors"));
    assert!(Geometry::new(1, 0, Sectors(0), &[Sectors(0)]).is_err());
    assert!(Geometry::new(1, 0, Sectors(0), &[Sectors(u64::MAX)]).is_err());
}

proptest! {
    #[test]
    fn any_numbers_are_survived(
        level in -2i32..12, layout: u32, small in 0u32..0x20, shift in 0u32..64, odd: bool,
        components in proptest::collection::vec(any::<u64>(), 0..12), cut in 0u32..64, sector: u64,
    ) {
        let chunk = 1u64.checked_shl(shift).unwrap_or(0) + u64::from(odd);
        let components: Vec<Sectors> = components.into_iter().map(|component| Sectors(component >> cut)).collect();
        for layout in [layout, small, layout & 0x7_0303] {
            let Ok(geometry) = Geometry::new(level, layout, Sectors(chunk), &components) else { continue };
            let inside = sector % geometry.size().0.max(1);
            for sector in [sector, inside, geometry.size().0.saturating_sub(1)] {
                let run = geometry.locate(Sectors(sector));
                prop_assert_eq!(run.is_some(), sector < geometry.size().0);
                let Some(run) = run else { continue };
                prop_assert!(run.length.0 > 0 && sector + run.length.0 <= geometry.size().0);
                let places = match run.target { Target::Copies(places) => places, Target::Parity(place, _) => vec![place] };
                for place in places {
                    prop_assert!(place.sector.0 + run.length.0 <= components[place.role].0, "{:?} {:?}", geometry, place);
                }
            }
            let _ = (geometry.row_of(Sectors(sector)), geometry.can_start(&vec![true; components.len()]));
        }
    }
}
