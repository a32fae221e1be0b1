//! Printing, for verbs that answer with text or with one JSON object.

use anyhow::Context;
use serde::Serialize;
use std::io::Write;
use tierlift_ondisk::units::Sectors;

pub(super) use crate::say::{for_people, printable, say};

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

/// Prints an object that has its schema already, in one line.
pub(super) fn print_object(object: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{object}\n"))
}

/// Prints text as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("the answer cannot be written to standard output")
}

/// Prints lines for people, which may hold names from disks.
pub(super) fn print_lines(text: &str) -> anyhow::Result<()> {
    print(&for_people(text))
}

/// A size for people.
pub(super) fn human(sectors: Sectors) -> String {
    sectors.to_bytes().map_or("impossibly large".into(), |bytes| bytes.human())
}
