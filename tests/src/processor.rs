//! What a running program costs.

use std::fs;

/// Seconds of processor time a running program has used; `None` when it has ended.
#[must_use]
pub fn processor_time(process: u32) -> Option<f64> {
    /// The kernel counts in hundredths of a second for programs, whatever it counts in itself.
    const TICKS: f64 = 100.0;
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything: state, ten numbers, then user and system time.
    let mut times = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut next = || times.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS)
}
