//! Files that a damaged file system no longer reaches: a repair on an overlay puts them into lost+found, and they are copied
//! from there. Everything else was copied before, from the file system as it was found: a repair can also take names away.

use super::Work;
use super::volumes::Chosen;
use crate::activate::bring_up::bring_up;
use crate::block::FileView;
use crate::commands::Outcome;
use crate::commands::text::say;
use crate::ext4::{Probe, probe};
use crate::extract::copy::{self, Done, Job};
use crate::extract::lost_found::FOLDER;
use crate::extract::mount::{default_directory, mount_read_only, readable};
use crate::fsck::{self, Way};
use std::path::Path;

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
        };
        let found = copy::run(&job, &mut |line| crate::say::tell!("copy: {line}"));
        if let Err(errno) = nix::mount::umount(&directory) {
            log::warn!("{} cannot be unmounted: {errno}", directory.display());
        }
        add(done, &found?);
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

fn add(done: &mut Done, found: &Done) {
    let (all, new) = (&mut done.counts, &found.counts);
    let whole = new.copied.saturating_add(new.identical);
    all.add(new);
    all.nameless = all.nameless.saturating_add(whole);
    all.nameless_bytes = all.nameless_bytes.saturating_add(new.bytes);
    done.losses.extend(found.losses.iter().cloned());
    done.losses.truncate(copy::MAX_LOSSES);
    done.took = done.took.saturating_add(found.took);
    done.verifying = done.verifying.saturating_add(found.verifying);
}
