//! Opening a damaged pool from the command line: which generation, and what came of it.

use super::open::{Meta, failure, superblock_outcome, warn};
use super::progress::Progress;
use crate::commands::Outcome;
use anyhow::Context;
use std::fmt::Write;
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Generation, Hints, Origin, Pool, Salvage, SalvageOptions, SalvageReport, salvage};

/// What a salvage can be told.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct SalvageArgs {
    /// Use this generation instead of the newest trustworthy one: block0, copy:BLOCK, index:BLOCK or trees:BLOCK, as printed by
    /// pool generations
    #[arg(long, value_name = "GENERATION")]
    pub generation: Option<Generation>,
    /// Chunk size in sectors, for a pool whose every superblock is lost: chunk_size of the pool's segment in LVM's text
    #[arg(long, value_name = "SECTORS")]
    chunk_size: Option<u32>,
    /// Length of the pool in chunks, for a pool whose every superblock is lost
    #[arg(long, value_name = "CHUNKS")]
    chunks: Option<u64>,
    /// Transaction id, for a pool whose every superblock is lost: transaction_id in LVM's text
    #[arg(long, value_name = "ID")]
    transaction: Option<u64>,
    /// Hand out sound parts of volumes whose owner cannot be told as devices of their own, numbered from 8388608
    #[arg(long)]
    unattributed: bool,
}

impl SalvageArgs {
    pub(super) fn options(&self, meta: &Meta) -> SalvageOptions {
        let hints = Hints {
            chunk_size: self.chunk_size.map(|sectors| Sectors(sectors.into())),
            chunks: self.chunks,
            transaction: self.transaction,
        };
        SalvageOptions {
            block_size: meta.block_size,
            family: meta.family,
            hints,
            generation: self.generation,
            unattributed: self.unattributed,
        }
    }

    /// Scans and salvages, with progress on stderr.
    pub(super) fn open(&self, meta: &Meta) -> anyhow::Result<Salvage> {
        let view = meta.place.open()?;
        let mut progress = Progress::new("reading all metadata", view.size());
        salvage(view, &self.options(meta), &mut |done| progress.update(Bytes(done)))
            .map_err(failure)
            .with_context(|| meta.place.to_string())
    }
}

/// For verbs that read a pool as it stands unless told to salvage it first.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct OptionalSalvage {
    /// Salvage the pool first: search all of its metadata, undo what damage can be undone
    #[arg(long)]
    salvage: bool,
    #[command(flatten)]
    args: SalvageArgs,
}

impl OptionalSalvage {
    /// The pool, and what its state alone does to the exit code. Tells on stderr what its user must know.
    pub(super) fn open(&self, meta: &Meta) -> anyhow::Result<(Pool, Outcome)> {
        if !self.salvage && self.args.generation.is_none() {
            let pool = meta.open()?;
            warn(&pool);
            let outcome = superblock_outcome(&pool);
            return Ok((pool, outcome));
        }
        let Salvage { pool, report } = self.args.open(meta)?;
        eprint!("{}", describe(&report));
        Ok((pool, outcome(&report)))
    }

    /// Whether an old generation was asked for by name.
    pub(super) fn is_given(&self) -> bool {
        self.salvage || self.args.generation.is_some()
    }
}

/// What the salvage alone does to the exit code.
pub(super) fn outcome(report: &SalvageReport) -> Outcome {
    let lost = report.lost_mappings > 0
        || report.lost_blocks > 0
        || report.rival.is_some()
        || report.devices.iter().any(|device| device.root == Origin::Lost);
    match (lost, report.is_untouched()) {
        (true, _) => Outcome::DAMAGE,
        (false, false) => Outcome::REPORTED,
        (false, true) => Outcome::CLEAN,
    }
}

/// The report as text for people.
pub(super) fn describe(report: &SalvageReport) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write_report(report, &mut out);
    out
}

fn write_report(report: &SalvageReport, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Generation: {}: {}", report.generation, report.reason)?;
    if let Some(rival) = report.rival {
        writeln!(
            out,
            "  It cannot be told whether {rival} is newer. Compare: add --generation {}",
            rival.to_argument()
        )?;
    }
    if report.contradictions > 0 {
        writeln!(
            out,
            "  {} blocks contradict its space map: only what the trees state directly is used",
            report.contradictions
        )?;
    }
    let told = [
        (report.flipped_bits as u64, "blocks with one flipped bit, which was turned back"),
        (report.displaced as u64, "blocks found at a place that is not their own: a RAID assembled wrongly?"),
        (report.broken, "blocks that are neither zeros nor sound"),
        (report.unreadable, "blocks that cannot be read"),
        (report.adopted.len() as u64, "lost inner nodes put together again from their children"),
        (report.undecided as u64, "sound nodes whose parent cannot be told: what they hold counts as lost"),
    ];
    for (count, text) in told.into_iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "  {count} {text}")?;
    }
    if let Some(first) = report.unattributed.first() {
        let (count, mappings) =
            (report.unattributed.len(), report.unattributed.iter().map(|part| part.mappings).sum::<u64>());
        writeln!(
            out,
            "  {count} of them, with {mappings} mappings, are devices {} and up now: look at their contents",
            first.device.0
        )?;
    } else if report.undecided > 0 {
        writeln!(out, "  (--unattributed hands out parts of volumes among them as devices of their own)")?;
    }
    for note in &report.notes {
        writeln!(out, "  {note}")?;
    }
    writeln!(out, "Devices:\n  {:>8} {:>12} {:>12}", "id", "recorded", "found")?;
    for device in &report.devices {
        let recorded = device.recorded.map_or("?".to_owned(), |recorded| recorded.to_string());
        let mut remarks = vec![missing(device.recorded, device.found)];
        remarks.push(origin("record", device.record));
        remarks.push(origin("mapping tree", device.root));
        let remarks: Vec<_> = remarks.into_iter().flatten().collect();
        writeln!(out, "  {:>8} {recorded:>12} {:>12}  {}", device.id.0, device.found, remarks.join("; "))?;
    }
    match report.lost_mappings {
        0 => writeln!(out, "Nothing is missing by the devices' records."),
        lost => writeln!(out, "LOST: {lost} mappings are missing by the devices' records."),
    }
}

fn missing(recorded: Option<u64>, found: u64) -> Option<String> {
    let missing = recorded?.checked_sub(found).filter(|missing| *missing > 0)?;
    Some(format!("{missing} mappings LOST"))
}

fn origin(what: &str, origin: Origin) -> Option<String> {
    match origin {
        Origin::Committed => None,
        Origin::Common => Some(format!("{what} was lost; of those it may have been, what they agree on is used")),
        Origin::History => Some(format!("{what} was lost and told by size and history")),
        Origin::Blank => Some(format!("{what} was lost and made anew")),
        Origin::Lost => Some(format!("{what} LOST")),
    }
}
