//! The server's end without I/O: bytes and the time go in, bytes and requests come out. Whoever drives it owns the line and
//! the command (`agent/src/console/server.rs`); a test drives it over a simulated line.

use crate::frame::{Decoder, Frame, MAX_PAYLOAD};
use crate::link::{Link, RESET};
use crate::message::{Exit, FROM_SERVER, Greeting, HELLO, Message, Refusal, RefusalKind, Run, Stream};
use std::time::{Duration, Instant};

/// A client that waits for something and is not heard for so long is gone. Clients ping every [`crate::client::PING_EVERY`].
pub const SILENCE: Duration = Duration::from_secs(60);
/// Characters of a refusal's text: even if JSON escapes each as six bytes they fit into a frame.
const REFUSAL_LIMIT: usize = 600;

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start this command; answer with [`Server::output`] and [`Server::exited`], or [`Server::refuse`].
    Run(Run),
    /// Stop the running command; asked a second time, kill it.
    Cancel,
    /// The client of the running command is gone: stop the command for good, then call [`Server::exited`].
    HangUp,
}

/// The state of the server.
#[derive(Debug)]
pub struct Server {
    decoder: Decoder,
    link: Option<Link>,
    line: Vec<u8>,
    heard: Instant,
    /// Session that started the running command.
    running: Option<u32>,
}

impl Server {
    /// A server that has heard nobody yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { decoder: Decoder::default(), link: None, line: Vec::new(), heard: now, running: None }
    }

    /// Takes bytes from the line.
    #[must_use]
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Vec<Request> {
        let mut requests = Vec::new();
        while let Some(frame) = self.decoder.next(&mut bytes) {
            if frame.kind & FROM_SERVER == 0 {
                requests.extend(self.open_session(&frame));
                requests.extend(self.take(frame, now));
            }
        }
        requests
    }

    /// Does what is due by the clock. Call it after everything else and at [`Self::wake_at`].
    #[must_use]
    pub fn tick(&mut self, now: Instant) -> Option<Request> {
        let awaits = self.awaits(self.link.as_ref()?);
        if awaits && now.saturating_duration_since(self.heard) >= SILENCE {
            return self.end_session();
        }
        self.link.as_mut()?.advance(now, &mut self.line);
        None
    }

    /// When [`Self::tick`] has to be called even if nothing happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        // Nothing is repeated while the line does not even take what was said.
        let repeat_at = link.wake_at().filter(|_| self.line.is_empty());
        let give_up_at = self.heard.checked_add(SILENCE).filter(|_| self.awaits(link));
        repeat_at.or(give_up_at)
    }

    /// Whether the client has to show that it is still there: it waits for a command, or has something to acknowledge.
    fn awaits(&self, link: &Link) -> bool {
        self.running == Some(link.session()) || !link.is_quiet()
    }

    /// Bytes to be written to the line; remove what was written.
    pub fn line(&mut self) -> &mut Vec<u8> {
        &mut self.line
    }

    /// Whether the next piece of output can be taken. A command that writes faster than the line waits in its own write.
    #[must_use]
    pub fn wants_output(&self) -> bool {
        self.link.as_ref().is_some_and(Link::has_room)
    }

    /// Sends a piece of output; one of [`MAX_PAYLOAD`] bytes makes one frame.
    pub fn output(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_PAYLOAD) {
            self.say_to_owner(&Message::Output(stream, piece.to_vec()));
        }
    }

    /// The command has ended and all its output has been given to [`Self::output`].
    pub fn exited(&mut self, exit: Exit) {
        self.say_to_owner(&Message::Exited(exit));
        self.running = None;
    }

    /// The command of the last [`Request::Run`] was not started.
    pub fn refuse(&mut self, kind: RefusalKind, message: impl Into<String>) {
        self.running = None;
        self.say_refused(kind, message.into());
    }

    /// The line was closed. Answers with [`Request::HangUp`] when a command is left behind.
    #[must_use]
    pub fn end_session(&mut self) -> Option<Request> {
        self.link = None;
        self.line.clear();
        self.running.map(|_| Request::HangUp)
    }

    /// A Hello of a new session replaces whatever was before: its client is gone, or it is the same one started again.
    fn open_session(&mut self, frame: &Frame) -> Option<Request> {
        let is_known = self.link.as_ref().is_some_and(|link| link.session() == frame.session);
        if is_known || frame.kind != HELLO || frame.sequence != 0 {
            return None;
        }
        let abandoned = self.end_session();
        self.link = Some(Link::server(frame.session));
        abandoned
    }

    fn take(&mut self, frame: Frame, now: Instant) -> Option<Request> {
        let Some(link) = self.link.as_mut().filter(|link| link.session() == frame.session) else {
            self.send_reset(frame.session);
            return None;
        };
        self.heard = now;
        let frame = link.accept(frame, now, &mut self.line)?;
        match Message::decode(frame.kind, frame.payload) {
            Ok(message) => self.handle(message),
            Err(error) => {
                self.say_refused(RefusalKind::BadMessage, error.to_string());
                None
            }
        }
    }

    fn handle(&mut self, message: Message) -> Option<Request> {
        match message {
            Message::Hello(_) => {
                self.say(&Message::Welcome(Greeting::ours()));
                None
            }
            Message::Run(run) => self.start(run),
            Message::Cancel => self.running.map(|_| Request::Cancel),
            _ => None,
        }
    }

    fn start(&mut self, run: Run) -> Option<Request> {
        let session = self.link.as_ref().map(Link::session);
        let Some(owner) = self.running else {
            self.running = session;
            return Some(Request::Run(run));
        };
        let message = if Some(owner) == session {
            "a command is running already in this session; wait for its end or cancel it"
        } else {
            "the command of an earlier session could not be stopped; it may hang in the kernel: restart the appliance"
        };
        self.say_refused(RefusalKind::Busy, message.into());
        None
    }

    /// What a command of an earlier session still says is nobody's business.
    fn say_to_owner(&mut self, message: &Message) {
        if self.running.is_some() && self.running == self.link.as_ref().map(Link::session) {
            self.say(message);
        }
    }

    /// A text of any length is cut to what surely fits into a frame.
    fn say_refused(&mut self, kind: RefusalKind, message: String) {
        let message = message.chars().take(REFUSAL_LIMIT).collect();
        self.say(&Message::Refused(Refusal { kind, message }));
    }

    /// Every message made here fits into a frame, so queueing it cannot fail.
    fn say(&mut self, message: &Message) {
        if let Some(link) = &mut self.link {
            let _ = link.queue(message);
        }
    }

    fn send_reset(&mut self, session: u32) {
        let reset = Frame { kind: RESET, session, sequence: 0, payload: Vec::new() };
        if let (true, Ok(bytes)) = (self.line.is_empty(), reset.encode()) {
            self.line.extend(bytes);
        }
    }
}
