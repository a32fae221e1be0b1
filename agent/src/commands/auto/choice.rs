//! Which volumes are recovered.

use super::volumes::Chosen;
use super::{Args, Work};
use crate::activate::plan::Wish;
use crate::activate::session::{Candidate, Session};
use crate::commands::scan::is_internal;
use crate::commands::text::say;
use crate::commands::{Failure, activate};
use crate::inventory::LogicalVolumeKind;

/// The names of the volumes that are meant when nobody is asked.
pub(super) fn named(session: &mut Session, args: &Args) -> Vec<String> {
    match args.volumes.as_slice() {
        [] => offered(session, args.snapshots).into_iter().map(|volume| volume.name).collect(),
        named => named.to_vec(),
    }
}

/// All volumes that hold what users stored. A pool that does not open hides only the devices that no volume names.
fn offered(session: &mut Session, snapshots: bool) -> Vec<Chosen> {
    let (candidates, _) = session.candidates();
    let wanted = candidates.into_iter().filter(|candidate| {
        let group = session.inventory.volume_groups.get(candidate.group);
        let volume = group.and_then(|group| match &candidate.wish {
            Wish::Volume(name) => group.logical_volumes.iter().find(|volume| volume.name == *name),
            Wish::Thin(..) => None,
        });
        let is_snapshot =
            volume.is_some_and(|volume| matches!(&volume.kind, LogicalVolumeKind::Thin { origin: Some(_), .. }));
        let internal = volume.is_some_and(|volume| is_internal(&volume.name));
        candidate.user && !internal && (snapshots || !is_snapshot)
    });
    let wanted: Vec<_> = wanted.collect();
    let named = |candidate: &Candidate| Chosen {
        group: candidate.group,
        wish: candidate.wish.clone(),
        name: activate::name(session, candidate),
    };
    wanted.iter().map(named).collect()
}

impl Work<'_> {
    /// The volumes the user wants, and whether that are all of them.
    pub(super) fn choose_volumes(&mut self, args: &Args) -> anyhow::Result<(Vec<Chosen>, bool)> {
        let mut chosen = Vec::new();
        for name in &args.volumes {
            let (group, wish) = self.session.resolve(name)?;
            chosen.push(Chosen { group, wish, name: name.clone() });
        }
        if !chosen.is_empty() {
            return Ok((chosen, false));
        }
        let all = offered(&mut self.session, args.snapshots);
        if all.is_empty() {
            let message = "no volume was found on the disks; `tierlift scan` tells what is there and what is missing";
            return Err(Failure::unusable(message).into());
        }
        say!("Volumes:");
        for (number, volume) in (1..).zip(&all) {
            say!("  {number}  {}", volume.name);
        }
        let answer = self.ask.line("Which shall be copied? (numbers with commas between; Enter for all) ", "")?;
        Ok((pick(all, &answer)?, answer.is_empty()))
    }

    /// Thin devices that only a repaired pool knows, and no volume names.
    pub(super) fn add_found_by_repair(&mut self, chosen: &mut Vec<Chosen>, snapshots: bool) {
        for volume in offered(&mut self.session, snapshots) {
            if !chosen.iter().any(|known| known.name == volume.name) {
                say!("The repaired pool holds one more volume: {}.", volume.name);
                chosen.push(volume);
            }
        }
    }
}

/// The ones with these numbers; all for an empty answer.
fn pick(all: Vec<Chosen>, answer: &str) -> anyhow::Result<Vec<Chosen>> {
    if answer.is_empty() {
        return Ok(all);
    }
    let mut chosen = Vec::new();
    for word in answer.split(',').map(str::trim) {
        let volume = word.parse::<usize>().ok().and_then(|number| all.get(number.checked_sub(1)?));
        let volume = volume.ok_or_else(|| Failure::usage(format!("'{word}' is no number of the list")))?;
        chosen.push(volume.clone());
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_choose_volumes() {
        let volume = |name: &str| Chosen { group: 0, wish: Wish::Volume(name.into()), name: name.into() };
        let all = vec![volume("a"), volume("b"), volume("c")];
        let names =
            |answer| pick(all.clone(), answer).map(|chosen| chosen.into_iter().map(|c| c.name).collect::<Vec<_>>());
        assert_eq!(names("").unwrap(), ["a", "b", "c"]);
        assert_eq!(names("3, 1").unwrap(), ["c", "a"]);
        for wrong in ["0", "4", "x", "1,"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }
}
