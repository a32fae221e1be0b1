//! `tierlift pool pack` and `unpack`: metadata in a file small enough to be sent, without user data.

use super::open::Meta;
use super::output::Output;
use super::{print, print_json};
use crate::block::Place;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use serde::Serialize;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Bytes;
use tierlift_pool::pack::{PackError, PackSummary, pack, unpack};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct PackArgs {
    #[command(flatten)]
    meta: Meta,
    /// Write the packed metadata to this file
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output file when it exists
    #[arg(long)]
    force: bool,
    /// Print the result as one JSON object (tierlift.pool-pack/1)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct UnpackArgs {
    /// A file made by pool pack
    #[arg(long, short, value_name = "FILE")]
    input: PathBuf,
    /// Write the metadata device to this file; what was zero stays a hole
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output file when it exists
    #[arg(long)]
    force: bool,
    /// Print the result as one JSON object (tierlift.pool-unpack/1)
    #[arg(long)]
    json: bool,
}

/// What is told at the end.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    /// Length of the output.
    bytes: u64,
    #[serde(flatten)]
    summary: PackSummary,
}

pub(super) fn run_pack(args: &PackArgs) -> anyhow::Result<Outcome> {
    let view = args.meta.place.open()?;
    let mut output = Output::create(&args.output, args.force, &[&args.meta.place])?;
    let packed = pack(&view, BufWriter::new(output.file())).map_err(failure);
    let summary = packed.with_context(|| args.meta.place.to_string())?;
    let bytes = output.file().metadata().context("the length of the output")?.len();
    output.finish()?;
    let report = Report { output: &args.output, bytes, summary };
    if args.json {
        print_json("tierlift.pool-pack/1", &report)?
    } else {
        print(&report.packed())?
    }
    Ok(outcome(&summary))
}

pub(super) fn run_unpack(args: &UnpackArgs) -> anyhow::Result<Outcome> {
    let input = File::open(&args.input).with_context(|| format!("{} cannot be opened", args.input.display()))?;
    let mut output = Output::create(&args.output, args.force, &[&Place::whole(&args.input)])?;
    let file = output.file();
    let unpacked = unpack(BufReader::new(input), |offset, bytes| file.write_all_at(bytes, offset.0)).map_err(failure);
    let summary = unpacked.with_context(|| args.input.display().to_string())?;
    file.set_len(summary.device.0).context("the output cannot be made as long as the device was")?;
    output.finish()?;
    let report = Report { output: &args.output, bytes: summary.device.0, summary };
    if args.json {
        print_json("tierlift.pool-unpack/1", &report)?
    } else {
        print(&report.unpacked())?
    }
    Ok(outcome(&summary))
}

fn outcome(summary: &PackSummary) -> Outcome {
    if summary.unreadable.0 > 0 { Outcome::DAMAGE } else { Outcome::CLEAN }
}

fn failure(error: PackError) -> Failure {
    let outcome = match error {
        PackError::Io(_) | PackError::Write(_) => Outcome::FAILED,
        _ => Outcome::UNUSABLE,
    };
    Failure { outcome, message: error.to_string() }
}

impl Report<'_> {
    fn packed(&self) -> String {
        let PackSummary { device, packed, unreadable, foreign } = self.summary;
        let mut lines = vec![format!(
            "{}: {} of a device of {} packed into {}",
            self.output.display(),
            packed.human(),
            device.human(),
            Bytes(self.bytes).human()
        )];
        if foreign.0 > 0 {
            lines.push(format!(
                "  {} of it are no sound metadata blocks: damaged ones, or remains of whatever used the device before. Mind \
                 that before you give the file away",
                foreign.human()
            ));
        }
        if unreadable.0 > 0 {
            lines.push(format!("  {} could not be read and are not in the file", unreadable.human()));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn unpacked(&self) -> String {
        let PackSummary { device, packed, unreadable, .. } = self.summary;
        let mut lines = vec![format!("{}: {} with {} in use", self.output.display(), device.human(), packed.human())];
        if unreadable.0 > 0 {
            lines.push(format!(
                "  {} could not be read when it was packed; they are zeros here, but were not on the disk",
                unreadable.human()
            ));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
