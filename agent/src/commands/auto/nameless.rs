//! Files that a damaged file system no longer reaches: a repair on an overlay puts them into lost+found, and they are copied
//! from there. Everything else was copied before, from the file system as it was found: a repair can also take names away.

use super::Work;
use super::volumes::Chosen;
use crate::activate::bring_up::bring_up;
use crate::activate::repaired_inodes;
use crate::block::FileView;
use crate::commands::Outcome;
use crate::commands::text::say;
use crate::ext4::{Probe, probe};
use crate::extract::copy::{self, Done, Job};
use crate::extract::lost_found::FOLDER;
use crate::extract::mount::{default_directory, mount_read_only, readable};
use crate::fsck::{self, Way};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Work<'_> {
    /// Adds to a copy what a repair finds without a name.
    pub(super) fn add_nameless(&mut self, volume: &Chosen, tree: &Path, done: &mut Done) -> anyhow::Result<()> {
        let active = bring_up(&self.dm, &mut self.session, volume.group, &volume.wish, &self.request)?;
        let device = self.opened(volume, &active)?;
        if !matches!(probe(&FileView::open(&readable(&self.dm, &device)?)?), Ok(Probe::Ext4(_))) {
            return Ok(());
        }
        say!("  checking the file system (nothing is changed)");
        let said = match fsck::run(&readable(&self.dm, &device)?, Way::Look) {
            Ok(said) => said,
            // Nothing was missed so far, and nothing is lost by not knowing more.
            Err(error) if done.counts.damaged == 0 => return self.not_checked(volume, &format!("{error:#}")),
            Err(error) => return Err(error),
        };
        said.summary().iter().for_each(|line| say!("    {line}"));
        // A check that may change nothing gives up where it cannot read; a repair goes on behind that.
        let gave_up = said.failed() && done.counts.damaged > 0;
        if !gave_up && !said.kinds.keys().any(|kind| kind.contains(FOLDER)) {
            return match said.failed() {
                true => self.not_checked(volume, &format!("e2fsck ended with {}", said.code)),
                false => Ok(()),
            };
        }
        say!("  parts of the file system cannot be reached any more; a repair may find files without a name");
        if let Err(error) = self.repaired(volume, &device) {
            return self.missed(volume, &error);
        }
        let directory = default_directory(&active.plan.device);
        mount_read_only(&self.dm, &active.path, &directory)?;
        let job = Job {
            name: format!("{}:{FOLDER}", volume.name),
            source: directory.join(FOLDER),
            target: tree.join(FOLDER),
            force: false,
            suspicious: repaired_inodes::shown_at(&directory)?,
        };
        let found = copy::run(&job, &mut |line| crate::say::tell!("copy: {line}"));
        // What was in lost+found before is met again, unless the repair took it away.
        let is_there = |path: &Path| directory.join(path).symlink_metadata().is_ok();
        let again: BTreeSet<PathBuf> =
            done.lost_found.iter().map(|(path, _)| path).filter(|path| is_there(path)).cloned().collect();
        if let Err(errno) = nix::mount::umount(&directory) {
            log::warn!("{} cannot be unmounted: {errno}", directory.display());
        }
        add(done, &found?, &again);
        Ok(())
    }

    /// Files without a name are there, or may be, and were not had. When the user did not want a repair that is all there is to do.
    fn missed(&mut self, volume: &Chosen, error: &anyhow::Error) -> anyhow::Result<()> {
        if self.ask.repairs()? {
            return self.failed(&format!("{}: files without a name", volume.name), error);
        }
        self.outcome = self.outcome.and(Outcome::DAMAGE);
        self.tell(format!("{}: files without a name may be left ({error:#})", volume.name))
    }

    fn not_checked(&mut self, volume: &Chosen, why: &str) -> anyhow::Result<()> {
        self.outcome = self.outcome.and(Outcome::REPORTED);
        self.tell(format!("{}: whether files without a name are left is not known ({why})", volume.name))
    }
}

/// Adds what was found in lost+found after a repair. `again` are the things that the first copy had met there already: they count
/// as they were found the second time, once.
fn add(done: &mut Done, found: &Done, again: &BTreeSet<PathBuf>) {
    let (all, new) = (&mut done.counts, &found.counts);
    let before: Vec<_> = done.lost_found.iter().filter(|(path, _)| again.contains(path)).collect();
    before.iter().for_each(|(_, counts)| all.take_away(counts));
    all.add(new);
    all.nameless = all.nameless.saturating_add(new.copied).saturating_add(new.identical);
    all.nameless_bytes = all.nameless_bytes.saturating_add(new.recovered_bytes());
    let missed = before.iter().filter(|(_, counts)| counts.damaged.saturating_add(counts.failed) > 0);
    let told_before: Vec<String> = missed.map(|(path, _)| format!("{}: ", path.display())).collect();
    done.losses.retain(|told| !told_before.iter().any(|begin| told.starts_with(begin)));
    done.losses.extend(found.losses.iter().map(|told| format!("{FOLDER}/{told}")));
    done.losses.truncate(copy::MAX_LOSSES);
    done.took = done.took.saturating_add(found.took);
    done.verifying = done.verifying.saturating_add(found.verifying);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Counts;

    #[test]
    fn what_was_in_lost_and_found_before_counts_once() {
        let tree = Counts { copied: 10, directories: 2, bytes: 1000, ..Counts::default() };
        let whole = Counts { copied: 1, nameless: 1, bytes: 50, nameless_bytes: 50, ..Counts::default() };
        let damaged = Counts { damaged: 1, bytes: 30, lost_bytes: 10, nameless_bytes: 20, ..Counts::default() };
        let path = |number: u64| PathBuf::from(format!("{FOLDER}/#{number}"));
        let lost_found = vec![(path(1), whole), (path(2), damaged), (path(3), whole)];
        let mut counts = tree;
        lost_found.iter().for_each(|(_, more)| counts.add(more));
        let losses =
            vec!["a: 1 of 2 bytes cannot be read".into(), format!("{FOLDER}/#2: 10 of 30 bytes cannot be read")];
        let mut done = Done { counts, lost_found, losses, ..Done::default() };
        // The repair took #3 away, and found two more; #1 and #2 are as they were.
        let found =
            Counts { identical: 1, copied: 2, damaged: 1, bytes: 50 + 30 + 200, lost_bytes: 10, ..Counts::default() };
        let losses = vec!["#2: 10 of 30 bytes cannot be read".into()];
        let found = Done { counts: found, losses, ..Done::default() };
        add(&mut done, &found, &[path(1), path(2)].into());
        let expected = Counts {
            copied: 10 + 1 + 2,
            identical: 1,
            damaged: 1,
            nameless: 4,
            bytes: 1000 + 50 + 30 + 50 + 200,
            lost_bytes: 10,
            nameless_bytes: 50 + 50 + 20 + 200,
            ..tree
        };
        assert_eq!(done.counts, expected);
        assert_eq!(done.losses, ["a: 1 of 2 bytes cannot be read", "lost+found/#2: 10 of 30 bytes cannot be read"]);
    }
}
