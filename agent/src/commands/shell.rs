//! `tierlift shell`: runs a program of the appliance.

use super::{Failure, Outcome};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Runs a program with its output passed through, and ends as it ends.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    super::only_in_appliance(
        "`tierlift shell` runs programs of the appliance, and this is not the appliance; use your own shell",
    )?;
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("name a program").into());
    };
    let status = Command::new(program).args(arguments).status().map_err(|error| Failure {
        outcome: Outcome::FAILED,
        message: format!("{} cannot be run: {error}", program.to_string_lossy()),
    })?;
    // As shells do: a program that was killed ends with 128 and the signal's number.
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    Ok(Outcome(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)))
}
