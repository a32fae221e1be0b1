//! Editing one line on any terminal or serial program: both backspace keys, Ctrl-U, Ctrl-C. Bytes in, echo out; no I/O.

/// Longest line; what is typed beyond it rings the bell.
pub const LIMIT: usize = 2000;

const BELL: u8 = 0x07;
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;

/// What a key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The line goes on.
    More,
    /// Enter: the line is finished.
    Line(Vec<u8>),
    /// Ctrl-C: the line is thrown away.
    Thrown,
    /// Ctrl-D on an empty line.
    End,
}

/// A line being typed.
#[derive(Debug, Default)]
pub struct Editor {
    line: Vec<u8>,
    escape: Escape,
}

/// Where in the byte sequence of an arrow or function key we are; but for one such keys do nothing.
#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Parameters,
    /// As far as the sequence of the shell's key came: so many bytes of it.
    Shell(usize),
}

/// What F12 sends on every common terminal, behind the escape. Five bytes in a row: no noise on a line is taken for it.
const SHELL_KEY: &[u8] = b"[24~";

impl Editor {
    /// Takes a byte; what the terminal should show for it is appended to `echo`.
    pub fn key(&mut self, byte: u8, echo: &mut Vec<u8>) -> Key {
        if self.is_escape(byte) {
            return if self.escape == Escape::Shell(SHELL_KEY.len()) { self.shell(echo) } else { Key::More };
        }
        match byte {
            b'\r' | b'\n' => {
                echo.push(b'\n');
                return Key::Line(std::mem::take(&mut self.line));
            }
            CTRL_C => {
                echo.extend(b"^C\n");
                self.line.clear();
                return Key::Thrown;
            }
            CTRL_D if self.line.is_empty() => return Key::End,
            CTRL_U => while self.rub_out(echo) {},
            0x08 | 0x7f if !self.rub_out(echo) => echo.push(BELL),
            b'\t' => self.insert(b' ', echo),
            0x20.. if byte != 0x7f => self.insert(byte, echo),
            _ => {}
        }
        Key::More
    }

    /// One key opens the shell, unless something else is being typed.
    fn shell(&mut self, echo: &mut Vec<u8>) -> Key {
        self.escape = Escape::None;
        if !self.line.is_empty() {
            echo.push(BELL);
            return Key::More;
        }
        echo.extend(b"shell\n");
        Key::Line(b"shell".to_vec())
    }

    /// What was typed so far.
    pub fn typed(&self) -> &[u8] {
        &self.line
    }

    /// Whether the next byte belongs to the character that was begun.
    pub fn is_inside_character(&self) -> bool {
        std::str::from_utf8(&self.line).is_err_and(|error| error.error_len().is_none())
    }

    fn is_escape(&mut self, byte: u8) -> bool {
        let (is_part, next) = match (&self.escape, byte) {
            (_, ESCAPE) => (true, Escape::Begun),
            (Escape::Begun, b'[') => (true, Escape::Shell(1)),
            (Escape::Shell(come), byte) if SHELL_KEY.get(*come) == Some(&byte) => {
                (true, Escape::Shell(come.saturating_add(1)))
            }
            (Escape::Begun, b'O') => (true, Escape::Parameters),
            (Escape::Parameters | Escape::Shell(_), 0x20..=0x3f) => (true, Escape::Parameters),
            (Escape::Begun | Escape::Parameters | Escape::Shell(_), 0x20..=0x7e) => (true, Escape::None),
            _ => (false, Escape::None),
        };
        self.escape = next;
        is_part
    }

    fn insert(&mut self, byte: u8, echo: &mut Vec<u8>) {
        if self.line.len() < LIMIT {
            self.line.push(byte);
            echo.push(byte);
        } else {
            echo.push(BELL);
        }
    }

    /// Removes the last character, all bytes of it. `false` when there is none.
    fn rub_out(&mut self, echo: &mut Vec<u8>) -> bool {
        while let Some(byte) = self.line.pop() {
            if !is_continuation(byte) {
                echo.extend(b"\x08 \x08");
                return true;
            }
        }
        false
    }
}

/// A byte of a UTF-8 character other than its first.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn type_in(bytes: &[u8]) -> (Vec<Key>, Vec<u8>) {
        let (mut editor, mut echo) = (Editor::default(), Vec::new());
        let keys = bytes.iter().map(|byte| editor.key(*byte, &mut echo)).filter(|key| *key != Key::More).collect();
        (keys, echo)
    }

    fn lines(bytes: &[u8]) -> Vec<String> {
        let text = |key| if let Key::Line(line) = key { String::from_utf8(line).unwrap() } else { format!("{key:?}") };
        type_in(bytes).0.into_iter().map(text).collect()
    }

    #[test]
    fn both_spellings_of_enter() {
        assert_eq!(lines(b"a\rb\n\n"), ["a", "b", ""]);
    }

    #[test]
    fn both_backspaces_and_ctrl_u() {
        assert_eq!(lines(b"scam\x7fn x\x08\x08\r"), ["scan"]);
        assert_eq!(lines("\u{e9}\u{20ac}x\x7f\x7f\r".as_bytes()), ["\u{e9}"]);
        assert_eq!(lines(b"wrong\x15scan\r"), ["scan"]);
        assert_eq!(type_in(b"a\x7f\x7f").1, b"a\x08 \x08\x07", "nothing left to remove rings the bell");
    }

    #[test]
    fn ctrl_c_throws_the_line_away() {
        assert_eq!(type_in(b"scan\x03ok\r").0, [Key::Thrown, Key::Line(b"ok".to_vec())]);
    }

    #[test]
    fn ctrl_d_ends_only_an_empty_line() {
        assert_eq!(type_in(b"\x04a\x04\r").0, [Key::End, Key::Line(b"a".to_vec())]);
    }

    #[test]
    fn arrow_and_function_keys_do_nothing() {
        assert_eq!(lines(b"s\x1b[Ac\x1b[1;5Da\x1bOPn\x1b[15~\r"), ["scan"]);
    }

    #[test]
    fn one_key_opens_the_shell_when_nothing_else_is_typed() {
        let (keys, echo) = type_in(b"\x1b[24~scan\r");
        assert_eq!(keys, [Key::Line(b"shell".to_vec()), Key::Line(b"scan".to_vec())]);
        assert_eq!(echo, b"shell\nscan\n");
        assert_eq!(lines(b"sc\x1b[24~an\r"), ["scan"]);
        assert_eq!(lines(b"\x1b[2~\x1b[21~\x1b[24;5~\x1b[2\x1b[24scan\r"), ["can"], "keys that begin as it does");
    }

    proptest! {
        #[test]
        fn lines_are_bounded_and_echo_is_proportional(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
            let (keys, echo) = type_in(&bytes);
            prop_assert!(keys.iter().all(|key| !matches!(key, Key::Line(line) if line.len() > LIMIT)));
            prop_assert!(echo.len() <= bytes.len().saturating_mul(4), "a character is echoed once and removed once");
        }
    }
}
