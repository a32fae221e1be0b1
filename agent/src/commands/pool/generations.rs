//! `tierlift pool generations`.

use super::open::{Meta, failure};
use super::progress::Progress;
use super::salvage::{DeviceGenerations, SalvageArgs};
use super::{print, print_json};
use crate::commands::Outcome;
use anyhow::Context;
use serde::Serialize;
use std::fmt::Write;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Generation, GenerationView, generations};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    meta: Meta,
    #[command(flatten)]
    salvage: SalvageArgs,
    /// Print one JSON object (tierlift.pool-generations/1)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    generations: Vec<GenerationView>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let options = args.salvage.options(&args.meta, &DeviceGenerations::default())?;
    let view = args.meta.place.open()?;
    let mut progress = Progress::new("metadata", view.size());
    let found = generations(view, &options, &mut |done| progress.update(Bytes(done)))
        .map_err(failure)
        .with_context(|| args.meta.place.to_string())?;
    drop(progress);
    let outcome = outcome(&found);
    if args.json {
        print_json("tierlift.pool-generations/1", &Answer { generations: found })?;
    } else {
        print(&describe(&found))?;
    }
    Ok(outcome)
}

/// Clean when block 0 is the newest and whole; damage when the chosen one has holes.
fn outcome(found: &[GenerationView]) -> Outcome {
    match found.iter().find(|view| view.chosen) {
        Some(chosen) if chosen.lost_blocks > 0 || chosen.contradictions > 0 => Outcome::DAMAGE,
        Some(chosen) if chosen.generation == Generation::Block0 => Outcome::CLEAN,
        _ => Outcome::REPORTED,
    }
}

/// The generations as a table for people.
pub(in crate::commands) fn describe(found: &[GenerationView]) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = table(found, &mut out);
    out
}

fn table(found: &[GenerationView], out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "{} generations; * is the one a repair uses. Mappings: reachable; and against the chosen one: the same,",
        found.len()
    )?;
    writeln!(out, "only in this one, only in the chosen one.\n")?;
    writeln!(
        out,
        "  {:<14} {:>8} {:>12} {:>6} {:>8} {:>10} {:>10} {:>10} {:>10}  verdict",
        "generation", "copy", "transaction", "time", "devices", "mappings", "same", "only here", "only there"
    )?;
    for view in found {
        let mark = if view.chosen { '*' } else { ' ' };
        let copy = view.backup_id.map_or("-".to_owned(), |id| id.to_string());
        let mappings = view.devices.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        writeln!(
            out,
            "{mark} {:<14} {copy:>8} {:>12} {:>6} {:>8} {mappings:>10} {:>10} {:>10} {:>10}  {}",
            view.generation.to_argument(),
            view.transaction,
            view.time,
            view.devices.len(),
            view.shared,
            view.only_here,
            view.only_chosen,
            view.verdict
        )?;
    }
    Ok(())
}
