//! What a client needs of a line: bytes out, bytes in with a time limit, and the time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A line to a server.
pub trait Transport {
    /// Waits for bytes, at most for `timeout`. 0 means that none came in time.
    ///
    /// # Errors
    /// The line is gone: a read error, or the other end closed it.
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize>;

    /// Sends all bytes.
    ///
    /// # Errors
    /// The line is gone.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The time; a simulated line has its own.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        (**self).receive(buffer, timeout)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).send(bytes)
    }

    fn now(&self) -> Instant {
        (**self).now()
    }
}

#[cfg(unix)]
impl Transport for UnixStream {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.set_read_timeout(Some(at_least_a_moment(timeout)))?;
        settle(self.read(buffer))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}

impl Transport for TcpStream {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.set_read_timeout(Some(at_least_a_moment(timeout)))?;
        settle(self.read(buffer))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}

/// Sockets take a timeout of zero for "wait for ever".
fn at_least_a_moment(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

/// Tells "nothing yet" from "closed" in the result of a read with a time limit.
///
/// # Errors
/// The error of the read, or [`ErrorKind::UnexpectedEof`] when the other end closed the line.
pub fn settle(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
            Ok(0)
        }
        other => other,
    }
}
