//! `cargo xtask fuzz`: every fuzz target under libFuzzer, and what came of it in one table.

use crate::{paths, process};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(clap::Args)]
pub struct Args {
    /// Only this target
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
}

/// Seconds after which one input counts as a hang.
const MOST_SECONDS: u32 = 10;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let folder = paths::root().join("fuzz");
    let tool = cargo_fuzz(&paths::root().join("target/fuzz-tools"))?;
    println!("fuzz: writing seeds to {}", folder.join("corpus").display());
    let mut seeds = Command::new("cargo");
    seeds.args(["run", "--quiet", "--release", "--package", "tierlift-fuzz", "--example", "seeds", "--"]);
    process::run(seeds.arg(folder.join("corpus")).current_dir(paths::root()))?;
    let listed = process::output(nightly(&tool).arg("list").current_dir(paths::root()))?;
    let targets: Vec<_> =
        listed.lines().filter(|name| args.target.as_deref().is_none_or(|wanted| wanted == *name)).collect();
    if targets.is_empty() {
        bail!("no fuzz target has this name; there are: {}", listed.split_whitespace().collect::<Vec<_>>().join(", "));
    }
    let mut failed = Vec::new();
    let mut table = vec![format!("{:12} {:>12} {:>9} {:>9}  end", "target", "inputs", "per s", "MiB")];
    for target in targets {
        println!("fuzz: {target} for {} minutes", args.minutes);
        let (row, is_well) = one(&tool, target, args.minutes)?;
        println!("{row}");
        table.push(row);
        failed.extend((!is_well).then_some(target));
    }
    println!("\n{}", table.join("\n"));
    if !failed.is_empty() {
        bail!("failing inputs of {} lie in {}", failed.join(", "), folder.join("artifacts").display());
    }
    Ok(())
}

/// Runs one target; gives its line of the table, and whether nothing was found.
fn one(tool: &Path, target: &str, minutes: f64) -> anyhow::Result<(String, bool)> {
    let mut command = nightly(tool);
    command.args(["run", "--sanitizer", "none", target, "--"]);
    command.arg(format!("-max_total_time={}", (minutes * 60.0).ceil()));
    command.arg(format!("-timeout={MOST_SECONDS}"));
    command.args(["-rss_limit_mb=2048", "-malloc_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
    let output = command.current_dir(paths::root()).stdin(Stdio::null()).output().context("cannot start cargo fuzz")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let number = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.trim().strip_prefix(name));
        lines.next_back().map_or("-".to_owned(), |rest| rest.trim_start_matches(':').trim().to_owned())
    };
    let end = if output.status.success() { "nothing found" } else { "FOUND SOMETHING" };
    let row = format!(
        "{target:12} {:>12} {:>9} {:>9}  {end}",
        number("stat::number_of_executed_units"),
        number("stat::average_exec_per_sec"),
        number("stat::peak_rss_mb"),
    );
    if !output.status.success() {
        println!("{said}");
    }
    Ok((row, output.status.success()))
}

/// The program, installed when it is missing.
fn cargo_fuzz(root: &Path) -> anyhow::Result<PathBuf> {
    let tool = root.join("bin/cargo-fuzz");
    if !tool.exists() {
        println!("fuzz: installing cargo-fuzz to {}", root.display());
        process::run(Command::new("cargo").args(["install", "--quiet", "--locked", "cargo-fuzz", "--root"]).arg(root))?;
    }
    Ok(tool)
}

/// libFuzzer needs a nightly compiler.
fn nightly(tool: &Path) -> Command {
    let mut command = Command::new(tool);
    command.arg("fuzz").env("RUSTUP_TOOLCHAIN", "nightly");
    command
}
