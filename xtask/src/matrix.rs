//! `cargo xtask matrix`: the damage matrix in full.

use crate::{agent, process};

#[derive(clap::Args)]
pub struct Args {
    /// Only accidents and populations whose line contains this ("ring lost", "shrinking", "F2-snaps")
    #[arg(default_value = "")]
    filter: String,
    /// How often each accident happens to each population
    #[arg(long, default_value_t = 3)]
    seeds: u32,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut cargo = agent::cargo();
    cargo.args(["run", "--release", "--quiet", "--package", "tierlift-pool", "--example", "damage_matrix", "--"]);
    process::run(cargo.args([&args.filter, &args.seeds.to_string()]))
}
