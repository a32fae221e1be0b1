//! `tierlift pool …`: verbs on the metadata and data devices of one pool.

mod check;
mod dump;
mod generations;
mod losses;
mod mapfile;
mod new_metadata;
mod open;
mod output;
mod pack;
mod progress;
mod read;
mod repair;
mod salvage;
mod stat;
mod tiers;
mod transfer;

pub(in crate::commands) use generations::describe as describe_generations;
pub(in crate::commands) use output::Output;
pub(in crate::commands) use progress::Progress;
pub(in crate::commands) use salvage::{DeviceGenerations, describe as describe_salvage, outcome as salvage_outcome};

use super::Outcome;
use super::text::{print, print_json};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Tell a pool's state: sizes, use, flags, tiers, mode and how that was decided, thin devices
    Stat(stat::Args),
    /// Check everything: trees, space maps, counts, superblock copies; tell what is damaged and what it costs
    Check(check::Args),
    /// List every older state that can still be seen, and what each would give back
    Generations(generations::Args),
    /// Write out all mappings as thin_dump's XML, JSON or text
    Dump(dump::Args),
    /// Read a thin device without kernel help: as a sparse file, or its SHA-256
    Read(read::Args),
    /// Write new metadata from everything that can be read of a damaged pool; the source stays as it is
    Repair(repair::Args),
    /// Pack metadata into a small file that can be sent to somebody: no user data in it
    Pack(pack::PackArgs),
    /// Restore metadata from a packed file
    Unpack(pack::UnpackArgs),
}

pub(super) fn run(verb: Verb) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Stat(args) => stat::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Generations(args) => generations::run(&args),
        Verb::Dump(args) => dump::run(&args),
        Verb::Read(args) => read::run(&args),
        Verb::Repair(args) => repair::run(&args),
        Verb::Pack(args) => pack::run_pack(&args),
        Verb::Unpack(args) => pack::run_unpack(&args),
    }
}
