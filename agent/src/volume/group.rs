//! From the tree of a text to the model of a volume group.

use super::{pool, segments};
use crate::inventory::{LogicalVolume, LogicalVolumeKind, PhysicalVolume, PvPlace, TextUsed, VolumeGroup};
use std::collections::BTreeMap;
use tierlift_ondisk::lvm_text::{Parsed, Section};
use tierlift_ondisk::units::{DeviceId, Extent, Sectors};

/// The section of a text that is a volume group: the one that has physical volumes.
pub fn find_group(parsed: &Parsed) -> Option<(&str, &Section)> {
    parsed.root.sections().find(|(_, section)| section.section("physical_volumes").is_some())
}

/// Reads a volume group. `place` tells where the physical volume of an id was found.
///
/// Nothing in the text can make this fail: what cannot be understood makes its volume unusable and leaves a note.
pub fn read_group(name: &str, section: &Section, place: impl Fn(&str) -> Option<PvPlace>) -> VolumeGroup {
    let mut group = VolumeGroup {
        name: name.to_owned(),
        id: section.text("id").unwrap_or_default().to_owned(),
        seqno: section.number("seqno").unwrap_or_default(),
        text: TextUsed::default(),
        without_lvm: false,
        extent_size: Sectors(section.number("extent_size").unwrap_or_default()),
        physical_volumes: Vec::new(),
        logical_volumes: Vec::new(),
        notes: Vec::new(),
    };
    if group.extent_size.0 == 0 {
        group.notes.push("the text names no extent size: no volume of this group can be placed".into());
    }
    let pvs = section.section("physical_volumes");
    for (name, pv) in pvs.iter().flat_map(|pvs| pvs.sections()) {
        read_physical_volume(&mut group, name, pv, &place);
    }
    read_logical_volumes(&mut group, section.section("logical_volumes"));
    group
}

fn read_physical_volume(
    group: &mut VolumeGroup,
    name: &str,
    section: &Section,
    place: &impl Fn(&str) -> Option<PvPlace>,
) {
    let id = section.text("id").unwrap_or_default().to_owned();
    let place = place(&id);
    if place.is_none() {
        group.notes.push(format!(
            "physical volume {name} (id {id}, last seen as {}) was not found: attach its disks; reads of what lies on it fail, \
             the rest works",
            section.text("device").unwrap_or("an unnamed device")
        ));
    }
    group.physical_volumes.push(PhysicalVolume {
        name: name.to_owned(),
        id,
        pe_start: Sectors(section.number("pe_start").unwrap_or_default()),
        pe_count: Extent(section.number("pe_count").unwrap_or_default()),
        place,
    });
}

fn read_logical_volumes(group: &mut VolumeGroup, section: Option<&Section>) {
    let texts: Vec<(&str, &Section)> = section.iter().flat_map(|section| section.sections()).collect();
    let mut layout = segments::Layout::new(group, &texts);
    let mut volumes: Vec<LogicalVolume> = Vec::new();
    for (name, text) in &texts {
        let (size, kind) = layout.volume(name, text);
        let visible = text.words("status").contains(&"VISIBLE");
        volumes.push(LogicalVolume { name: (*name).to_owned(), visible, size, kind });
    }
    let notes = layout.into_notes();
    group.notes.extend(notes);
    let known = Volumes::new(&volumes, group.extent_size);
    let specials: Vec<_> =
        texts.iter().zip(&volumes).map(|((_, text), volume)| special(volume, text, &known)).collect();
    for (volume, special) in volumes.iter_mut().zip(specials) {
        if let Some(kind) = special {
            volume.kind = kind;
        }
    }
    group.logical_volumes = volumes;
}

/// The volumes of a group by name.
pub(super) struct Volumes<'a> {
    by_name: BTreeMap<&'a str, &'a LogicalVolume>,
    pub(super) extent_size: Sectors,
}

impl<'a> Volumes<'a> {
    fn new(volumes: &'a [LogicalVolume], extent_size: Sectors) -> Self {
        Self { by_name: volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect(), extent_size }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a LogicalVolume> {
        self.by_name.get(name).copied()
    }
}

/// Pools and thin volumes are one segment; which it is, the segment says.
fn special(volume: &LogicalVolume, text: &Section, known: &Volumes<'_>) -> Option<LogicalVolumeKind> {
    let segment = text.section("segment1")?;
    let kind = segments::segment_type(segment);
    if kind.ends_with("thin-pool") {
        return Some(LogicalVolumeKind::Pool(pool::resolve(&volume.name, volume.size, segment, known)));
    }
    thin(kind, segment)
}

/// `thin`, `thick`, or whatever has a pool and a device id.
fn thin(kind: &str, segment: &Section) -> Option<LogicalVolumeKind> {
    let named = matches!(kind, "thin" | "thick");
    match (segment.text("thin_pool"), segment.number("device_id")) {
        (Some(pool), Some(device)) => Some(LogicalVolumeKind::Thin {
            pool: pool.to_owned(),
            device: DeviceId(device),
            origin: segment.text("origin").map(str::to_owned),
        }),
        _ if named => Some(LogicalVolumeKind::Opaque(format!("{kind} volume without pool or device id"))),
        _ => None,
    }
}
