//! How far e2fsck is, told every few seconds: on large volumes its passes take hours.

use crate::say::tell;
use std::io::{BufRead, BufReader, Read};
use std::process::ChildStderr;
use std::time::{Duration, Instant};

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(5);
/// e2fsck's passes.
const PASSES: u64 = 5;
/// Longer lines are cut, and more lines are dropped.
const MAX_LINE: u64 = 4096;
const MOST_LINES: usize = 100;

/// Tells progress, and answers with the other lines: its errors.
pub(super) fn follow(pipe: ChildStderr) -> Vec<String> {
    let mut reader = BufReader::new(pipe);
    let (mut errors, mut told, mut begun) = (Vec::new(), Instant::now(), Begun::default());
    while let Some(line) = next(&mut reader) {
        match progress(&line) {
            Some(at) => {
                begun.note(at);
                if told.elapsed() >= PAUSE {
                    told = Instant::now();
                    tell!("fsck: {}", begun.sentence(at));
                }
            }
            None if errors.len() < MOST_LINES && !is_empty_talk(&line) => errors.push(line),
            None => {}
        }
    }
    errors
}

/// Its name and version, which it always tells, and empty lines.
fn is_empty_talk(line: &str) -> bool {
    line.is_empty() || line.starts_with("e2fsck 1.")
}

fn next(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let count = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// How far a pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    pass: u64,
    done: u64,
    all: u64,
}

/// "1 34 100 /dev/mapper/vg1-lv1": the pass, what is done of it, all of it.
fn progress(line: &str) -> Option<Progress> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let found = Progress { pass: number()?, done: number()?, all: number()? };
    words.next().filter(|_| (1..=PASSES).contains(&found.pass)).map(|_| found)
}

/// When a pass began.
struct Begun {
    pass: u64,
    at: Instant,
}

impl Default for Begun {
    fn default() -> Self {
        Self { pass: 0, at: Instant::now() }
    }
}

impl Begun {
    fn note(&mut self, progress: Progress) {
        if self.pass != progress.pass {
            *self = Self { pass: progress.pass, at: Instant::now() };
        }
    }

    fn sentence(&self, progress: Progress) -> String {
        sentence(progress, self.at.elapsed())
    }
}

fn sentence(Progress { pass, done, all }: Progress, elapsed: Duration) -> String {
    let percent = u128::from(done).saturating_mul(100).checked_div(u128::from(all)).unwrap_or(0).min(100);
    let left = u128::from(all.saturating_sub(done)).saturating_mul(elapsed.as_millis());
    let minutes = left.checked_div(u128::from(done)).map(|milliseconds| milliseconds.div_ceil(60_000));
    let left = minutes.map_or(String::new(), |minutes| format!(", about {minutes} min left in this pass"));
    format!("pass {pass} of {PASSES}, {percent} %{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_from_errors() {
        assert_eq!(progress("2 5 13 /dev/mapper/a b"), Some(Progress { pass: 2, done: 5, all: 13 }));
        for other in ["", "e2fsck 1.47.0 (5-Feb-2023)", "1 2", "1 2 3", "9 2 3 /dev/x", "a 2 3 /dev/x"] {
            assert_eq!(progress(other), None, "{other}");
        }
    }

    #[test]
    fn percent_and_time_left() {
        let at = |done, all| sentence(Progress { pass: 1, done, all }, Duration::from_secs(60));
        assert_eq!(at(25, 100), "pass 1 of 5, 25 %, about 3 min left in this pass");
        assert_eq!(at(0, 100), "pass 1 of 5, 0 %");
        assert_eq!(at(7, 0), "pass 1 of 5, 0 %, about 0 min left in this pass");
        assert_eq!(at(u64::MAX, u64::MAX), "pass 1 of 5, 100 %, about 0 min left in this pass");
    }
}
