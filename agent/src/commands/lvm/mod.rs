//! `tierlift lvm …`: the texts that describe volume groups: the one in force, and those before it.

mod export;
mod generations;
mod show;

use super::Outcome;
use crate::case;
use crate::discover::{self, Found, GivenArray, Wishes};
use crate::volume::choice::Choices;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show volume groups: physical and logical volumes, where each piece lies, guesses; of any generation of the text
    Show(show::Args),
    /// List every text that is left on the disks, newest first, with what changed
    Generations(generations::Args),
    /// Write one text into a file, in the form of LVM's backups
    Export(export::Args),
}

pub(super) fn run(verb: Verb) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Show(args) => show::run(args),
        Verb::Generations(args) => generations::run(args),
        Verb::Export(args) => export::run(args),
    }
}

/// Which text of a volume group is used, for all verbs that read volumes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct TextArgs {
    /// Use this text of a volume group: NAME@NUMBER as `tierlift lvm generations` lists them, NAME@committed for the one in force; may
    /// be repeated
    #[arg(long, value_name = "VG@NUMBER")]
    lvm_generation: Vec<String>,
    /// Use the text in this file for its volume group (a backup or archive of LVM); may be repeated
    #[arg(long, value_name = "FILE")]
    lvm_text: Vec<PathBuf>,
    /// Take this volume as a tier of its pool (TIER=LV), or as its metadata (metadata=LV), whatever the text says; may be repeated
    #[arg(long, value_name = "TIER=LV")]
    tier_volume: Vec<String>,
    /// Put an array together from these disks in this order, whatever their superblocks say; `missing` where there is none. LAYOUT
    /// is as mdadm calls it, - for the usual one; DISKpN is another partition than the third. May be repeated; kept with the case
    #[arg(long = "array", value_name = "LEVEL:CHUNK_KIB:LAYOUT:DISK,DISK,...")]
    arrays: Vec<GivenArray>,
}

impl TextArgs {
    /// What was asked for.
    fn choices(&self) -> Choices {
        Choices {
            generations: self.lvm_generation.clone(),
            files: self.lvm_text.clone(),
            parts: self.tier_volume.clone(),
            arrays: self.arrays.clone(),
        }
    }

    /// What was asked for now, which is kept with the case; else what was asked for before.
    pub(super) fn of_case(&self) -> anyhow::Result<Choices> {
        let mut now = self.choices();
        for file in &mut now.files {
            // Later verbs may run in another folder.
            *file = std::fs::canonicalize(&*file).unwrap_or_else(|_| file.clone());
        }
        let before = case::load()?.map(|case| case.texts).unwrap_or_default();
        if now.is_empty() {
            return Ok(before);
        }
        // How arrays are put together and how they are read are chosen apart from each other.
        if now.arrays.is_empty() {
            now.arrays = before.arrays;
        } else if now.names_no_text() {
            now = Choices { arrays: now.arrays, ..before };
        }
        let kept = now.clone();
        case::keep(|case| case.chose_texts(kept))?;
        Ok(now)
    }
}

/// Looks at the disks, with every text there is.
fn look(paths: Vec<PathBuf>, texts: Choices) -> anyhow::Result<Found> {
    let paths = if paths.is_empty() { discover::default_disks()? } else { paths };
    let mut found = discover::look(&paths, &Wishes { texts, every_text: true, ..Wishes::default() })?;
    found.inventory.volume_groups.retain(|group| !group.without_lvm);
    Ok(found)
}
