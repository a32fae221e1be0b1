//! `tierlift shell`: any program of the appliance, for experts and for tests over the program console.

use super::Outcome;
use anyhow::Context;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The program and its arguments; without, a shell
    #[arg(value_name = "PROGRAM", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Becomes the program: its exit code and the signals meant for it are its own.
pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut words = args.words.iter().map(String::as_str);
    let program = words.next().unwrap_or("/bin/sh");
    Err(Command::new(program).args(words).exec()).with_context(|| format!("cannot start {program}"))
}
