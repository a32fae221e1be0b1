//! Inventories for the tests of this folder.

use super::plan::{Mode, PoolFacts, ThinFacts};
use crate::inventory::*;
use tierlift_ondisk::units::{Bytes, Chunk, DeviceId, Extent, Sectors};

/// Facts of a pool of 256 chunks of 512 KiB, three tiers, devices 1 and 7.
pub fn facts(mode: Mode) -> PoolFacts {
    let device = |id, extent| ThinFacts { id: DeviceId(id), extent: Chunk(extent) };
    PoolFacts {
        qnap: true,
        chunk: Sectors(1024),
        chunks: Chunk(256),
        mode,
        tiers: 3,
        evidence: vec!["the tier tree says so".into()],
        transaction_id: 1,
        devices: vec![device(1, 192), device(7, 10)],
        repaired: None,
    }
}

fn disk(path: &str) -> Disk {
    Disk {
        path: path.into(),
        size: Bytes(3 << 30),
        table: "gpt".into(),
        partitions: vec![],
        content: None,
        rescue_map: None,
    }
}

fn array(disk: usize, data_offset: u64) -> Array {
    let place = Extents { disk, start: Sectors(2_120_584), length: Sectors(400_000) };
    let member = Member {
        place,
        on_array: None,
        data_size: Sectors(0),
        rebuilt_to: None,
        bad_blocks: vec![],
        data_offset: Sectors(data_offset),
        role: Some(0),
        events: 7,
        update_time: 0,
        current: true,
        verdict: "current".into(),
    };
    Array {
        uuid: format!("uuid-{disk}"),
        name: "1".into(),
        level: "raid1".into(),
        raid_disks: 1,
        size: Sectors(399_000),
        system: false,
        members: vec![member],
        usable_member: Some(0),
        shape: None,
        assembly: None,
        carries: vec![],
        notes: vec![],
    }
}

/// Three disks with the members of a RAID 5 array, one group on it: the pool of [`inventory`].
pub fn striped() -> Inventory {
    let mut inventory = inventory();
    inventory.disks = ["/dev/vda", "/dev/vdb", "/dev/vdc"].map(disk).into();
    let members = (0..3).map(|number| Member { role: Some(number), ..array(number as usize, 0).members.remove(0) });
    inventory.arrays[0] = Array {
        level: "raid5".into(),
        raid_disks: 3,
        size: Sectors(798_000),
        usable_member: None,
        members: members.collect(),
        assembly: Some(Assembly {
            level: 5,
            layout: 2,
            chunk: Sectors(1024),
            component: Sectors(399_000),
            roles: vec![Some(0), Some(1), Some(2)],
            evidence: vec![],
            dirty: false,
        }),
        ..inventory.arrays[0].clone()
    };
    inventory
}

fn physical_volume(place: Option<PvPlace>) -> PhysicalVolume {
    PhysicalVolume { name: "pv0".into(), id: "id".into(), pe_start: Sectors(2048), pe_count: Extent(48), place }
}

fn mapped(name: &str, stretches: Vec<Stretch>) -> LogicalVolume {
    let size = Sectors(stretches.iter().map(|stretch| stretch.length.0).sum());
    LogicalVolume { name: name.into(), visible: false, size, kind: LogicalVolumeKind::Mapped(stretches) }
}

/// A stretch.
pub fn stretch(length: u64, target: StretchTarget) -> Stretch {
    Stretch { length: Sectors(length), target }
}

/// One disk, one single-disk array, one group with a tier pool: tiers 0 and 1 absent, tier 2 in two pieces, volumes `lv1`
/// (device 1), `gone` (device 3, which the pool does not know) and the plain volume `lv544`.
pub fn inventory() -> Inventory {
    let pv = |sector| StretchTarget::Pv(0, Sectors(sector));
    let pool = PoolVolume {
        segment_type: "tier-thin-pool".into(),
        metadata: "tp1_tmeta".into(),
        tiers: (0..3).map(|tier| Some(format!("tp1_tierdata_{tier}"))).collect(),
        enable_map: None,
        bypass: None,
        chunk_size: Some(Sectors(1024)),
        transaction_id: Some(1),
        chunks: Some(Chunk(256)),
        guesses: vec![],
    };
    let thin = |name: &str, device| LogicalVolume {
        name: name.into(),
        visible: true,
        size: Sectors(196_608),
        kind: LogicalVolumeKind::Thin { pool: "tp1".into(), device: DeviceId(device), origin: None },
    };
    let group = VolumeGroup {
        name: "vg1".into(),
        id: "vg-id".into(),
        seqno: 5,
        without_lvm: false,
        text: Default::default(),
        extent_size: Sectors(8192),
        physical_volumes: vec![physical_volume(Some(PvPlace::Array(0)))],
        logical_volumes: vec![
            mapped("lv544", vec![stretch(8192, pv(2048))]),
            mapped("tp1_tmeta", vec![stretch(16384, pv(10240))]),
            mapped("tp1_tierdata_0", vec![stretch(8192, StretchTarget::Zero)]),
            mapped("tp1_tierdata_1", vec![stretch(8192, StretchTarget::Zero)]),
            mapped("tp1_tierdata_2", vec![stretch(131_072, pv(26624)), stretch(131_072, pv(157_696))]),
            LogicalVolume {
                name: "tp1".into(),
                visible: true,
                size: Sectors(262_144),
                kind: LogicalVolumeKind::Pool(pool),
            },
            thin("lv1", 1),
            thin("gone", 3),
        ],
        notes: vec![],
    };
    Inventory {
        disks: vec![disk("/dev/vda")],
        arrays: vec![array(0, 16)],
        volume_groups: vec![group],
        ..Inventory::default()
    }
}

/// The same with a second disk whose physical volume nothing uses yet.
pub fn two_disks() -> Inventory {
    let mut inventory = inventory();
    inventory.disks.push(disk("/dev/vdb"));
    inventory.arrays.push(array(1, 0));
    inventory.volume_groups[0].physical_volumes.push(physical_volume(Some(PvPlace::Array(1))));
    inventory
}
