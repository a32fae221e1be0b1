//! Drives the protocol server: one line, at most one command, one thread. Everything that can happen is waited for in one
//! place, so that nothing is ever read that cannot be passed on at once.

use super::child::Child;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};
use tierlift_protocol::message::RefusalKind;
use tierlift_protocol::server::{Request, Server};
use tierlift_protocol::{Run, Stream};

/// How often a running command's end is looked for while its outputs are open; normally their end tells of it.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The same once the outputs are closed: the process is about to end.
const LOOK_SOON: Duration = Duration::from_millis(5);

/// What may be run, and how.
#[derive(Debug, Clone)]
pub struct Runner {
    /// First words that are permitted.
    pub verbs: Vec<String>,
    /// The command for some words: this program with them, or a stand-in in tests.
    pub command: fn(&[String]) -> Command,
}

/// A line being served.
pub struct Session<'a, L> {
    line: L,
    runner: &'a Runner,
    server: Server,
    child: Option<Child>,
    /// When something came over the line last.
    heard: Instant,
    /// Silence for so long is looked for.
    silence: Option<Duration>,
}

/// What there is to do.
#[derive(Debug, Default)]
struct Ready {
    line: bool,
    stdout: bool,
    stderr: bool,
    /// The outputs were looked at: a stream without bytes really has none.
    looked_at_output: bool,
}

impl<'a, L: Read + Write + AsFd> Session<'a, L> {
    /// Serves a line that does not block.
    pub fn new(line: L, runner: &'a Runner) -> Self {
        let now = Instant::now();
        Self { line, runner, server: Server::new(now), child: None, heard: now, silence: None }
    }

    /// Serves until the line is closed. A command that still runs then is stopped.
    ///
    /// # Errors
    /// The line failed.
    pub fn serve(mut self) -> io::Result<()> {
        let end = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Some(request) = self.server.end_session() {
            self.obey(request);
        }
        end
    }

    /// Serves until nothing has come for so long and no command runs; `first` are bytes of the line that were read before. `false`
    /// when the line was closed. What the client knows of the session stays true for the next call.
    ///
    /// # Errors
    /// The line failed.
    pub fn serve_until_silent(&mut self, first: &[u8], silence: Duration) -> io::Result<bool> {
        self.silence = Some(silence);
        self.take(first);
        while self.child.is_some() || self.heard.elapsed() < silence {
            if !self.turn()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for something to happen and deals with it. `false` when the line was closed.
    fn turn(&mut self) -> io::Result<bool> {
        let ready = self.wait()?;
        if ready.line && !self.read_line()? {
            return Ok(false);
        }
        self.pass_output(&ready);
        if let Some(request) = self.server.tick(Instant::now()) {
            self.obey(request);
        }
        self.write_line()?;
        Ok(true)
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let timeout = self.timeout();
        let mut line_events = PollFlags::POLLIN;
        line_events.set(PollFlags::POLLOUT, !self.server.line().is_empty());
        let looked_at_output = self.server.wants_output();
        let output = |stream| self.child.as_ref().filter(|_| looked_at_output).and_then(|child| child.output(stream));
        let (stdout, stderr) = (output(Stream::Stdout), output(Stream::Stderr));
        let outputs = [stdout, stderr].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut fds: Vec<_> = std::iter::once(PollFd::new(self.line.as_fd(), line_events)).chain(outputs).collect();
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        // Errors and hang-ups count as readable: the read will tell what is wrong.
        let mut seen = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLIN));
        let line = seen.next().is_some_and(|events| events.intersects(PollFlags::POLLOUT.complement()));
        let mut next = |asked: bool| asked && seen.next().is_some_and(|events| !events.is_empty());
        Ok(Ready { line, stdout: next(stdout.is_some()), stderr: next(stderr.is_some()), looked_at_output })
    }

    fn timeout(&self) -> PollTimeout {
        let look = self.child.as_ref().map(|child| if child.is_drained() { LOOK_SOON } else { LOOK_EVERY });
        let wake = self.server.wake_at().map(|at| at.saturating_duration_since(Instant::now()));
        let silent = self.silence.map(|silence| silence.saturating_sub(self.heard.elapsed()));
        // Rounded up: waking early would only mean waiting again.
        let shortest =
            look.into_iter().chain(wake).chain(silent).min().map(|wait| wait.saturating_add(Duration::from_millis(1)));
        shortest.map_or(PollTimeout::NONE, |wait| PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX))
    }

    fn read_line(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        match self.line.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                self.take(buffer.get(..count).unwrap_or_default());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.heard = Instant::now();
        for request in self.server.receive(bytes, self.heard) {
            self.obey(request);
        }
    }

    fn write_line(&mut self) -> io::Result<()> {
        let bytes = self.server.line();
        if bytes.is_empty() {
            return Ok(());
        }
        match self.line.write(bytes) {
            Ok(count) => {
                bytes.drain(..count.min(bytes.len()));
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn pass_output(&mut self, ready: &Ready) {
        let Some(child) = &mut self.child else { return };
        for (stream, is_ready) in [(Stream::Stdout, ready.stdout), (Stream::Stderr, ready.stderr)] {
            if is_ready {
                self.server.output(stream, &child.read(stream));
            }
        }
        // A grandchild left in the background may hold an output open for ever: no bytes after the end are the end.
        let is_silent = ready.looked_at_output && !ready.stdout && !ready.stderr;
        let has_ended = child.is_drained() || is_silent;
        if let Some(exit) = has_ended.then(|| child.exit()).flatten() {
            self.finish_after(exit, is_silent);
        }
    }

    /// Between the look at the outputs and the end of the process it may have written something: look once more.
    fn finish_after(&mut self, exit: tierlift_protocol::Exit, was_open: bool) {
        let more = was_open && self.child.as_ref().is_some_and(has_bytes);
        if !more {
            self.child = None;
            self.server.exited(exit);
        }
    }

    fn obey(&mut self, request: Request) {
        match (request, &mut self.child) {
            (Request::Run(run), _) => self.start(run),
            (Request::Cancel, Some(child)) => child.cancel(),
            (Request::HangUp, Some(child)) => {
                if let Some(exit) = child.hang_up() {
                    self.child = None;
                    self.server.exited(exit);
                }
            }
            (Request::Cancel | Request::HangUp, None) => {}
        }
    }

    fn start(&mut self, run: Run) {
        if let Err(message) = permit(&run.argv, &self.runner.verbs) {
            return self.server.refuse(RefusalKind::NotAllowed, message);
        }
        match Child::start((self.runner.command)(&run.argv), &run.input) {
            Ok(child) => self.child = Some(child),
            Err(error) => self.server.refuse(RefusalKind::CannotStart, format!("cannot start the agent: {error}")),
        }
    }
}

/// Only the agent's own verbs run, and questions about them.
fn permit(argv: &[String], verbs: &[String]) -> Result<(), String> {
    let questions = ["--help", "-h", "help", "--version", "-V"];
    match argv.first() {
        Some(verb) if verbs.contains(verb) || questions.contains(&verb.as_str()) => Ok(()),
        Some(verb) => {
            Err(format!("\"{}\" cannot be run from afar; possible are: {}", verb.escape_debug(), verbs.join(", ")))
        }
        None => Err("no verb was given; try --help".into()),
    }
}

/// Whether an open output of a process that has ended still holds bytes. Its end alone is none.
fn has_bytes(child: &Child) -> bool {
    let outputs = [Stream::Stdout, Stream::Stderr].into_iter().filter_map(|stream| child.output(stream));
    let mut fds: Vec<_> = outputs.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let _ = poll(&mut fds, PollTimeout::ZERO);
    fds.iter().any(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_verbs_are_permitted() {
        let verbs = ["scan".to_owned(), "pool".to_owned()];
        let permit = |words: &[&str]| permit(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &verbs);
        assert!(permit(&["scan", "--json"]).is_ok());
        assert!(permit(&["--version"]).is_ok());
        let refusal = permit(&["serve"]).unwrap_err();
        assert!(refusal.contains("\"serve\"") && refusal.contains("scan, pool"), "{refusal}");
        assert!(permit(&[]).is_err());
    }
}
