//! The table: ratios first, then the figures they come from.

use super::jobs::{Job, Memory};
use super::measure::Usage;
use std::time::Duration;

/// One job, and one rival at it.
pub struct Line {
    pub job: Job,
    /// What the rival is called.
    pub rival: String,
    /// Whether the limits are about this rival.
    pub limited: bool,
    /// What the metadata take on disk.
    pub bytes_used: u64,
    pub ours: Option<Usage>,
    pub theirs: Option<Usage>,
}

const HEAD: [&str; 12] = [
    "job",
    "against",
    "CPU",
    "wall",
    "memory",
    "limits",
    "our CPU s",
    "wall s",
    "MiB (exit)",
    "their CPU s",
    "wall s",
    "MiB (exit)",
];

/// All lines, their columns aligned.
pub fn render(lines: &[Line], markdown: bool) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lines.iter().map(Line::cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 12]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        if markdown { format!("| {} |", cells.join(" | ")) } else { cells.join("  ").trim_end().to_owned() }
    };
    let mut text: Vec<_> = rows.iter().map(line).collect();
    if markdown {
        let dashes: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
        text.insert(1, format!("| {} |", dashes.join(" | ")));
    }
    text.join("\n")
}

impl Line {
    fn cells(&self) -> [String; 12] {
        let ratio = |figure: fn(&Usage) -> f64| match self.ratio(figure) {
            Some(ratio) => format!("{ratio:.2}x"),
            None => "-".to_owned(),
        };
        let [our_cpu, our_wall, our_memory] = figures(self.ours);
        let [their_cpu, their_wall, their_memory] = figures(self.theirs);
        [
            self.job.name.to_owned(),
            self.rival.clone(),
            ratio(cpu),
            ratio(wall),
            ratio(memory),
            self.verdict(),
            our_cpu,
            our_wall,
            our_memory,
            their_cpu,
            their_wall,
            their_memory,
        ]
    }

    fn ratio(&self, figure: fn(&Usage) -> f64) -> Option<f64> {
        let (ours, theirs) = (self.ours.as_ref()?, self.theirs.as_ref()?);
        Some(figure(ours) / figure(theirs).max(f64::MIN_POSITIVE))
    }

    fn verdict(&self) -> String {
        let misses: Vec<_> = self.misses().collect();
        if !self.limited {
            "-".to_owned()
        } else if self.theirs.is_none() && self.job.cpu.is_some() {
            "no peer".to_owned()
        } else if misses.is_empty() {
            "kept".to_owned()
        } else {
            format!("MISSED: {}", misses.join(", "))
        }
    }

    /// The limits that are not kept.
    pub fn misses(&self) -> impl Iterator<Item = String> {
        let exit = self.ours.filter(|ours| ours.exit > 1).map(|ours| format!("exit {}", ours.exit));
        let time = [("CPU", self.job.cpu, self.ratio(cpu)), ("wall", self.job.wall, self.ratio(wall))];
        let time = time.into_iter().filter_map(|(name, limit, ratio)| {
            let (limit, ratio) = limit.zip(ratio)?;
            (ratio > limit).then(|| format!("{name} over {limit}x"))
        });
        let most = match self.job.memory {
            Memory::Peer => self.theirs.map(|theirs| theirs.memory),
            Memory::KiB(most) => Some(most),
            Memory::InUse => Some(self.bytes_used >> 10),
            Memory::Any => None,
        };
        let over = |most: &u64| self.ours.is_some_and(|ours| ours.memory > *most);
        let memory = most.filter(over).map(|most| format!("memory over {} MiB", most >> 10));
        exit.into_iter().chain(time).chain(memory).filter(|_| self.limited)
    }
}

fn cpu(usage: &Usage) -> f64 {
    usage.cpu.as_secs_f64()
}

fn wall(usage: &Usage) -> f64 {
    usage.wall.as_secs_f64()
}

fn memory(usage: &Usage) -> f64 {
    usage.memory as f64
}

fn figures(usage: Option<Usage>) -> [String; 3] {
    let Some(usage) = usage else { return ["-"; 3].map(str::to_owned) };
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    [seconds(usage.cpu), seconds(usage.wall), format!("{:.1} ({})", usage.memory as f64 / 1024.0, usage.exit)]
}
