//! LVM's physical volumes: label, metadata areas, and the texts they commit to.

use super::read;
use crate::inventory::PvPlace;
use tierlift_ondisk::lvm_area::{AreaHeader, HEADER_BYTES, Location, ring_stretches};
use tierlift_ondisk::lvm_crc::lvm_crc;
use tierlift_ondisk::lvm_label::{LABEL_BYTES, LABEL_SECTORS, Label};
use tierlift_ondisk::lvm_text::{self, MAX_TEXT_BYTES, Parsed};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Where the first metadata area lies on nearly every physical volume; tried when the label names none that works.
const USUAL_AREA: u64 = 4096;

/// A physical volume.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: PvPlace,
    pub(super) label: Label,
    pub(super) texts: Vec<Text>,
    pub(super) notes: Vec<String>,
}

/// A committed text.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) checksum_ok: bool,
    pub(super) parsed: Parsed,
}

/// Looks for a physical volume at the start of a view.
pub(super) fn find(view: &dyn ReadAt, place: PvPlace) -> Option<Found> {
    let mut notes = Vec::new();
    let label = find_label(view, &mut notes)?;
    let areas = label.metadata_areas.iter().map(|area| area.offset);
    let mut texts: Vec<Text> = areas.filter_map(|area| read_area(view, area, &mut notes)).collect();
    if texts.is_empty() {
        // A volume without any area is legal, so a vain try is not worth a word.
        texts.extend(read_area(view, Bytes(USUAL_AREA), &mut Vec::new()));
    }
    Some(Found { place, label, texts, notes })
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

fn read_area(view: &dyn ReadAt, start: Bytes, notes: &mut Vec<String>) -> Option<Text> {
    let header = match AreaHeader::decode(&read(view, start.0, HEADER_BYTES as usize)?) {
        Ok(header) => header,
        Err(error) => {
            notes.push(format!("metadata area at byte {start}: {error}"));
            return None;
        }
    };
    if !header.checksum_ok {
        notes.push(format!("metadata area at byte {start}: its checksum is wrong; what it says is taken with care"));
    }
    if header.precommitted.is_some() {
        notes.push(format!(
            "metadata area at byte {start}: a change of the group was interrupted; the state before it is used"
        ));
    }
    let Some(location) = header.committed else {
        notes.push(format!("metadata area at byte {start}: it holds no committed text"));
        return None;
    };
    match read_text(view, start, header.size, location) {
        Ok(text) => {
            if !text.checksum_ok {
                notes.push(format!("metadata area at byte {start}: the text's checksum is wrong, but it can be read"));
            }
            Some(text)
        }
        Err(why) => {
            notes.push(format!(
                "metadata area at byte {start}: {why}; older copies of the text may lie in the same area"
            ));
            None
        }
    }
}

fn read_text(view: &dyn ReadAt, start: Bytes, area: Bytes, location: Location) -> Result<Text, String> {
    if location.size.0 > MAX_TEXT_BYTES as u64 {
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
    let parsed = lvm_text::parse(&bytes).map_err(|error| error.to_string())?;
    Ok(Text { checksum_ok: lvm_crc(&bytes) == location.checksum, parsed })
}
