//! `tierlift pool …`.

use super::Outcome;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {}

pub(super) fn run(verb: Verb) -> anyhow::Result<Outcome> {
    match verb {}
}
