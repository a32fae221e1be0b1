//! Carries a plan out, and takes down again what was made.

use super::dm::{DeviceMapper, DmError, Made};
use super::ground::{self, Ground};
use super::plan::{ExistingMember, Plan};
use super::{names, sysfs};
use anyhow::Context;
use serde::Serialize;
use std::path::PathBuf;

/// What carrying out a plan did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Executed {
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
        for name in done.made.iter().rev() {
            if let Err(error) = dm.remove(name) {
                log::warn!("{error}");
            }
        }
        ground::release_memory();
    }
    result.map(|()| done)
}

fn make_all(dm: &DeviceMapper, plan: &Plan, done: &mut Executed) -> anyhow::Result<()> {
    let mut ground = Ground::default();
    for device in &plan.devices {
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

/// Takes down `devices`, highest first, and then every overlay nothing stands on. Devices in use, and those under them, stay.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn take_down(dm: &DeviceMapper, devices: &[String], unmount: bool) -> anyhow::Result<TakenDown> {
    let mut done = TakenDown::default();
    for name in devices {
        remove_one(dm, name, unmount, &mut done)?;
    }
    for prefix in [names::MEMBER, names::STORE, names::SOURCE] {
        for (name, state) in dm.ours()? {
            if names::number_of(&name, prefix).is_some() && state.open_count == 0 {
                remove_one(dm, &name, unmount, &mut done)?;
            }
        }
    }
    if dm.ours()?.is_empty() {
        ground::release_memory();
    }
    Ok(done)
}

fn remove_one(dm: &DeviceMapper, name: &str, unmount: bool, done: &mut TakenDown) -> anyhow::Result<()> {
    let Some(state) = dm.state(name)?.filter(|state| state.is_ours()) else { return Ok(()) };
    let number = sysfs::number_of(&super::dm::path_of(name)).ok().flatten();
    let mounts = number.map(sysfs::mounts_of).transpose()?.unwrap_or_default();
    if !mounts.is_empty() && !unmount {
        let places: Vec<String> = mounts.iter().map(|place| place.display().to_string()).collect();
        done.busy.push(format!("{name} is mounted on {}; add --unmount", places.join(", ")));
        return Ok(());
    }
    for place in mounts {
        match nix::mount::umount(&place) {
            Ok(()) => done.unmounted.push(place),
            Err(errno) => {
                done.busy.push(format!("{name} is mounted on {} and a program works there ({errno})", place.display()));
                return Ok(());
            }
        }
    }
    if state.open_count > 0 && done.unmounted.is_empty() {
        done.busy.push(format!("{name} is still needed by another device or program"));
        return Ok(());
    }
    match dm.remove(name) {
        Ok(()) => done.removed.push(name.to_owned()),
        Err(DmError::Busy { .. }) => done.busy.push(format!("{name} is still needed by another device or program")),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Devices of ours in an order in which they can be removed: those that nothing stands on first.
///
/// # Errors
/// When device-mapper cannot be asked.
pub fn removal_order(dm: &DeviceMapper) -> Result<Vec<String>, DmError> {
    let mut left: Vec<String> = dm.ours()?.into_iter().map(|(name, _)| name).collect();
    let mut users = Vec::new();
    for name in &left {
        let text: Vec<String> = dm.table(name)?.into_iter().map(|line| format!(" {} ", line.arguments)).collect();
        users.push((name.clone(), text.concat()));
    }
    let mut order = Vec::new();
    while !left.is_empty() {
        let stands_on = |lower: &String| {
            let number = sysfs::number_of(&super::dm::path_of(lower)).ok().flatten();
            number.is_some_and(|number| {
                let word = format!(" {number} ");
                users.iter().any(|(user, text)| left.contains(user) && text.contains(&word))
            })
        };
        let (free, rest): (Vec<String>, Vec<String>) = left.iter().cloned().partition(|name| !stands_on(name));
        // Devices cannot stand on each other in circles; if it looks so all the same, each is tried as it comes.
        if free.is_empty() {
            order.extend(rest);
            break;
        }
        order.extend(free);
        left = rest;
    }
    Ok(order)
}
