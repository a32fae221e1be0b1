//! Asks for a password: without echo at a terminal, else the first line of standard input.

use crate::interrupt::Open;
use crate::say::printable;
use nix::sys::termios::{self, LocalFlags, SetArg};
use std::io::{self, BufRead, IsTerminal, Write};
use tierlift_protocol::Secret;

/// Longest password read; LUKS takes no longer passphrase.
const LIMIT: u64 = 8192;

/// A password, without the end of its line.
///
/// # Errors
/// When nothing can be read.
pub fn password(question: &str) -> io::Result<Secret> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(stdin.lock());
    }
    let _open = Open::now();
    let mut stderr = io::stderr();
    write!(stderr, "{}", printable(question))?;
    stderr.flush()?;
    let before = termios::tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &silent)?;
    let answer = line(stdin.lock());
    termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &before)?;
    writeln!(stderr)?;
    answer
}

fn line(input: impl BufRead) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    input.take(LIMIT).read_until(b'\n', &mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "the password is no UTF-8 text; put it into a key file instead")
    })?;
    Ok(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read() {
        assert_eq!(line(&b"geheim wort\r\nnext"[..]).unwrap().0, "geheim wort");
        assert_eq!(line(&b""[..]).unwrap().0, "");
        assert!(line(&[0xff, b'\n'][..]).is_err());
    }
}
