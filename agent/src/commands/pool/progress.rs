//! Progress on stderr: one line redrawn on a terminal, else a line every few seconds.

use crate::pace;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
use tierlift_ondisk::units::Bytes;

/// What is shown of one piece of work.
#[derive(Debug)]
pub(in crate::commands) struct Progress {
    what: String,
    total: u64,
    terminal: bool,
    drawn: bool,
    start: Instant,
    last: Instant,
}

impl Progress {
    /// Begins; `total` is what [`Progress::update`] counts up to.
    pub(in crate::commands) fn new(what: impl Into<String>, total: Bytes) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { what: what.into(), total: total.0, terminal, drawn: false, start: Instant::now(), last: Instant::now() }
    }

    /// Called as often as is handy; most calls do nothing.
    pub(in crate::commands) fn update(&mut self, done: Bytes) {
        let pause = if self.terminal { Duration::from_millis(200) } else { Duration::from_secs(5) };
        if self.last.elapsed() < pause {
            return;
        }
        self.last = Instant::now();
        let pace = pace::told(done, Some(Bytes(self.total)), self.start.elapsed());
        let comma = if pace.is_empty() { "" } else { ", " };
        let line = format!("{}{comma}{pace}", self.line(done));
        // Nobody is helped by a recovery that stops because progress cannot be shown.
        let mut stderr = std::io::stderr();
        let _ = if self.terminal { write!(stderr, "\r{line}\x1b[K") } else { writeln!(stderr, "{line}") };
        self.drawn = self.terminal;
    }

    fn line(&self, done: Bytes) -> String {
        let percent = done.0.saturating_mul(100).checked_div(self.total).unwrap_or(100).min(100);
        format!("{}: {} of {} ({percent} %)", self.what, done.human(), Bytes(self.total).human())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far() {
        let progress = Progress::new("device 1", Bytes(4 << 20));
        assert_eq!(progress.line(Bytes(1 << 20)), "device 1: 1.0 MiB of 4.0 MiB (25 %)");
        assert_eq!(Progress::new("empty", Bytes(0)).line(Bytes(0)), "empty: 0 bytes of 0 bytes (100 %)");
    }
}
