//! Which text the user wants for a group: a generation by name, or a file given by hand.

use super::generation::{Finding, FoundText, Generation, Origin, short_id};
use super::pool::MAX_TIERS;
use crate::commands::Failure;
use crate::discover::GivenArray;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tierlift_ondisk::lvm_history::is_group;
use tierlift_ondisk::lvm_text::MAX_TEXT_BYTES;

/// Shortest beginning of an id that is taken for one.
const SHORTEST_ID: usize = 4;
/// Generations named in an error message.
const MOST_NAMED: usize = 12;

/// What the user wants in place of what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// Generations: `vg1@278`, `vg1`, or with an id in place of the name.
    pub generations: Vec<String>,
    /// Files with a text each.
    pub files: Vec<PathBuf>,
    /// Parts of pools: `2=LV` for a tier, `metadata=LV`; the volume as `VG/LV` where its name is not unique.
    #[serde(default)]
    pub parts: Vec<String>,
    /// Arrays, member by member.
    #[serde(default)]
    pub arrays: Vec<GivenArray>,
}

/// A part of a pool that the user names, in place of what the text says or what was guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The tier; `None` for the metadata.
    pub tier: Option<usize>,
    /// The group, where it was named.
    pub group: Option<String>,
    /// The volume.
    pub volume: String,
}

impl Part {
    /// Reads `2=LV`, `metadata=LV`, `2=VG/LV`.
    ///
    /// # Errors
    /// When it has another form, or names a tier no pool has.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let wrong = || {
            Failure::usage(format!(
                "'{text}' names no part of a pool; write TIER=LV or metadata=LV, as in 2=tp1_tierdata_2"
            ))
        };
        let (part, volume) = text.split_once('=').ok_or_else(wrong)?;
        let tier = match part {
            "metadata" => None,
            number => Some(number.parse().ok().filter(|tier| *tier < MAX_TIERS).ok_or_else(wrong)?),
        };
        let (group, volume) =
            volume.split_once('/').map_or((None, volume), |(group, volume)| (Some(group.to_owned()), volume));
        if volume.is_empty() { Err(wrong().into()) } else { Ok(Self { tier, group, volume: volume.to_owned() }) }
    }
}

impl Choices {
    /// Nothing was chosen.
    pub fn is_empty(&self) -> bool {
        self.names_no_text() && self.arrays.is_empty()
    }

    /// Nothing was chosen of how volume groups are read.
    pub fn names_no_text(&self) -> bool {
        self.generations.is_empty() && self.files.is_empty() && self.parts.is_empty()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, is too large, or is no text of a volume group.
    pub fn read_files(&self) -> anyhow::Result<Vec<FoundText>> {
        self.files.iter().map(|path| read_file(path)).collect()
    }
}

fn read_file(path: &Path) -> anyhow::Result<FoundText> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("the LVM text {shown} cannot be opened"))?;
    let limit = (MAX_TEXT_BYTES as u64).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("the LVM text {shown} cannot be read"))?;
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(Failure::unusable(format!(
            "{shown} is larger than 64 MiB: no text of LVM is; name a backup file, not a disk"
        ))
        .into());
    }
    let bytes = as_utf8(bytes);
    let usable = is_group(&bytes).map_err(|why| {
        let why = format!("{shown} is no LVM text of a volume group: {why}; LVM's files lie in backup and archive below .config/lvm of \
                           the NAS's system partition");
        anyhow::Error::from(Failure::unusable(why))
    });
    usable?;
    let finding = Finding { origin: Origin::File, place: shown.to_string(), checksum_ok: None };
    Ok(FoundText { finding, whole: true, bytes })
}

/// Without the mark Windows puts at the start of a text, and as UTF-8 when it was saved as UTF-16.
fn as_utf8(bytes: Vec<u8>) -> Vec<u8> {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes
            .get(2..)
            .unwrap_or_default()
            .chunks_exact(2)
            .filter_map(|pair| Some(unit(pair.try_into().ok()?)))
            .collect();
        String::from_utf16_lossy(&units).into_bytes()
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        _ => bytes,
    }
}

/// The generation that `wanted` means: `GROUP@NUMBER`, `GROUP@committed`, or `GROUP` for its newest usable text.
///
/// # Errors
/// When it means none or more than one; the message lists what there is.
pub fn pick<'a>(all: &'a [Generation], wanted: &str) -> anyhow::Result<&'a Generation> {
    if let Some(generation) = all.iter().find(|generation| generation.name == wanted) {
        return Ok(generation);
    }
    let (group, number) = wanted.rsplit_once('@').map_or((wanted, None), |(group, number)| (group, Some(number)));
    let of_group = of_group(all, group)?;
    let hit = match number {
        None => of_group.iter().find(|generation| generation.is_usable()),
        Some("committed") => of_group.iter().find(|generation| generation.origin == Origin::Committed),
        Some(number) => {
            let end = format!("@{number}");
            of_group.iter().find(|generation| generation.name.ends_with(&end))
        }
    };
    hit.copied().ok_or_else(|| {
        let mut names: Vec<&str> = of_group.iter().map(|generation| generation.name.as_str()).collect();
        let more = names.len().saturating_sub(MOST_NAMED);
        names.truncate(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Failure::usage(format!(
            "there is no generation {wanted}; there are {}{more} (see `tierlift lvm generations`)",
            names.join(", ")
        ))
        .into()
    })
}

/// All generations of the group of this name, id, or beginning of an id.
fn of_group<'a>(all: &'a [Generation], group: &str) -> anyhow::Result<Vec<&'a Generation>> {
    let hits: Vec<&Generation> =
        all.iter().filter(|generation| means(group, &generation.group, &generation.id)).collect();
    let mut ids: Vec<(&str, &str)> =
        hits.iter().map(|generation| (generation.group.as_str(), generation.id.as_str())).collect();
    ids.sort_unstable();
    ids.dedup_by_key(|(_, id)| *id);
    match ids.as_slice() {
        [_] => Ok(hits),
        [] => {
            let mut known: Vec<String> =
                all.iter().map(|generation| format!("{} ({})", generation.group, generation.id)).collect();
            known.dedup();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            Err(Failure::usage(format!("there is no volume group {group}; texts were found of: {known}")).into())
        }
        several => {
            let names: Vec<String> = several.iter().map(|(name, id)| format!("{name} ({id})")).collect();
            let example = several.first().map(|(_, id)| short_id(id)).unwrap_or_default();
            Err(Failure::usage(format!(
                "{group} is not unique: {}; name it by the beginning of its id, as in {example}",
                names.join(", ")
            ))
            .into())
        }
    }
}

/// Whether a word means the group of this name and id. Dashes in an id do not count.
pub fn means(word: &str, name: &str, id: &str) -> bool {
    let plain = |text: &str| text.replace('-', "");
    word == name || word == id || (word.len() >= SHORTEST_ID && plain(id).starts_with(&plain(word)))
}
