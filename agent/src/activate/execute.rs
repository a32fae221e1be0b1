//! Carries a plan out, and takes down again what was made.

use super::deps::Dependencies;
use super::dm::{DeviceMapper, DmError, Made};
use super::ground::{self, Ground};
use super::plan::{ExistingMember, Plan, PlannedDevice};
use super::{lock, md, names, new_metadata, sysfs, volume_overlay};
use crate::unlock::crypt::{self, Unlocked};
use anyhow::Context;
use serde::Serialize;
use std::path::PathBuf;

/// What carrying out a plan did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Executed {
    /// Arrays assembled.
    pub arrays: Vec<String>,
    /// Devices made, lowest first.
    pub made: Vec<String>,
    /// Devices that were there already.
    pub already: Vec<String>,
}

/// Makes every device of the plan that is not there yet.
///
/// # Errors
/// When one cannot be made; everything this call made is taken down again first, in reverse order.
pub fn execute(dm: &DeviceMapper, plan: &Plan) -> anyhow::Result<Executed> {
    let mut done = Executed::default();
    let result = make_all(dm, plan, &mut done);
    if result.is_err() {
        let (overlays, others): (Vec<&String>, Vec<&String>) =
            done.made.iter().rev().partition(|name| is_overlay(name));
        others.into_iter().for_each(|name| undo(dm, name));
        if let Err(error) = md::stop_unused() {
            log::warn!("{error:#}");
        }
        overlays.into_iter().for_each(|name| undo(dm, name));
        ground::release_memory();
    }
    result.map(|()| done)
}

/// Makes devices that are no part of a plan; on an error those made are taken down again.
///
/// # Errors
/// When one cannot be made.
pub fn make(dm: &DeviceMapper, devices: &[PlannedDevice]) -> anyhow::Result<()> {
    let (mut ground, mut done) = (Ground::default(), Executed::default());
    let devices: Vec<&PlannedDevice> = devices.iter().collect();
    make_devices(dm, &mut ground, &devices, &mut done)
        .inspect_err(|_| done.made.iter().rev().for_each(|name| undo(dm, name)))
}

fn undo(dm: &DeviceMapper, name: &str) {
    if let Err(error) = dm.remove(name) {
        log::warn!("{error}");
    }
}

/// Whether a device is a part of an overlay: what arrays stand on.
fn is_overlay(name: &str) -> bool {
    [names::MEMBER, names::STORE, names::SOURCE].iter().any(|prefix| name.starts_with(prefix))
}

fn make_all(dm: &DeviceMapper, plan: &Plan, done: &mut Executed) -> anyhow::Result<()> {
    let mut ground = Ground::default();
    let (overlays, others): (Vec<_>, Vec<_>) = plan.devices.iter().partition(|device| is_overlay(&device.name));
    make_devices(dm, &mut ground, &overlays, done)?;
    for array in &plan.arrays {
        if md::assemble(array).with_context(|| format!("{} cannot be assembled", array.purpose))? {
            done.arrays.push(array.path.clone());
        }
    }
    make_devices(dm, &mut ground, &others, done)
}

fn make_devices(
    dm: &DeviceMapper,
    ground: &mut Ground,
    devices: &[&PlannedDevice],
    done: &mut Executed,
) -> anyhow::Result<()> {
    for device in devices {
        let id = device.id();
        if dm.state(&device.name)?.is_some_and(|state| state.uuid == id) {
            done.already.push(device.name.clone());
            continue;
        }
        let table = ground.table(device).with_context(|| format!("{} cannot be made", device.name))?;
        match dm.create(&device.name, device.read_only, &id, &table)? {
            Made::New => done.made.push(device.name.clone()),
            Made::Already => done.already.push(device.name.clone()),
        }
    }
    Ok(())
}

/// Overlays that exist; parts of overlays left by a run that was killed are removed.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn existing_members(dm: &DeviceMapper) -> Result<Vec<ExistingMember>, DmError> {
    let ours = dm.ours()?;
    let mut members = Vec::new();
    for (name, state) in &ours {
        let Some(number) = names::number_of(name, names::SOURCE).or_else(|| names::number_of(name, names::STORE))
        else {
            continue;
        };
        if !ours.iter().any(|(name, _)| *name == names::member(number)) {
            dm.remove(name)?;
        } else if names::number_of(name, names::SOURCE).is_some() {
            let mark = state.uuid.rsplit_once('-').map_or(String::new(), |(mark, _)| format!("{mark}-"));
            members.push(ExistingMember { number, mark });
        }
    }
    Ok(members)
}

/// What taking down did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TakenDown {
    /// Devices removed, highest first.
    pub removed: Vec<String>,
    /// Mount points unmounted.
    pub unmounted: Vec<PathBuf>,
    /// Devices that are in use, each with where.
    pub busy: Vec<String>,
}

/// Takes down these devices, highest first, and then every overlay nothing stands on. A device others of ours stand on stays
/// without a word; one that is in use from outside stays and is told.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn take_down(dm: &DeviceMapper, devices: &[String], unmount: bool) -> anyhow::Result<TakenDown> {
    let _lock = lock::devices()?;
    let mut done = TakenDown::default();
    for name in devices.iter().flat_map(|name| over_volume(dm, name)) {
        remove_one(dm, &name, unmount, &mut done)?;
    }
    let order = Dependencies::read(dm)?.removal_order();
    for name in order.iter().filter(|name| devices.contains(name) && !is_overlay(name)) {
        remove_one(dm, name, unmount, &mut done)?;
    }
    done.removed.extend(md::stop_unused()?);
    let in_use: Vec<u32> = md::existing()?.into_iter().flat_map(|array| array.overlays).collect();
    for name in Dependencies::read(dm)?.removal_order().iter().filter(|name| is_overlay(name)) {
        if !names::number_of(name, names::MEMBER).is_some_and(|number| in_use.contains(&number)) {
            remove_one(dm, name, unmount, &mut done)?;
        }
    }
    if dm.ours()?.iter().all(|(name, _)| new_metadata::is_of_name(name)) {
        ground::release_memory();
    }
    Ok(done)
}

/// Overlays over a volume and over what was unlocked on it, upper devices first.
fn over_volume(dm: &DeviceMapper, name: &str) -> Vec<String> {
    let number = sysfs::number_of(&super::dm::path_of(name)).ok().flatten();
    let unlocked = number.map(crypt::over).unwrap_or_default().into_iter().map(|unlocked| unlocked.name);
    let volumes = unlocked.chain(std::iter::once(name.to_owned()));
    let names = volumes.flat_map(|volume| volume_overlay::all_names(&volume));
    names.filter(|name| dm.state(name).ok().flatten().is_some_and(|state| state.is_ours())).collect()
}

fn remove_one(dm: &DeviceMapper, name: &str, unmount: bool, done: &mut TakenDown) -> anyhow::Result<()> {
    if Dependencies::read(dm)?.carries_others(name) || dm.state(name)?.is_none_or(|state| !state.is_ours()) {
        return Ok(());
    }
    let number = sysfs::number_of(&super::dm::path_of(name)).ok().flatten();
    for unlocked in number.map(crypt::over).unwrap_or_default() {
        if !lock(&unlocked, unmount, done)? {
            return Ok(());
        }
    }
    if !free(name, number, unmount, done)? {
        return Ok(());
    }
    match dm.remove(name) {
        Ok(()) => done.removed.push(name.to_owned()),
        Err(DmError::Busy { .. }) => done.busy.push(format!("{name} is open in a program; end it first")),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Closes what was unlocked over a volume; `false` when it is in use.
fn lock(unlocked: &Unlocked, unmount: bool, done: &mut TakenDown) -> anyhow::Result<bool> {
    let number = sysfs::number_of(&unlocked.path).ok().flatten();
    if !free(&unlocked.name, number, unmount, done)? {
        return Ok(false);
    }
    match crypt::close(&unlocked.name) {
        Ok(()) => done.removed.push(unlocked.name.clone()),
        Err(error) => {
            done.busy.push(format!("{error:#}"));
            return Ok(false);
        }
    }
    Ok(true)
}

/// Unmounts a device wherever it is mounted, when that is wanted; `false` when it stays mounted.
fn free(name: &str, number: Option<sysfs::DeviceNumber>, unmount: bool, done: &mut TakenDown) -> anyhow::Result<bool> {
    for place in number.map(sysfs::mounts_of).transpose()?.unwrap_or_default() {
        if !unmount {
            done.busy.push(format!("{name} is mounted on {}; add --unmount to unmount it too", place.display()));
            return Ok(false);
        }
        if let Err(errno) = nix::mount::umount(&place) {
            let place = place.display();
            done.busy
                .push(format!("{name} is mounted on {place} and a program is working there ({errno}); end it first"));
            return Ok(false);
        }
        done.unmounted.push(place);
    }
    Ok(true)
}
