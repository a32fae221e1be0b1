//! `tierlift report`: the case so far.

use super::Outcome;
use super::text::{print_lines, print_object};
use crate::activate::bring_up::device_mapper;
use crate::activate::{fullness, is_appliance, kernel_log};
use crate::case;
use crate::report::{Machine, html, text};
use anyhow::Context;
use serde_json::json;
use std::path::PathBuf;

/// Tells what was found, done, recovered and lost. Elsewhere than in the appliance, TIERLIFT_CASE names the file of the case.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write it as one HTML file, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let case = case::load()?.unwrap_or_default();
    let machine = machine();
    if let Some(path) = &args.html {
        std::fs::write(path, html(&case, &machine)).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if args.json {
        print_object(&json!({"schema": "tierlift.report/1", "case": case, "machine": machine}))?;
    } else {
        print_lines(&text(&case, &machine))?;
    }
    let trouble = machine.kernel_trouble.is_some_and(|lines| !lines.is_empty());
    let damaged = !case.failures.is_empty() || case.copies.iter().any(|copy| copy.counts.damaged > 0);
    let refused = case.copies.iter().any(|copy| copy.counts.failed > 0);
    let damage = match (damaged, refused) {
        (true, _) => Outcome::DAMAGE,
        (false, true) => Outcome::REPORTED,
        (false, false) => Outcome::CLEAN,
    };
    Ok(damage.and(if trouble { Outcome::REPORTED } else { Outcome::CLEAN }))
}

/// The machine matters only where it is ours.
pub(super) fn machine() -> Machine {
    if !is_appliance() {
        return Machine::default();
    }
    let overlays = device_mapper().and_then(|dm| fullness::told(&dm)).unwrap_or_default();
    Machine {
        overlays,
        kernel_trouble: kernel_log::trouble_since_boot().ok(),
        disk_errors: kernel_log::disk_errors_since_boot().ok(),
    }
}
