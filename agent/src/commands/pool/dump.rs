//! `tierlift pool dump`.

use super::open::Meta;
use super::output::Output;
use super::salvage::OptionalSalvage;
use crate::commands::Outcome;
use crate::say::tell;
use anyhow::Context;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use tierlift_pool::Pool;
use tierlift_pool::dump::{Format, dump};

/// More gaps than this are counted, not told one by one.
const MOST_TOLD: u64 = 200;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    meta: Meta,
    #[command(flatten)]
    salvage: OptionalSalvage,
    /// xml is thin_dump's (QNAP's dialect for QNAP's pools); json is tierlift.pool-dump/1; human is text
    #[arg(long, value_enum, default_value_t = FormatArg::Xml)]
    format: FormatArg,
    /// Write to this file, not to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output file when it exists
    #[arg(long, requires = "output")]
    force: bool,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    Xml,
    Json,
    Human,
}

impl Args {
    fn format(&self) -> Format {
        match self.format {
            _ if self.json => Format::Json,
            FormatArg::Xml => Format::Xml,
            FormatArg::Json => Format::Json,
            FormatArg::Human => Format::Human,
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (pool, state) = args.salvage.open(&args.meta)?;
    let gaps = match &args.output {
        None => write(&pool, args.format(), &mut std::io::stdout().lock()).context("standard output")?,
        Some(path) => {
            let mut output = Output::create(path, args.force, &[&args.meta.place])?;
            let gaps = write(&pool, args.format(), output.file()).with_context(|| path.display().to_string())?;
            output.finish()?;
            gaps
        }
    };
    let damage = if gaps > 0 { Outcome::DAMAGE } else { Outcome::CLEAN };
    Ok(state.and(damage))
}

/// Writes the dump and tells the gaps on stderr; answers how many there are.
fn write(pool: &Pool, format: Format, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut gaps = 0_u64;
    let mut out = BufWriter::new(out);
    dump(pool, format, &mut out, &mut |gap| {
        gaps = gaps.saturating_add(1);
        if gaps <= MOST_TOLD {
            tell!("tierlift: lost: {gap}");
        }
    })?;
    out.flush()?;
    if gaps > MOST_TOLD {
        tell!("tierlift: lost: {} more not told here", gaps.saturating_sub(MOST_TOLD));
    }
    if gaps > 0 {
        tell!(
            "tierlift: the dump is NOT complete: do not restore a pool from it; the repair verbs look for what is lost"
        );
    }
    Ok(gaps)
}
