//! `tierlift fsck`: what is wrong with a file system, and repairing it on an overlay.

use super::activate::{DiskArgs, StackArgs};
use super::text::{print_json, print_lines};
use super::{Failure, Outcome};
use crate::activate::bring_up::{Request, bring_up, device_mapper};
use crate::activate::session::Session;
use crate::activate::volume_overlay::{self, Fill};
use crate::activate::{dm::DeviceMapper, sysfs};
use crate::block::FileView;
use crate::case;
use crate::ext4::{Probe, probe};
use crate::extract::mount::readable;
use crate::fsck::{self, Said, Way};
use crate::unlock::crypt;
use serde::Serialize;
use std::path::{Path, PathBuf};

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
    let found = fsck::run(&readable(&dm, &device)?, Way::Look)?;
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
    Ok(crypt::over_path(&active.path).map_or(active.path, |unlocked| unlocked.path))
}

/// Repairs on the overlay and notes it in the case.
pub(super) fn repair(dm: &DeviceMapper, target: &str, device: &Path) -> anyhow::Result<Said> {
    refuse_mounted(target, device)?;
    // QNAP's traps are switched off on the same overlay first.
    readable(dm, device)?;
    let overlay = volume_overlay::over(dm, device)?;
    refuse_mounted(target, &overlay)?;
    let said = on_overlay(dm, target, device, &overlay, Way::Repair)?;
    case::keep(|case| {
        case.note(format!("repaired the file system of {target} on an overlay: {}", said.summary().join("; ")))
    })?;
    Ok(said)
}

/// Plays the journal back on the overlay. Without it the newest changes would be missing, and what they touch may be torn.
pub(super) fn play_back(dm: &DeviceMapper, target: &str, device: &Path) -> anyhow::Result<()> {
    readable(dm, device)?;
    let overlay = volume_overlay::over(dm, device)?;
    let said = on_overlay(dm, target, device, &overlay, Way::Journal)?;
    if said.code & !3 != 0 {
        volume_overlay::remove(dm, device)?;
        let message = format!("{target}: the journal cannot be played back (e2fsck ended with {})", said.code);
        return Err(Failure::unusable(message).into());
    }
    case::keep(|case| case.note(format!("played the journal of {target} back, on an overlay")))
}

/// Runs e2fsck on the overlay; one that is about to run full is taken away, and told.
fn on_overlay(dm: &DeviceMapper, target: &str, device: &Path, overlay: &Path, way: Way) -> anyhow::Result<Said> {
    let is_nearly_full = || {
        // When nobody can say, the overlay is looked at afterwards.
        volume_overlay::fill(dm, device).ok().flatten().is_some_and(Fill::is_nearly_full)
    };
    let before = volume_overlay::fill(dm, device)?.map_or_else(Default::default, |fill| fill.size);
    if let Some(said) = fsck::run_unless(overlay, way, &is_nearly_full)? {
        if !volume_overlay::is_broken(dm, device)? {
            return Ok(said);
        }
    }
    volume_overlay::remove(dm, device)?;
    let need = match probe(&FileView::open(device)?)? {
        Probe::Ext4(found) => format!("about {} at most", found.metadata_size().human()),
        Probe::Luks | Probe::Unknown => "more".to_owned(),
    };
    let message = format!(
        "{target}: the overlay ({}) was about to run full, so the repair was stopped and thrown away; nothing is lost. It needs {need}:          attach a blank disk of twice that, then `tierlift deactivate --all --unmount` and the same command with --scratch DISK; or          give the machine four times that as memory",
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
        println!("{target} is as it was found again.");
    } else {
        println!("{target} has no overlay: there is nothing to undo.");
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
