//! Volume groups out of the texts of all physical volumes, and of those the user gave.

use super::{Search, physical};
use crate::inventory::{Extents, Inventory, PvPlace, TextUsed, VolumeGroup};
use crate::volume::choice::{Choices, Part, means, pick};
use crate::volume::generation::{Generation, Origin, Proof, default_of, generations};
use crate::volume::{find_group, read_group, set_part};
use std::collections::{BTreeMap, BTreeSet};
use tierlift_ondisk::lvm_history::Head;
use tierlift_ondisk::lvm_text::Section;
use tierlift_ondisk::units::Bytes;

/// The text a group is read from.
struct Used<'a> {
    text: &'a Generation,
    chosen: bool,
    of_group: Vec<&'a Generation>,
}

/// Where physical volumes are, by id.
type Places = BTreeMap<String, PvPlace>;

impl Search {
    /// Fills in the volume groups and answers with all texts that were found.
    pub(super) fn read_groups(&mut self, choices: &Choices) -> anyhow::Result<Vec<Generation>> {
        let mut volumes = std::mem::take(&mut self.volumes);
        let mut texts = std::mem::take(&mut self.texts);
        let of_volume: Vec<BTreeSet<String>> = volumes.iter().map(groups_of).collect();
        texts.extend(volumes.iter_mut().flat_map(|found| std::mem::take(&mut found.texts)));
        let all = generations(texts);
        let chosen = chosen(&all, choices)?;
        let mut places = self.places(&volumes);
        let ids: BTreeSet<&str> = all.iter().map(|generation| generation.id.as_str()).collect();
        let mut used = Vec::new();
        let without_text = volumes.iter().zip(&of_volume).any(|(found, groups)| is_mute(found, groups));
        let of_id = |id: &str| all.iter().filter(|generation| generation.id == id).collect::<Vec<_>>();
        let elsewhere = ids.iter().filter_map(|id| default_of(&of_id(id))).filter(|text| is_elsewhere(text, &places));
        // A volume that says nothing of itself can only be of a group that is looked for, and only if there is one such group.
        let may_be_here = without_text && elsewhere.count() == 1;
        for id in ids {
            let of_group = of_id(id);
            let wanted = chosen.get(id).copied();
            match wanted.or_else(|| default_of(&of_group)) {
                Some(text) if wanted.is_none() && !may_be_here && is_elsewhere(text, &places) => {
                    let note = format!(
                        "it has texts of volume group {} (id {id}, newest number {}), none of whose disks is here",
                        text.group, text.seqno
                    );
                    self.inventory.harvest.iter_mut().take(1).for_each(|harvest| harvest.notes.push(note.clone()));
                }
                Some(text) => used.push(Used { text, chosen: wanted.is_some(), of_group }),
                None => self.inventory.notes.extend(only_parts(&of_group)),
            }
        }
        drop_former(&mut used);
        for used in used {
            let strays = strays(&volumes, &of_volume, &used, &places);
            self.inventory.volume_groups.extend(group(&used, &volumes, &strays, &mut places));
        }
        for text in &choices.parts {
            let part = Part::read(text)?;
            let mut groups = self.inventory.volume_groups.iter_mut();
            let wanted =
                |group: &VolumeGroup| part.group.as_ref().is_none_or(|word| means(word, &group.name, &group.id));
            if !groups.any(|group| wanted(group) && set_part(group, &part)) {
                let message = format!(
                    "'{text}': there is no group with a pool and a volume {}; see `tierlift lvm show`",
                    part.volume
                );
                return Err(crate::commands::Failure::usage(message).into());
            }
        }
        note_strays(&mut self.inventory, &volumes);
        Ok(all)
    }

    /// Where each volume with a label is; one that is here twice is told. An array goes before a partition: that may be a member
    /// of it that lost its superblock.
    fn places(&mut self, volumes: &[physical::Found]) -> Places {
        let mut places = Places::new();
        let (arrays, direct): (Vec<_>, Vec<_>) =
            volumes.iter().partition(|found| matches!(found.place, PvPlace::Array(_)));
        for found in arrays.into_iter().chain(direct) {
            let Some(id) = found.id() else { continue };
            if let Some(why) = self.only_a_member(found) {
                self.inventory.notes.push(why);
            } else if places.contains_key(id) {
                self.inventory.notes.push(self.twice(id, found, places.get(id)));
            } else {
                places.insert(id.to_owned(), found.place.clone());
            }
        }
        places
    }

    fn twice(&self, id: &str, found: &physical::Found, used: Option<&PvPlace>) -> String {
        match (used, &found.place) {
            (Some(PvPlace::Array(index)), PvPlace::Direct(place)) => format!(
                "{} sector {} begins like physical volume {id}, which is on array {}: a member of that array that lost its \
                 superblock, or an old copy; the array is used",
                self.disk_name(place),
                place.start,
                self.inventory.arrays.get(*index).map(|array| array.name.as_str()).unwrap_or_default()
            ),
            _ => format!("physical volume {id} is here twice (a copy of a disk?); the first is used"),
        }
    }

    /// Why a volume on a partition is not all of it: the partition is shorter than the volume, so it can only be one of several
    /// members of an array. Read as if it were all, it would give wrong data.
    fn only_a_member(&self, found: &physical::Found) -> Option<String> {
        let (PvPlace::Direct(place), Some(label)) = (&found.place, &found.label) else { return None };
        let there = place.length.to_bytes().filter(|there| place.start.0 > 0 && *there < label.device_size)?;
        Some(format!(
            "{} sector {} begins like physical volume {}, but that is {} long and this partition {}: it is one of several \
             members of an array, and its md superblock is lost. It is not read alone; attach the other members",
            self.disk_name(place),
            place.start,
            label.id,
            label.device_size.human(),
            there.human()
        ))
    }

    fn disk_name(&self, place: &Extents) -> String {
        self.inventory.disks.get(place.disk).map(|disk| disk.path.display().to_string()).unwrap_or_default()
    }
}

/// A group known from a backup only: of a pool that was deleted, or whose disks are not attached.
fn is_elsewhere(text: &Generation, places: &Places) -> bool {
    text.origin == Origin::Backup && !text.physical_volumes.iter().any(|pv| places.contains_key(pv))
}

/// Drops groups that are no more: the volumes they were on belong to a group with a better text. Their texts are only left over,
/// and whoever wants one all the same names it.
fn drop_former(used: &mut Vec<Used<'_>>) {
    let trust = |used: &Used<'_>| (used.chosen, used.text.proof, used.text.origin, used.text.seqno);
    let volumes = |used: &Used<'_>| used.text.physical_volumes.clone();
    let all: Vec<_> = used.iter().map(|used| (trust(used), volumes(used), used.text.id.clone())).collect();
    used.retain(|one| {
        let taken = |pv: &String| {
            all.iter().any(|(trust_of, pvs, id)| *id != one.text.id && *trust_of > trust(one) && pvs.contains(pv))
        };
        one.text.physical_volumes.is_empty() || !one.text.physical_volumes.iter().all(taken)
    });
}

/// Ids of the groups whose texts a volume holds.
fn groups_of(found: &physical::Found) -> BTreeSet<String> {
    found.texts.iter().filter_map(|text| Some(Head::read(&text.bytes)?.id)).collect()
}

/// What the user chose, by id of the group. A file counts for its group unless a generation was chosen, too.
fn chosen<'a>(all: &'a [Generation], choices: &Choices) -> anyhow::Result<BTreeMap<&'a str, &'a Generation>> {
    let mut chosen = BTreeMap::new();
    let given = |generation: &&Generation| generation.found.iter().any(|finding| finding.origin == Origin::File);
    for generation in all.iter().filter(given) {
        chosen.entry(generation.id.as_str()).or_insert(generation);
    }
    for wanted in &choices.generations {
        let generation = pick(all, wanted)?;
        if !generation.is_usable() {
            let message = format!(
                "only a part of {} is left, so no volume can be taken from it; `tierlift lvm export --raw` writes it out to be read",
                generation.name
            );
            return Err(crate::commands::Failure::usage(message).into());
        }
        chosen.insert(generation.id.as_str(), generation);
    }
    Ok(chosen)
}

/// Volumes that cannot say who they are, their label is lost or damaged, but hold texts of this group. Of a group none of whose
/// volumes says who it is, also those that hold no text at all.
fn strays<'a>(
    volumes: &'a [physical::Found],
    of_volume: &[BTreeSet<String>],
    used: &Used<'_>,
    places: &Places,
) -> Vec<&'a physical::Found> {
    let takes_mute = is_elsewhere(used.text, places);
    let of_group = |found: &physical::Found, groups: &BTreeSet<String>| {
        is_nameless(found) && groups.contains(&used.text.id) || takes_mute && is_mute(found, groups)
    };
    volumes.iter().zip(of_volume).filter(|(found, groups)| of_group(found, groups)).map(|(found, _)| found).collect()
}

fn is_nameless(found: &physical::Found) -> bool {
    found.label.as_ref().is_none_or(|label| !label.checksum_ok)
}

fn is_mute(found: &physical::Found, groups: &BTreeSet<String>) -> bool {
    is_nameless(found) && groups.is_empty()
}

fn group(
    used: &Used<'_>,
    volumes: &[physical::Found],
    strays: &[&physical::Found],
    places: &mut Places,
) -> Option<VolumeGroup> {
    let Used { text, chosen, of_group } = used;
    let parsed = text.parse()?;
    let (name, section) = find_group(&parsed)?;
    let mut notes = take_in(section, strays, places);
    let mut group = read_group(name, section, |id| places.get(id).cloned());
    let what = format!("{}, {}, written {}", text.what(), text.proof_words(), text.written());
    group.text = TextUsed { generation: text.name.clone(), what, chosen: *chosen };
    if !chosen {
        notes.extend(why_this_text(text, of_group));
    }
    notes.extend(parsed.duplicates.iter().map(|name| format!("the text says \"{name}\" twice; the later one counts")));
    let ids: BTreeSet<&str> = group.physical_volumes.iter().map(|pv| pv.id.as_str()).collect();
    for found in volumes {
        let is_stray = strays.iter().any(|stray| std::ptr::eq(*stray, found));
        if is_stray || found.id().is_some_and(|id| ids.contains(id)) {
            notes.extend(found.notes.iter().map(|note| format!("{}: {note}", named(found))));
        }
    }
    group.notes.extend(notes);
    Some(group)
}

fn named(found: &physical::Found) -> String {
    found.describe().replace("LVM physical volume", "physical volume")
}

/// Gives volumes without a good label the place in the group that is left for them: the only one, or the only one of their size.
fn take_in(section: &Section, strays: &[&physical::Found], places: &mut Places) -> Vec<String> {
    let mut notes = Vec::new();
    let unit = section.number("extent_size").unwrap_or_default();
    for stray in strays {
        let pvs: Vec<_> = section.section("physical_volumes").into_iter().flat_map(Section::sections).collect();
        let known = |id: &str| places.contains_key(id);
        if pvs.iter().any(|(_, pv)| pv.text("id").is_some_and(|id| stray.id() == Some(id))) {
            continue;
        }
        let open: Vec<(&str, &Section)> =
            pvs.into_iter().filter(|(_, pv)| pv.text("id").is_some_and(|id| !known(id))).collect();
        let same_size = open.iter().filter(|(_, pv)| is_of_size(pv, unit, stray.size)).collect::<Vec<_>>();
        let (hit, why) = match (open.as_slice(), same_size.as_slice()) {
            ([only], _) => (only, "it is the only one of the group that is missing"),
            (_, [only]) => (*only, "it is the only missing one of this size"),
            _ => {
                notes.push(
                    "a physical volume without its label could be any of several that are missing; it is not used"
                        .into(),
                );
                continue;
            }
        };
        let id = hit.1.text("id").unwrap_or_default();
        notes.push(format!(
            "physical volume {} ({id}) has no usable label; a place with its texts is taken for it: {why}",
            hit.0
        ));
        places.insert(id.to_owned(), stray.place.clone());
    }
    notes
}

/// Whether a volume of the text ends where this one does, give or take what lies behind a volume: DRBD's tail, the rounding to
/// extents.
fn is_of_size(pv: &Section, extent_size: u64, size: Bytes) -> bool {
    let sectors = size.to_sectors().0;
    let extents = pv.number("pe_count").unwrap_or_default().checked_mul(extent_size);
    let end = extents.and_then(|extents| extents.checked_add(pv.number("pe_start").unwrap_or_default()));
    let slack = sectors.checked_div(1000).unwrap_or_default().max(extent_size.saturating_mul(2)).saturating_add(20_480);
    end.is_some_and(|end| end <= sectors && sectors.saturating_sub(end) <= slack)
}

/// What must be said of a text nobody chose: that it is not the one in force, or that others claim to be.
fn why_this_text(text: &Generation, of_group: &[&Generation]) -> Vec<String> {
    let in_force =
        |generation: &Generation| generation.origin == Origin::Committed && generation.proof == Proof::Checksum;
    if in_force(text) {
        let others = of_group.iter().filter(|other| in_force(other) && other.name != text.name);
        let newer = of_group.iter().find(|other| other.origin == Origin::Backup && other.seqno > text.seqno);
        let newer = newer.map(|newer| {
            format!(
                "LVM's backup on the system partition is newer ({}, written {}) than the text in force ({}): were these disks set back,                  or is the system partition of another time? `--lvm-generation {}` uses it",
                newer.name,
                newer.written(),
                text.name,
                newer.name
            )
        });
        return others.map(|other| disagreement(text, other)).chain(newer).collect();
    }
    let place = text.found.first().map(|finding| finding.place.as_str()).unwrap_or_default();
    let what = text.what();
    let mut notes = vec![match text.proof {
        Proof::WrongChecksum => format!(
            "the checksum of the group's text is wrong, and there is no better copy: what it says of volumes may be wrong in places \
             (text number {}, {place})",
            text.seqno
        ),
        _ => format!(
            "the committed text of this group is lost or damaged; {what} is used in its place: number {}, written {}, {}, found at {place}. \
             Volumes made, grown or removed after it are not as it says. `tierlift lvm generations` lists all there are, \
             --lvm-generation chooses",
            text.seqno,
            text.written(),
            text.proof_words(),
        ),
    }];
    let newer = of_group.iter().filter(|other| other.seqno > text.seqno);
    notes.extend(newer.take(1).map(|other| {
        format!("of a newer text, number {}, only {} is left ({})", other.seqno, other.what(), other.proof_words())
    }));
    notes
}

fn disagreement(used: &Generation, other: &Generation) -> String {
    let place =
        |generation: &Generation| generation.found.first().map(|finding| finding.place.clone()).unwrap_or_default();
    format!(
        "physical volumes disagree: {} has text number {}, {} has number {}; the latter is used. Is one a disk that was taken out \
         earlier?",
        place(other),
        other.seqno,
        place(used),
        used.seqno
    )
}

/// Texts of which nothing usable is left.
fn only_parts(of_group: &[&Generation]) -> Vec<String> {
    let named = of_group.iter().find(|generation| !generation.id.is_empty());
    let note = |text: &&Generation| {
        format!(
            "volume group {} (id {}): only parts of its texts are left, the newest of number {}; `tierlift lvm generations` lists them. \
             LVM's backups on the NAS's system partition, or a text file (--lvm-text), would help",
            text.group, text.id, text.seqno
        )
    };
    named.iter().map(|text| note(text)).collect()
}

/// Physical volumes no group names, and what was wrong with any of them.
fn note_strays(inventory: &mut Inventory, volumes: &[physical::Found]) {
    let mut notes = Vec::new();
    for found in volumes {
        let mut pvs = inventory.volume_groups.iter().flat_map(|group| &group.physical_volumes);
        let known = pvs.any(|pv| found.id() == Some(&pv.id) || pv.place.as_ref() == Some(&found.place));
        if !known {
            let why = if found.notes.is_empty() { "it was never used".into() } else { found.notes.join("; ") };
            notes.push(format!("{} belongs to no group that could be read: {why}", named(found)));
        }
    }
    inventory.notes.extend(notes);
}
