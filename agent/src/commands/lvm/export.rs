//! `tierlift lvm export`.

use super::look;
use crate::block::Place;
use crate::commands::pool::Output;
use crate::commands::{Failure, Outcome};
use crate::say::tell;
use crate::volume::choice::{Choices, pick};
use crate::volume::find_group;
use crate::volume::generation::Generation;
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;
use tierlift_ondisk::lvm_archive::archive;
use tierlift_ondisk::lvm_text::Value;

#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Args {
    /// Disks or image files; all real disks of this machine when none is given
    paths: Vec<PathBuf>,
    /// Which text: NAME@NUMBER as `tierlift lvm generations` lists them; the one in use when not given
    #[arg(long, value_name = "VG@NUMBER")]
    generation: Option<String>,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// The bytes as they lie on the disk, also of a text of which only a part is left
    #[arg(long)]
    raw: bool,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let sources: Vec<Place> = args.paths.iter().map(Place::whole).collect();
    let mut output = Output::create(&args.output, args.force, &sources.iter().collect::<Vec<_>>())?;
    let found = look(args.paths, Choices::default())?;
    let wanted = match &args.generation {
        Some(wanted) => wanted.clone(),
        None => match found.inventory.volume_groups.as_slice() {
            [group] => group.text.generation.clone(),
            [] => return Err(Failure::unusable("no volume group was found; see `tierlift lvm generations`").into()),
            several => {
                let names: Vec<&str> = several.iter().map(|group| group.text.generation.as_str()).collect();
                return Err(Failure::usage(format!(
                    "several groups are here; choose one with --generation: {}",
                    names.join(", ")
                ))
                .into());
            }
        },
    };
    let generation = pick(&found.generations, &wanted)?;
    let text = if args.raw { generation.text.to_vec() } else { as_archive(generation)?.into_bytes() };
    output.file().write_all(&text).with_context(|| format!("{} cannot be written", args.output.display()))?;
    output.finish()?;
    let form = if args.raw { "as it lies on the disk" } else { "in the form of LVM's backups" };
    tell!(
        "{} was written to {}, {form}: {}, {}",
        generation.name,
        args.output.display(),
        generation.what(),
        generation.proof_words()
    );
    Ok(if generation.is_usable() { Outcome::CLEAN } else { Outcome::DAMAGE })
}

/// The text as LVM writes its backups, with what is known of its origin in the header.
fn as_archive(generation: &Generation) -> anyhow::Result<String> {
    let parsed = generation.parse();
    let Some((name, group)) = parsed.as_ref().and_then(find_group) else {
        let message = format!("only a part of {} is left; write it out as it is with --raw", generation.name);
        return Err(Failure::unusable(message).into());
    };
    let place = generation.found.first().map(|finding| finding.place.as_str()).unwrap_or_default();
    let comment = format!(
        "Taken by Tierlift {} from {place}: {}, {}",
        env!("CARGO_PKG_VERSION"),
        generation.what(),
        generation.proof_words()
    );
    let text = |text: &Option<String>| Value::Text(text.clone().unwrap_or_default());
    let mut header = vec![
        ("contents", Value::Text("Text Format Volume Group".into())),
        ("version", Value::Integer(1)),
        ("description", text(&generation.description)),
        ("creation_host", text(&generation.creation_host)),
    ];
    let time = generation.creation_time.and_then(|time| i64::try_from(time).ok());
    header.extend(time.map(|time| ("creation_time", Value::Integer(time))));
    Ok(archive(&comment, &header, name, group))
}
