//! What is measured, and the limits it must keep.

use super::pools::Pool;
use crate::peers::Peer;
use std::path::Path;
use std::process::Command;

/// Who else does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// thin_check.
    Check,
    /// thin_repair.
    Repair,
    /// Merely reading the file.
    Cat,
    /// Nobody can.
    None,
}

/// What we run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Check,
    Repair,
    /// Reads every block and puts all trees together again, but writes nothing.
    DryRun,
}

/// A limit on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// That of the peer.
    Peer,
    /// So many KiB.
    KiB(u64),
    /// What the metadata in use take on disk.
    InUse,
    /// No limit.
    Any,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub name: &'static str,
    /// As the example bench_pool knows it.
    pub pool: &'static str,
    pub superblock_lost: bool,
    pub work: Work,
    pub rival: Rival,
    /// The rival's CPU time times this is the limit.
    pub cpu: Option<f64>,
    pub wall: Option<f64>,
    pub memory: Memory,
}

const CHECK: Job = Job {
    name: "check, 5 M mappings and their past",
    pool: "aged",
    superblock_lost: false,
    work: Work::Check,
    rival: Rival::Check,
    cpu: Some(0.8),
    wall: Some(0.8),
    memory: Memory::Peer,
};
const REPAIR: Job =
    Job { name: "repair, the same", work: Work::Repair, rival: Rival::Repair, cpu: Some(0.25), wall: None, ..CHECK };
const ALONE: Job = Job { rival: Rival::None, cpu: None, wall: None, memory: Memory::KiB(2 << 20), ..CHECK };

/// All of them.
pub const JOBS: [Job; 13] = [
    CHECK,
    REPAIR,
    Job { name: "repair, the same, superblock lost", superblock_lost: true, ..REPAIR },
    Job { name: "check, 5 M mappings, fresh", pool: "fresh", ..CHECK },
    Job { name: "repair, the same", pool: "fresh", ..REPAIR },
    Job { name: "repair, the same, superblock lost", pool: "fresh", superblock_lost: true, ..REPAIR },
    Job {
        name: "scan, classify, L1: 425 MiB of QNAP's",
        pool: "qnap",
        work: Work::DryRun,
        rival: Rival::Cat,
        cpu: Some(30.0),
        memory: Memory::Any,
        ..REPAIR
    },
    Job { name: "check, 32 M mappings, 16 TiB, 3 tiers", pool: "large", ..ALONE },
    Job { name: "repair, the same", pool: "large", work: Work::Repair, ..ALONE },
    Job { name: "check, sparse 64 GiB, ring at its end", pool: "long", memory: Memory::InUse, ..ALONE },
    Job { name: "repair, the same", pool: "long", work: Work::Repair, memory: Memory::InUse, ..ALONE },
    Job { name: "check, file grown to 64 GiB", pool: "grown", memory: Memory::InUse, ..ALONE },
    Job { name: "repair, the same", pool: "grown", work: Work::Repair, memory: Memory::InUse, ..ALONE },
];

impl Job {
    /// Our program at work; `output` is where a repair writes to.
    pub fn ours(&self, tierlift: &Path, pool: &Pool, output: &Path) -> Command {
        let mut command = Command::new(tierlift);
        command.args(["pool", if self.work == Work::Check { "check" } else { "repair" }, "--meta"]).arg(&pool.path);
        match self.work {
            Work::Check => {}
            Work::Repair => drop(command.args(["--force", "--output"]).arg(output)),
            Work::DryRun => drop(command.arg("--dry-run")),
        }
        if self.superblock_lost {
            command.args(&pool.our_hints);
        }
        command
    }

    /// The rival at work; none when there is none, or no peer.
    pub fn rival(&self, peer: Option<&Peer>, pool: &Pool, output: &Path) -> Option<Command> {
        let mut command = match self.rival {
            Rival::None => return None,
            Rival::Cat => Command::new("cat"),
            Rival::Check => Command::new(peer?.command("thin_check")),
            Rival::Repair => Command::new(peer?.command("thin_repair")),
        };
        if self.superblock_lost {
            command.args(&pool.peer_hints);
        }
        match self.rival {
            Rival::Repair => command.arg("-i").arg(&pool.path).arg("-o").arg(output),
            _ => command.arg(&pool.path),
        };
        Some(command)
    }
}
