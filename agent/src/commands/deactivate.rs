//! `tierlift deactivate`: takes volumes and overlays away again.

use super::{Failure, Outcome};
use crate::activate::bring_up::device_mapper;
use crate::activate::dm::DeviceMapper;
use crate::activate::execute::{TakenDown, take_down};
use crate::case;
use crate::commands::text::say;
use serde_json::json;

/// Takes activated volumes away. Overlays go with the last volume that needs them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `activate` was given
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    target: Option<String>,
    /// Everything
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
    let done = take_down(&dm, &devices, args.unmount)?;
    case::keep(|case| case.taken_down(&done.removed, &done.unmounted))?;
    tell(&done, args.json);
    Ok(if done.busy.is_empty() { Outcome::CLEAN } else { Outcome::FAILED })
}

fn everything(dm: &DeviceMapper) -> anyhow::Result<Vec<String>> {
    Ok(dm.ours()?.into_iter().map(|(name, _)| name).collect())
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

fn tell(done: &TakenDown, json: bool) {
    if json {
        println!("{}", json!({"schema": "tierlift.deactivate/1", "result": done}));
        return;
    }
    done.unmounted.iter().for_each(|place| say!("unmounted {}", place.display()));
    match done.removed.as_slice() {
        [] => say!("no device was taken away"),
        removed => say!("taken away: {}", removed.join(", ")),
    }
    done.busy.iter().for_each(|busy| say!("STILL IN USE: {busy}"));
}
