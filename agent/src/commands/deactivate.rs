//! `tierlift deactivate`: takes volumes and overlays away again.

use super::{Failure, Outcome};
use crate::activate::bring_up::device_mapper;
use crate::activate::dm::{DeviceMapper, path_of};
use crate::activate::execute::{TakenDown, take_down};
use crate::activate::{is_appliance, sysfs};
use crate::case;
use crate::commands::text::{print_object, say};
use crate::extract::target::MOUNT_POINT;
use crate::repair;
use serde_json::json;
use std::path::Path;

/// Takes activated volumes away. Overlays go with the last volume that needs them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `activate` was given
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    target: Option<String>,
    /// Everything but new metadata on a scratch disk, which `repair --undo` gives up
    #[arg(long)]
    all: bool,
    /// Unmount what is mounted
    #[arg(long)]
    unmount: bool,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let dm = device_mapper()?;
    let devices = match &args.target {
        Some(target) => devices_of(target)?,
        None => everything(&dm)?,
    };
    let mut done = take_down(&dm, &devices, args.unmount)?;
    if args.all && is_appliance() {
        free_target(args.unmount, &mut done)?;
    }
    case::keep(|case| case.taken_down(&done.removed, &done.unmounted))?;
    tell(&done, args.json)?;
    Ok(if done.busy.is_empty() { Outcome::CLEAN } else { Outcome::FAILED })
}

/// All devices but new metadata of repaired pools: only `repair --undo` gives these up.
pub(super) fn everything(dm: &DeviceMapper) -> anyhow::Result<Vec<String>> {
    let kept = repair::devices();
    let names = dm.ours()?.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| !kept.contains(&path_of(name))).collect())
}

/// The devices that were made for a target, as the case remembers them.
fn devices_of(target: &str) -> anyhow::Result<Vec<String>> {
    let activations = case::load()?.map(|case| case.activations).unwrap_or_default();
    // `lv1` is enough where `vg1/lv1` is meant, as for `activate`.
    let meant = |active: &str| active == target || active.strip_suffix(target).is_some_and(|rest| rest.ends_with('/'));
    let activation = activations.into_iter().find(|activation| activation.active && meant(&activation.target));
    let activation = activation.ok_or_else(|| Failure {
        outcome: Outcome::FAILED,
        message: format!("{target} is not active; `tierlift report` tells what is, and --all takes everything away"),
    })?;
    Ok(activation.devices.into_iter().map(|(name, _)| name).collect())
}

/// A verb that was killed leaves the disk of its target mounted.
fn free_target(unmount: bool, done: &mut TakenDown) -> anyhow::Result<()> {
    let place = Path::new(MOUNT_POINT);
    if !sysfs::is_mount_point(place)? {
        return Ok(());
    }
    nix::unistd::sync();
    if !unmount {
        done.busy.push(format!("a target disk is mounted on {MOUNT_POINT}; add --unmount to unmount it too"));
        return Ok(());
    }
    match nix::mount::umount(place) {
        Ok(()) => done.unmounted.push(place.to_owned()),
        Err(errno) => {
            done.busy
                .push(format!("a target disk on {MOUNT_POINT}: a program is working there ({errno}); end it first"));
        }
    }
    Ok(())
}

fn tell(done: &TakenDown, json: bool) -> anyhow::Result<()> {
    if json {
        return print_object(&json!({"schema": "tierlift.deactivate/1", "result": done}));
    }
    done.unmounted.iter().for_each(|place| say!("unmounted {}", place.display()));
    match done.removed.as_slice() {
        [] => say!("no device was taken away"),
        removed => say!("taken away: {}", removed.join(", ")),
    }
    done.busy.iter().for_each(|busy| say!("STILL IN USE: {busy}"));
    Ok(())
}
