//! Volume groups out of the texts of all physical volumes.

use super::{Search, physical};
use crate::inventory::{PvPlace, VolumeGroup};
use crate::volume::{find_group, read_group};
use std::collections::BTreeMap;
use tierlift_ondisk::lvm_text::Section;

/// A text that describes a group.
struct Candidate<'a> {
    checksum_ok: bool,
    seqno: u64,
    name: &'a str,
    section: &'a Section,
    /// Id of the physical volume it was read from.
    from: &'a str,
    duplicates: &'a [String],
}

impl Search {
    pub(super) fn read_groups(&mut self) {
        let volumes = std::mem::take(&mut self.volumes);
        let mut places: BTreeMap<&str, &PvPlace> = BTreeMap::new();
        for found in &volumes {
            if places.contains_key(found.label.id.as_str()) {
                self.inventory.notes.push(format!(
                    "physical volume {} is here twice (a copy of a disk?); the first is used",
                    found.label.id
                ));
            }
            places.entry(&found.label.id).or_insert(&found.place);
        }
        let groups: Vec<VolumeGroup> =
            by_id(&volumes).into_values().filter_map(|candidates| group(candidates, &volumes, &places)).collect();
        self.note_strays(&volumes, &groups);
        self.inventory.volume_groups = groups;
    }

    /// Physical volumes no group names, and what was wrong with any of them.
    fn note_strays(&mut self, volumes: &[physical::Found], groups: &[VolumeGroup]) {
        for found in volumes {
            let id = &found.label.id;
            let known = groups.iter().any(|group| group.physical_volumes.iter().any(|pv| pv.id == *id));
            if !known {
                let why = if found.notes.is_empty() { "it was never used".into() } else { found.notes.join("; ") };
                self.inventory
                    .notes
                    .push(format!("physical volume {id} belongs to no group that could be read: {why}"));
            }
        }
    }
}

fn by_id(volumes: &[physical::Found]) -> BTreeMap<&str, Vec<Candidate<'_>>> {
    let mut by_id: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for found in volumes {
        for text in &found.texts {
            let Some((name, section)) = find_group(&text.parsed) else { continue };
            let candidate = Candidate {
                checksum_ok: text.checksum_ok,
                seqno: section.number("seqno").unwrap_or_default(),
                name,
                section,
                from: &found.label.id,
                duplicates: &text.parsed.duplicates,
            };
            by_id.entry(section.text("id").unwrap_or_default()).or_default().push(candidate);
        }
    }
    by_id
}

/// The group by its best text: proved by its checksum, then newest.
fn group(
    candidates: Vec<Candidate<'_>>,
    volumes: &[physical::Found],
    places: &BTreeMap<&str, &PvPlace>,
) -> Option<VolumeGroup> {
    let best = candidates.iter().max_by_key(|candidate| (candidate.checksum_ok, candidate.seqno))?;
    let mut group = read_group(best.name, best.section, |id| places.get(id).map(|place| (*place).clone()));
    for other in candidates.iter().filter(|other| other.seqno != best.seqno) {
        group.notes.push(format!(
            "physical volumes disagree: {} has the text of seqno {}, {} that of {}; the latter is used",
            other.from, other.seqno, best.from, best.seqno
        ));
    }
    if !best.checksum_ok {
        group.notes.push("the checksum of the group's text is wrong, and there is no better copy".into());
    }
    group
        .notes
        .extend(best.duplicates.iter().map(|name| format!("the text says \"{name}\" twice; the later one counts")));
    for found in volumes.iter().filter(|found| group.physical_volumes.iter().any(|pv| pv.id == found.label.id)) {
        group.notes.extend(found.notes.iter().map(|note| format!("physical volume {}: {note}", found.label.id)));
    }
    Some(group)
}
