//! A verb as a child process of the server: its outputs, its end, and how it is stopped.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tierlift_protocol::frame::MAX_PAYLOAD;
use tierlift_protocol::{Exit, Secret, Stream};

/// How long a command that is hung up on may take to end by itself, and then to die.
const GRACE: Duration = Duration::from_secs(2);

/// The command that runs this very program with these words, whatever its file is called by now.
pub fn this_program<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("tierlift").args(words);
    command
}

/// A running verb with a process group of its own.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    cancelled: bool,
}

impl Child {
    /// Starts a command whose standard input is `input` and nothing more.
    ///
    /// # Errors
    /// The process cannot be created.
    pub fn start(mut command: Command, input: &Secret) -> io::Result<Self> {
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut process = command.spawn()?;
        if let Some(mut pipe) = process.stdin.take() {
            // A message is smaller than a pipe, so this does not wait. A command that does not read it has its reasons.
            let _ = pipe.write_all(input.0.as_bytes());
        }
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        Ok(Self { process, stdout, stderr, cancelled: false })
    }

    /// Where output may come from, for waiting.
    #[must_use]
    pub fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match stream {
            Stream::Stdout => self.stdout.as_ref().map(AsFd::as_fd),
            Stream::Stderr => self.stderr.as_ref().map(AsFd::as_fd),
        }
    }

    /// Whether all output has been read to its end.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Reads one frame's worth; waits when nothing is there, so ask only after waiting said that something is. At the end
    /// of a stream, and when reading fails, the stream is closed.
    pub fn read(&mut self, stream: Stream) -> Vec<u8> {
        let mut buffer = vec![0; MAX_PAYLOAD];
        let read = match stream {
            Stream::Stdout => self.stdout.as_mut().map(|pipe| pipe.read(&mut buffer)),
            Stream::Stderr => self.stderr.as_mut().map(|pipe| pipe.read(&mut buffer)),
        };
        match read {
            Some(Ok(count)) if count > 0 => buffer.truncate(count),
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => buffer.clear(),
            _ => {
                buffer.clear();
                self.close(stream);
            }
        }
        buffer
    }

    fn close(&mut self, stream: Stream) {
        match stream {
            Stream::Stdout => self.stdout = None,
            Stream::Stderr => self.stderr = None,
        }
    }

    /// How it ended, if it has.
    pub fn exit(&mut self) -> Option<Exit> {
        match self.process.try_wait() {
            Ok(status) => status.map(exit),
            // Cannot happen to an own child; whatever it was, nothing more can be learned of it.
            Err(_) => Some(Exit::Signal(0)),
        }
    }

    /// Ctrl-C for the whole group; asked again, kills it.
    pub fn cancel(&mut self) {
        self.signal(if self.cancelled { Signal::SIGKILL } else { Signal::SIGINT });
        self.cancelled = true;
    }

    /// Nobody listens any more: ends the group, by force if need be. `None` when even that does not help, because the
    /// process hangs in the kernel.
    pub fn hang_up(&mut self) -> Option<Exit> {
        self.close(Stream::Stdout);
        self.close(Stream::Stderr);
        self.signal(Signal::SIGTERM);
        self.wait_a_little().or_else(|| {
            self.signal(Signal::SIGKILL);
            self.wait_a_little()
        })
    }

    fn wait_a_little(&mut self) -> Option<Exit> {
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if let Some(exit) = self.exit() {
                return Some(exit);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// The group may be gone already: then there is nobody to be told.
    fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.process.id()) {
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}
