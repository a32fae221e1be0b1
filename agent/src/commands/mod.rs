//! The command line: one file a verb, one table of all of them. Help comes from here.

use crate::activate::lock::WorkLock;
use crate::case::programs;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod activate;
mod auto;
mod console;
mod copy;
mod deactivate;
mod fetch;
mod fsck;
mod job;
mod lvm;
mod mount;
mod network;
mod outcome;
mod pool;
mod remote;
mod repair;
mod report;
mod scan;
mod serve;
mod share;
mod shell;
mod text;
mod unlock;

pub use outcome::{Failure, Outcome};

/// Refuses, with `message`, a verb that changes the machine it runs on, unless that is the appliance.
fn only_in_appliance(message: &str) -> anyhow::Result<()> {
    if crate::activate::is_appliance() {
        return Ok(());
    }
    Err(Failure { outcome: Outcome::FAILED, message: message.to_owned() }.into())
}

/// Recovers data from the disks of QNAP storage systems. Sources are never written.
#[derive(Debug, Parser)]
#[command(name = "tierlift", version, about, long_about = None)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Do the whole recovery, from disks to verified files, with at most five questions (appliance)
    Auto(auto::Args),
    /// List what is on disks or images: partitions, arrays, volume groups, pools
    Scan(scan::Args),
    /// Look into a pool's metadata and repair a copy of them: stat, check, generations, dump, read, repair, pack, unpack
    #[command(subcommand)]
    Pool(pool::Verb),
    /// Look into the texts that describe volume groups, old ones too: show, generations, export
    #[command(subcommand)]
    Lvm(lvm::Verb),
    /// Make new metadata for a damaged pool, as lvconvert --repair does; the original stays
    Repair(repair::Args),
    /// Make a volume readable as a block device, over copy-on-write overlays (appliance)
    Activate(activate::Args),
    /// Take activated volumes and overlays away again (appliance)
    Deactivate(deactivate::Args),
    /// Open an encrypted volume with its password or key file (appliance)
    Unlock(unlock::Args),
    /// Show what is wrong with a volume's file system; repair it on an overlay (appliance)
    Fsck(fsck::Args),
    /// Mount an activated volume read-only (appliance)
    Mount(mount::Args),
    /// Copy files out to another disk, verified (appliance)
    Copy(copy::Args),
    Network(network::Args),
    Share(share::Args),
    /// Tell the case so far
    Report(report::Args),
    Job(job::Args),
    Fetch(fetch::Args),
    /// Run a verb on an appliance at the other end of a serial line
    Remote(remote::Args),
    /// Run a program of the appliance (for experts; appliance)
    #[command(hide = true)]
    Shell(shell::Args),
    /// The menu on the human console (appliance)
    #[command(hide = true)]
    Console(console::Args),
    /// The protocol server on the program console (appliance)
    #[command(hide = true)]
    Serve(serve::Args),
}

/// Parses the command line, runs the verb and answers with the documented exit code.
pub fn main() -> ExitCode {
    crate::console::let_interrupts_through();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return outcome::usage(&error),
    };
    if !matches!(cli.verb, Verb::Shell(_) | Verb::Console(_) | Verb::Serve(_)) {
        crate::interrupt::ask_first();
    }
    let kept = cli.verb.belongs_to_a_recovery();
    if kept {
        programs::verb("begun");
    }
    let outcome = outcome::of(run(cli.verb));
    crate::interrupt::wait_for_answer();
    if kept {
        programs::verb(&format!("ended with exit code {}", outcome.0));
    }
    ExitCode::from(outcome.0)
}

impl Verb {
    /// Keeps verbs from getting into each other's way.
    fn lock(&self) -> anyhow::Result<Option<WorkLock>> {
        match self {
            Self::Auto(_) => WorkLock::alone("auto"),
            Self::Repair(_) => WorkLock::beside("repair"),
            Self::Activate(_) => WorkLock::beside("activate"),
            Self::Deactivate(_) => WorkLock::beside("deactivate"),
            Self::Unlock(_) => WorkLock::beside("unlock"),
            Self::Fsck(_) => WorkLock::beside("fsck"),
            Self::Mount(_) => WorkLock::beside("mount"),
            Self::Copy(_) => WorkLock::beside("copy"),
            _ => Ok(None),
        }
    }

    /// What is done to the disks and with the volumes; the others only talk.
    fn belongs_to_a_recovery(&self) -> bool {
        !matches!(
            self,
            Self::Report(_) | Self::Job(_) | Self::Fetch(_) | Self::Remote(_) | Self::Console(_) | Self::Serve(_)
        )
    }
}

fn run(verb: Verb) -> anyhow::Result<Outcome> {
    let _lock = verb.lock()?;
    match verb {
        Verb::Auto(args) => auto::run(args),
        Verb::Scan(args) => scan::run(args),
        Verb::Pool(verb) => pool::run(verb),
        Verb::Lvm(verb) => lvm::run(verb),
        Verb::Repair(args) => repair::run(args),
        Verb::Activate(args) => activate::run(args),
        Verb::Deactivate(args) => deactivate::run(args),
        Verb::Unlock(args) => unlock::run(args),
        Verb::Fsck(args) => fsck::run(args),
        Verb::Mount(args) => mount::run(args),
        Verb::Copy(args) => copy::run(args),
        Verb::Network(args) => network::run(args),
        Verb::Share(args) => share::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Job(args) => job::run(args),
        Verb::Fetch(args) => fetch::run(&args),
        Verb::Remote(args) => remote::run(args),
        Verb::Shell(args) => shell::run(args),
        Verb::Console(args) => console::run(args),
        Verb::Serve(args) => serve::run(args),
    }
}
