//! What to do next, as commands to copy.

use super::findings::is_internal;
use super::pools::PoolReport;
use crate::inventory::{Inventory, LogicalVolumeKind, PoolVolume, VolumeGroup};
use crate::volume::{self, DiskTarget};
use tierlift_ondisk::units::{DeviceId, Sectors};

/// The next steps for every group.
pub(super) fn of(inventory: &Inventory, pools: &[PoolReport]) -> Vec<String> {
    let mut steps = Vec::new();
    for (index, group) in inventory.volume_groups.iter().enumerate() {
        if let Some(volume) = first_volume(pools, index, group) {
            let name = format!("{}/{volume}", volume::spoken_name(inventory, index));
            steps.push(format!("in the appliance: tierlift activate {name}, then tierlift mount {name}"));
        }
        for report in pools.iter().filter(|report| report.group == index && report.stat.is_some()) {
            steps.extend(read_command(inventory, group, report).map(|command| format!("on any Linux: {command}")));
        }
    }
    steps
}

/// A volume to begin with: the first thin one the pool knows, else the first plain one.
fn first_volume<'a>(pools: &[PoolReport], index: usize, group: &'a VolumeGroup) -> Option<&'a str> {
    let known = |pool: &str, device: DeviceId| {
        let report = pools.iter().find(|report| report.group == index && report.pool == pool);
        let stat = report.and_then(|report| report.stat.as_ref());
        stat.is_some_and(|stat| stat.devices.iter().any(|known| known.id == device))
    };
    let mut volumes = group.logical_volumes.iter().filter(|volume| volume.visible && !is_internal(&volume.name));
    let thin = volumes.clone().find(|volume| match &volume.kind {
        LogicalVolumeKind::Thin { pool, device, .. } => known(pool, *device),
        _ => false,
    });
    let plain = || volumes.find(|volume| matches!(volume.kind, LogicalVolumeKind::Mapped(_)));
    thin.or_else(plain).map(|volume| volume.name.as_str())
}

/// `tierlift pool read …` with the places of the parts, when each lies in one piece.
fn read_command(inventory: &Inventory, group: &VolumeGroup, report: &PoolReport) -> Option<String> {
    let volume = group.logical_volumes.iter().find(|volume| volume.name == report.pool)?;
    let LogicalVolumeKind::Pool(parts) = &volume.kind else { return None };
    let PoolVolume { metadata, tiers, .. } = parts;
    let mut command = format!("tierlift pool read --meta {}", place(inventory, report.group, metadata)?);
    for (number, tier) in tiers.iter().enumerate() {
        let Some(tier) = tier else { continue };
        if let Some(place) = place(inventory, report.group, tier) {
            command += &format!(" --tier {number}={place}");
        } else if !is_zero(inventory, report.group, tier) {
            return None;
        }
    }
    Some(command + &device_words(group, report)?)
}

/// The device to begin with. Its size is in the text alone, so it goes along when a volume names the device.
fn device_words(group: &VolumeGroup, report: &PoolReport) -> Option<String> {
    let known = &report.stat.as_ref()?.devices;
    let named = group.logical_volumes.iter().find_map(|volume| match &volume.kind {
        LogicalVolumeKind::Thin { pool, device, .. }
            if *pool == report.pool && known.iter().any(|known| known.id == *device) =>
        {
            Some(format!(" --device {device} --sectors {} --output {}.img", volume.size, quoted(volume.name.clone())))
        }
        _ => None,
    });
    named.or_else(|| {
        let device = known.first()?.id;
        Some(format!(" --device {device} --output device{device}.img"))
    })
}

/// `FILE@OFFSET+LENGTH` of a volume that lies in one piece on one disk.
fn place(inventory: &Inventory, group: usize, volume: &str) -> Option<String> {
    match volume::stretches_on_disks(inventory, group, volume).ok()?.as_slice() {
        [(length, DiskTarget::Place(place))] => {
            let start = place.partition.start.checked_add(place.sector).and_then(Sectors::to_bytes)?;
            let disk = inventory.disks.get(place.partition.disk)?;
            Some(quoted(format!("{}@{start}+{}", disk.path.display(), length.to_bytes()?)))
        }
        _ => None,
    }
}

/// The word as a shell takes it.
fn quoted(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@=:,".contains(c);
    if word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

fn is_zero(inventory: &Inventory, group: usize, volume: &str) -> bool {
    let pieces = volume::stretches_on_disks(inventory, group, volume).unwrap_or_default();
    pieces.iter().all(|(_, target)| *target == DiskTarget::Zero)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("/dev/sda@512+7".into()), "/dev/sda@512+7");
        assert_eq!(quoted("my disk's.img".into()), r"'my disk'\''s.img'");
    }
}
