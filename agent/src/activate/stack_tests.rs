use super::*;
use crate::activate::plan::ModeChoice;
use crate::activate::test_inventory::{facts, inventory, stretch, striped};
use crate::inventory::PvPlace;
use tierlift_ondisk::units::Bytes;

fn choice() -> Choice {
    Choice { memory_cap: Bytes(128 << 20), ..Choice::default() }
}

fn plan_for(inventory: &Inventory, wish: &Wish, mode: Mode, choice: &Choice) -> Result<Plan, String> {
    plan(inventory, 0, wish, Some(&facts(mode)), choice).map_err(|error| error.to_string())
}

fn tables(plan: &Plan) -> Vec<String> {
    let lines = plan.devices.iter().skip(3);
    lines.flat_map(|device| device.table.iter().map(move |line| format!("{}: {line}", device.name))).collect()
}

fn volume(name: &str) -> Wish {
    Wish::Volume(name.into())
}

#[test]
fn a_volume_in_a_bypass_pool() {
    let plan = plan_for(&inventory(), &volume("lv1"), Mode::Bypass { tier: 2 }, &choice()).unwrap();
    assert_eq!(
        tables(&plan),
        [
            "vg1-tp1_tmeta: 0 16384 linear /dev/mapper/tierlift-member-0 10256",
            "vg1-tp1_tierdata_0: 0 8192 zero",
            "vg1-tp1_tierdata_1: 0 8192 zero",
            "vg1-tp1_tierdata_2: 0 131072 linear /dev/mapper/tierlift-member-0 26640",
            "vg1-tp1_tierdata_2: 131072 131072 linear /dev/mapper/tierlift-member-0 157712",
            "vg1-tp1-tpool: 0 262144 thin-pool /dev/mapper/vg1-tp1_tmeta TIER 1024 0 10 TIER:3 \
             /dev/mapper/vg1-tp1_tierdata_0 /dev/mapper/vg1-tp1_tierdata_1 /dev/mapper/vg1-tp1_tierdata_2 enable_map:4 \
             qnap_format read_only skip_block_zeroing no_discard_passdown error_if_no_space",
            "vg1-lv1: 0 196608 thin /dev/mapper/vg1-tp1-tpool 1",
        ]
    );
    assert_eq!(plan.device, "vg1-lv1");
    assert_eq!(plan.mode.as_deref(), Some("bypass (all data on tier 2)"));
    assert_eq!(plan.evidence, ["the tier tree says so"]);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
}

#[test]
fn only_overlays_and_the_pool_are_writable() {
    let plan = plan_for(&inventory(), &volume("lv1"), Mode::TierMap, &choice()).unwrap();
    let writable: Vec<&str> =
        plan.devices.iter().filter(|device| !device.read_only).map(|device| device.name.as_str()).collect();
    assert_eq!(writable, ["tierlift-store-0", "tierlift-member-0", "vg1-tp1-tpool"]);
}

#[test]
fn the_pool_alone() {
    let plan = plan_for(&inventory(), &volume("tp1"), Mode::TierMap, &choice()).unwrap();
    assert_eq!(plan.device, "vg1-tp1-tpool");
    assert!(tables(&plan).iter().all(|line| !line.contains(" thin ")));
}

#[test]
fn a_device_no_text_names_ends_with_its_last_chunk() {
    let plan = plan_for(&inventory(), &Wish::Thin(None, DeviceId(7)), Mode::TierMap, &choice()).unwrap();
    assert_eq!(tables(&plan).last().unwrap(), "vg1-tp1-thin7: 0 10240 thin /dev/mapper/vg1-tp1-tpool 7");
    assert!(plan.evidence.iter().any(|text| text.contains("highest mapped chunk")));
}

#[test]
fn a_volume_the_pool_does_not_know_is_told() {
    let error = plan_for(&inventory(), &volume("gone"), Mode::TierMap, &choice()).unwrap_err();
    assert!(error.contains("no thin device 3") && error.contains("1, 7"), "{error}");
    let error = plan_for(&inventory(), &volume("nix"), Mode::TierMap, &choice()).unwrap_err();
    assert!(error.contains("no volume 'nix'"), "{error}");
}

#[test]
fn a_plain_volume_needs_no_pool() {
    let inventory = inventory();
    let plan = plan(&inventory, 0, &volume("lv544"), None, &choice()).unwrap();
    assert_eq!(tables(&plan), ["vg1-lv544: 0 8192 linear /dev/mapper/tierlift-member-0 2064"]);
}

#[test]
fn a_tier_on_a_missing_disk_is_a_dash_and_told() {
    let mut inventory = inventory();
    let lost = vec![stretch(8192, StretchTarget::Error)];
    inventory.volume_groups[0].logical_volumes[3].kind = LogicalVolumeKind::Mapped(lost);
    let plan = plan_for(&inventory, &volume("lv1"), Mode::TierMap, &choice()).unwrap();
    let pool = tables(&plan).into_iter().find(|line| line.contains("thin-pool")).unwrap();
    assert!(
        pool.contains("TIER:3 /dev/mapper/vg1-tp1_tierdata_0 - /dev/mapper/vg1-tp1_tierdata_2 enable_map:7"),
        "{pool}"
    );
    assert!(plan.warnings.iter().any(|text| text.starts_with("tier 1 is missing")), "{:?}", plan.warnings);
}

#[test]
fn what_cannot_be_reached_is_an_error_never_zeros() {
    let mut inventory = inventory();
    let group = &mut inventory.volume_groups[0];
    // Beyond the array's end (399000 sectors), on a physical volume that was not found, and nowhere.
    group.physical_volumes.push(crate::inventory::PhysicalVolume { place: None, ..group.physical_volumes[0].clone() });
    group.logical_volumes[0].kind = LogicalVolumeKind::Mapped(vec![
        stretch(100, StretchTarget::Pv(0, Sectors(398_960))),
        stretch(50, StretchTarget::Pv(1, Sectors(0))),
        stretch(8, StretchTarget::Pv(0, Sectors(u64::MAX))),
    ]);
    let plan = plan(&inventory, 0, &volume("lv544"), None, &choice()).unwrap();
    assert_eq!(
        tables(&plan),
        [
            "vg1-lv544: 0 40 linear /dev/mapper/tierlift-member-0 398976",
            "vg1-lv544: 40 60 error",
            "vg1-lv544: 100 50 error",
            "vg1-lv544: 150 8 error",
        ]
    );
    assert!(plan.warnings.iter().any(|text| text.contains("118 sectors")), "{:?}", plan.warnings);
}

#[test]
fn an_array_that_cannot_be_used_gives_no_overlay_and_no_data() {
    let mut inventory = inventory();
    inventory.arrays[0].usable_member = None;
    let plan = plan(&inventory, 0, &volume("lv544"), None, &choice()).unwrap();
    assert_eq!(plan.devices.len(), 1);
    assert_eq!(plan.devices[0].table[0].to_string(), "0 8192 error");
}

#[test]
fn contradictions_between_text_and_superblock_are_told() {
    let inventory = inventory();
    let mut facts = facts(Mode::TierMap);
    facts.chunks = tierlift_ondisk::units::Chunk(200);
    facts.transaction_id = 9;
    let plan = plan(&inventory, 0, &volume("lv1"), Some(&facts), &choice()).unwrap();
    assert_eq!(plan.warnings.len(), 2, "{:?}", plan.warnings);
    let pool = plan.devices.iter().find(|device| device.name == "vg1-tp1-tpool").unwrap();
    assert_eq!(pool.table[0].length, 200 * 1024, "the superblock's length, not the text's");
}

#[test]
fn a_forced_mode_is_told() {
    let choice = Choice { mode: Some(ModeChoice::Bypass), enable_map: Some(4), ..choice() };
    let plan = plan_for(&inventory(), &volume("lv1"), Mode::TierMap, &choice).unwrap();
    assert!(plan.warnings[0].contains("was asked for"), "{:?}", plan.warnings);
}

#[test]
fn a_physical_volume_straight_on_a_disk_has_no_offset() {
    let mut inventory = inventory();
    let place = inventory.arrays[0].members[0].place.clone();
    inventory.volume_groups[0].physical_volumes[0].place = Some(PvPlace::Direct(place));
    let plan = plan(&inventory, 0, &volume("lv544"), None, &choice()).unwrap();
    assert_eq!(tables(&plan), ["vg1-lv544: 0 8192 linear /dev/mapper/tierlift-member-0 2048"]);
}

#[test]
fn a_striped_array_is_assembled_over_the_overlays_of_all_its_members() {
    let mut inventory = striped();
    // The group's extents are then those of the array.
    let plan = plan(&inventory, 0, &Wish::Volume("lv544".into()), None, &Choice::default()).unwrap();
    assert_eq!(plan.devices.len(), 3 * 3 + 1);
    assert_eq!((plan.arrays.len(), plan.arrays[0].path.as_str()), (1, "/dev/md100"));
    assert_eq!(plan.devices.last().unwrap().table[0].to_string(), "0 8192 linear /dev/md100 2048");
    // A mirror of which both halves are here is assembled too, and one half alone is read without md.
    inventory.arrays[0].assembly.as_mut().unwrap().level = 1;
    inventory.arrays[0].usable_member = Some(0);
    let mirror = super::plan(&inventory, 0, &Wish::Volume("lv544".into()), None, &Choice::default()).unwrap();
    assert_eq!(mirror.devices.last().unwrap().table[0].to_string(), "0 8192 linear /dev/md100 2048");
    inventory.arrays[0].assembly.as_mut().unwrap().roles = vec![Some(0), None, None];
    let half = super::plan(&inventory, 0, &Wish::Volume("lv544".into()), None, &Choice::default()).unwrap();
    assert!(half.arrays.is_empty() && half.devices.len() == 4);
    assert_eq!(half.devices[3].table[0].to_string(), "0 8192 linear /dev/mapper/tierlift-member-0 2048");
}
