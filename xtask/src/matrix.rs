//! `cargo xtask matrix`: the damage matrix in full, ours and the peers' side by side.

use crate::{agent, peers, process};

#[derive(clap::Args)]
pub struct Args {
    /// Only accidents and populations whose line contains this ("ring lost", "shrinking", "F2-snaps")
    #[arg(default_value = "")]
    filter: String,
    /// How often each accident happens to each population
    #[arg(long, default_value_t = 2)]
    seeds: u32,
    /// Print the sums only, as tables in Markdown
    #[arg(long)]
    markdown: bool,
    /// Only ours
    #[arg(long)]
    no_peers: bool,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let peers = if args.no_peers { Vec::new() } else { peers::all() };
    let mut cargo = agent::cargo();
    cargo.args(["run", "--release", "--quiet", "--package", "tierlift-pool", "--example", "damage_matrix", "--"]);
    cargo.args([&args.filter, &args.seeds.to_string()]);
    cargo.args(args.markdown.then_some("--markdown"));
    for peer in peers {
        cargo.arg("--peer").arg(format!("{}={}", peer.version, peer.folder().display()));
    }
    process::run(&mut cargo)
}
