//! Printing, for verbs that answer with text or with one JSON object.

use anyhow::Context;
use serde::Serialize;
use std::io::Write;
use tierlift_ondisk::units::Sectors;

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

/// Prints lines that hold names from disks.
pub(super) fn print_lines(text: &str) -> anyhow::Result<()> {
    print(&text.lines().map(|line| printable(line) + "\n").collect::<String>())
}

/// Names come from disks: what would steer the terminal is shown, not sent.
pub(super) fn printable(line: &str) -> String {
    line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A size for people.
pub(super) fn human(sectors: Sectors) -> String {
    sectors.to_bytes().map_or("impossibly large".into(), |bytes| bytes.human())
}
