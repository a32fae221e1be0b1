//! How fast long work goes, and how long it will still take.

use crate::say::tell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tierlift_ondisk::units::Bytes;

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(5);

/// Bytes of files this process has read, to copy or to compare them.
static READ: AtomicU64 = AtomicU64::new(0);

/// Counts bytes that were read, or need no reading any more.
pub fn count(bytes: u64) {
    READ.fetch_add(bytes, Ordering::Relaxed);
}

/// Speed and time left: "85.3 MiB/s, about 3 min left". Empty as long as nothing can be said.
pub fn told(done: Bytes, total: Option<Bytes>, elapsed: Duration) -> String {
    let speed = u128::from(done.0).saturating_mul(1000).checked_div(elapsed.as_millis()).unwrap_or(0);
    let Some(speed) = u64::try_from(speed).ok().filter(|speed| *speed > 0) else { return String::new() };
    let mut text = format!("{}/s", Bytes(speed).human());
    if let Some(total) = total {
        let left = total.0.saturating_sub(done.0).checked_div(speed).unwrap_or(0);
        text += &format!(", {}", time_left(left));
    }
    text
}

fn time_left(seconds: u64) -> String {
    match seconds {
        0..60 => "less than a minute left".into(),
        60..7200 => format!("about {} min left", seconds.div_ceil(60)),
        _ => format!("about {} h left", seconds.div_ceil(3600)),
    }
}

/// Tells every few seconds how far a copy is, also within one large file. Ends when it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Begins; `total` are the bytes to be copied, where that is known. Each is read twice: to copy it, and back from the target.
    pub fn start(total: Option<Bytes>) -> Self {
        let (end, ended) = channel();
        let (start, before) = (Instant::now(), READ.load(Ordering::Relaxed));
        let beat = move || {
            while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let done = Bytes(READ.load(Ordering::Relaxed).saturating_sub(before) / 2);
                tell!("copy: {}", line(done, total, start.elapsed()));
            }
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(beat);
        // Nobody is helped by a recovery that stops because progress cannot be shown.
        Self { end: Some(end), thread: thread.ok() }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn line(done: Bytes, total: Option<Bytes>, elapsed: Duration) -> String {
    let of = total.map_or(String::new(), |total| format!(" of about {}", total.human()));
    let pace = told(done, total, elapsed);
    let comma = if pace.is_empty() { "" } else { ", " };
    format!("{}{of}{comma}{pace}", done.human())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_and_time_left() {
        let minute = Duration::from_secs(60);
        assert_eq!(told(Bytes(60 << 20), Some(Bytes(240 << 20)), minute), "1.0 MiB/s, about 3 min left");
        assert_eq!(told(Bytes(60 << 20), Some(Bytes(61 << 20)), minute), "1.0 MiB/s, less than a minute left");
        assert_eq!(told(Bytes(60 << 20), Some(Bytes(1 << 40)), minute), "1.0 MiB/s, about 292 h left");
        assert_eq!(told(Bytes(60 << 20), None, minute), "1.0 MiB/s");
        assert_eq!(told(Bytes(60 << 20), Some(Bytes(0)), minute), "1.0 MiB/s, less than a minute left");
        assert_eq!(told(Bytes(0), None, minute), "");
        assert_eq!(told(Bytes(u64::MAX), None, Duration::ZERO), "");
        assert_eq!(
            line(Bytes(60 << 20), Some(Bytes(240 << 20)), minute),
            "60.0 MiB of about 240.0 MiB, 1.0 MiB/s, about 3 min left"
        );
    }
}
