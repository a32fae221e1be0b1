//! Printing, for verbs that answer with text or with one JSON object.

use anyhow::Context;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use tierlift_ondisk::units::Sectors;

/// Signs in a line of a serial terminal, but for the last, which makes some of them skip a line.
const WIDTH: usize = 79;

/// An object with its schema, as every verb prints it for programs.
#[derive(Serialize)]
struct Tagged<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// Prints an object with its schema.
pub(super) fn print_json(schema: &'static str, body: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&Tagged { schema, body })?;
    print(&format!("{text}\n"))
}

/// Prints text as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("the answer cannot be written to standard output")
}

/// Prints lines for people, which may hold names from disks.
pub(super) fn print_lines(text: &str) -> anyhow::Result<()> {
    print(&for_people(text))
}

/// As `println!`, for people: made safe for terminals, and as wide as these are.
macro_rules! say {
    ($($argument:tt)*) => {
        print!("{}", $crate::commands::text::for_people(&format!($($argument)*)))
    };
}
pub(super) use say;

/// Lines without anything that would steer a terminal; on one they are broken between words, and what follows is indented a little
/// more.
pub(super) fn for_people(text: &str) -> String {
    let is_terminal = std::io::stdout().is_terminal();
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
pub(super) fn printable(line: &str) -> String {
    line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A size for people.
pub(super) fn human(sectors: Sectors) -> String {
    sectors.to_bytes().map_or("impossibly large".into(), |bytes| bytes.human())
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
        assert_eq!(for_people("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\nc\n");
    }
}
