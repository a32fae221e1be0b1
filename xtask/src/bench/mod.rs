//! `cargo xtask bench`: speed and memory against thin-provisioning-tools, everything in one run and in one table.

mod copy;
mod jobs;
pub mod measure;
mod pools;
mod table;

use crate::peers::{self, Peer};
use crate::{agent, paths, process};
use anyhow::bail;
use jobs::{JOBS, Job, Rival};
use measure::Usage;
use pools::Pool;
use std::fs;
use std::path::{Path, PathBuf};
use table::Line;

#[derive(clap::Args)]
pub struct Args {
    /// Only lines whose name contains this ("check", "64 GiB"), or whose pool is this; "copy": only copying in the guest against cp
    #[arg(default_value = "")]
    filter: String,
    /// Runs of each program; they alternate, and medians are told
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.filter == "copy" {
        return copy::run(args.runs);
    }
    let tierlift = build()?;
    let peers = peers::all();
    let jobs = JOBS.iter().filter(|job| job.name.contains(&args.filter) || job.pool == args.filter);
    let mut lines = Vec::new();
    for job in jobs {
        println!("bench: {}", job.name);
        lines.extend(measure(job, &tierlift, &peers, args.runs.max(1))?);
    }
    println!("{}", table::render(&lines, args.markdown));
    match lines.iter().filter(|line| line.misses().next().is_some()).count() {
        0 => Ok(()),
        missed => bail!("{missed} limits are missed, see above"),
    }
}

/// The agent as users run it, but for this machine's C library.
fn build() -> anyhow::Result<PathBuf> {
    process::run(agent::cargo().args(["build", "--release", "--quiet", "--package", "tierlift"]))?;
    Ok(paths::target().join("release/tierlift"))
}

/// A line against each peer, the one that limits are about first; one line where there is no peer to be had.
fn measure(job: &Job, tierlift: &Path, peers: &[Peer], runs: usize) -> anyhow::Result<Vec<Line>> {
    let mut pool = Pool::make(job.pool, tierlift)?;
    if job.superblock_lost {
        pool = pool.without_superblock()?;
    }
    pool.warm()?;
    if !matches!(job.rival, Rival::Check | Rival::Repair) || peers.is_empty() {
        return Ok(vec![against(job, tierlift, None, &pool, runs)?]);
    }
    let mut lines = Vec::new();
    for peer in peers.iter().rev() {
        // Old ones are slow, and no limit speaks of them.
        let runs = if peer.is_release() { runs } else { 1 };
        lines.push(against(job, tierlift, Some(peer), &pool, runs)?);
    }
    Ok(lines)
}

/// Runs both in turn.
fn against(job: &Job, tierlift: &Path, peer: Option<&Peer>, pool: &Pool, runs: usize) -> anyhow::Result<Line> {
    let output = pool.room()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        ours.push(Usage::of(&job.ours(tierlift, pool, &output))?);
        let output = pool.room()?;
        if let Some(command) = job.rival(peer, pool, &output) {
            theirs.push(Usage::of(&command)?);
        }
    }
    let _ = fs::remove_file(&output);
    let rival = match job.rival {
        Rival::None => "-".to_owned(),
        Rival::Cat => "cat".to_owned(),
        Rival::Check | Rival::Repair => peer.map_or("-".to_owned(), |peer| peer.version.clone()),
    };
    let limited = peer.is_none_or(Peer::is_release);
    let (ours, theirs) = (Usage::median(&ours), Usage::median(&theirs));
    Ok(Line { job: *job, rival, limited, bytes_used: pool.bytes_used, ours, theirs })
}
