//! `tierlift fsck`: what is wrong with a file system, and repairing it on an overlay.

use super::activate::{DiskArgs, StackArgs};
use super::text::{print_json, print_lines};
use super::{Failure, Outcome};
use crate::activate::bring_up::{Request, bring_up, device_mapper};
use crate::activate::session::Session;
use crate::activate::volume_overlay::{self, Fill};
use crate::activate::{dm::DeviceMapper, repaired_inodes, sysfs};
use crate::block::FileView;
use crate::case;
use crate::commands::text::say;
use crate::ext4::{Probe, SuperblockCopy, first_from, lost_superblock, probe, unlisted};
use crate::extract::mount::readable;
use crate::fsck::{self, Said, Way};
use crate::unlock::crypt;
use anyhow::Context;
use serde::Serialize;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;

/// Shows what is wrong with a volume's file system and what a repair would do; with --yes repairs it, on an overlay. The volume
/// itself stays as it was: `--undo` takes the overlay away again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/LV, or a thin device without a name as VG/thin:ID
    target: String,
    /// Repair on an overlay; mount and copy use the repaired state from then on
    #[arg(long)]
    yes: bool,
    /// Take the repaired state away: mount and copy use the volume as it was found again
    #[arg(long, conflicts_with = "yes")]
    undo: bool,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Answer with one JSON object (tierlift.fsck/1)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    target: &'a str,
    found: &'a Said,
    repaired: Option<&'a Said>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut session = args.disks.look()?;
    let dm = device_mapper()?;
    let device = device(&dm, &mut session, &args.target, &args.stack.clone().request_or_active())?;
    if args.undo {
        return undo(&dm, &args.target, &device);
    }
    let found = preview(&dm, &args.target, &device)?;
    let repaired = match args.yes && !found.is_clean() {
        true => Some(repair(&dm, &args.target, &device)?),
        false => None,
    };
    if args.json {
        print_json("tierlift.fsck/1", &Answer { target: &args.target, found: &found, repaired: repaired.as_ref() })?;
    } else {
        print_lines(&text(&args.target, &found, repaired.as_ref()))?;
    }
    Ok(outcome(&found, repaired.as_ref()))
}

/// The device with the file system, made readable when it is not.
fn device(dm: &DeviceMapper, session: &mut Session, target: &str, request: &Request) -> anyhow::Result<PathBuf> {
    let (group, wish) = session.resolve(target)?;
    let active = bring_up(dm, session, group, &wish, request)?;
    Ok(crypt::opened(&active.path))
}

/// What is wrong, looked at on a throw-away overlay where the journal was played back: without that, changes that are only in the
/// journal would look like damage. What is in use already is looked at as it is.
fn preview(dm: &DeviceMapper, target: &str, device: &Path) -> anyhow::Result<Said> {
    let fresh = volume_overlay::existing(dm, device)?.is_none();
    let view = FileView::open(device)?;
    if fresh && lost_superblock(&view).is_some() {
        // Nothing but a copy of its superblock leads into it: looked at without any overlay.
        return fsck::run(device, Way::Look);
    }
    if fresh && wants_replay(device)? {
        match play_back(dm, target, device) {
            Ok(()) => {
                crate::say::tell!("fsck: the NAS died while it wrote; looking at it with its journal played back")
            }
            Err(error) => crate::say::tell!("fsck: {error:#}; looking at it without"),
        }
    }
    let said = fsck::run(&readable(dm, device)?, Way::Look);
    if fresh {
        volume_overlay::remove(dm, device)?;
    }
    said
}

/// A journal was left that can be played back.
pub(super) fn wants_replay(device: &Path) -> anyhow::Result<bool> {
    // Where the beginning cannot be read nobody knows, and nothing could be done.
    let found = probe(&FileView::open(device)?);
    Ok(matches!(found, Ok(Probe::Ext4(found)) if found.wants_replay && found.obstacle().is_none()))
}

/// Puts a copy of the superblock in the place of the lost one, on an overlay. The page it lies in is written as a whole, because
/// what cannot be read cannot be written in parts; what else was in it (the boot block) is nobody's.
fn put_back(overlay: &Path, copy: SuperblockCopy) -> anyhow::Result<()> {
    const PAGE: usize = 4096;
    let view = FileView::open(overlay)?;
    let block = first_from(&view, copy).context("the copy of the superblock cannot be read any more")?;
    let mut page = [0; PAGE];
    if view.read_at(Bytes(0), &mut page).is_err() {
        page = [0; PAGE];
    }
    if let Some(place) = page.get_mut(block.len()..block.len().saturating_mul(2)) {
        place.copy_from_slice(&block);
    }
    let file = File::options().write(true).open(overlay);
    let done = file.and_then(|file| file.write_all_at(&page, 0).and_then(|()| file.sync_all()));
    done.with_context(|| format!("{}: the superblock on the overlay cannot be written", overlay.display()))
}

/// Repairs on the overlay and notes it in the case.
pub(super) fn repair(dm: &DeviceMapper, target: &str, device: &Path) -> anyhow::Result<Said> {
    refuse_mounted(target, device)?;
    let copy = lost_superblock(&FileView::open(device)?);
    if copy.is_none() {
        // QNAP's traps are switched off on the same overlay first.
        readable(dm, device)?;
    }
    let overlay = volume_overlay::over(dm, device)?;
    refuse_mounted(target, &overlay)?;
    let repairing = volume_overlay::Repairing::begin(device)?;
    let repaired = copy
        .map_or(Ok(()), |copy| put_back(&overlay, copy))
        .and_then(|()| repair_on(dm, target, device, &overlay, copy));
    if repaired.is_err() {
        volume_overlay::remove(dm, device)?;
    }
    repairing.end()?;
    let said = repaired?;
    case::keep(|case| {
        case.note(format!("repaired the file system of {target} on an overlay: {}", said.summary().join("; ")))
    })?;
    Ok(said)
}

/// Repairs, and keeps with the overlay which files may hold zeros or foreign data afterwards.
fn repair_on(
    dm: &DeviceMapper,
    target: &str,
    device: &Path,
    overlay: &Path,
    copy: Option<SuperblockCopy>,
) -> anyhow::Result<Said> {
    // Before the repair: then their lists of blocks are sound again, and holes are where they led to content.
    let mut suspicious = unlisted(&FileView::open(overlay)?);
    let said = on_overlay(dm, target, device, overlay, (Way::Repair, copy))?;
    suspicious.extend(&said.suspicious);
    if suspicious.len() >= repaired_inodes::MOST {
        let message = format!(
            "{target}: more files lost parts than can be kept in mind ({}); the repair was thrown away, because nobody could tell \
             them from whole ones. `tierlift copy --as-found` and `--without-mount` copy what can be read without it",
            suspicious.len()
        );
        return Err(Failure { outcome: Outcome::FAILED, message }.into());
    }
    repaired_inodes::add(overlay, &suspicious)?;
    Ok(said)
}

/// Plays the journal back on the overlay. Without it the newest changes would be missing, and what they touch may be torn.
pub(super) fn play_back(dm: &DeviceMapper, target: &str, device: &Path) -> anyhow::Result<()> {
    readable(dm, device)?;
    let overlay = volume_overlay::over(dm, device)?;
    let said = on_overlay(dm, target, device, &overlay, (Way::Journal, None))?;
    if said.code & !3 != 0 {
        volume_overlay::remove(dm, device)?;
        let message = format!("{target}: the journal cannot be played back (e2fsck ended with {})", said.code);
        return Err(Failure::unusable(message).into());
    }
    Ok(())
}

/// Runs e2fsck on the overlay; one that is about to run full is taken away, and told.
fn on_overlay(
    dm: &DeviceMapper,
    target: &str,
    device: &Path,
    overlay: &Path,
    (way, copy): (Way, Option<SuperblockCopy>),
) -> anyhow::Result<Said> {
    let is_nearly_full = || {
        // When nobody can say, the overlay is looked at afterwards.
        volume_overlay::fill(dm, device).ok().flatten().is_some_and(Fill::is_nearly_full)
    };
    let before = volume_overlay::fill(dm, device)?.map_or_else(Default::default, |fill| fill.size);
    if let Some(said) = fsck::run_unless(overlay, way, copy, &is_nearly_full)? {
        if !volume_overlay::is_broken(dm, device)? {
            return Ok(said);
        }
    }
    volume_overlay::remove(dm, device)?;
    let need = match probe(&FileView::open(device)?) {
        Ok(Probe::Ext4(found)) => format!("about {} at most", found.metadata_size().human()),
        _ => "more".to_owned(),
    };
    let message = format!(
        "{target}: the overlay ({}) was about to run full, so the repair was stopped and thrown away; nothing is lost. It needs {need}: attach a blank disk of twice that, then `tierlift deactivate --all --unmount` and the same command with --scratch DISK; or give the machine four times that as memory",
        before.human()
    );
    Err(Failure { outcome: Outcome::FAILED, message }.into())
}

fn refuse_mounted(target: &str, device: &Path) -> anyhow::Result<()> {
    let number = sysfs::number_of(device)?;
    let mounts = number.map(sysfs::mounts_of).transpose()?.unwrap_or_default();
    match mounts.first() {
        None => Ok(()),
        Some(place) => Err(Failure {
            outcome: Outcome::FAILED,
            message: format!(
                "{target} is mounted on {}: end that first with `umount {}` in the shell, or `tierlift deactivate {target} --unmount`",
                place.display(),
                place.display()
            ),
        }
        .into()),
    }
}

fn undo(dm: &DeviceMapper, target: &str, device: &Path) -> anyhow::Result<Outcome> {
    let removed = volume_overlay::remove(dm, device)?;
    if removed {
        case::keep(|case| case.note(format!("took the overlay of {target} away: it is as it was found again")))?;
        say!("{target} is as it was found again.");
    } else {
        say!("{target} has no overlay: there is nothing to undo.");
    }
    Ok(Outcome::CLEAN)
}

fn outcome(found: &Said, repaired: Option<&Said>) -> Outcome {
    match (found.is_clean(), repaired) {
        (true, _) => Outcome::CLEAN,
        (false, Some(said)) if said.failed() => Outcome::FAILED,
        (false, Some(said)) if said.code & 4 != 0 => Outcome::UNUSABLE,
        (false, Some(_)) => Outcome::REPORTED,
        (false, None) if found.failed() => Outcome::UNUSABLE,
        (false, None) => Outcome::DAMAGE,
    }
}

fn text(target: &str, found: &Said, repaired: Option<&Said>) -> String {
    if found.is_clean() {
        return format!("{target}: the file system is sound.\n");
    }
    let mut text = format!("{target}: the file system is damaged.\n");
    found.summary().iter().for_each(|line| text += &format!("  {line}\n"));
    match repaired {
        None => {
            text += &format!(
                "Nothing was changed. `tierlift fsck {target} --yes` repairs it on an overlay (the disks are not touched, --undo goes \
                 back). Copy first what can be copied without: a repair can also take names away.\n"
            );
        }
        Some(said) if said.code & !3 != 0 => {
            text += &format!("The repair did not come to its end (e2fsck ended with {}):\n", said.code);
            said.lines.iter().rev().take(3).rev().for_each(|line| text += &format!("  {line}\n"));
        }
        Some(_) => text += "Repaired on the overlay; mount and copy use that now. --undo takes it away again.\n",
    }
    text
}
