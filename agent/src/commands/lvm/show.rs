//! `tierlift lvm show`.

use super::look;
use crate::commands::text::{human, print_json, print_lines};
use crate::commands::{Failure, Outcome};
use crate::inventory::{
    Inventory, LogicalVolume, LogicalVolumeKind, PhysicalVolume, PoolVolume, PvPlace, Stretch, StretchTarget,
    VolumeGroup,
};
use crate::volume::choice::{Choices, means};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use tierlift_ondisk::units::Sectors;

/// Pieces of one volume that are listed as text; the rest is counted. JSON has all.
const MOST_PIECES: usize = 16;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    /// Disks or image files; all real disks of this machine when none is given
    paths: Vec<PathBuf>,
    /// Only this group, by name, id, or the beginning of its id
    #[arg(long, value_name = "VG")]
    group: Option<String>,
    #[command(flatten)]
    texts: super::TextArgs,
    /// Print one JSON object (tierlift.lvm-show/1)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    volume_groups: &'a [&'a VolumeGroup],
    notes: &'a [String],
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let choices: Choices = args.texts.choices();
    let found = look(args.paths, choices)?.inventory;
    let wanted = |group: &&VolumeGroup| args.group.as_ref().is_none_or(|word| means(word, &group.name, &group.id));
    let groups: Vec<&VolumeGroup> = found.volume_groups.iter().filter(wanted).collect();
    if args.json {
        print_json("tierlift.lvm-show/1", &Answer { volume_groups: &groups, notes: &found.notes })?;
    } else {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = groups.iter().try_for_each(|group| self::group(&found, group, &mut out));
        found.notes.iter().for_each(|note| out.push_str(&format!("! {note}\n")));
        print_lines(&out)?;
    }
    if groups.is_empty() {
        let message = "no such volume group was found; `tierlift scan` tells what is on the disks, `tierlift lvm generations` what is left \
                       of texts";
        return Err(Failure::unusable(message).into());
    }
    let wrong = groups.iter().any(|group| !group.notes.is_empty()) || !found.notes.is_empty();
    Ok(if wrong { Outcome::DAMAGE } else { Outcome::CLEAN })
}

fn group(inventory: &Inventory, group: &VolumeGroup, out: &mut String) -> std::fmt::Result {
    let VolumeGroup { name, id, seqno, extent_size, text, .. } = group;
    writeln!(out, "Volume group {name} (id {id}), text number {seqno}, extents of {}", human(*extent_size))?;
    let chosen = if text.chosen { " (chosen by you)" } else { "" };
    writeln!(out, "  read from {}{chosen}: {}", text.generation, text.what)?;
    group.physical_volumes.iter().try_for_each(|pv| physical(inventory, group, pv, out))?;
    group.logical_volumes.iter().try_for_each(|lv| logical(group, lv, out))?;
    group.notes.iter().try_for_each(|note| writeln!(out, "  ! {note}"))
}

fn physical(inventory: &Inventory, group: &VolumeGroup, pv: &PhysicalVolume, out: &mut String) -> std::fmt::Result {
    let size =
        pv.pe_count.0.checked_mul(group.extent_size.0).map_or("impossibly large".into(), |size| human(Sectors(size)));
    let place = place(inventory, pv);
    writeln!(
        out,
        "  {} (id {}): {place}; {} extents from sector {} on, {size}",
        pv.name, pv.id, pv.pe_count, pv.pe_start
    )
}

/// Where a physical volume is, for people.
pub(super) fn place(inventory: &Inventory, pv: &PhysicalVolume) -> String {
    match &pv.place {
        Some(PvPlace::Array(index)) => {
            format!("on array {}", inventory.arrays.get(*index).map_or("?", |array| array.name.as_str()))
        }
        Some(PvPlace::Direct(place)) => {
            let disk = inventory.disks.get(place.disk).map(|disk| disk.path.display().to_string());
            format!("on {}, sector {}", disk.unwrap_or_default(), place.start)
        }
        None => "MISSING".into(),
    }
}

fn logical(group: &VolumeGroup, volume: &LogicalVolume, out: &mut String) -> std::fmt::Result {
    let hidden = if volume.visible { "" } else { ", hidden" };
    let head = format!("  {}: {}{hidden}", volume.name, human(volume.size));
    match &volume.kind {
        LogicalVolumeKind::Mapped(pieces) => {
            writeln!(out, "{head}")?;
            self::pieces(group, pieces, out)
        }
        LogicalVolumeKind::Thin { pool, device, origin } => {
            let origin = origin.as_ref().map(|origin| format!(", snapshot of {origin}")).unwrap_or_default();
            writeln!(out, "{head}, device {device} of pool {pool}{origin}")
        }
        LogicalVolumeKind::Opaque(why) => writeln!(out, "{head}, cannot be mapped: {why}"),
        LogicalVolumeKind::Pool(pool) => {
            writeln!(out, "{head}, pool ({})", pool.segment_type)?;
            self::pool(pool, out)
        }
    }
}

fn pieces(group: &VolumeGroup, pieces: &[Stretch], out: &mut String) -> std::fmt::Result {
    for Stretch { length, target } in pieces.iter().take(MOST_PIECES) {
        let target = match target {
            StretchTarget::Pv(index, sector) => {
                let name = group.physical_volumes.get(*index).map_or("?", |pv| pv.name.as_str());
                format!("{name} sector {sector}")
            }
            StretchTarget::Zero => "zeros".into(),
            StretchTarget::Error => "CANNOT BE READ (missing)".into(),
        };
        writeln!(out, "      {length} sectors: {target}")?;
    }
    match pieces.len().saturating_sub(MOST_PIECES) {
        0 => Ok(()),
        more => writeln!(out, "      and {more} more pieces (--json lists all)"),
    }
}

fn pool(pool: &PoolVolume, out: &mut String) -> std::fmt::Result {
    let tiers: Vec<&str> = pool.tiers.iter().map(|tier| tier.as_deref().unwrap_or("(missing)")).collect();
    writeln!(out, "      metadata {}, data {}", pool.metadata, tiers.join(", "))?;
    let number = |number: Option<u64>| number.map_or("not said".to_owned(), |number| number.to_string());
    writeln!(
        out,
        "      chunks of {}, transaction {}, enable map {}, mode {}",
        pool.chunk_size.map_or("a size not said".into(), human),
        number(pool.transaction_id),
        number(pool.enable_map.map(u64::from)),
        match pool.bypass {
            Some(true) => "bypass",
            Some(false) => "tier map",
            None => "not said",
        }
    )?;
    pool.guesses.iter().try_for_each(|guess| writeln!(out, "      guess: {guess}"))
}
