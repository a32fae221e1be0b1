//! `tierlift lvm generations`.

use super::look;
use crate::commands::text::{print_json, print_lines};
use crate::commands::{Failure, Outcome};
use crate::inventory::Inventory;
use crate::volume::choice::Choices;
use crate::volume::generation::{Generation, Origin, Proof};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    /// Disks or image files; all real disks of this machine when none is given
    paths: Vec<PathBuf>,
    /// List the text in this file, too; may be repeated
    #[arg(long, value_name = "FILE")]
    lvm_text: Vec<PathBuf>,
    /// Print one JSON object (tierlift.lvm-generations/1)
    #[arg(long)]
    json: bool,
}

/// A generation with what sets it apart from the newest usable one of its group.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    generation: &'a Generation,
    /// Logical volumes it has and the newest has not.
    only_here: Vec<&'a str>,
    /// Logical volumes the newest has and it has not.
    not_here: Vec<&'a str>,
    /// It is the one that is used when nobody chooses.
    used: bool,
    bytes: usize,
}

#[derive(Serialize)]
struct Answer<'a> {
    generations: &'a [Row<'a>],
    notes: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let texts = Choices { files: args.lvm_text, ..Choices::default() };
    let found = look(args.paths, texts)?;
    let rows = rows(&found.generations, &found.inventory);
    let notes = notes(&found.inventory);
    if args.json {
        print_json("tierlift.lvm-generations/1", &Answer { generations: &rows, notes })?;
    } else {
        print_lines(&describe(&rows, &notes))?;
    }
    if !found.generations.iter().any(Generation::is_usable) {
        let message = "no text of a volume group was found in one piece; `tierlift scan` tells what is on the disks";
        return Err(Failure::unusable(message).into());
    }
    let sound = |id: &str| {
        let mut of_group = found.generations.iter().filter(|generation| generation.id == id);
        of_group.any(|generation| generation.origin == Origin::Committed && generation.proof == Proof::Checksum)
    };
    let damaged = found.inventory.volume_groups.iter().any(|group| !sound(&group.id));
    Ok(if damaged { Outcome::DAMAGE } else { Outcome::CLEAN })
}

fn notes(inventory: &Inventory) -> Vec<String> {
    let groups = inventory.volume_groups.iter();
    let of_groups = groups.flat_map(|group| group.notes.iter().map(|note| format!("{}: {note}", group.name)));
    inventory.notes.iter().cloned().chain(of_groups).collect()
}

fn rows<'a>(all: &'a [Generation], inventory: &Inventory) -> Vec<Row<'a>> {
    let mut newest: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for generation in all.iter().filter(|generation| generation.is_usable()) {
        newest.entry(&generation.id).or_insert_with(|| generation.volumes.iter().map(String::as_str).collect());
    }
    let used: BTreeSet<&str> = inventory.volume_groups.iter().map(|group| group.text.generation.as_str()).collect();
    let row = |generation: &'a Generation| {
        let here: BTreeSet<&str> = generation.volumes.iter().map(String::as_str).collect();
        let newest = newest.get(generation.id.as_str()).filter(|_| generation.is_usable());
        let newest = newest.unwrap_or(&here);
        Row {
            only_here: here.difference(newest).copied().collect(),
            not_here: newest.difference(&here).copied().collect(),
            used: used.contains(generation.name.as_str()),
            bytes: generation.text.len(),
            generation,
        }
    };
    all.iter().map(row).collect()
}

fn describe(rows: &[Row<'_>], notes: &[String]) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = table(rows, &mut out);
    if !notes.is_empty() {
        out.push_str("\nWhat is wrong\n");
        notes.iter().for_each(|note| out.push_str(&format!("- {note}\n")));
    }
    out
}

fn table(rows: &[Row<'_>], out: &mut String) -> std::fmt::Result {
    let mut id = None;
    for row in rows {
        let generation = row.generation;
        if id != Some(&generation.id) {
            id = Some(&generation.id);
            group_head(rows, generation, out)?;
        }
        if generation.id.is_empty() && !generation.name.ends_with("@0") {
            continue;
        }
        let mark = if row.used { '*' } else { ' ' };
        let name = &generation.name;
        writeln!(out, "{mark} {name:<14} {}, {}, {} bytes", generation.what(), generation.proof_words(), row.bytes)?;
        writeln!(out, "      written {}{}", generation.written(), version(generation))?;
        if let Some(description) = &generation.description {
            writeln!(out, "      LVM says: {description}")?;
        }
        volumes("has, unlike the newest", &row.only_here, out)?;
        volumes("lacks, unlike the newest", &row.not_here, out)?;
        for finding in &generation.found {
            writeln!(out, "      at {}", finding.place)?;
        }
    }
    Ok(())
}

fn group_head(rows: &[Row<'_>], first: &Generation, out: &mut String) -> std::fmt::Result {
    let count = rows.iter().filter(|row| row.generation.id == first.id).count();
    match first.id.is_empty() {
        true => writeln!(out, "Ends of texts whose beginning was written over: {count}; the first (--json lists all):"),
        false => writeln!(
            out,
            "Volume group {} (id {}): {count} texts, newest first; * is the one that is used",
            first.group, first.id
        ),
    }
}

fn version(generation: &Generation) -> String {
    generation.lvm_version.as_ref().map(|version| format!(", LVM {version}")).unwrap_or_default()
}

fn volumes(what: &str, names: &[&str], out: &mut String) -> std::fmt::Result {
    if names.is_empty() { Ok(()) } else { writeln!(out, "      {what}: {}", names.join(", ")) }
}
