//! `tierlift pool repair`: new metadata from everything that can be read of a pool. The source is never written.

use super::losses;
use super::new_metadata::Target;
use super::open::Meta;
use super::output::Output;
use super::read::parse_size;
use super::salvage::{self, DeviceGenerations, SalvageArgs};
use super::tiers::ModeArgs;
use super::{print, print_json};
use crate::commands::{Failure, Outcome};
use crate::metadata_file::BlockFile;
use anyhow::Context;
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tierlift_ondisk::units::{Bytes, DeviceId};
use tierlift_pool::rebuild::{Format, RebuildError, RebuildOptions, Rebuilt, rebuild};
use tierlift_pool::{Pool, Salvage, SalvageReport, UNKNOWN_LENGTH};

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    meta: Meta,
    #[command(flatten)]
    salvage: SalvageArgs,
    #[command(flatten)]
    devices: DeviceGenerations,
    /// Write the new metadata to this file (with --force, also over a block device that is large enough)
    #[arg(long, short, value_name = "FILE", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// The form of the new metadata: the pool's own, or that of stock Linux over one data device (see --layout)
    #[arg(long, value_enum, default_value_t = FormatArg::Qnap)]
    format: FormatArg,
    /// Only tell what would be written and what is lost
    #[arg(long, conflicts_with_all = ["output", "layout"])]
    dry_run: bool,
    /// Replace output files when they exist; overwrite a block device
    #[arg(long)]
    force: bool,
    /// Write the table of the data device here (--format mainline): lines for dmsetup, with tierdata_N for tier N
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,
    /// Size of a thin device (pool metadata do not record it, LVM does): marks lost ranges as errors up to there
    /// (--format mainline); once for each device
    #[arg(long = "device-size", value_name = "ID=BYTES")]
    device_sizes: Vec<DeviceSize>,
    #[command(flatten)]
    mode: ModeArgs,
    /// Print the result as one JSON object (tierlift.pool-repair/1)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// The pool's own form: QNAP's for QNAP's pools, stock Linux's for stock pools
    Qnap,
    /// Stock Linux's form
    Mainline,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Qnap => Self::Own,
            FormatArg::Mainline => Self::Mainline,
        }
    }
}

/// `--device-size ID=BYTES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeviceSize(DeviceId, Bytes);

impl FromStr for DeviceSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, size) = text.split_once('=').ok_or("give it as ID=BYTES, for example 1=500G")?;
        Ok(Self(DeviceId(id.parse().map_err(|error| format!("{error}"))?), parse_size(size)?))
    }
}

/// What is told at the end.
#[derive(Serialize)]
struct Report<'a> {
    source: String,
    dry_run: bool,
    format: Format,
    output: Option<&'a Path>,
    layout_file: Option<&'a Path>,
    salvage: &'a SalvageReport,
    #[serde(flatten)]
    rebuilt: &'a Rebuilt,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    args.check()?;
    let Salvage { pool, report: salvaged } = args.salvage.open(&args.meta, &args.devices)?;
    if pool.chunks() == UNKNOWN_LENGTH {
        return Err(Failure::unusable(
            "no superblock is left to tell how long the pool is, and new metadata must say it: add --chunks, the data volume's \
             length in chunks (LVM's text has it in extents), and --chunk-size. Nothing was written",
        )
        .into());
    }
    let options = args.options(&pool)?;
    let mut target =
        args.output.as_deref().map(|path| Target::open(path, args.force, &[&args.meta.place])).transpose()?;
    let layout =
        args.layout.as_deref().map(|path| Output::create(path, args.force, &[&args.meta.place])).transpose()?;
    let rebuilt = write(&pool, &options, target.as_mut())?;
    losses::tell(&pool, &rebuilt);
    if nothing_left(&rebuilt) {
        return Err(Failure::unusable(
            "not a single mapping could be read, so the new metadata would only be an empty pool: nothing was written",
        )
        .into());
    }
    if let Some(Target::File(output)) = target {
        output.finish()?;
    }
    layout.map(|output| write_layout(output, &rebuilt)).transpose()?;
    args.report(&salvaged, &rebuilt)?;
    Ok(salvage::outcome(&salvaged).and(outcome(&rebuilt)))
}

/// Damage took everything; a pool that never held anything is no such case.
fn nothing_left(rebuilt: &Rebuilt) -> bool {
    !rebuilt.is_whole() && rebuilt.devices.iter().all(|device| device.found == 0)
}

fn outcome(rebuilt: &Rebuilt) -> Outcome {
    match (rebuilt.is_whole(), rebuilt.is_changed()) {
        (false, _) => Outcome::DAMAGE,
        (true, true) => Outcome::REPORTED,
        (true, false) => Outcome::CLEAN,
    }
}

fn write(pool: &Pool, options: &RebuildOptions, target: Option<&mut Target>) -> anyhow::Result<Rebuilt> {
    let try_out = || rebuild(pool, options, &mut std::io::sink()).map_err(failure);
    let length = |rebuilt: &Rebuilt| rebuilt.blocks.saturating_mul(rebuilt.block_size.bytes() as u64);
    Ok(match target {
        None => try_out()?,
        Some(Target::File(output)) => {
            let rebuilt = rebuild(pool, options, &mut BlockFile::new(output.file())).map_err(failure)?;
            output.file().set_len(length(&rebuilt)).context("the output cannot be made as long as it must be")?;
            rebuilt
        }
        // A device is not touched before it is known that the result fits and is worth it.
        Some(Target::Device(device)) => {
            let tried = try_out()?;
            if nothing_left(&tried) {
                return Ok(tried);
            }
            let file = device.prepare(length(&tried))?;
            rebuild(pool, options, &mut BlockFile::new(file)).map_err(failure)?
        }
    })
}

fn failure(error: RebuildError) -> Failure {
    let outcome = match error {
        RebuildError::ModeUndecided(_) | RebuildError::TooLarge => Outcome::UNUSABLE,
        _ => Outcome::FAILED,
    };
    Failure { outcome, message: error.to_string() }
}

fn write_layout(mut output: Output, rebuilt: &Rebuilt) -> anyhow::Result<()> {
    let mut out = BufWriter::new(output.file());
    let lines = rebuilt.layout.iter().flatten().try_for_each(|segment| writeln!(out, "{segment}"));
    lines.and_then(|()| out.flush()).context("the table of the data device cannot be written")?;
    drop(out);
    output.finish()
}

impl Args {
    fn check(&self) -> anyhow::Result<()> {
        let only_mainline = |given: bool, option: &str| match given && self.format != FormatArg::Mainline {
            true => Err(Failure::usage(format!("{option} belongs to --format mainline"))),
            false => Ok(()),
        };
        only_mainline(self.layout.is_some(), "--layout")?;
        only_mainline(!self.device_sizes.is_empty(), "--device-size")?;
        if self.layout.is_some() && self.layout == self.output {
            return Err(Failure::usage("--layout and --output name the same file").into());
        }
        Ok(())
    }

    fn options(&self, pool: &Pool) -> anyhow::Result<RebuildOptions> {
        let sizes =
            self.device_sizes.iter().map(|DeviceSize(id, size)| (*id, Bytes(size.0.saturating_add(511)).to_sectors()));
        let format = Format::from(self.format);
        let mode = (format == Format::Mainline).then(|| self.mode.choose(&pool.stat())).transpose()?;
        Ok(RebuildOptions { format, device_sizes: sizes.collect(), mode })
    }

    fn report(&self, salvaged: &SalvageReport, rebuilt: &Rebuilt) -> anyhow::Result<()> {
        let report = Report {
            source: self.meta.place.to_string(),
            dry_run: self.dry_run,
            format: self.format.into(),
            output: self.output.as_deref(),
            layout_file: self.layout.as_deref(),
            salvage: salvaged,
            rebuilt,
        };
        if self.json { print_json("tierlift.pool-repair/1", &report) } else { print(&report.describe()) }
    }
}

impl Report<'_> {
    fn describe(&self) -> String {
        let rebuilt = self.rebuilt;
        let form = match self.format {
            Format::Own => "the pool's own form",
            Format::Mainline => "stock Linux's form (version 2, for one data device)",
        };
        let bytes = rebuilt.block_size.bytes();
        let mut lines = vec![
            salvage::describe(self.salvage),
            format!("{}: {}", self.source, if self.dry_run { "would be written anew" } else { "written anew" }),
            format!("  form         {form}"),
            format!("  metadata     {} of {} blocks of {bytes} bytes used", rebuilt.blocks_used, rebuilt.blocks),
            format!("  chunks used  {}", rebuilt.chunks_used),
            format!("  thin devices {}", rebuilt.devices.iter().filter(|device| !device.left_out).count()),
        ];
        lines.extend(rebuilt.devices.iter().map(losses::device_line));
        lines.extend(self.left_behind());
        lines.extend(self.output.map(|path| format!("  written to   {}", path.display())));
        lines.extend(self.data_device());
        if !rebuilt.is_whole() {
            lines.extend(self.advice());
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn left_behind(&self) -> Vec<String> {
        let left = &self.rebuilt.left_behind;
        let mut lines = Vec::new();
        if let Some(block) = left.metadata_snapshot {
            lines.push(format!("  left behind  the reserved metadata snapshot in block {block}"));
        }
        if left.clone_counts {
            lines.push("  left behind  the tree of clone counts, which no kernel reads".into());
        }
        if left.future_times > 0 {
            lines.push(format!(
                "  mended       {} mappings claimed to be younger than the pool; they count as shared now",
                left.future_times
            ));
        }
        if left.needs_check {
            lines.push("  cleared      needs_check: the new metadata are consistent".into());
        }
        lines
    }

    fn data_device(&self) -> Vec<String> {
        let Some(segments) = &self.rebuilt.layout else { return Vec::new() };
        match self.layout_file {
            Some(path) => vec![format!("  data device  {} segments, in {}", segments.len(), path.display())],
            None => vec![format!("  data device  {} segments; --layout FILE or --json has the table", segments.len())],
        }
    }

    fn advice(&self) -> Option<String> {
        Some(match self.format {
            Format::Own => "What is lost has no mapping in the new metadata and would read as ZEROS through a kernel: do not take \
                            such zeros for data. In the form of stock Linux (--format mainline) it reads as errors; pool read \
                            gives a map of it."
                .to_owned(),
            Format::Mainline => "What is lost reads as errors through a kernel.".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_devices_are_read_with_their_ids() {
        assert_eq!("7=2G".parse(), Ok(DeviceSize(DeviceId(7), Bytes(2 << 30))));
        for wrong in ["7", "=2G", "7=", "a=1"] {
            assert!(wrong.parse::<DeviceSize>().is_err(), "{wrong}");
        }
    }
}
