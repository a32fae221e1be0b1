//! One serial line for people and programs: the beginning of a frame hands it to the protocol server, silence gives it back.
//!
//! Four bytes begin a frame, the first of which no keyboard sends by itself. Only where exactly these four come in a row, and soon
//! after each other, the line changes hands; a program that is not answered at once sends its frame again.

use super::port::open_shared_tty;
use super::server::{Runner, Session};
use super::terminal::Terminal;
use std::fs::File;
use std::io;
use std::time::Duration;
use tierlift_protocol::frame::MAGIC;

/// How long the next byte of a frame's beginning may take.
const NEXT_BYTE: Duration = Duration::from_millis(300);
/// A program that says nothing for so long is gone; longer than the pause between its signs of life.
const SILENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// It was no frame: these bytes were typed.
    Keys(Vec<u8>),
    /// A program used the line.
    Served,
}

/// The programs at the other end of a prompt's line.
pub(super) struct Programs<'a> {
    runner: &'a Runner,
    /// Kept between two uses of the line, so that a program can take up where it was.
    session: Option<Session<'a, File>>,
}

impl<'a> Programs<'a> {
    pub(super) fn new(runner: &'a Runner) -> Self {
        Self { runner, session: None }
    }

    /// Whether a frame may begin with this byte.
    pub(super) fn may_begin(byte: u8) -> bool {
        MAGIC.first() == Some(&byte)
    }

    /// Called when that byte has come: serves the line until it is silent if a frame does begin. The terminal is left as programs
    /// need it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn knock(&mut self, terminal: &mut Terminal) -> io::Result<Knock> {
        terminal.raw()?;
        let mut seen: Vec<u8> = MAGIC.into_iter().take(1).collect();
        for expected in MAGIC.into_iter().skip(1) {
            let Some(byte) = terminal.read_byte_within(NEXT_BYTE)? else { return Ok(Knock::Keys(seen)) };
            seen.push(byte);
            if byte != expected {
                return Ok(Knock::Keys(seen));
            }
        }
        if self.session.is_none() {
            self.session = Some(Session::new(open_shared_tty(&terminal.path()?)?, self.runner));
        }
        let served = self.session.as_mut().map(|session| session.serve_until_silent(&seen, SILENCE));
        if !matches!(served, Some(Ok(true))) {
            // A line that failed is opened anew; whether it is gone shows when the next key is waited for.
            self.session = None;
        }
        Ok(Knock::Served)
    }
}
