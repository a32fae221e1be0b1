//! The case on the target disk, so that a power cut or a reboot loses nothing.

use crate::case::beside::{self, FILE, FOLDER};
use crate::case::{self, AutoState, Case};
use crate::commands::text::say;
use crate::commands::{Failure, Outcome};
use crate::inventory::Inventory;
use anyhow::Context;
use std::path::{Path, PathBuf};

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
            // Where nothing was found yet, nobody owns the folder.
            if !state.groups.is_empty() && !groups.iter().any(|group| state.groups.contains(group)) {
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
        case::keep(|case| begin(case, earlier, groups))?;
        Ok(journal)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// How an earlier run ended, when it came to its end with at least these volumes.
    pub(super) fn finished(&self, volumes: &[String], from_snapshots: bool) -> Option<Outcome> {
        let state = case::load().ok().flatten()?.auto?;
        let all =
            volumes.iter().all(|volume| state.volumes.contains(volume)) && (state.from_snapshots || !from_snapshots);
        state.finished.filter(|_| all).map(Outcome)
    }

    pub(super) fn finish(&self, outcome: Outcome, volumes: Vec<String>, from_snapshots: bool) -> anyhow::Result<()> {
        case::keep(|case| {
            let state = case.auto.get_or_insert_with(AutoState::default);
            state.finished = Some(outcome.0);
            state.volumes.retain(|old| !volumes.contains(old));
            state.volumes.extend(volumes);
            state.from_snapshots |= from_snapshots;
            case.note("finished");
        })
    }

    /// Writes the case to the target, whole or not at all.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        beside::save(&self.folder)
    }
}

/// What an earlier run did is taken over, unless this machine's own case already goes on with it. Two recoveries in one session of the
/// machine do not mix.
fn begin(case: &mut Case, earlier: Option<Case>, groups: Vec<String>) {
    // Only what is on this target says what is finished: the same disks may be copied to a second one.
    let state = earlier.as_ref().and_then(|earlier| earlier.auto.clone()).unwrap_or_default();
    let of_others =
        |auto: &AutoState| !auto.groups.is_empty() && !groups.iter().any(|group| auto.groups.contains(group));
    if case.auto.as_ref().is_some_and(of_others) {
        *case = Case { inventory: case.inventory.take(), texts: std::mem::take(&mut case.texts), ..Case::default() };
    }
    if let Some(earlier) = earlier.filter(|earlier| earlier.id != case.id) {
        case.continue_from(earlier);
    }
    case.auto = Some(AutoState { groups, ..state });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Copied;

    fn state(group: &str, finished: Option<u8>) -> Option<AutoState> {
        Some(AutoState { groups: vec![group.into()], finished, volumes: vec!["vg1/lv1".into()], from_snapshots: false })
    }

    #[test]
    fn two_recoveries_do_not_mix() {
        let mut case = Case { auto: state("one", Some(0)), ..Case::default() };
        case.copied(Copied { source: "vg1/lv1".into(), ..Copied::default() });
        let before = case.id.clone();
        begin(&mut case, None, vec!["two".into()]);
        assert!(case.copies.is_empty() && case.id != before && case.auto.unwrap().finished.is_none());
    }

    #[test]
    fn a_second_target_is_not_finished_and_the_first_goes_on() {
        let mut case = Case { auto: state("one", Some(0)), ..Case::default() };
        case.copied(Copied { source: "vg1/lv1".into(), ..Copied::default() });
        begin(&mut case, None, vec!["one".into()]);
        assert!(case.copies.len() == 1 && case.auto.as_ref().unwrap().finished.is_none());
        let earlier = Case { auto: state("one", Some(2)), ..Case::default() };
        let id = earlier.id.clone();
        let mut fresh = Case::default();
        begin(&mut fresh, Some(earlier), vec!["one".into()]);
        assert_eq!((fresh.id, fresh.auto.unwrap().finished), (id, Some(2)));
    }
}
