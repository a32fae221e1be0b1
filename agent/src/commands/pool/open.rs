//! Opening a pool's metadata from the command line, with the exit code each failure has.

use crate::block::Place;
use crate::commands::{Failure, Outcome};
use crate::say::tell;
use anyhow::Context;
use tierlift_ondisk::thin::{BlockSize, Family};
use tierlift_pool::{Pool, PoolError, RingState};

/// `--meta`, the same for all verbs of a pool.
#[derive(Debug, clap::Args)]
pub(super) struct Meta {
    /// The pool's metadata device (its name ends in _tmeta), or an image of it
    #[arg(long = "meta", value_name = "FILE[@OFFSET[+LENGTH]]")]
    pub place: Place,
    /// Metadata block size, 4096 or 8192, when it is known better than it can be probed (pool stat tells how it was)
    #[arg(long, value_name = "BYTES", value_parser = parse_block_size)]
    pub block_size: Option<BlockSize>,
    /// Who wrote the pool, qnap or mainline, when it is known better than it can be probed
    #[arg(long, value_name = "FAMILY", value_parser = parse_family)]
    pub family: Option<Family>,
}

fn parse_block_size(text: &str) -> Result<BlockSize, String> {
    let size = text.parse().ok().and_then(BlockSize::from_bytes);
    size.ok_or_else(|| "metadata blocks have 4096 or 8192 bytes".into())
}

fn parse_family(text: &str) -> Result<Family, String> {
    match text {
        "qnap" => Ok(Family::Qnap),
        "mainline" => Ok(Family::Mainline),
        _ => Err("pools are written by qnap or mainline (stock Linux)".into()),
    }
}

impl Meta {
    pub(super) fn open(&self) -> anyhow::Result<Pool> {
        let view = self.place.open()?;
        Pool::open_as(view, self.block_size, self.family).map_err(failure).with_context(|| self.place.to_string())
    }
}

/// Exit code of a pool that does not open: an unreadable disk failed, anything else is unusable.
pub(super) fn failure(error: PoolError) -> Failure {
    let outcome = match error {
        PoolError::Unreadable { .. } => Outcome::FAILED,
        PoolError::NoSuchGeneration(_) | PoolError::NotInGeneration { .. } => Outcome::USAGE,
        _ => Outcome::UNUSABLE,
    };
    Failure { outcome, message: error.to_string() }
}

/// What the state of the superblock alone does to the exit code. needs_check does nothing: reading such a pool is safe.
pub(super) fn superblock_outcome(pool: &Pool) -> Outcome {
    let cut_short = pool.blocks().present() < pool.superblock().metadata_map.nr_blocks;
    let state = pool.ring_state();
    if state.is_stale() {
        Outcome::DAMAGE
    } else if cut_short || !matches!(state, RingState::Off | RingState::Agrees) {
        Outcome::REPORTED
    } else {
        Outcome::CLEAN
    }
}

/// Tells on stderr what a user of this pool must know, for verbs whose output is something else.
pub(super) fn warn(pool: &Pool) {
    for line in pool.warnings() {
        tell!("tierlift: warning: {line}");
    }
}
