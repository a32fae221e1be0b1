//! Serial lines by name: what `--port` takes, and how each kind is opened.

use nix::sys::termios::{self, BaudRate, ControlFlags, SetArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use tierlift_protocol::Transport;
use tierlift_protocol::transport::settle;

/// Speed of a line nothing was said about.
pub const DEFAULT_BAUD: u32 = 115_200;
/// How long a write may be stuck before the line counts as dead.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// A line, as given to `--port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// `unix:PATH`: a socket somebody listens on, such as QEMU's serial port.
    Unix(PathBuf),
    /// `unix-listen:PATH`: a socket to listen on; the server's side of [`Port::Unix`], for tests.
    UnixListen(PathBuf),
    /// `tcp:HOST:PORT`.
    Tcp(String),
    /// `/dev/ttyS1` or `/dev/ttyS1:9600`.
    Tty(PathBuf, u32),
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(path) = text.strip_prefix("unix-listen:") {
            return Ok(Self::UnixListen(path.into()));
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            return match address.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Self::Tcp(address.into())),
                _ => Err("expected tcp:HOST:PORT, for example tcp:127.0.0.1:4555".into()),
            };
        }
        tty(text)
    }
}

/// A path may itself end in a colon and digits (`/dev/serial/by-path/…`): what exists is a path.
fn tty(text: &str) -> Result<Port, String> {
    match text.rsplit_once(':') {
        Some((path, baud)) if !Path::new(text).exists() && baud.bytes().all(|byte| byte.is_ascii_digit()) => {
            let baud = baud.parse().ok().filter(|baud| speed(*baud).is_some());
            let baud = baud.ok_or("the speed after the colon is none a serial line has; usual is 115200")?;
            Ok(Port::Tty(path.into(), baud))
        }
        _ if text.is_empty() => Err("expected unix:PATH, tcp:HOST:PORT or a serial device such as /dev/ttyUSB0".into()),
        _ => Ok(Port::Tty(text.into(), DEFAULT_BAUD)),
    }
}

fn speed(baud: u32) -> Option<BaudRate> {
    Some(match baud {
        1200 => BaudRate::B1200,
        2400 => BaudRate::B2400,
        4800 => BaudRate::B4800,
        9600 => BaudRate::B9600,
        19_200 => BaudRate::B19200,
        38_400 => BaudRate::B38400,
        57_600 => BaudRate::B57600,
        115_200 => BaudRate::B115200,
        230_400 => BaudRate::B230400,
        460_800 => BaudRate::B460800,
        921_600 => BaudRate::B921600,
        _ => return None,
    })
}

/// Opens a line as a client.
///
/// # Errors
/// The line cannot be opened, or is one only a server can open.
pub fn open_client(port: &Port) -> io::Result<Box<dyn Transport>> {
    match port {
        Port::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(WRITE_LIMIT))?;
            Ok(Box::new(stream))
        }
        Port::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(WRITE_LIMIT))?;
            Ok(Box::new(stream))
        }
        Port::Tty(path, baud) => Ok(Box::new(SerialLine(serialport::new(path.to_string_lossy(), *baud).open()?))),
        Port::UnixListen(_) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "unix-listen: is for serve; use unix:PATH"))
        }
    }
}

/// A serial device, client's side.
struct SerialLine(Box<dyn serialport::SerialPort>);

impl Transport for SerialLine {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.0.set_timeout(timeout)?;
        settle(self.0.read(buffer))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_timeout(WRITE_LIMIT)?;
        self.0.write_all(bytes)
    }
}

/// Opens a serial device as a server: raw, eight bits, without waiting for anybody at the other end, and not as the
/// controlling terminal, so that no byte of the line can become a signal.
///
/// # Errors
/// The device cannot be opened or is no terminal.
pub fn open_server_tty(path: &Path, baud: u32) -> io::Result<File> {
    let tty = open_shared_tty(path)?;
    let mut settings = termios::tcgetattr(&tty)?;
    termios::cfmakeraw(&mut settings);
    settings.control_flags.insert(ControlFlags::CLOCAL | ControlFlags::CREAD);
    settings.control_flags.remove(ControlFlags::CRTSCTS);
    // The speed is part of the flags on Linux; cfsetspeed() would need a symbol that a static glibc does not have.
    let speed = speed(baud).ok_or(io::ErrorKind::InvalidInput)?;
    settings.control_flags.remove(ControlFlags::CBAUD);
    settings.control_flags.insert(ControlFlags::from_bits_retain(speed as nix::libc::tcflag_t));
    termios::tcsetattr(&tty, SetArg::TCSANOW, &settings)?;
    Ok(tty)
}

/// Opens a terminal that is in use for a second user, with its settings as they are; nothing waits on it.
///
/// # Errors
/// The device cannot be opened.
pub fn open_shared_tty(path: &Path) -> io::Result<File> {
    let flags = (nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_NONBLOCK).bits();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_apart() {
        let parse = |text: &str| text.parse::<Port>();
        assert_eq!(parse("unix:/run/a:b"), Ok(Port::Unix("/run/a:b".into())));
        assert_eq!(parse("unix-listen:x"), Ok(Port::UnixListen("x".into())));
        assert_eq!(parse("tcp:nas:4555"), Ok(Port::Tcp("nas:4555".into())));
        assert_eq!(parse("tcp:[::1]:4555"), Ok(Port::Tcp("[::1]:4555".into())));
        assert_eq!(parse("/dev/ttyUSB0"), Ok(Port::Tty("/dev/ttyUSB0".into(), DEFAULT_BAUD)));
        assert_eq!(parse("/dev/ttyUSB0:9600"), Ok(Port::Tty("/dev/ttyUSB0".into(), 9600)));
        for wrong in ["", "tcp:nas", "tcp:nas:70000", "tcp::1", "/dev/ttyUSB0:7"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_existing_path_with_a_colon_is_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usb-0:1");
        std::fs::write(&path, "").unwrap();
        assert_eq!(path.to_str().unwrap().parse(), Ok(Port::Tty(path, DEFAULT_BAUD)));
    }
}
