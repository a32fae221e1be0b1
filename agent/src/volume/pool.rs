//! Which volumes a pool is made of.
//!
//! The keys of QNAP's `tier-thin-pool` segment are not known, so they are found by what they say: a string that names a
//! volume, a number whose key speaks of an enable map or of bypass. Every conclusion that no key states is a guess and is
//! written down; the pool's own superblock decides in the end.

use super::choice::Part;
use super::group::Volumes;
use crate::inventory::{LogicalVolume, LogicalVolumeKind, PoolVolume, StretchTarget, VolumeGroup};
use std::collections::BTreeSet;
use tierlift_ondisk::lvm_text::{Item, Section, Value};
use tierlift_ondisk::units::{Chunk, Sectors};

/// QNAP's kernel knows three tiers; a bit map of eight is what the model holds.
pub(super) const MAX_TIERS: usize = 8;

/// Reads the pool segment of the volume `name`.
pub(super) fn resolve(name: &str, size: Sectors, segment: &Section, volumes: &Volumes<'_>) -> PoolVolume {
    let chunk_size = segment.number("chunk_size").filter(|size| *size > 0).map(Sectors);
    let mut pool = PoolVolume {
        segment_type: super::segments::segment_type(segment).to_owned(),
        metadata: String::new(),
        tiers: Vec::new(),
        enable_map: None,
        bypass: None,
        chunk_size,
        transaction_id: segment.number("transaction_id"),
        chunks: chunk_size.and_then(|chunk| size.0.checked_div(chunk.0)).map(Chunk),
        guesses: Vec::new(),
    };
    metadata(&mut pool, name, segment);
    if pool.segment_type == "thin-pool" {
        plain(&mut pool, name, segment);
    } else {
        tiers(&mut pool, name, segment, volumes);
        mode(&mut pool, segment, volumes);
    }
    if pool.chunk_size.is_none() {
        pool.guesses.push("the text names no chunk size; the pool's superblock has it".into());
    }
    pool
}

/// Puts a volume the user names in the place of a pool's part, in each pool of the group it can belong to: the only one, or the one
/// whose name its name begins with. Answers whether there was one.
pub fn set_part(group: &mut VolumeGroup, part: &Part) -> bool {
    if !group.logical_volumes.iter().any(|volume| volume.name == part.volume) {
        return false;
    }
    let is_pool = |volume: &LogicalVolume| matches!(volume.kind, LogicalVolumeKind::Pool(_));
    let only = group.logical_volumes.iter().filter(|volume| is_pool(volume)).count() == 1;
    let mut set = false;
    for volume in &mut group.logical_volumes {
        let LogicalVolumeKind::Pool(pool) = &mut volume.kind else { continue };
        if !only && !part.volume.starts_with(&volume.name) {
            continue;
        }
        set = true;
        match part.tier {
            None => pool.metadata.clone_from(&part.volume),
            Some(tier) => {
                if pool.tiers.len() <= tier {
                    pool.tiers.resize(tier.saturating_add(1), None);
                }
                pool.tiers.get_mut(tier).into_iter().for_each(|place| *place = Some(part.volume.clone()));
            }
        }
        let what = part.tier.map_or("metadata".to_owned(), |tier| format!("tier {tier}"));
        pool.guesses.push(format!("{what} is {}: you said so", part.volume));
    }
    set
}

fn metadata(pool: &mut PoolVolume, name: &str, segment: &Section) {
    pool.metadata = match segment.text("metadata") {
        Some(metadata) => metadata.to_owned(),
        None => {
            pool.guesses.push(format!("metadata volume guessed by name: {name}_tmeta"));
            format!("{name}_tmeta")
        }
    };
}

/// The classic segment: its keys are stock LVM's.
fn plain(pool: &mut PoolVolume, name: &str, segment: &Section) {
    let data = segment.text("pool").map(str::to_owned).unwrap_or_else(|| {
        pool.guesses.push(format!("data volume guessed by name: {name}_tdata"));
        format!("{name}_tdata")
    });
    pool.tiers = vec![Some(data)];
    pool.enable_map = Some(1);
    pool.bypass = Some(true);
}

fn tiers(pool: &mut PoolVolume, name: &str, segment: &Section, volumes: &Volumes<'_>) {
    let (mut strings, mut seen) = (Vec::new(), BTreeSet::from([pool.metadata.clone()]));
    collect_strings(segment, &mut |text| {
        if could_be_data(text, name, volumes) && seen.insert(text.to_owned()) {
            strings.push(text.to_owned());
        }
    });
    let usual = (0..MAX_TIERS).map(|tier| format!("{name}_tierdata_{tier}")).chain([format!("{name}_tdata")]);
    for volume in usual.filter(|volume| volumes.get(volume).is_some() && !seen.contains(volume)) {
        pool.guesses.push(format!("data volume guessed by name: {volume}"));
        strings.push(volume);
    }
    if strings.is_empty() {
        pool.guesses.push("the text names no data volume at all".into());
    }
    strings.iter().for_each(|text| place_tier(pool, text, volumes));
}

/// Puts a data volume at the number its name ends in, else at the first free place.
fn place_tier(pool: &mut PoolVolume, text: &str, volumes: &Volumes<'_>) {
    let free = pool.tiers.iter().position(Option::is_none).unwrap_or(pool.tiers.len());
    let number = match trailing_number(text) {
        Some(number) if number < MAX_TIERS => number,
        _ => {
            pool.guesses.push(format!("{text} taken as tier {free}: its name has no usable number"));
            free
        }
    };
    if number >= MAX_TIERS {
        pool.guesses.push(format!("{text} left out: no pool has so many tiers"));
        return;
    }
    if pool.tiers.len() <= number {
        pool.tiers.resize(number.saturating_add(1), None);
    }
    let exists = volumes.get(text).is_some();
    if !exists {
        pool.guesses.push(format!("tier {number} ({text}) is named, but there is no such volume"));
    }
    if let Some(place) = pool.tiers.get_mut(number).filter(|place| exists && place.is_none()) {
        *place = Some(text.to_owned());
    }
}

/// Every string of a segment, in order. Messages are left out: they name volumes that are to be made.
fn collect_strings(section: &Section, take: &mut impl FnMut(&str)) {
    for (name, item) in section.iter() {
        match item {
            Item::Section(inner) if !name.starts_with("message") => collect_strings(inner, take),
            Item::Section(_) => {}
            Item::Value(value) => value.as_list().iter().filter_map(quoted).for_each(&mut *take),
        }
    }
}

fn quoted(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A volume that can hold data, or a name that says it should.
fn could_be_data(text: &str, pool: &str, volumes: &Volumes<'_>) -> bool {
    match volumes.get(text) {
        Some(volume) => !volume.visible && matches!(volume.kind, LogicalVolumeKind::Mapped(_)),
        None => text.starts_with(pool) && text.contains("_tierdata_"),
    }
}

fn trailing_number(name: &str) -> Option<usize> {
    let digits = name.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Enable map and bypass: by key, else by which tiers are real.
fn mode(pool: &mut PoolVolume, segment: &Section, volumes: &Volumes<'_>) {
    let by_key = find_key(segment, &|key| key.contains("enable") || key.contains("map"));
    let by_key = by_key.and_then(|(_, value)| u8::try_from(value.as_integer()?).ok());
    pool.enable_map = by_key.or_else(|| guess_enable_map(pool, volumes));
    pool.bypass = match find_key(segment, &|key| key.contains("bypass")) {
        Some((key, value)) => Some(means_on(value) != key.contains("off")),
        None => guess_bypass(pool),
    };
}

fn guess_enable_map(pool: &mut PoolVolume, volumes: &Volumes<'_>) -> Option<u8> {
    let real = |least: u64| {
        let bits = pool.tiers.iter().zip(0u32..).filter(|(tier, _)| {
            let volume = tier.as_ref().and_then(|name| volumes.get(name));
            volume.is_some_and(|volume| is_real(volume) && volume.size.0 > least)
        });
        bits.fold(0u8, |map, (_, bit)| map | 1u8.checked_shl(bit).unwrap_or(0))
    };
    // A tier of a single extent is the placeholder of an absent one, unless there is nothing larger.
    let map = match real(volumes.extent_size.0) {
        0 => real(0),
        map => map,
    };
    (map != 0).then(|| {
        pool.guesses.push(format!("enable map guessed as {map}: these tiers have more than a placeholder's extents"));
        map
    })
}

fn is_real(volume: &LogicalVolume) -> bool {
    match &volume.kind {
        // A tier on a missing disk is real, too: its stretches are errors.
        LogicalVolumeKind::Mapped(stretches) => {
            stretches.iter().any(|stretch| !matches!(stretch.target, StretchTarget::Zero))
        }
        _ => false,
    }
}

fn guess_bypass(pool: &mut PoolVolume) -> Option<bool> {
    let bypass = pool.enable_map?.count_ones() == 1;
    let reason = if bypass { "only one tier is in use" } else { "more than one tier is in use" };
    pool.guesses.push(format!("{} guessed: {reason}", if bypass { "bypass" } else { "tier map" }));
    Some(bypass)
}

fn means_on(value: &Value) -> bool {
    match value.as_integer() {
        Some(number) => number != 0,
        None => {
            !matches!(value.as_text().unwrap_or_default().to_ascii_lowercase().as_str(), "" | "off" | "no" | "false")
        }
    }
}

/// The first key at any depth that `wanted` accepts and that has a scalar.
fn find_key<'a>(section: &'a Section, wanted: &impl Fn(&str) -> bool) -> Option<(&'a str, &'a Value)> {
    section.iter().find_map(|(name, item)| match item {
        Item::Value(value) if wanted(name) => Some((name, value)),
        Item::Section(inner) => find_key(inner, wanted),
        Item::Value(_) => None,
    })
}
