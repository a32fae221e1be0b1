//! The inventory in sentences, for the report.

use super::Found;
use crate::inventory::{Array, Disk, Inventory, LogicalVolume, LogicalVolumeKind, VolumeGroup};

impl Found {
    /// What a reader of the report needs to know of an inventory.
    pub fn of(inventory: &Inventory) -> Self {
        let arrays = inventory.arrays.iter().filter(|array| !array.system);
        let notes = inventory.notes.iter().cloned();
        let array_notes = inventory
            .arrays
            .iter()
            .flat_map(|array| array.notes.iter().map(|note| format!("array {}: {note}", array.name)));
        let group_notes = inventory
            .volume_groups
            .iter()
            .flat_map(|group| group.notes.iter().map(|note| format!("volume group {}: {note}", group.name)));
        Self {
            disks: inventory.disks.iter().map(disk).collect(),
            arrays: arrays.map(|array| self::array(inventory, array)).collect(),
            volumes: inventory.volume_groups.iter().flat_map(volumes).collect(),
            notes: notes.chain(array_notes).chain(group_notes).collect(),
            groups: inventory.volume_groups.iter().map(|group| group.id.clone()).collect(),
        }
    }
}

fn disk(disk: &Disk) -> String {
    let content = disk.content.as_ref().map(|content| format!(", {content}")).unwrap_or_default();
    let partitions = disk.partitions.len();
    format!(
        "{}: {}, partition table {}, {partitions} partitions{content}",
        disk.path.display(),
        disk.size.human(),
        disk.table
    )
}

fn array(inventory: &Inventory, array: &Array) -> String {
    let member = |member: &crate::inventory::Member| {
        let disk = inventory.disks.get(member.place.disk).map(|disk| disk.path.display().to_string());
        let role = member.role.map_or("no role".to_owned(), |role| format!("role {role}"));
        format!("{} at sector {} ({role}, {})", disk.unwrap_or_default(), member.place.start, member.verdict)
    };
    let members: Vec<String> = array.members.iter().map(member).collect();
    let usable = if array.usable_member.is_some() || array.assembly.is_some() { "readable" } else { "NOT readable" };
    format!(
        "array {} ({}, {} of {} members, {usable}): {}",
        array.name,
        array.level,
        array.members.len(),
        array.raid_disks,
        members.join("; ")
    )
}

fn volumes(group: &VolumeGroup) -> Vec<String> {
    let missing = group.physical_volumes.iter().filter(|pv| pv.place.is_none()).count();
    let missing = if missing == 0 { String::new() } else { format!(", {missing} MISSING") };
    let volumes = group.physical_volumes.len();
    let chosen = if group.text.chosen { format!(", chosen: {}", group.text.what) } else { String::new() };
    let head = format!(
        "volume group {} (text number {}{chosen}): {volumes} physical volumes{missing}",
        group.name, group.seqno
    );
    let visible = group.logical_volumes.iter().filter(|volume| volume.visible);
    std::iter::once(head).chain(visible.map(|volume| self::volume(group, volume))).collect()
}

fn volume(group: &VolumeGroup, volume: &LogicalVolume) -> String {
    let kind = match &volume.kind {
        LogicalVolumeKind::Mapped(_) => "plain volume".to_owned(),
        LogicalVolumeKind::Pool(pool) => format!("pool ({})", pool.segment_type),
        LogicalVolumeKind::Thin { pool, device, origin } => {
            let origin = origin.as_ref().map(|origin| format!(", snapshot of {origin}")).unwrap_or_default();
            format!("thin device {device} of {pool}{origin}")
        }
        LogicalVolumeKind::Opaque(why) => format!("cannot be read: {why}"),
    };
    format!("{}/{}: {}, {kind}", group.name, volume.name, volume.size.to_bytes().unwrap_or_default().human())
}
