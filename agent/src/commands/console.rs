//! `tierlift console`: the prompt on the human console.

use super::Outcome;
use crate::console::prompt::{Settings, run as run_prompt};
use anyhow::Context;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder that is empty after a boot; remembers that the ready marker was shown
    #[arg(long, value_name = "FOLDER", default_value = "/run")]
    run_folder: PathBuf,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let settings = Settings { runner: super::serve::runner(), run_folder: args.run_folder };
    run_prompt(&settings).context("the prompt needs a terminal on standard input and output")?;
    Ok(Outcome::CLEAN)
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, serve::plain_verbs};
    use crate::console::help::{MORE, OWN, VERBS};
    use clap::Parser;

    #[test]
    fn help_tells_of_every_verb_and_of_no_other() {
        let mut told: Vec<_> = VERBS.iter().chain(&MORE).chain(&OWN).map(|topic| topic.verb).collect();
        told.retain(|verb| !["help", "poweroff", "reboot"].contains(verb));
        told.sort_unstable();
        let mut known = plain_verbs();
        known.sort_unstable();
        assert_eq!(told, known);
    }

    #[test]
    fn examples_are_valid_command_lines() {
        for topic in VERBS.iter().chain(&MORE) {
            let parsed = Cli::try_parse_from(format!("tierlift {}", topic.example).split(' '));
            assert!(parsed.is_ok(), "{}: {}", topic.example, parsed.unwrap_err());
        }
    }
}
