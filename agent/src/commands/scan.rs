//! `tierlift scan`: everything on the disks, from partitions down to thin volumes, what is wrong, and what to do next.

mod findings;
mod next_steps;
mod pools;
mod text;

pub(super) use findings::is_internal;

use super::lvm::TextArgs;
use super::text::{print, print_lines, say};
use super::{Failure, Outcome};
use crate::block::FileView;
use crate::discover::{self, MapOf, Proposal, Wishes};
use crate::inventory::Inventory;
use findings::Findings;
use pools::PoolReport;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Disks or image files; all real disks of this machine when none is given
    paths: Vec<PathBuf>,
    /// Which map of ddrescue belongs to a disk, where several disks fit; may be repeated
    #[arg(long = "map", value_name = "DISK=MAP")]
    maps: Vec<MapOf>,
    #[command(flatten)]
    texts: TextArgs,
    /// Where members of an array have lost their superblocks: find level, chunk size and order from what lies on them. Reads more
    #[arg(long)]
    propose_arrays: bool,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    #[serde(flatten)]
    inventory: &'a Inventory,
    pools: &'a [PoolReport],
    /// What members without superblocks may be; `null` when it was not asked for.
    proposals: Option<&'a [Proposal]>,
    /// Everything that is wrong, in one list.
    wrong: &'a [String],
    next_steps: &'a [String],
    exit_code: u8,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let paths = if args.paths.is_empty() { discover::default_disks()? } else { args.paths };
    let wishes =
        Wishes { texts: args.texts.of_case()?, maps: args.maps, propose: args.propose_arrays, ..Wishes::default() };
    let found = discover::look(&paths, &wishes)?;
    let (inventory, proposals) = (found.inventory, args.propose_arrays.then_some(found.proposals));
    let unopened = paths.iter().any(|path| FileView::open(path).is_err());
    let pools = pools::look(&inventory);
    let findings = findings::of(&inventory, &pools, unopened);
    if args.json {
        print_json(&inventory, &pools, proposals.as_deref(), &findings)?;
    } else {
        print_lines(&text::tree(&inventory, &pools, &findings))?;
        proposals.iter().for_each(|proposals| say!("{}", text::proposals(proposals)));
    }
    match &findings.nothing_usable {
        Some(message) => Err(Failure { outcome: findings.outcome, message: message.clone() }.into()),
        None => Ok(findings.outcome),
    }
}

fn print_json(
    inventory: &Inventory,
    pools: &[PoolReport],
    proposals: Option<&[Proposal]>,
    findings: &Findings,
) -> anyhow::Result<()> {
    let report = Report {
        schema: "tierlift.scan/1",
        inventory,
        pools,
        proposals,
        wrong: &findings.wrong,
        next_steps: &findings.next_steps,
        exit_code: findings.outcome.0,
    };
    print(&format!("{}\n", serde_json::to_string_pretty(&report)?))
}
