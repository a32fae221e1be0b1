//! Ctrl-C at the prompt asks before it stops a verb: hours of work are not lost to a slip of the hand.

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{FlushArg, tcflush};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions, read_dir, read_to_string};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Set by the prompt for the verbs it starts.
pub const ASK: &str = "TIERLIFT_ASK";
const QUESTION: &str =
    "\nStop? What is finished stays, and the same command goes on later. y stops, anything else goes on: ";

static ASKS: AtomicBool = AtomicBool::new(false);
/// Questions that wait for an answer.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// It is being asked whether to stop; the work goes on meanwhile.
static ASKING: AtomicBool = AtomicBool::new(false);
/// The work came to its end.
static ENDED: AtomicBool = AtomicBool::new(false);
/// How often it is looked whether the answer came.
const LOOK: Duration = Duration::from_millis(50);

/// A question of the verb itself is open: nothing is being worked on, and Ctrl-C stops at once.
#[derive(Debug)]
pub struct Open(());

impl Open {
    /// Until this is dropped.
    pub fn now() -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether Ctrl-C asks in this process.
pub fn asks() -> bool {
    ASKS.load(Ordering::SeqCst)
}

/// From now on Ctrl-C asks first, if the prompt started this program at a terminal. To be called before other threads are
/// started. Programs started later inherit that Ctrl-C does not reach them.
pub fn ask_first() {
    if std::env::var_os(ASK).is_none() || !io::stdin().is_terminal() {
        return;
    }
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    let Ok(keys) = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC) else { return };
    if signals.thread_block().is_err() {
        return;
    }
    ASKS.store(true, Ordering::SeqCst);
    let watch = move || {
        while let Ok(Some(_)) = keys.read_signal() {
            // Where nobody can be asked, the key means what it always means.
            ASKING.store(true, Ordering::SeqCst);
            let stops = OPEN.load(Ordering::SeqCst) > 0 || agreed(&keys).unwrap_or(true);
            if stops && !ENDED.load(Ordering::SeqCst) {
                stop();
            }
            ASKING.store(false, Ordering::SeqCst);
        }
    };
    if std::thread::Builder::new().name("ctrl-c".into()).spawn(watch).is_err() {
        ASKS.store(false, Ordering::SeqCst);
        let _ = signals.thread_unblock();
    }
}

/// To be called when the work came to its end: where it is being asked whether to stop, the answer is waited for. Otherwise it would
/// be taken for a command.
pub fn wait_for_answer() {
    ENDED.store(true, Ordering::SeqCst);
    while ASKING.load(Ordering::SeqCst) {
        std::thread::sleep(LOOK);
    }
}

/// Asks on the terminal; Ctrl-C once more is a yes.
fn agreed(keys: &SignalFd) -> io::Result<bool> {
    let mut terminal =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open("/dev/tty")?;
    tcflush(&terminal, FlushArg::TCIFLUSH)?;
    terminal.write_all(QUESTION.as_bytes())?;
    let mut fds = [PollFd::new(keys.as_fd(), PollFlags::POLLIN), PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE)?;
    let again = fds.first().and_then(PollFd::any).unwrap_or(true);
    let stop = again || is_yes(&mut terminal)?;
    if !stop {
        terminal.write_all(b"Going on.\n")?;
    }
    Ok(stop)
}

fn is_yes(terminal: &mut File) -> io::Result<bool> {
    let mut answer = [0; 256];
    // A line as a whole: that is how the terminal hands it over.
    let length = terminal.read(&mut answer)?;
    Ok(answer.get(..length).is_some_and(|answer| answer.trim_ascii().eq_ignore_ascii_case(b"y")))
}

/// Ends this program, and those it started, in the way that leaves nothing unfinished behind.
fn stop() {
    let own = std::process::id();
    for child in children_of(own) {
        // Gone in the meantime is fine, too.
        let _ = kill(Pid::from_raw(child), Signal::SIGTERM);
    }
    if let Ok(own) = i32::try_from(own) {
        let _ = kill(Pid::from_raw(own), Signal::SIGTERM);
    }
}

fn children_of(parent: u32) -> Vec<i32> {
    let processes = read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| {
            let stat = read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            parent_in(&stat) == Some(parent)
        })
        .collect()
}

/// "12 (a name) S 7 …": the parent stands behind the state; names may hold anything but end with the last bracket.
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_told_whatever_the_name() {
        assert_eq!(parent_in("12 (e2fsck) S 7 12 1"), Some(7));
        assert_eq!(parent_in("12 (a) S 9 (b) ) R 8 12"), Some(8));
        assert_eq!(parent_in(""), None);
    }
}
