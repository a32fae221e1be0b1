//! Opening a damaged pool from the command line: which generation, and what came of it.

use super::open::{Meta, failure, superblock_outcome, warn};
use super::progress::Progress;
use crate::commands::{Failure, Outcome};
use crate::say::tell;
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{DeviceChoice, Generation, Hints, Origin, Pool, Salvage, SalvageOptions, SalvageReport, salvage};

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
    pub(super) fn options(&self, meta: &Meta, devices: &DeviceGenerations) -> anyhow::Result<SalvageOptions> {
        let hints = Hints {
            chunk_size: self.chunk_size.map(|sectors| Sectors(sectors.into())),
            chunks: self.chunks,
            transaction: self.transaction,
        };
        Ok(SalvageOptions {
            block_size: meta.block_size,
            family: meta.family,
            hints,
            generation: self.generation,
            devices: devices.by_id()?,
            unattributed: self.unattributed,
        })
    }

    /// Scans and salvages, with progress on stderr.
    pub(super) fn open(&self, meta: &Meta, devices: &DeviceGenerations) -> anyhow::Result<Salvage> {
        let options = self.options(meta, devices)?;
        let view = meta.place.open()?;
        let mut progress = Progress::new("metadata", view.size());
        salvage(view, &options, &mut |done| progress.update(Bytes(done)))
            .map_err(failure)
            .with_context(|| meta.place.to_string())
    }
}

/// Devices that are to be taken from another generation than all the rest.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::commands) struct DeviceGenerations {
    /// Take this one device from another generation, for example one in which it still existed: block0, copy:BLOCK, index:BLOCK
    /// or trees:BLOCK, as printed by pool generations. Its data may have been written over since; what is known of that is
    /// told, and the exit code is never 0. Once for each device
    #[arg(long = "device-generation", value_name = "ID=GENERATION")]
    given: Vec<DeviceGeneration>,
}

/// `--device-generation ID=GENERATION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeviceGeneration(DeviceId, Generation);

impl FromStr for DeviceGeneration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, generation) = text.split_once('=').ok_or("give it as ID=GENERATION, for example 7=copy:986")?;
        Ok(Self(DeviceId(id.parse().map_err(|error| format!("{error}"))?), generation.parse()?))
    }
}

impl DeviceGenerations {
    /// The generation of each device that was named.
    pub(in crate::commands) fn by_id(&self) -> anyhow::Result<BTreeMap<DeviceId, Generation>> {
        let mut found = BTreeMap::new();
        for DeviceGeneration(id, generation) in &self.given {
            if found.insert(*id, *generation).is_some() {
                return Err(Failure::usage(format!("--device-generation was given twice for device {id}")).into());
            }
        }
        Ok(found)
    }
}

/// For verbs that read a pool as it stands unless told to salvage it first.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OptionalSalvage {
    /// Salvage the pool first: search all of its metadata, undo what damage can be undone
    #[arg(long)]
    salvage: bool,
    #[command(flatten)]
    args: SalvageArgs,
    #[command(flatten)]
    devices: DeviceGenerations,
}

impl OptionalSalvage {
    /// The pool, and what its state alone does to the exit code. Tells on stderr what its user must know.
    pub(super) fn open(&self, meta: &Meta) -> anyhow::Result<(Pool, Outcome)> {
        if !self.is_given() {
            let pool = meta.open()?;
            warn(&pool);
            let outcome = superblock_outcome(&pool);
            return Ok((pool, outcome));
        }
        let Salvage { pool, report } = self.args.open(meta, &self.devices)?;
        tell!("{}", describe(&report));
        Ok((pool, outcome(&report)))
    }

    /// Whether a salvage was asked for, or a generation by name.
    pub(super) fn is_given(&self) -> bool {
        self.salvage || self.args.generation.is_some() || !self.devices.given.is_empty()
    }
}

/// What the salvage alone does to the exit code.
pub(in crate::commands) fn outcome(report: &SalvageReport) -> Outcome {
    let lost = report.lost_mappings > 0
        || report.lost_blocks > 0
        || report.rival.is_some()
        || report.devices.iter().any(|device| device.root == Origin::Lost)
        || report.chosen_devices.iter().any(DeviceChoice::is_doubtful);
    match (lost, report.is_untouched()) {
        (true, _) => Outcome::DAMAGE,
        (false, false) => Outcome::REPORTED,
        (false, true) => Outcome::CLEAN,
    }
}

/// The report as text for people.
pub(in crate::commands) fn describe(report: &SalvageReport) -> String {
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
        (report.lost_map_blocks as u64, "blocks of space maps lost: no data is in them, and a repair counts anew"),
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
    report.chosen_devices.iter().try_for_each(|choice| write_choice(choice, out))?;
    match report.lost_mappings {
        0 => writeln!(out, "Nothing is missing by the devices' records."),
        lost => writeln!(out, "LOST: {lost} mappings are missing by the devices' records."),
    }
}

fn write_choice(choice: &DeviceChoice, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Device {} is that of {}, as you asked:", choice.device, choice.generation)?;
    let told = [
        (choice.nodes, "blocks of its tree are proven to be the same as then"),
        (choice.unproven, "blocks of its tree may have been written over since: what they held is LOST"),
        (choice.unusable, "blocks of its tree cannot be used: what they held is LOST"),
        (choice.mappings, "mappings"),
        (choice.kept, "of them are in the pool now too; their data are as of now, not as of then"),
        (
            choice.free,
            "of them lead to chunks that are FREE now: their data MAY BE WRONG, for others may have written there",
        ),
        (choice.unknown, "of them lead to chunks in use by nothing that was found: their data MAY BE WRONG"),
        (choice.reused, "more lead to chunks that were used for other data since: these are LOST"),
        (choice.gone, "more lead to chunks without a place on any tier: these are LOST"),
    ];
    let told = told.into_iter().filter(|(count, _)| *count > 0);
    told.into_iter().try_for_each(|(count, text)| writeln!(out, "  {count} {text}"))
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
        Origin::Chosen => Some(format!("{what} of the generation asked for")),
        Origin::Blank => Some(format!("{what} was lost and made anew")),
        Origin::Lost => Some(format!("{what} LOST")),
    }
}
