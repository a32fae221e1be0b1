//! What is made of texts, good and odd ones.

#![allow(clippy::arithmetic_side_effects)]

use super::{find, find_group, read_group, stretches_on_disks};
use crate::inventory::{
    Extents, Inventory, LogicalVolume, LogicalVolumeKind, PoolVolume, PvPlace, Stretch, StretchTarget, VolumeGroup,
};
use proptest::prelude::*;
use tierlift_ondisk::lvm_text::parse;
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};

fn place() -> PvPlace {
    PvPlace::Direct(Extents { disk: 0, start: Sectors(0), length: Sectors(1 << 20) })
}

/// A group with extents of 8 sectors on `pv0` (100 extents from sector 16 on) and, not found, `pv1`.
fn group(volumes: &str) -> VolumeGroup {
    let text = format!(
        "vg1 {{ id = \"G\" seqno = 5 extent_size = 8 physical_volumes {{ \
         pv0 {{ id = \"A\" pe_start = 16 pe_count = 100 }} pv1 {{ id = \"B\" device = \"/dev/md2\" pe_start = 16 pe_count = 100 }} }} \
         logical_volumes {{ {volumes} }} }} contents = \"Text Format Volume Group\""
    );
    let parsed = parse(text.as_bytes()).unwrap();
    let (name, section) = find_group(&parsed).unwrap();
    read_group(name, section, |id| (id == "A").then(place))
}

/// A volume of striped segments, each `(start, count, areas)`.
fn striped(name: &str, segments: &[(u64, u64, &str)]) -> String {
    let mut text = format!("{name} {{ status = [\"READ\"] segment_count = {}", segments.len());
    for (number, (start, count, areas)) in segments.iter().enumerate() {
        text += &format!(
            " segment{} {{ start_extent = {start} extent_count = {count} type = \"striped\" stripe_size = 4 stripes = [{areas}] }}",
            number + 1
        );
    }
    text + " }\n"
}

fn volume<'a>(group: &'a VolumeGroup, name: &str) -> &'a LogicalVolume {
    group.logical_volumes.iter().find(|volume| volume.name == name).unwrap()
}

fn stretches(group: &VolumeGroup, name: &str) -> Vec<(u64, StretchTarget)> {
    match &volume(group, name).kind {
        LogicalVolumeKind::Mapped(list) => {
            list.iter().map(|Stretch { length, target }| (length.0, target.clone())).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn pv0(sector: u64) -> StretchTarget {
    StretchTarget::Pv(0, Sectors(sector))
}

#[test]
fn segments_are_placed_in_order() {
    let group = group(&striped("a", &[(3, 2, "\"pv0\", 0"), (0, 3, "\"pv0\", 50")]));
    assert_eq!(stretches(&group, "a"), [(24, pv0(16 + 400)), (16, pv0(16))]);
    assert_eq!(volume(&group, "a").size, Sectors(40));
}

#[test]
fn missing_and_impossible_places_are_errors_and_told() {
    let group = group(&(striped("gone", &[(0, 2, "\"pv1\", 0")]) + &striped("far", &[(0, 2, "\"pv0\", 99")])));
    assert_eq!(stretches(&group, "gone"), [(16, StretchTarget::Error)]);
    assert_eq!(stretches(&group, "far"), [(16, StretchTarget::Error)]);
    let notes = group.notes.join("\n");
    assert!(notes.contains("pv1 (id B, last seen as /dev/md2) was not found"), "{notes}");
    assert!(notes.contains("far: extents 99+2 lie beyond the end of pv0"), "{notes}");
    let nowhere = self::group(&striped("lost", &[(0, 1, "\"pv9\", 0")]));
    assert_eq!(stretches(&nowhere, "lost"), [(8, StretchTarget::Error)]);
}

#[test]
fn stripes_take_turns() {
    let group = group(&striped("s", &[(0, 2, "\"pv0\", 0, \"pv0\", 10")]));
    assert_eq!(stretches(&group, "s"), [(4, pv0(16)), (4, pv0(96)), (4, pv0(20)), (4, pv0(100))]);
}

#[test]
fn a_volume_may_lie_on_another() {
    let base = striped("base", &[(0, 2, "\"pv0\", 0"), (2, 2, "\"pv0\", 50")]);
    let group = group(&(base + &striped("top", &[(0, 4, "\"base\", 1")])));
    assert_eq!(stretches(&group, "top"), [(8, pv0(24)), (16, pv0(416)), (8, StretchTarget::Error)]);
}

#[test]
fn circles_and_monsters_only_cost_their_own_volume() {
    let group = group(
        &(striped("a", &[(0, 1, "\"b\", 0")])
            + &striped("b", &[(0, 1, "\"a\", 0")])
            + &striped("huge", &[(0, u64::MAX, "\"pv0\", 0")])
            + &striped("hole", &[(0, 1, "\"pv0\", 0"), (2, 1, "\"pv0\", 0")])
            + &striped("fine", &[(0, 1, "\"pv0\", 0")])),
    );
    for name in ["a", "b", "huge", "hole"] {
        assert!(matches!(volume(&group, name).kind, LogicalVolumeKind::Opaque(_)), "{name}");
    }
    assert_eq!(stretches(&group, "fine"), [(8, pv0(16))]);
}

#[test]
fn endless_stripes_are_refused_not_built() {
    let mut wide = striped("wide", &[(0, 2 << 40, "\"pv0\", 0, \"pv0\", 10")]);
    wide = wide.replace("stripe_size = 4", "stripe_size = 1");
    let group = group(&wide);
    assert!(matches!(&volume(&group, "wide").kind, LogicalVolumeKind::Opaque(why) if why.contains("striped over 2")));
}

#[test]
fn thin_thick_and_unknown_relatives_are_volumes_of_their_pool() {
    let thin = |name: &str, kind: &str| {
        format!(
            "{name} {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 3 type = \"{kind}\" \
             thin_pool = \"tp1\" device_id = 7 origin = \"lv1\" }} }}"
        )
    };
    let group = group(&(thin("a", "thin") + &thin("b", "thick") + &thin("c", "novel+FLAG")));
    for name in ["a", "b", "c"] {
        let LogicalVolumeKind::Thin { pool, device, origin } = &volume(&group, name).kind else { panic!("{name}") };
        assert_eq!((pool.as_str(), *device, origin.as_deref()), ("tp1", DeviceId(7), Some("lv1")));
        assert!(volume(&group, name).visible && volume(&group, name).size == Sectors(24));
    }
    let odd = self::group("f { segment1 { start_extent = 0 extent_count = 1 type = \"flashcache\" cache = \"x\" } }");
    assert!(matches!(&volume(&odd, "f").kind, LogicalVolumeKind::Opaque(kind) if kind == "flashcache"));
}

/// A pool segment with these further keys, over tiers of 1, 1 and 20 extents.
fn pool(keys: &str) -> PoolVolume {
    let zero = "tp1_tierdata_0 { segment1 { start_extent = 0 extent_count = 1 type = \"zero\" } }\n";
    let group = group(
        &(format!(
            "tp1 {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 16 type = \"tier-thin-pool\" {keys} }} }}\n\
         lv1 {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 3 type = \"thin\" thin_pool = \"tp1\" device_id = 1 }} }}\n"
        ) + zero
            + &striped("tp1_tierdata_1", &[(0, 1, "\"pv0\", 0")])
            + &striped("tp1_tierdata_2", &[(0, 20, "\"pv0\", 1")])
            + &striped("tp1_tmeta", &[(0, 4, "\"pv0\", 30")])),
    );
    match &volume(&group, "tp1").kind {
        LogicalVolumeKind::Pool(pool) => pool.clone(),
        other => panic!("{other:?}"),
    }
}

fn three_tiers() -> Vec<Option<String>> {
    (0..3).map(|tier| Some(format!("tp1_tierdata_{tier}"))).collect()
}

#[test]
fn a_pools_parts_are_found_under_any_spelling() {
    for keys in [
        "metadata = \"tp1_tmeta\" pool = \"tp1_tierdata_0\" pool1 = \"tp1_tierdata_1\" pool2 = \"tp1_tierdata_2\"",
        "metadata = \"tp1_tmeta\" tiers = [\"tp1_tierdata_2\", \"tp1_tierdata_0\", \"tp1_tierdata_1\"]",
        "tier2 { pool = \"tp1_tierdata_2\" } tier1 { pool = \"tp1_tierdata_1\" } tier0 { pool = \"tp1_tierdata_0\" }",
        "message1 { create = \"lv1\" }",
        "",
    ] {
        let pool = pool(keys);
        assert_eq!((pool.metadata.as_str(), &pool.tiers), ("tp1_tmeta", &three_tiers()), "{keys}");
        assert_eq!(pool.guesses.iter().any(|guess| guess.contains("metadata")), !keys.contains("metadata"), "{keys}");
    }
}

#[test]
fn the_mode_is_taken_from_the_text_or_guessed_aloud() {
    let said = pool("enable_map = 7 bypass_off = 1 chunk_size = 8 transaction_id = 3");
    assert_eq!((said.enable_map, said.bypass), (Some(7), Some(false)));
    assert_eq!((said.chunk_size, said.transaction_id, said.chunks.map(|c| c.0)), (Some(Sectors(8)), Some(3), Some(16)));
    assert_eq!(pool("bypass = \"off\"").bypass, Some(false));
    assert_eq!(pool("bypass = 1").bypass, Some(true));
    assert_eq!(pool("bypass_off = 0").bypass, Some(true));
    let guessed = pool("");
    assert_eq!((guessed.enable_map, guessed.bypass), (Some(4), Some(true)), "a one-extent tier is a placeholder");
    let guesses = guessed.guesses.join("\n");
    assert!(guesses.contains("enable map guessed as 4") && guesses.contains("bypass guessed"), "{guesses}");
}

#[test]
fn a_tier_without_volume_is_named_and_empty() {
    let pool = pool("tier3 = \"tp1_tierdata_3\"");
    assert_eq!(pool.tiers.len(), 4);
    assert_eq!(pool.tiers[3], None);
    assert!(pool.guesses.iter().any(|guess| guess.contains("tier 3 (tp1_tierdata_3) is named")), "{:?}", pool.guesses);
}

#[test]
fn a_plain_pool_is_stock_lvms() {
    let group = group(
        "tp1 { segment1 { start_extent = 0 extent_count = 16 type = \"thin-pool\" metadata = \"m\" pool = \"d\" chunk_size = 128 } }",
    );
    let LogicalVolumeKind::Pool(pool) = &volume(&group, "tp1").kind else { panic!() };
    assert_eq!((pool.metadata.as_str(), &pool.tiers), ("m", &vec![Some("d".to_owned())]));
    assert_eq!((pool.bypass, pool.guesses.len()), (Some(true), 0));
}

fn inventory(groups: Vec<VolumeGroup>, disk: u64) -> Inventory {
    let disk = crate::inventory::Disk {
        path: "x".into(),
        size: Bytes(disk * 512),
        table: "none".into(),
        partitions: vec![],
        content: None,
        rescue_map: None,
    };
    Inventory { disks: vec![disk], volume_groups: groups, ..Inventory::default() }
}

#[test]
fn volumes_are_found_by_name_where_it_is_unique() {
    let one = || group(&striped("lv1", &[(0, 1, "\"pv0\", 0")]));
    let other = VolumeGroup { id: "H".into(), ..group(&striped("lv2", &[(0, 1, "\"pv0\", 0")])) };
    let two = inventory(vec![one(), other], 1000);
    assert_eq!(find(&two, "lv2").unwrap().0, 1);
    assert_eq!(find(&two, "vg1/lv1").unwrap().0, 0);
    assert_eq!(find(&two, "H/lv2").unwrap().0, 1);
    assert!(find(&two, "H/lv1").unwrap_err().to_string().contains("there is no volume H/lv1"));
    let twins = inventory(vec![one(), VolumeGroup { id: "H".into(), ..one() }], 1000);
    assert!(
        find(&twins, "lv1").unwrap_err().to_string().contains(
            "not unique: vg1 (id G) on x; vg1 (id H) on x; name it by the beginning of the id: G/lv1 or H/lv1"
        )
    );
}

#[test]
fn what_a_short_image_lacks_is_an_error() {
    let group = group(&striped("lv1", &[(0, 4, "\"pv0\", 0")]));
    let whole = stretches_on_disks(&inventory(vec![group.clone()], 1000), 0, "lv1").unwrap();
    assert_eq!(whole.len(), 1);
    let cut = stretches_on_disks(&inventory(vec![group], 20), 0, "lv1").unwrap();
    assert_eq!(cut.iter().map(|(length, _)| length.0).collect::<Vec<_>>(), [4, 28]);
    assert_eq!(cut[1].1, super::DiskTarget::Error);
}

proptest! {
    #[test]
    fn any_text_is_survived(
        lines in proptest::collection::vec(0usize..14, 0..60),
        numbers in proptest::collection::vec(any::<u64>(), 60),
    ) {
        let mut text = String::from("vg { extent_size = 8 physical_volumes { pv0 { id = \"A\" pe_count = 100 } } logical_volumes { ");
        for (line, number) in lines.iter().zip(&numbers) {
            text += &match line {
                0..=2 => format!("lv{} {{ ", number % 4),
                3..=5 => format!("segment{} {{ ", number % 3 + 1),
                6 => format!("start_extent = {} ", number % 5),
                7 => format!("extent_count = {number} "),
                8 => format!("type = \"{}\" ", ["striped", "thin-pool", "tier-thin-pool", "thin"][(number % 4) as usize]),
                9 => format!("stripes = [\"lv{}\", {}, \"pv0\", {number}] ", number % 4, number % 7),
                10 => format!("pool = \"lv{}\" metadata = 5 ", number % 4),
                11 => format!("stripes = [\"pv0\", {}] stripe_size = {} ", number % 200, number % 3),
                _ => "} ".into(),
            };
        }
        text += &"}".repeat(64);
        if let Ok(parsed) = parse(text.as_bytes()) {
            if let Some((name, section)) = find_group(&parsed) {
                let group = read_group(name, section, |id| (id == "A").then(place));
                let names: Vec<String> = group.logical_volumes.iter().map(|volume| volume.name.clone()).collect();
                let inventory = inventory(vec![group], 500);
                for name in names {
                    let _ = stretches_on_disks(&inventory, 0, &name);
                }
            }
        }
    }
}
