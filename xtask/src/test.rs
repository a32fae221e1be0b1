//! `cargo xtask test`: every check and test there is, and one line at the end that counts them.

use crate::disk_image::{self, OnChange};
use crate::kernel::{self, Variant};
use crate::{agent, demo, deps, process};
use anyhow::{Context, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// Only what needs no virtual machine: format, lints, unit, golden and property tests
    #[arg(long)]
    quick: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let start = Instant::now();
    deps::ensure()?;
    if args.filter.is_none() {
        println!("test: format and lints");
        process::run(agent::cargo().args(["fmt", "--all", "--check"]))?;
        process::run(agent::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    }
    let mut count = Count::default();
    println!("test: unit, golden and property tests");
    let mut host = agent::cargo();
    host.args(["test", "--workspace", "--exclude", "tierlift-tests", "--no-fail-fast"]);
    count.run(&host, args.filter.as_deref())?;
    let mut tools = agent::cargo();
    tools.args(["test", "--package", "tierlift-tests", "--lib"]);
    count.run(&tools, args.filter.as_deref())?;
    if !args.quick {
        let images = disk_image::build(OnChange::Report)?;
        let stock = kernel::build(Variant::Stock)?;
        println!("test: virtual-machine scenarios");
        let mut machines = agent::cargo();
        machines
            .args(["test", "--package", "tierlift-tests", "--test", "*", "--no-fail-fast"])
            .env("TIERLIFT_IMAGE", images)
            .env("TIERLIFT_STOCK_KERNEL", stock);
        count.run(&machines, args.filter.as_deref())?;
    }
    // The first thing a newcomer runs.
    let shown = if args.quick || args.filter.is_some() {
        Ok(())
    } else {
        println!("test: the demo");
        demo::run().context("the demo fails")
    };
    println!("test: {} s in all", start.elapsed().as_secs());
    count.close().and(shown)
}

/// Tests over all runs.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
    broken: bool,
}

impl Count {
    /// Runs cargo test, shows what it prints, and adds up its result lines.
    fn run(&mut self, cargo: &Command, filter: Option<&str>) -> anyhow::Result<()> {
        // A runner in the background of a shell ignores Ctrl-C and hands that down; the tests of Ctrl-C must not inherit it.
        let mut child = Command::new("env")
            .args(["--default-signal=INT,QUIT,HUP", "--"])
            .arg(cargo.get_program())
            .args(cargo.get_args())
            .args(filter)
            .current_dir(cargo.get_current_dir().unwrap_or(Path::new(".")))
            .envs(cargo.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start cargo test")?;
        let output = child.stdout.take().context("cargo test has no output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            self.add(&line);
        }
        std::io::stdout().flush()?;
        self.broken |= !child.wait()?.success();
        Ok(())
    }

    /// Takes a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, figures)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for figure in figures.split("; ") {
            if let Some((number, word)) = figure.split_once(' ') {
                let number: u64 = number.parse().unwrap_or(0);
                match word {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }

    /// The last line: the sum. No test may be ignored: a skipped test nobody sees is a defect.
    fn close(&self) -> anyhow::Result<()> {
        let sum = format!("{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 || self.broken || self.passed == 0 {
            println!("{sum}");
            bail!("there are failures above");
        }
        if self.ignored > 0 {
            println!("{sum}, {} skipped", self.ignored);
            bail!("tests are ignored");
        }
        println!("{sum}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn result_lines_add_up() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s");
        count.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s");
        count.add("running 3 tests");
        assert_eq!((count.passed, count.failed, count.ignored), (14, 3, 1));
        assert!(count.close().is_err());
    }
}
