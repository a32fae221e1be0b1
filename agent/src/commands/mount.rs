//! `tierlift mount`: mounts a volume read-only.

use super::Outcome;
use super::activate::{DiskArgs, StackArgs};
use crate::activate::bring_up::{Request, bring_up, device_mapper};
use crate::activate::session::Session;
use crate::activate::volume_overlay;
use crate::case::{self, Mounted};
use crate::commands::text::{print_object, say};
use crate::extract::mount::{Done, default_directory, mount_read_only};
use crate::unlock::crypt;
use serde_json::json;
use std::path::PathBuf;

/// Mounts a volume read-only, making it readable first when it is not. `deactivate --unmount` ends it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/LV, or a thin device without a name as VG/thin:ID
    target: String,
    /// Where; without it below /mnt/tierlift
    directory: Option<PathBuf>,
    /// Show the file system as it was found, although `fsck --yes` repaired it: both can be mounted at once
    #[arg(long)]
    as_found: bool,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut session = args.disks.look()?;
    let Shown { directory, done, incomplete } =
        mount(&mut session, &args.target, args.directory, args.as_found, &args.stack.request_or_active())?;
    if args.json {
        let notes = &done.notes;
        let answer = json!({
            "schema": "tierlift.mount/1", "target": args.target, "directory": directory, "already": done.already, "notes": notes
        });
        print_object(&answer)?;
    } else {
        let state = if done.already { "was mounted" } else { "is mounted" };
        say!("{} {state} read-only on {}", args.target, directory.display());
        done.notes.iter().for_each(|note| say!("  note: {note}"));
    }
    Ok(if incomplete { Outcome::DAMAGE } else { Outcome::CLEAN })
}

/// A volume that is mounted.
pub(super) struct Shown {
    /// Where.
    pub(super) directory: PathBuf,
    /// What was done for it.
    pub(super) done: Done,
    /// Some of its data cannot be read, because a disk or a tier is missing.
    pub(super) incomplete: bool,
}

/// Makes a volume readable, mounts it and notes it in the case; also the first half of a copy.
pub(super) fn mount(
    session: &mut Session,
    target: &str,
    directory: Option<PathBuf>,
    as_found: bool,
    request: &Request,
) -> anyhow::Result<Shown> {
    let (group, wish) = session.resolve(target)?;
    let dm = device_mapper()?;
    let active = bring_up(&dm, session, group, &wish, request)?;
    for warning in &active.plan.warnings {
        log::warn!("{target}: {warning}");
    }
    let device = match as_found {
        true => volume_overlay::as_found(&dm, &crypt::opened(&active.path))?,
        false => active.path,
    };
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    let directory = directory.unwrap_or_else(|| default_directory(&name));
    let done = mount_read_only(&dm, &device, &directory)?;
    let target = if as_found { format!("{target} (as it was found)") } else { active.plan.target };
    let mounted = Mounted { target, directory: directory.clone(), notes: done.notes.clone(), active: true };
    if !done.already {
        case::keep(|case| case.mounted(mounted))?;
    }
    Ok(Shown { directory, done, incomplete: active.plan.incomplete })
}
