//! The terminal in its two states: keys one by one for the prompt, and as verbs expect it.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, InputFlags, LocalFlags, OutputFlags, SetArg, Termios};
use std::io::{self, Stdin};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Standard input and output as one terminal.
#[derive(Debug)]
pub struct Terminal {
    input: Stdin,
    keys: Termios,
    lines: Termios,
}

impl Terminal {
    /// The terminal on standard input.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub fn new() -> io::Result<Self> {
        let input = io::stdin();
        let mut lines = termios::tcgetattr(&input)?;
        // Whatever a killed program left behind is put right. Enter is a line feed in both states: what is typed ahead of a
        // change must mean the same after it.
        lines.input_flags.remove(InputFlags::INLCR | InputFlags::IGNCR);
        lines.input_flags.insert(InputFlags::ICRNL);
        lines.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
        lines.local_flags.insert(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ECHOE | LocalFlags::ISIG);
        let mut keys = lines.clone();
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        Ok(Self { input, keys, lines })
    }

    /// Every key comes at once and is not echoed; no key is a signal.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn by_key(&self) -> io::Result<()> {
        Ok(termios::tcsetattr(&self.input, SetArg::TCSADRAIN, &self.keys)?)
    }

    /// Lines, echo, and Ctrl-C as the signal that stops a verb.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn by_line(&self) -> io::Result<()> {
        Ok(termios::tcsetattr(&self.input, SetArg::TCSADRAIN, &self.lines)?)
    }

    /// Every byte as it comes over the line, none of them a sign for the terminal.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn raw(&self) -> io::Result<()> {
        let mut raw = self.keys.clone();
        termios::cfmakeraw(&mut raw);
        Ok(termios::tcsetattr(&self.input, SetArg::TCSADRAIN, &raw)?)
    }

    /// The device of this terminal.
    ///
    /// # Errors
    /// It has no name here.
    pub fn path(&self) -> io::Result<PathBuf> {
        Ok(nix::unistd::ttyname(&self.input)?)
    }

    /// As [`Self::read_byte`], or `None` when none comes in time.
    ///
    /// # Errors
    /// Reading failed.
    pub fn read_byte_within(&mut self, limit: Duration) -> io::Result<Option<u8>> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => Ok(None),
            Ok(_) | Err(Errno::EINTR) => self.read_byte(),
            Err(error) => Err(error.into()),
        }
    }

    /// The next byte typed; `None` when the terminal hung up. What is typed ahead stays with the terminal, for the verb that
    /// is about to run.
    ///
    /// # Errors
    /// Reading failed.
    pub fn read_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        loop {
            // Not through `Stdin`, which would read ahead.
            match nix::unistd::read(&self.input, &mut byte) {
                Ok(0) | Err(Errno::EIO) => return Ok(None),
                Ok(_) => return Ok(byte.first().copied()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
