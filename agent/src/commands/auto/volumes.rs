//! The volumes: which, and each one's way from the pool to files on the target.

use super::Work;
use crate::activate::bring_up::{Active, bring_up};
use crate::activate::plan::Wish;
use crate::activate::{repaired_inodes, stack, volume_overlay};
use crate::block::FileView;
use crate::case::{self, ChunkMap, Copied, Mounted};
use crate::commands::text::say;
use crate::commands::{Failure, Outcome, fsck};
use crate::ext4::{Probe, lost_superblock, probe};
use crate::extract::copy::{self, Done, Job};
use crate::extract::image::{self, Image};
use crate::extract::mount::{default_directory, mount_read_only, readable};
use crate::extract::room;
use crate::extract::userland;
use crate::fsck::{self as fsck_tool, Way};
use crate::inventory::LogicalVolumeKind;
use crate::repair as new_metadata;
use crate::unlock::candidates::{self as unlock, of_password};
use crate::unlock::crypt;
use std::path::{Path, PathBuf};

/// Passwords asked for, for one volume, before it is left out.
const PASSWORDS: u32 = 3;

/// A volume that is to be recovered.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) group: usize,
    pub(super) wish: Wish,
    pub(super) name: String,
}

/// What there is to copy.
enum Shown {
    /// Files, mounted here.
    Files(PathBuf),
    /// No file system: the device.
    Raw(PathBuf),
    /// A file system that the kernel does not mount: the device.
    Unmountable(PathBuf),
}

impl Work<'_> {
    /// One volume's whole way. What fails is told and does not stop the others, unless the target cannot take more.
    pub(super) fn recover(&mut self, volume: &Chosen, fetch: bool) -> anyhow::Result<()> {
        say!("\n{}:", volume.name);
        case::keep(|case| case.tries_again(&volume.name))?;
        if self.nothing_is_left(volume)? {
            self.outcome = self.outcome.and(Outcome::DAMAGE);
            let why = "nothing of it is left: of what it was made of, not one piece can be found any more";
            say!("  NOT recovered: {}: {why}", volume.name);
            return case::keep(|case| case.failed(&volume.name, why));
        }
        let directory = match self.shown(volume) {
            Ok(Shown::Files(directory)) => directory,
            Ok(Shown::Raw(device)) => return self.image(volume, &device),
            Ok(Shown::Unmountable(device)) => return self.without_mount(volume, &device),
            Err(error) => return self.failed(&volume.name, &error),
        };
        let target = self.target.folder.join(image::file_name(&volume.name));
        let suspicious = repaired_inodes::shown_at(&directory)?;
        let job = Job { name: volume.name.clone(), source: directory.clone(), target, force: false, suspicious };
        // A volume that is too large for the target keeps no smaller one from it.
        let room = room::check(&directory, &job.target);
        let done = room.is_ok().then(|| copy::run(&job, &mut |line| crate::say::tell!("copy: {line}")));
        // Before the end of the copy is judged: a mount that stays would keep the volume busy.
        if let Err(errno) = nix::mount::umount(&directory) {
            log::warn!("{} cannot be unmounted: {errno}", directory.display());
        }
        if let Err(error) = room {
            return self.failed(&volume.name, &error);
        }
        let mut done = done.transpose()?.unwrap_or_default();
        let damaged = done.damaged.clone();
        // What was copied counts all the same, and the other volumes have their turn.
        if let Err(error) = self.add_nameless(volume, &job.target, &mut done) {
            self.failed(&format!("{}: files without a name", volume.name), &error)?;
        }
        let met_damage = done.counts.damaged > 0;
        self.copied(volume, done)?;
        if let Err(error) = self.tell_lost_inodes(volume, met_damage) {
            self.failed(&format!("A part of {}", volume.name), &error)?;
        }
        self.look_for_older(volume, &job.target, &damaged, fetch)
    }

    /// Whether the repair of its pool found nothing at all of a volume that held something.
    fn nothing_is_left(&self, volume: &Chosen) -> anyhow::Result<bool> {
        let Some(group) = self.session.inventory.volume_groups.get(volume.group) else { return Ok(false) };
        let Ok(Some(pool)) = stack::pool_of(group, &volume.wish) else { return Ok(false) };
        let device = match &volume.wish {
            Wish::Thin(_, device) => *device,
            Wish::Volume(name) => {
                match group.logical_volumes.iter().find(|found| found.name == *name).map(|found| &found.kind) {
                    Some(LogicalVolumeKind::Thin { device, .. }) => *device,
                    _ => return Ok(false),
                }
            }
        };
        let repaired = new_metadata::load(&group.id, &pool.name)?;
        let losses = repaired.map(|repaired| repaired.losses).unwrap_or_default();
        let maps = case::load()?.map(|case| case.chunk_maps).unwrap_or_default();
        let drawn_lost = maps.iter().any(|map| map.volume == volume.name && map.whole == 0 && map.lost > 0);
        Ok(drawn_lost || losses.iter().any(|loss| loss.device == device && loss.nothing_is_left()))
    }

    /// Tells and notes what a copy gave.
    fn copied(&mut self, volume: &Chosen, done: Done) -> anyhow::Result<()> {
        self.outcome = self.outcome.and(copy::outcome(&done.counts));
        let counts = &done.counts;
        say!(
            "{}: {} files copied and read back, {} were there already, {} damaged, {} not copied",
            volume.name,
            counts.copied,
            counts.identical,
            counts.damaged,
            counts.failed
        );
        counts.differences().iter().for_each(|told| say!("  {told}"));
        let manifest = self.target.name_on_target(&self.target_name, &done.manifest);
        let copied = done.copied(&volume.name, &self.target_name, manifest);
        case::keep(|case| case.copied(copied))
    }

    /// Its blocks are larger than the kernel's pages.
    fn is_beyond_the_kernel(&self, device: &Path) -> anyhow::Result<bool> {
        Ok(matches!(probe(&FileView::open(device)?), Ok(Probe::Ext4(found)) if found.obstacle().is_some()))
    }

    /// Files of a file system that is not mounted.
    fn without_mount(&mut self, volume: &Chosen, device: &Path) -> anyhow::Result<()> {
        say!("  its files are read without the kernel");
        let target = self.target.folder.join(image::file_name(&volume.name));
        let (name, suspicious) = (volume.name.clone(), repaired_inodes::of(device)?);
        let job = Job { name, source: device.to_owned(), target, force: false, suspicious };
        match userland::copy(&job, &mut |line| crate::say::tell!("copy: {line}")) {
            Ok(done) => self.copied(volume, done),
            // Nobody can read its files here, but what is on it must not stay behind.
            Err(error) if is_unusable(&error) => {
                self.outcome = self.outcome.and(Outcome::DAMAGE);
                self.tell(format!("{error:#}; the whole volume is copied as an image file instead"))?;
                self.image(volume, device)
            }
            Err(error) => self.failed(&volume.name, &error),
        }
    }

    /// No file system that could be read: an image takes what is there.
    fn raw(&self, device: PathBuf) -> anyhow::Result<Shown> {
        match probe(&FileView::open(&device)?) {
            Ok(_) => {
                say!("  no file system is on it (a LUN, a disk of another machine?): it is copied as an image file")
            }
            Err(_) => say!(
                "  its beginning cannot be read, and no copy of a superblock leads into it: what is left is copied as an image file"
            ),
        }
        Ok(Shown::Raw(device))
    }

    /// A volume without a file system, as an image file.
    fn image(&mut self, volume: &Chosen, device: &Path) -> anyhow::Result<()> {
        let target = self.target.folder.join(format!("{}.img", image::file_name(&volume.name)));
        let expected = case::load()?.and_then(|case| ChunkMap::held(&case.chunk_maps, &volume.name));
        let done = match image::copy(&Image { device, volume: &volume.name, target: &target, expected }) {
            // Another volume may fit.
            Err(error) if error.is::<image::Refused>() => return self.failed(&volume.name, &error),
            done => done?,
        };
        self.outcome = self.outcome.and(copy::outcome(&done.counts));
        let what = if done.was_there { "was there already, read back" } else { "copied and read back" };
        say!("{}: {what}, {} bytes of it lost", volume.name, done.counts.lost_bytes);
        let manifest = self.target.name_on_target(&self.target_name, &done.path);
        let copied = Copied {
            source: volume.name.clone(),
            target: self.target_name.clone(),
            counts: done.counts,
            losses: done.losses,
            manifest,
            ..Copied::default()
        };
        case::keep(|case| case.copied(copied))
    }

    /// Where the volume's files are to be seen; the volume itself when it has no file system.
    fn shown(&mut self, volume: &Chosen) -> anyhow::Result<Shown> {
        let active = bring_up(&self.dm, &mut self.session, volume.group, &volume.wish, &self.request)?;
        active.plan.warnings.iter().for_each(|warning| say!("  note: {warning}"));
        if active.plan.incomplete {
            self.outcome = self.outcome.and(Outcome::DAMAGE);
        }
        let device = self.opened(volume, &active)?;
        let directory = default_directory(&active.plan.device);
        self.led_by_a_copy(volume, &device)?;
        self.played_back(volume, &device)?;
        let done = match mount_read_only(&self.dm, &active.path, &directory) {
            Ok(done) => done,
            Err(error) => {
                let said = fsck_tool::run(&device, Way::Look)?;
                if said.failed() {
                    return self.raw(device);
                }
                say!("  {error:#}");
                if self.is_beyond_the_kernel(&device)? {
                    return Ok(Shown::Unmountable(readable(&self.dm, &device)?));
                }
                self.repaired(volume, &device)?;
                match mount_read_only(&self.dm, &active.path, &directory) {
                    Ok(done) => done,
                    Err(error) => {
                        say!("  {error:#}");
                        return Ok(Shown::Unmountable(readable(&self.dm, &device)?));
                    }
                }
            }
        };
        done.notes.iter().for_each(|note| say!("  note: {note}"));
        let mounted =
            Mounted { target: volume.name.clone(), directory: directory.clone(), notes: done.notes, active: true };
        case::keep(|case| case.mounted(mounted))?;
        Ok(Shown::Files(directory))
    }

    /// The device with the file system: the volume, or what was unlocked on it.
    pub(super) fn opened(&mut self, volume: &Chosen, active: &Active) -> anyhow::Result<PathBuf> {
        if let Some(open) = crypt::over_path(&active.path) {
            return Ok(open.path);
        }
        // A beginning that cannot be read is none of an encrypted volume that could be opened.
        if !matches!(probe(&FileView::open(&active.path)?), Ok(Probe::Luks)) {
            return Ok(active.path.clone());
        }
        let name = format!("{}-unlocked", active.plan.device);
        for _ in 0..PASSWORDS {
            let Some(password) = self.ask.password(&volume.name)? else { break };
            let candidates = of_password(&password.0);
            let trying = |_, candidate: &unlock::Candidate| say!("  trying {}", candidate.what);
            if crypt::open(&active.path, &name, &candidates, trying)?.is_some() {
                return Ok(Path::new("/dev/mapper").join(name));
            }
            say!("  the password does not open {}", volume.name);
            if !self.ask.another_password() {
                break;
            }
        }
        let message = format!(
            "{} is encrypted, and no password that opens it was given (--password reads it from standard input)",
            volume.name
        );
        Err(Failure::unusable(message).into())
    }

    /// A file system that lost its beginning is repaired from a copy of its superblock before anything else can be done with it.
    fn led_by_a_copy(&mut self, volume: &Chosen, device: &Path) -> anyhow::Result<()> {
        let Some(copy) = lost_superblock(&FileView::open(device)?) else { return Ok(()) };
        if volume_overlay::existing(&self.dm, device)?.is_some() {
            return Ok(());
        }
        self.tell(format!(
            "{}: the beginning of the file system is lost; the copy of its superblock at block {} leads to what is left",
            volume.name, copy.block
        ))?;
        self.repaired(volume, device)
    }

    /// Plays a journal back that was left when the NAS died; where that fails, the files are as they were without it.
    fn played_back(&mut self, volume: &Chosen, device: &Path) -> anyhow::Result<()> {
        if !fsck::wants_replay(device)? || volume_overlay::existing(&self.dm, device)?.is_some() {
            return Ok(());
        }
        match fsck::play_back(&self.dm, &volume.name, device) {
            Ok(()) => {
                say!("  the NAS died while it wrote: the journal was played back, on an overlay");
                case::keep(|case| case.note(format!("played the journal of {} back, on an overlay", volume.name)))?;
            }
            Err(error) => {
                say!("  note: {error:#}; the newest changes may be missing");
                self.outcome = self.outcome.and(Outcome::REPORTED);
                case::keep(|case| case.note(format!("{error:#}; the newest changes may be missing")))?;
            }
        }
        Ok(())
    }

    /// Repairs the file system on an overlay, after a question.
    pub(super) fn repaired(&mut self, volume: &Chosen, device: &Path) -> anyhow::Result<()> {
        say!(
            "  The file system of {} is damaged; a repair works on an overlay, the disks are not touched.",
            volume.name
        );
        if !self.ask.repairs()? {
            return Err(Failure::unusable(format!("{}: not repaired, as you wished", volume.name)).into());
        }
        let said = fsck::repair(&self.dm, &volume.name, device)?;
        said.summary().iter().for_each(|line| say!("  {line}"));
        self.outcome = self.outcome.and(Outcome::DAMAGE);
        Ok(())
    }

    /// Tells and notes what could not be done.
    pub(super) fn failed(&mut self, what: &str, error: &anyhow::Error) -> anyhow::Result<()> {
        say!("  NOT recovered: {what}: {error:#}");
        self.outcome = self.outcome.and(Outcome::FAILED);
        case::keep(|case| case.failed(what, &format!("{error:#}")))
    }
}

/// Whether it is the source that is of no use, and not the target that fails.
fn is_unusable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.outcome == Outcome::UNUSABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full target would not take the image either.
    #[test]
    fn only_a_source_that_cannot_be_read_becomes_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("volume.img");
        std::fs::write(&source, vec![0; 1 << 20]).unwrap();
        let target = folder.path().join("out");
        let job = Job { name: "vg1/lv1".into(), source, target, force: false, suspicious: [].into() };
        assert!(is_unusable(&userland::copy(&job, &mut |_| {}).unwrap_err()));
        let missing = Job { source: folder.path().join("missing"), ..job };
        assert!(!is_unusable(&userland::copy(&missing, &mut |_| {}).unwrap_err()));
        assert!(!is_unusable(&Failure { outcome: Outcome::FAILED, message: "full".into() }.into()));
    }
}
