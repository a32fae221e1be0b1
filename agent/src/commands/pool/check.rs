//! `tierlift pool check`.

use super::open::Meta;
use super::progress::Progress;
use super::{print, print_json};
use crate::commands::Outcome;
use std::fmt::Write;
use tierlift_ondisk::units::Bytes;
use tierlift_pool::check::{Check, Verdict, check};

/// More findings than this are left to --json.
const MOST_TOLD: usize = 100;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    meta: Meta,
    /// Print one JSON object (tierlift.pool-check/1)
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let pool = args.meta.open()?;
    let block = pool.blocks().size().bytes() as u64;
    let in_use = pool.superblock().metadata_map.nr_allocated.min(pool.blocks().count());
    let mut bar = Progress::new("check", Bytes(in_use.saturating_mul(block)));
    let found = check(&pool, &mut |progress| bar.update(Bytes(progress.done.saturating_mul(block))));
    drop(bar);
    if args.json {
        print_json("tierlift.pool-check/1", &found)?;
    } else {
        let mut text = format!("Pool metadata {}\n", args.meta.place);
        // Writing into a string cannot fail.
        let _ = describe(&found, &mut text);
        print(&text)?;
    }
    Ok(outcome(found.verdict))
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Clean => Outcome::CLEAN,
        Verdict::Reported => Outcome::REPORTED,
        Verdict::Damaged => Outcome::DAMAGE,
        Verdict::Unusable => Outcome::UNUSABLE,
    }
}

fn describe(found: &Check, out: &mut String) -> std::fmt::Result {
    let figures = found.figures;
    writeln!(
        out,
        "  {} tree nodes, {} thin devices, {} mappings of {} chunks were checked",
        figures.nodes,
        found.devices.len(),
        figures.mappings,
        figures.chunks_used
    )?;
    for finding in found.findings.iter().take(MOST_TOLD) {
        writeln!(out, "{}: {finding}", finding.severity.name().to_uppercase())?;
    }
    let left = found.totals.sum().saturating_sub(found.findings.len().min(MOST_TOLD) as u64);
    if left > 0 {
        writeln!(out, "... and {left} more findings (--json tells up to 1000 of each kind)")?;
    }
    writeln!(out, "{}", sentence(found))
}

/// What it comes to, and what to do next.
fn sentence(found: &Check) -> String {
    let totals = found.totals;
    match found.verdict {
        Verdict::Clean => "Clean: every tree, every count and every copy is as it should be.".into(),
        Verdict::Reported => format!(
            "No damage: all data can be reached. {} suspicions, {} leaks, {} notes are told above.",
            totals.suspicion, totals.leak, totals.note
        ),
        Verdict::Damaged => format!(
            "DAMAGED: {} findings of damage. Data that can still be reached can be read (pool read, pool dump); pool \
             generations and pool repair look for what is lost. Never activate this pool for writing.",
            totals.damage
        ),
        Verdict::Unusable => "NOTHING can be reached from this superblock: its trees are lost. That does not mean the data are \
                              gone: pool generations and pool repair look for older states and for lost parts of trees. Never \
                              activate this pool, and keep this file as it is."
            .into(),
    }
}
