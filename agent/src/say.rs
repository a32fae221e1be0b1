//! Text for people, on standard output and standard error: safe for terminals, as wide as these are, and never an end of the work.
//!
//! `println!` ends the program when whoever reads is gone: a copy would die of a closed pipe before its manifest is written. Here a
//! text that nobody takes is dropped.

use std::io::{IsTerminal, Write};

/// Signs in a line of a serial terminal, but for the last, which makes some of them skip a line.
const WIDTH: usize = 79;

/// As `println!`, for people.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::say::out(&format!($($argument)*))
    };
}

/// As `eprintln!`, for people.
macro_rules! tell {
    ($($argument:tt)*) => {
        $crate::say::error(&format!($($argument)*))
    };
}

pub(crate) use {say, tell};

/// Lines for people on standard output, which may hold names from disks.
pub(crate) fn out(text: &str) {
    // Nobody is left to hear it: that is no reason to stop the work.
    let _ = std::io::stdout().write_all(for_people(text).as_bytes());
}

/// Lines for people on standard error, which may hold names from disks.
pub(crate) fn error(text: &str) {
    let text = lines(text, std::io::stderr().is_terminal());
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A question on standard output; the answer is typed behind it.
pub(crate) fn ask(question: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(printable(question).as_bytes()).and_then(|()| stdout.flush());
}

/// Lines without anything that would steer a terminal; when standard output is one they are broken between words, and what follows
/// is indented a little more.
pub(crate) fn for_people(text: &str) -> String {
    lines(text, std::io::stdout().is_terminal())
}

fn lines(text: &str, is_terminal: bool) -> String {
    let lines = text.strip_suffix('\n').unwrap_or(text).split('\n').map(printable);
    let mut text = String::new();
    for line in lines {
        text += &if is_terminal { broken(&line) } else { line };
        text.push('\n');
    }
    text
}

/// A line as long as it is, in lines of [`WIDTH`]; words that are longer stay whole.
fn broken(line: &str) -> String {
    let indent = line.chars().take_while(|sign| *sign == ' ').count();
    let further = " ".repeat(indent.saturating_add(2).min(WIDTH / 2));
    let (mut text, mut row) = (String::new(), " ".repeat(indent));
    let mut empty = true;
    for word in line.get(indent..).unwrap_or_default().split(' ') {
        let length = row.chars().count().saturating_add(word.chars().count()).saturating_add(1);
        if !empty && length > WIDTH {
            text += row.trim_end();
            text.push('\n');
            row.clone_from(&further);
            empty = true;
        }
        if !empty {
            row.push(' ');
        }
        row += word;
        empty = false;
    }
    text + row.trim_end()
}

/// Names come from disks: what would steer the terminal is shown, not sent.
pub(crate) fn printable(line: &str) -> String {
    line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_lose_nothing() {
        let line = format!("  note: {}", "a word and another ".repeat(12));
        let text = broken(&line);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    ") && !line.starts_with("     ")), "{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(&line));
        assert_eq!(broken("short  and   spaced"), "short  and   spaced");
        let long = "x".repeat(200);
        assert_eq!(broken(&format!("a {long} b")), format!("a\n  {long}\n  b"));
        assert_eq!(broken(""), "");
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(lines("a\x1b[2Jb\nc", false), "a\\u{1b}[2Jb\nc\n");
        assert_eq!(lines("a\x1b[2Jb\nc", true), "a\\u{1b}[2Jb\nc\n");
    }
}
