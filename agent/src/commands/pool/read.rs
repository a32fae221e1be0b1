//! `tierlift pool read`: a thin device without kernel help.

use super::mapfile;
use super::open::Meta;
use super::output::Output;
use super::salvage::OptionalSalvage;
use super::tiers::{self, ModeArgs, TierArg};
use super::transfer::{Moved, Sink, transfer};
use super::{print, print_json};
use crate::commands::{Failure, Outcome};
use crate::say::tell;
use anyhow::Context;
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::{Bytes, DeviceId, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Mode, Pool, ReaderError, ThinReader};

/// More losses than this are counted, not told one by one; the mapfile has them all.
const MOST_TOLD: usize = 100;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("goal").args(["output", "sha256"]).required(true).multiple(true))]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    meta: Meta,
    #[command(flatten)]
    salvage: OptionalSalvage,
    /// Data device of tier N, or an image of it; once for each tier. A pool with one data device needs no N
    #[arg(long = "tier", value_name = "[N=]FILE[@OFFSET[+LENGTH]]", required = true)]
    tiers: Vec<TierArg>,
    /// Id of the thin device (pool stat lists them)
    #[arg(long, value_name = "ID")]
    device: u64,
    /// Size of the device in bytes, or with a suffix (s for sectors, K, M, G, T). The metadata does not record it, LVM does;
    /// without it the device ends with its highest mapped chunk
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    size: Option<Bytes>,
    /// The same in 512-byte sectors
    #[arg(long, value_name = "N", conflicts_with = "size")]
    sectors: Option<u64>,
    /// Write the device to this file; what was never written stays a hole
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the SHA-256 of the whole device
    #[arg(long)]
    sha256: bool,
    /// Write a ddrescue mapfile here (without this: OUTPUT.map, when something is lost)
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Replace output files when they exist
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    mode: ModeArgs,
    /// Go on when a tier is missing: what lies on it is lost
    #[arg(long)]
    partial: bool,
    /// Go on when the superblock is older than its newest copy: data may be WRONG where blocks were reused since
    #[arg(long)]
    accept_stale: bool,
    /// Print the result as one JSON object (tierlift.pool-read/1)
    #[arg(long)]
    json: bool,
}

pub(super) fn parse_size(text: &str) -> Result<Bytes, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..).unwrap_or_default() {
        "" => 1_u64,
        "s" => 512,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        other => return Err(format!("unknown suffix {other:?}; use s, K, M, G or T")),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(factor).map(Bytes).ok_or_else(|| "more bytes than 64 bits can say".into())
}

/// What is told at the end.
#[derive(Serialize)]
struct Report<'a> {
    device: DeviceId,
    size: Bytes,
    size_given: bool,
    #[serde(flatten)]
    mode: Mode,
    #[serde(flatten)]
    moved: &'a Moved,
    output: Option<&'a PathBuf>,
    map: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (pool, state) = args.salvage.open(&args.meta)?;
    if pool.ring_state().is_stale() && !args.accept_stale && !args.salvage.is_given() {
        return Err(Failure::unusable(
            "the superblock is stale, so data read through it may be wrong. --salvage reads through the newest copy instead \
             (pool generations lists all there are); --accept-stale reads the old state all the same",
        )
        .into());
    }
    let (reader, mode) = args.open_reader(&pool)?;
    // Both are begun before hours of reading, so that a refusal comes now.
    let mut output = args.output.as_deref().map(|path| args.create(path)).transpose()?;
    let map = args.map_path().map(|path| Ok::<_, anyhow::Error>((args.create(&path)?, path))).transpose()?;
    let file = output.as_mut().map(|output| &*output.file());
    let moved = transfer(&reader, &Sink { file, hash: args.sha256 }, &format!("device {}", args.device))?;
    tell_losses(&moved);
    if moved.lost_bytes > 0 && moved.data == 0 {
        let message = format!("nothing of device {} could be read; no file was left", args.device);
        return Err(Failure::unusable(message).into());
    }
    let map = args.finish_map(map, reader.size(), &moved)?;
    output.map(Output::finish).transpose()?;
    let report = Report {
        device: DeviceId(args.device),
        size: reader.size(),
        size_given: args.wanted_size()?.is_some(),
        mode,
        moved: &moved,
        output: args.output.as_ref(),
        map,
    };
    if args.json {
        print_json("tierlift.pool-read/1", &report)?
    } else {
        print(&report.describe())?
    }
    let damage = if moved.lost.is_empty() { Outcome::CLEAN } else { Outcome::DAMAGE };
    Ok(state.and(damage))
}

impl Args {
    fn open_reader(&self, pool: &Pool) -> anyhow::Result<(ThinReader, Mode)> {
        let stat = pool.stat();
        let mode = self.mode.choose(&stat)?;
        let device = DeviceId(self.device);
        let tiers = tiers::open(&self.tiers, pool, &stat, mode, self.partial)?;
        let reader = ThinReader::new(pool, tiers, device, mode, self.wanted_size()?).map_err(reader_failure)?;
        Ok((reader, mode))
    }

    fn wanted_size(&self) -> anyhow::Result<Option<Bytes>> {
        match self.sectors.map(|sectors| Sectors(sectors).to_bytes()) {
            Some(None) => Err(Failure::usage("--sectors: more bytes than 64 bits can say").into()),
            Some(size) => Ok(size),
            None => Ok(self.size),
        }
    }

    fn create(&self, path: &Path) -> anyhow::Result<Output> {
        let tiers = self.tiers.iter().map(|tier| &tier.place);
        Output::create(path, self.force, &tiers.chain([&self.meta.place]).collect::<Vec<_>>())
    }

    fn map_path(&self) -> Option<PathBuf> {
        let beside = |path: &PathBuf| {
            let mut name = path.clone().into_os_string();
            name.push(".map");
            name.into()
        };
        self.map.clone().or_else(|| self.output.as_ref().map(beside))
    }

    /// Keeps the map when something is lost or it was asked for, and when an old one would belie the new file.
    fn finish_map(
        &self,
        map: Option<(Output, PathBuf)>,
        size: Bytes,
        moved: &Moved,
    ) -> anyhow::Result<Option<PathBuf>> {
        let wanted = |path: &PathBuf| self.map.is_some() || !moved.lost.is_empty() || path.exists();
        let Some((mut output, path)) = map.filter(|(_, path)| wanted(path)) else { return Ok(None) };
        let mut out = BufWriter::new(output.file());
        mapfile::write(&mut out, size, &moved.lost)
            .and_then(|()| out.flush())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        drop(out);
        output.finish()?;
        Ok(Some(path))
    }
}

fn reader_failure(error: ReaderError) -> Failure {
    let outcome = match error {
        ReaderError::UnknownDevice { .. } | ReaderError::NoTierTree => Outcome::USAGE,
        _ => Outcome::UNUSABLE,
    };
    Failure { outcome, message: error.to_string() }
}

fn tell_losses(moved: &Moved) {
    for loss in moved.lost.iter().take(MOST_TOLD) {
        tell!("tierlift: lost: bytes {} to {} ({}): {}", loss.offset, loss.end(), loss.length.human(), loss.reason);
    }
    if let Some(more) = moved.lost.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
        tell!("tierlift: lost: {more} more stretches, not told here; the mapfile has them all");
    }
}

impl Report<'_> {
    fn describe(&self) -> String {
        let moved = self.moved;
        let guessed = if self.size_given { "" } else { " (up to its highest mapped chunk; the volume may be longer)" };
        let mut lines = vec![
            format!("Device {}: {} bytes{guessed}", self.device, self.size),
            format!("  mode     {}", self.mode),
            format!("  data     {} bytes ({})", moved.data, Bytes(moved.data).human()),
            format!("  zeros    {} bytes that were never written", moved.zeros),
            format!("  lost     {} bytes", moved.lost_bytes),
        ];
        match &moved.sha256 {
            Some(hash) => lines.push(format!("  sha256   {hash}")),
            None if moved.lost_bytes > 0 => lines.push("  sha256   none: part of the device is lost".into()),
            None => {}
        }
        lines.extend(self.output.map(|path| format!("  written  {}", path.display())));
        lines.extend(self.map.as_ref().map(|path| format!("  map      {}", path.display())));
        if moved.lost_bytes > 0 {
            lines.push(
                "The lost bytes are NOT zeros, though the file has holes there: the map tells them from real zeros."
                    .into(),
            );
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse_size("1536"), Ok(Bytes(1536)));
        assert_eq!(parse_size("3s"), Ok(Bytes(1536)));
        assert_eq!(parse_size("2G"), Ok(Bytes(2 << 30)));
        for wrong in ["", "G", "2X", "-1", "99999999999T", "1.5G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
