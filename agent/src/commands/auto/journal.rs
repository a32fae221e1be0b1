//! The case on the target disk, so that a power cut or a reboot loses nothing.

use crate::case::{self, AutoState, Case};
use crate::commands::text::say;
use crate::commands::{Failure, Outcome};
use crate::inventory::Inventory;
use anyhow::Context;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Folder of the case on the target.
const FOLDER: &str = "tierlift-case";
const FILE: &str = "case.json";

/// The case on the target.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// Begins a case on the target, or goes on with the one that is there.
    ///
    /// # Errors
    /// When the one that is there is of other disks.
    pub(super) fn open(target: &Path, inventory: &Inventory) -> anyhow::Result<Self> {
        let journal = Self { folder: target.join(FOLDER) };
        std::fs::create_dir_all(&journal.folder)
            .with_context(|| format!("{} cannot be made", journal.folder.display()))?;
        let groups: Vec<String> = inventory.volume_groups.iter().map(|group| group.id.clone()).collect();
        let earlier = case::read(&journal.folder.join(FILE))?;
        if let Some(state) = earlier.as_ref().and_then(|case| case.auto.as_ref()) {
            if !groups.iter().any(|group| state.groups.contains(group)) {
                return Err(Failure {
                    outcome: Outcome::FAILED,
                    message: format!(
                        "{} belongs to the recovery of other disks; name a folder of its own for these, as in --target DEV:FOLDER",
                        journal.folder.display()
                    ),
                }
                .into());
            }
            say!("Going on with the recovery that is on the target.");
        }
        case::keep(|case| journal.begin(case, earlier, groups))?;
        Ok(journal)
    }

    /// What an earlier run did is taken over, unless this machine's own case already has it.
    fn begin(&self, case: &mut Case, earlier: Option<Case>, groups: Vec<String>) {
        // Only what is on this target says whether it is finished: the same disks may be copied to a second one.
        let finished = earlier.as_ref().and_then(|earlier| earlier.auto.as_ref()?.finished);
        if let Some(mut earlier) = earlier.filter(|earlier| earlier.started < case.started) {
            earlier.inventory = case.inventory.take();
            earlier.activations.iter_mut().for_each(|activation| activation.active = false);
            earlier.mounts.iter_mut().for_each(|mount| mount.active = false);
            earlier.note("went on after an interruption");
            *case = earlier;
        }
        case.auto = Some(AutoState { groups, finished });
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How an earlier run ended, when it came to its end.
    pub(super) fn finished(&self) -> Option<Outcome> {
        let state = case::load().ok().flatten()?.auto?;
        state.finished.map(Outcome)
    }

    pub(super) fn finish(&self, outcome: Outcome) -> anyhow::Result<()> {
        case::keep(|case| {
            case.auto.get_or_insert_with(AutoState::default).finished = Some(outcome.0);
            case.note("finished");
        })
    }

    /// Writes the case to the target, whole or not at all.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let Some(case) = case::load()? else { return Ok(()) };
        if let Err(error) = case::programs::save_log(&self.folder) {
            log::warn!("the log of programs cannot be put on the target: {error}");
        }
        let (path, part) = (self.folder.join(FILE), self.folder.join("case.json.part"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(&serde_json::to_vec_pretty(&case)?)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().with_context(|| format!("{} cannot be written: is the target full?", path.display()))
    }
}
