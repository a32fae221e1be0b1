//! The two consoles of the appliance: a prompt for people on one serial port, the protocol server for programs on another, or both
//! by turns on a single one. `docs/protocol.md` describes the protocol.

pub mod child;
pub mod editor;
pub mod help;
pub mod port;
pub mod prompt;
pub mod server;
mod shared_line;
pub mod terminal;
pub mod welcome;
pub mod words;

use nix::sys::signal::{SigSet, Signal};

/// The signals of the keys Ctrl-C and Ctrl-\, which the prompt keeps to its verbs.
fn interrupts() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGQUIT);
    signals
}

/// Lets Ctrl-C stop this process even when the prompt started it: a blocked signal stays blocked in a child process.
pub fn let_interrupts_through() {
    // Can fail only on a set that makes no sense.
    let _ = interrupts().thread_unblock();
}
