//! The client's end: connect, run commands, pass their output on.

use crate::frame::{Decoder, TooLong};
use crate::link::{Link, RESET};
use crate::message::{Exit, FROM_SERVER, Greeting, Message, Refusal, Run, Secret, Stream};
use crate::transport::Transport;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::{Duration, Instant};

/// A client that waits for a command shows so often that it is still there.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// How often the caller's wishes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the caller wants while a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// Ask the server to stop the command (once a call: the second time it is killed) and go on until it has ended.
    Cancel,
    /// Leave at once; the server stops the command when the next session begins or after a minute.
    GiveUp,
}

/// Everything a command said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered the first message.
    #[error("nobody answered within {} seconds{hint}", waited.as_secs())]
    NoAnswer {
        /// How long it was tried.
        waited: Duration,
        /// What came instead of an answer; empty or a clause that begins with a punctuation mark.
        hint: String,
    },
    /// The line itself failed.
    #[error("the line failed: {0}")]
    Line(#[from] io::Error),
    /// The server stopped answering in the middle.
    #[error("the other end has not answered for {} seconds: it was switched off, it hangs, or the line is cut", .0.as_secs())]
    Silent(Duration),
    /// The server does not know the session any more.
    #[error(
        "the other end was restarted, or another client took the line; the command's fate is unknown: run it again"
    )]
    Restarted,
    /// The server speaks another version.
    #[error(
        "the other end (tierlift {}) speaks protocol {}, this program (tierlift {}) speaks {}: use the same release on both",
        theirs.agent, theirs.protocol, env!("CARGO_PKG_VERSION"), crate::PROTOCOL
    )]
    Incompatible {
        /// What the server said.
        theirs: Greeting,
    },
    /// The server would not do it.
    #[error("the other end refused: {}", .0.message)]
    Refused(Refusal),
    /// The words do not fit into one message.
    #[error("the command is too long for the line: {0}")]
    CommandTooLong(#[from] TooLong),
    /// The server said something that makes no sense here.
    #[error("the other end answered with something unexpected ({0}): use the same release on both")]
    Unexpected(String),
    /// The caller wished to give up.
    #[error("given up while the command was still running")]
    GivenUp,
}

/// A session with a server.
#[derive(Debug)]
pub struct Client<T> {
    transport: T,
    decoder: Decoder,
    link: Link,
    line: Vec<u8>,
    heard: Instant,
    patience: Duration,
    server: Greeting,
    /// The session is lost or a command was left behind in it: the next command needs a new session.
    stale: bool,
    /// Standard input of the next command.
    input: Secret,
}

impl<T: Transport> Client<T> {
    /// Greets the server, repeating until it answers: it may still be booting. `patience` is also how long a silence
    /// later on is taken for a slow machine rather than a dead one.
    ///
    /// # Errors
    /// Nobody answered in time, the line failed, or the server speaks another version.
    pub fn connect(transport: T, patience: Duration) -> Result<Self, ClientError> {
        let heard = transport.now();
        let (decoder, link, server) = (Decoder::default(), Link::client(0), Greeting::ours());
        let mut client = Self {
            transport,
            decoder,
            link,
            line: Vec::new(),
            heard,
            patience,
            server,
            stale: true,
            input: Secret::default(),
        };
        client.greet()?;
        Ok(client)
    }

    /// What the server said of itself.
    #[must_use]
    pub fn server(&self) -> &Greeting {
        &self.server
    }

    /// Bytes that arrived and belonged to no undamaged frame.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.decoder.skipped()
    }

    /// Runs a command: `argv` is what follows `tierlift`. `output` gets what it says as it says it.
    ///
    /// # Errors
    /// The command was refused or its end could not be learned; see [`ClientError`].
    pub fn run<S: AsRef<str>>(&mut self, argv: &[S], output: impl FnMut(Stream, &[u8])) -> Result<Exit, ClientError> {
        self.run_watched(argv, output, || Wish::Continue)
    }

    /// Runs a command and collects what it says. After `limit` it is given up.
    ///
    /// # Errors
    /// As [`Self::run`]; [`ClientError::GivenUp`] after `limit`.
    pub fn output<S: AsRef<str>>(&mut self, argv: &[S], limit: Duration) -> Result<Output, ClientError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let start = Instant::now();
        let collect = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => stdout.extend(bytes),
            Stream::Stderr => stderr.extend(bytes),
        };
        let watch = || if start.elapsed() > limit { Wish::GiveUp } else { Wish::Continue };
        let exit = self.run_watched(argv, collect, watch)?;
        Ok(Output { exit, stdout, stderr })
    }

    /// Gives the next command, and only that, a standard input.
    pub fn set_input(&mut self, input: Secret) {
        self.input = input;
    }

    /// Like [`Self::run`], asking `wish` about ten times a second what to do.
    ///
    /// # Errors
    /// As [`Self::run`]; [`ClientError::GivenUp`] when that was the wish.
    pub fn run_watched<S: AsRef<str>>(
        &mut self,
        argv: &[S],
        mut output: impl FnMut(Stream, &[u8]),
        mut wish: impl FnMut() -> Wish,
    ) -> Result<Exit, ClientError> {
        if self.stale {
            self.greet()?;
        }
        let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        let input = std::mem::take(&mut self.input);
        self.link.queue(&Message::Run(Run { argv, input }))?;
        self.stale = true;
        let result = self.follow(&mut output, &mut wish);
        self.stale = !matches!(result, Ok(_) | Err(ClientError::Refused(_)));
        result
    }

    /// Takes what the command says until it has ended.
    fn follow(
        &mut self,
        output: &mut impl FnMut(Stream, &[u8]),
        wish: &mut impl FnMut() -> Wish,
    ) -> Result<Exit, ClientError> {
        loop {
            for message in self.step()? {
                match message {
                    Message::Output(stream, bytes) => output(stream, &bytes),
                    Message::Exited(exit) => {
                        self.flush()?;
                        return Ok(exit);
                    }
                    Message::Refused(refusal) => return Err(ClientError::Refused(refusal)),
                    other => return Err(ClientError::Unexpected(format!("{other:?}"))),
                }
            }
            match wish() {
                Wish::Continue => self.keep_alive()?,
                Wish::Cancel => self.link.queue(&Message::Cancel)?,
                Wish::GiveUp => return Err(ClientError::GivenUp),
            }
        }
    }

    fn keep_alive(&mut self) -> Result<(), ClientError> {
        let now = self.transport.now();
        let waits_too_long = |since| now.saturating_duration_since(since) > self.patience;
        if self.link.waiting_since().is_some_and(waits_too_long) {
            return Err(ClientError::Silent(self.patience));
        }
        if self.link.is_quiet() && now.saturating_duration_since(self.heard) > PING_EVERY {
            self.link.queue(&Message::Ping)?;
        }
        Ok(())
    }

    /// Begins a session with a new number.
    fn greet(&mut self) -> Result<(), ClientError> {
        self.link = Link::client(random_session());
        self.link.queue(&Message::Hello(Greeting::ours()))?;
        let start = self.transport.now();
        while self.transport.now().saturating_duration_since(start) <= self.patience {
            match self.step()?.pop() {
                Some(Message::Welcome(theirs)) if theirs.protocol == crate::PROTOCOL => {
                    self.server = theirs;
                    self.stale = false;
                    return self.flush();
                }
                Some(Message::Welcome(theirs)) => return Err(ClientError::Incompatible { theirs }),
                Some(other) => return Err(ClientError::Unexpected(format!("{other:?}"))),
                None => {}
            }
        }
        Err(ClientError::NoAnswer { waited: self.patience, hint: self.hint() })
    }

    /// Sends what is due, waits a little for bytes, and answers with the messages in them.
    fn step(&mut self) -> Result<Vec<Message>, ClientError> {
        let now = self.transport.now();
        self.link.advance(now, &mut self.line);
        self.flush()?;
        let until_wake = self.link.wake_at().map_or(LOOK_EVERY, |wake| wake.saturating_duration_since(now));
        let mut buffer = [0; 4096];
        let count = self.transport.receive(&mut buffer, until_wake.min(LOOK_EVERY))?;
        self.take(buffer.get(..count).unwrap_or_default())
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<Vec<Message>, ClientError> {
        let now = self.transport.now();
        let mut messages = Vec::new();
        while let Some(frame) = self.decoder.next(&mut bytes) {
            if frame.session != self.link.session() || frame.kind & FROM_SERVER == 0 {
                continue;
            }
            self.heard = now;
            if frame.kind == RESET {
                return Err(ClientError::Restarted);
            }
            if let Some(frame) = self.link.accept(frame, now, &mut self.line) {
                let message = Message::decode(frame.kind, frame.payload);
                messages.push(message.map_err(|error| ClientError::Unexpected(error.to_string()))?);
            }
        }
        Ok(messages)
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        if !self.line.is_empty() {
            self.transport.send(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }

    /// What can be said about the bytes that came instead of an answer.
    fn hint(&self) -> String {
        if let Some(version) = self.decoder.other_version() {
            return format!(", but somebody speaks frame version {version}: use the same release on both ends");
        }
        match self.decoder.sample() {
            [] => String::new(),
            sample => format!(
                "; {} bytes arrived that are no answer, beginning with \"{}\": this may be the console for people, or \
                 the speed is wrong",
                self.decoder.skipped(),
                sample.escape_ascii()
            ),
        }
    }
}

/// A number no recent session had.
fn random_session() -> u32 {
    let [low, ..] = [RandomState::new().build_hasher().finish()];
    (low >> 32) as u32
}
