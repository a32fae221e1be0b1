//! Volumes without LVM: a file system or an encrypted volume directly on an array, as legacy firmware made it
//! ("docs/disk-layout, section 7").
//!
//! Each becomes a group of one volume, so that everything that works on volumes works on it: `md0/volume`.

use super::Search;
use crate::ext4::{Probe, probe};
use crate::inventory::{Array, LogicalVolume, LogicalVolumeKind, PhysicalVolume, PvPlace, Stretch, StretchTarget};
use crate::inventory::{TextUsed, VolumeGroup};
use tierlift_ondisk::units::{Extent, Sectors};

/// Name of the one volume of such a group.
const VOLUME: &str = "volume";

impl Search {
    /// Adds a group for each array that carries a volume without LVM.
    pub(super) fn add_bare_volumes(&mut self) {
        for index in 0..self.inventory.arrays.len() {
            let Some(array) = self.inventory.arrays.get(index).filter(|array| !array.system) else { continue };
            let mut volumes = self.inventory.volume_groups.iter().flat_map(|group| &group.physical_volumes);
            if volumes.any(|pv| matches!(pv.place, Some(PvPlace::Array(other)) if other == index)) {
                continue;
            }
            let what = match self.open_array(index).map(|view| probe(&view)) {
                Some(Ok(Probe::Ext4(_))) => "a file system",
                Some(Ok(Probe::Luks)) => "an encrypted volume",
                _ => continue,
            };
            let group = group(array, PvPlace::Array(index), what);
            self.inventory.volume_groups.push(group);
        }
    }
}

fn group(array: &Array, place: PvPlace, what: &str) -> VolumeGroup {
    let whole = Stretch { length: array.size, target: StretchTarget::Pv(0, Sectors(0)) };
    VolumeGroup {
        name: format!("md{}", array.name),
        id: array.uuid.clone(),
        seqno: 0,
        text: TextUsed { what: format!("no LVM: {what} lies directly on array {}", array.name), ..TextUsed::default() },
        without_lvm: true,
        extent_size: Sectors(1),
        physical_volumes: vec![PhysicalVolume {
            name: "array".into(),
            id: array.uuid.clone(),
            pe_start: Sectors(0),
            pe_count: Extent(array.size.0),
            place: Some(place),
        }],
        logical_volumes: vec![LogicalVolume {
            name: VOLUME.into(),
            visible: true,
            size: array.size,
            kind: LogicalVolumeKind::Mapped(vec![whole]),
        }],
        notes: Vec::new(),
    }
}
