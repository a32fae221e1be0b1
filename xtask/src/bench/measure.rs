//! Running a program and asking the kernel what it used up.
//!
//! The kernel tells a process the sum over all its children, so each program is run by a process of its own, which has no other
//! child: `cargo xtask measure`, hidden.

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// What one run used up.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// In user mode and in the kernel, all threads.
    pub cpu: Duration,
    pub wall: Duration,
    /// Largest resident memory, in KiB.
    pub memory: u64,
    /// Exit code; 128 and more: ended by a signal.
    pub exit: i32,
}

/// Runs the program and prints its usage.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (program, words) = args.program.split_first().context("no program")?;
    let start = Instant::now();
    let status = Command::new(program).args(words).stdout(Stdio::null()).status()?;
    let wall = start.elapsed();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = micros(used.user_time()) + micros(used.system_time());
    // As shells have it: a crash is a result too.
    let exit = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    println!("{cpu} {} {} {exit}", wall.as_micros(), used.max_rss());
    Ok(())
}

fn micros(time: TimeVal) -> i64 {
    time.tv_sec() * 1_000_000 + time.tv_usec()
}

impl Usage {
    /// Has the program run and measured.
    pub fn of(command: &Command) -> anyhow::Result<Self> {
        let output = Command::new(env::current_exe()?)
            .arg("measure")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let figures: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [cpu, wall, memory, exit] = figures.as_slice() else {
            bail!("{command:?} could not be measured:\n{}", String::from_utf8_lossy(&output.stderr));
        };
        let [cpu, wall] = [cpu, wall].map(|micros| Duration::from_micros(*micros));
        Ok(Self { cpu, wall, memory: *memory, exit: *exit as i32 })
    }

    /// The medians of several runs; of memory the largest.
    pub fn median(runs: &[Self]) -> Option<Self> {
        let middle = |figure: fn(&Self) -> Duration| {
            let mut all: Vec<_> = runs.iter().map(figure).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        Some(Self {
            cpu: middle(|run| run.cpu)?,
            wall: middle(|run| run.wall)?,
            memory: runs.iter().map(|run| run.memory).max()?,
            exit: runs.last()?.exit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_run_does_not_count_but_its_memory_does() {
        let run =
            |cpu, memory| Usage { cpu: Duration::from_secs(cpu), wall: Duration::from_secs(cpu), memory, exit: 0 };
        let median = Usage::median(&[run(3, 10), run(90, 30), run(2, 20)]).unwrap();
        assert_eq!((median.cpu.as_secs(), median.memory), (3, 30));
        assert!(Usage::median(&[]).is_none());
    }
}
