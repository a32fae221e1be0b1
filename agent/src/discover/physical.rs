//! LVM's physical volumes: label, metadata areas, and the texts they commit to.
//!
//! What a sound volume needs is little: its label, the header of an area, the committed text. Only where one of them is damaged,
//! or when older texts are asked for, a whole area is read ([`Found::search_rings`]), and the first MiB searched for areas.

use super::read;
use crate::inventory::PvPlace;
use crate::volume::generation::{Finding, FoundText, Origin};
use std::collections::BTreeMap;
use tierlift_ondisk::lvm_area::{AreaHeader, HEADER_BYTES, Location, ring_stretches};
use tierlift_ondisk::lvm_crc::lvm_crc;
use tierlift_ondisk::lvm_history::{Extent, is_group, texts_in_area};
use tierlift_ondisk::lvm_label::{LABEL_BYTES, LABEL_SECTORS, Label};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Where the first metadata area lies on nearly every physical volume, and how long it is; tried when nothing tells.
const USUAL_AREA: (u64, u64) = (4096, 1_044_480);
/// How far labels and areas are searched for when they are not where they should be.
const SEARCH_BYTES: u64 = 1 << 20;
/// The longest area that is read; QNAP's are about a MiB.
const MAX_AREA: u64 = 8 << 20;
/// A damaged area is read in pieces, so that one bad sector costs no more than this.
const PIECE: u64 = 4096;
/// More areas than this no volume has.
const MAX_AREAS: usize = 8;

/// Metadata areas by their first byte, with their headers where these can be read.
type Areas = BTreeMap<u64, Option<AreaHeader>>;

/// A physical volume.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) place: PvPlace,
    /// Size of what carries it.
    pub(super) size: Bytes,
    /// `None` when it was lost; the texts then tell which volume this may be.
    pub(super) label: Option<Label>,
    /// The areas, by their first byte.
    areas: Areas,
    pub(super) texts: Vec<FoundText>,
    pub(super) notes: Vec<String>,
    searched: bool,
}

/// Looks for a physical volume at the start of a view, by its label.
pub(super) fn find(view: &dyn ReadAt, place: PvPlace) -> Option<Found> {
    let mut notes = Vec::new();
    let label = find_label(view, &mut notes)?;
    Some(Found::new(view, place, Some(label), BTreeMap::new(), notes))
}

/// Looks for a physical volume that lost its label: for what is left of it in the first MiB.
pub(super) fn find_damaged(view: &dyn ReadAt, place: PvPlace) -> Option<Found> {
    let (label, areas) = search_start(view);
    let note = match (&label, areas.is_empty()) {
        (Some(_), _) => "the label is not in its place; a copy of it found in the first MiB is used",
        (None, false) => "the label is lost; a metadata area found in the first MiB tells of the group",
        (None, true) => return None,
    };
    Some(Found::new(view, place, label, areas, vec![note.to_owned()]))
}

impl Found {
    fn new(view: &dyn ReadAt, place: PvPlace, label: Option<Label>, areas: Areas, notes: Vec<String>) -> Self {
        let mut found = Self { place, size: view.size(), label, areas, texts: Vec::new(), notes, searched: false };
        found.read_areas(view);
        found
    }

    /// Its id, when that is known.
    pub(super) fn id(&self) -> Option<&str> {
        self.label.as_ref().map(|label| label.id.as_str())
    }

    /// What it is, for people.
    pub(super) fn describe(&self) -> String {
        match &self.label {
            Some(label) => format!("LVM physical volume {}", label.id),
            None => "LVM physical volume without its label".into(),
        }
    }

    /// How much of it is sound; more is better. [`Found::SOUND`] is all one can ask for.
    pub(super) fn soundness(&self) -> u8 {
        let committed = self.texts.iter().filter(|text| text.finding.origin == Origin::Committed);
        let text = committed.map(|text| u8::from(text.finding.checksum_ok == Some(true)).saturating_add(1)).max();
        let label = self.label.as_ref().map_or(0, |label| u8::from(label.checksum_ok).saturating_add(1));
        text.unwrap_or_default().saturating_mul(3).saturating_add(label)
    }

    /// [`Found::soundness`] of a sound label and a committed text with a right checksum.
    pub(super) const SOUND: u8 = 8;

    fn has_proved_text(&self) -> bool {
        self.texts.iter().any(|text| text.finding.origin == Origin::Committed && text.finding.checksum_ok == Some(true))
    }

    /// The areas the label names; when none of them works, those found by their magic, else the usual one.
    fn read_areas(&mut self, view: &dyn ReadAt) {
        let named: Vec<Bytes> =
            self.label.iter().flat_map(|label| &label.metadata_areas).map(|area| area.offset).take(MAX_AREAS).collect();
        for start in &named {
            let header = read_header(view, *start, &mut self.notes);
            self.areas.insert(start.0, header);
        }
        if self.areas.values().all(Option::is_none) {
            let (_, found) = search_start(view);
            self.areas.extend(found);
        }
        let headers: Vec<(u64, AreaHeader)> =
            self.areas.iter().filter_map(|(start, header)| Some((*start, header.clone()?))).collect();
        for (start, header) in headers {
            self.read_committed(view, Bytes(start), &header);
        }
    }

    fn read_committed(&mut self, view: &dyn ReadAt, start: Bytes, header: &AreaHeader) {
        let prefix = format!("metadata area at byte {start}");
        if !header.checksum_ok {
            self.notes.push(format!("{prefix}: its checksum is wrong; what it says is taken with care"));
        }
        if header.precommitted.is_some() {
            let note = "a change of the group was interrupted; the state before it is used";
            self.notes.push(format!("{prefix}: {note}"));
        }
        let slots = [(Origin::Committed, header.committed), (Origin::Precommitted, header.precommitted)];
        for (origin, location) in slots {
            let Some(location) = location else { continue };
            match read_text(view, start, header.size, location) {
                Ok(bytes) => {
                    let ok = lvm_crc(&bytes) == location.checksum;
                    let whole = is_group(&bytes).is_ok();
                    match (ok, whole, origin) {
                        (_, false, _) => self.notes.push(format!("{prefix}: its text is damaged and cannot be read")),
                        (false, true, _) => {
                            self.notes.push(format!("{prefix}: the text's checksum is wrong, but it can be read"));
                        }
                        (true, true, _) => {}
                    }
                    self.add(origin, start, location.offset, Some(ok), whole, bytes);
                }
                Err(why) => {
                    self.notes.push(format!("{prefix}: {why}; older copies of the text may lie in the same area"))
                }
            }
        }
        if header.committed.is_none() {
            self.notes.push(format!("{prefix}: it holds no committed text"));
        }
    }

    fn add(&mut self, origin: Origin, area: Bytes, offset: Bytes, ok: Option<bool>, whole: bool, bytes: Vec<u8>) {
        let id = self.id().unwrap_or("without its label");
        let place = format!("physical volume {id}, area at byte {area}, text at byte {offset} of it");
        self.texts.push(FoundText { finding: Finding { origin, place, checksum_ok: ok }, whole, bytes });
    }

    /// Reads all areas and takes every text in them: when `wanted`, or when no committed text could be proved.
    pub(super) fn search_rings(&mut self, view: &dyn ReadAt, wanted: bool) {
        let needed = wanted || (!self.has_proved_text() && !self.has_no_area());
        if !needed || std::mem::replace(&mut self.searched, true) {
            return;
        }
        let mut areas: Vec<(u64, u64)> = Vec::new();
        for (start, header) in &self.areas {
            let named = self.label.iter().flat_map(|label| &label.metadata_areas).find(|area| area.offset.0 == *start);
            let sizes =
                [header.as_ref().map(|header| header.size.0), named.map(|area| area.size.0), Some(USUAL_AREA.1)];
            let plausible = |size: &u64| *size > HEADER_BYTES && *size <= MAX_AREA;
            let size = sizes.into_iter().flatten().find(plausible).unwrap_or(USUAL_AREA.1);
            areas.push((*start, size));
        }
        if areas.is_empty() {
            areas.push(USUAL_AREA);
        }
        for (start, size) in areas {
            self.search_ring(view, start, size);
        }
    }

    /// A volume may be without an area: then another of its group has the text.
    fn has_no_area(&self) -> bool {
        self.label.as_ref().is_some_and(|label| label.checksum_ok && label.metadata_areas.is_empty())
            && self.areas.is_empty()
    }

    fn search_ring(&mut self, view: &dyn ReadAt, start: u64, size: u64) {
        let there = view.size().0.saturating_sub(start).min(size);
        let (bytes, lost) = read_what_can_be(view, start, there);
        if lost > 0 {
            self.notes.push(format!("metadata area at byte {start}: {lost} bytes of it cannot be read"));
        }
        let header = self.areas.get(&start).cloned().flatten();
        let slots = header.iter().flat_map(|header| [header.committed, header.precommitted]).flatten();
        let known: Vec<Bytes> = slots.map(|location| location.offset).collect();
        for text in texts_in_area(&bytes) {
            let is_known = known.contains(&text.offset) && text.extent == Extent::Whole;
            if !is_known {
                self.add(Origin::Ring, Bytes(start), text.offset, None, text.extent == Extent::Whole, text.bytes);
            }
        }
    }
}

/// The first sound label of the first four sectors, else the first that can be read at all.
fn find_label(view: &dyn ReadAt, notes: &mut Vec<String>) -> Option<Label> {
    let mut candidates = Vec::new();
    for sector in 0..LABEL_SECTORS {
        let bytes = read(view, sector.saturating_mul(LABEL_BYTES as u64), LABEL_BYTES);
        if let Some(Ok(label)) = bytes.map(|bytes| Label::decode(&bytes)) {
            let sound = label.checksum_ok && label.sector == sector;
            candidates.push((sound, label));
        }
    }
    if candidates.iter().filter(|(sound, _)| *sound).count() > 1 {
        notes.push("there is more than one label in the first four sectors; the first is used".into());
    }
    candidates.sort_by_key(|(sound, _)| !sound);
    let (sound, label) = candidates.into_iter().next()?;
    if !sound {
        notes.push(
            "the label is damaged (checksum or sector number wrong); it is used because there is no better one".into(),
        );
    }
    Some(label)
}

/// A label with a right checksum, and all areas that lie where they say, in the first MiB.
fn search_start(view: &dyn ReadAt) -> (Option<Label>, Areas) {
    let (bytes, _) = read_what_can_be(view, 0, view.size().0.min(SEARCH_BYTES));
    let (mut label, mut areas) = (None, BTreeMap::new());
    for (index, sector) in (0u64..).zip(bytes.chunks_exact(LABEL_BYTES)) {
        let at = index.saturating_mul(LABEL_BYTES as u64);
        if let Ok(found) = Label::decode(sector) {
            label = label.or(Some(found).filter(|found| found.checksum_ok && found.sector < LABEL_SECTORS));
        }
        if let Ok(header) = AreaHeader::decode(sector) {
            if header.start.0 == at && areas.len() < MAX_AREAS {
                areas.insert(at, Some(header));
            }
        }
    }
    (label, areas)
}

fn read_header(view: &dyn ReadAt, start: Bytes, notes: &mut Vec<String>) -> Option<AreaHeader> {
    let Some(bytes) = read(view, start.0, HEADER_BYTES as usize) else {
        notes.push(format!("metadata area at byte {start}: its header cannot be read"));
        return None;
    };
    match AreaHeader::decode(&bytes) {
        Ok(header) => Some(header),
        Err(error) => {
            notes.push(format!("metadata area at byte {start}: {error}"));
            None
        }
    }
}

fn read_text(view: &dyn ReadAt, start: Bytes, area: Bytes, location: Location) -> Result<Vec<u8>, String> {
    if location.size.0 > MAX_AREA {
        return Err(format!("it promises a text of {}", location.size.human()));
    }
    let stretches = ring_stretches(area, location.offset, location.size).ok_or_else(|| {
        format!("its text (offset {}, {} bytes) does not fit the area", location.offset, location.size)
    })?;
    let mut bytes = Vec::new();
    for (offset, length) in stretches {
        let place = start.checked_add(offset).ok_or("its text lies beyond all disks")?;
        let length = usize::try_from(length.0).map_err(|_| "its text is too long")?;
        bytes.extend(read(view, place.0, length).ok_or("its text cannot be read")?);
    }
    Ok(bytes)
}

/// `size` bytes from `start` on, zeros where they cannot be read, and how many those are. The caller bounds the size.
fn read_what_can_be(view: &dyn ReadAt, start: u64, size: u64) -> (Vec<u8>, u64) {
    let Ok(length) = usize::try_from(size) else { return (Vec::new(), size) };
    if let Some(bytes) = read(view, start, length) {
        return (bytes, 0);
    }
    let (mut all, mut lost) = (Vec::new(), 0u64);
    let mut at = 0;
    while at < size {
        let now = PIECE.min(size.saturating_sub(at));
        match read(view, start.saturating_add(at), now as usize) {
            Some(bytes) => all.extend(bytes),
            None => {
                all.resize(all.len().saturating_add(now as usize), 0);
                lost = lost.saturating_add(now);
            }
        }
        at = at.saturating_add(now);
    }
    (all, lost)
}
