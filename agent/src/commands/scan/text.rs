//! The scan as a text for people: from disks to volumes, then what is wrong and what to do.

use super::findings::{Findings, is_reserve};
use super::pools::{self, PoolReport};
use crate::commands::text::{human, printable};
use crate::discover::Proposal;
use crate::inventory::{
    Array, Disk, Harvest, Inventory, LogicalVolume, LogicalVolumeKind, PoolVolume, PvPlace, VolumeGroup,
};
use std::fmt::Write;
use tierlift_pool::Stat;

/// The whole text.
pub(super) fn tree(inventory: &Inventory, pools: &[PoolReport], findings: &Findings) -> String {
    let mut out = Lines::default();
    out.line(0, "Disks");
    inventory.disks.iter().for_each(|disk| out.disk(disk));
    if !inventory.arrays.is_empty() {
        out.line(0, "Arrays");
        inventory.arrays.iter().filter(|array| !array.system).for_each(|array| out.array(inventory, array));
        out.system_arrays(inventory);
    }
    for (index, group) in inventory.volume_groups.iter().enumerate() {
        out.group(inventory, index, group, pools);
    }
    if !inventory.harvest.is_empty() {
        out.line(0, "What the NAS's system partitions tell");
        inventory.harvest.iter().for_each(|harvest| out.harvest(harvest));
    }
    out.list("Good to know", &inventory.remarks);
    out.list("What is wrong", &findings.wrong);
    out.list("What to do next", &findings.next_steps);
    out.text
}

/// What members without superblocks may be.
pub(super) fn proposals(proposals: &[Proposal]) -> String {
    let mut out = Lines::default();
    out.line(0, "Arrays proposed for members without superblocks");
    if proposals.is_empty() {
        out.line(1, "none: every member has a superblock, or no two disks without one are here");
    }
    for proposal in proposals {
        match &proposal.array {
            Some(array) => {
                out.line(1, format!("--array {array}"));
                proposal.evidence.iter().for_each(|line| out.line(2, format!("- {line}")));
                proposal.others.iter().for_each(|other| out.line(2, format!("next best: {other}")));
                out.line(2, "If that is right, give this option to `tierlift scan`; it is kept for all that follows");
            }
            None => {
                out.line(1, format!("{}: no proposal", proposal.disks.join(", ")));
                proposal.evidence.iter().for_each(|line| out.line(2, format!("- {line}")));
                proposal.others.iter().for_each(|other| out.line(2, format!("not proved: {other}")));
            }
        }
    }
    out.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, depth: usize, line: impl AsRef<str>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:width$}{}", "", printable(line.as_ref()), width = depth.saturating_mul(2));
    }

    fn list(&mut self, title: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.line(0, title);
            lines.iter().for_each(|line| self.line(1, format!("- {line}")));
        }
    }

    fn disk(&mut self, disk: &Disk) {
        self.line(1, format!("{}: {}, partition table: {}", disk.path.display(), disk.size.human(), disk.table));
        for partition in &disk.partitions {
            let size = human(partition.length);
            self.line(
                2,
                format!("{}  {size} from sector {}: {}", partition.number, partition.start, partition.content),
            );
        }
        if let Some(content) = &disk.content {
            self.line(2, content);
        }
    }

    fn array(&mut self, inventory: &Inventory, array: &Array) {
        let members = format!("{} of {} members here", array.members.len(), array.raid_disks);
        let usable = if array.usable_member.is_some() || array.assembly.is_some() { "usable" } else { "NOT usable" };
        self.line(1, format!("array {} ({}, {}, {members}): {usable}", array.name, array.level, human(array.size)));
        for (index, member) in array.members.iter().enumerate() {
            let disk = inventory.disks.get(member.place.disk).map(|disk| disk.path.display().to_string());
            let role = member.role.map_or("no role".to_owned(), |role| format!("role {role}"));
            let used = match (array.usable_member, &array.assembly) {
                (Some(used), _) if used == index => "; this one is read",
                (None, Some(assembly)) if !assembly.roles.contains(&Some(index)) => "; left out",
                _ => "",
            };
            let disk = disk.or(member
                .on_array
                .and_then(|below| inventory.arrays.get(below))
                .map(|below| format!("array {}", below.name)));
            self.line(
                2,
                format!("{} sector {}: {role}, {}{used}", disk.unwrap_or_default(), member.place.start, member.verdict),
            );
        }
        array.carries.iter().for_each(|line| self.line(2, line));
        array.notes.iter().for_each(|line| self.line(2, format!("! {line}")));
    }

    fn system_arrays(&mut self, inventory: &Inventory) {
        let names: Vec<&str> = inventory.arrays.iter().filter(|a| a.system).map(|array| array.name.as_str()).collect();
        if !names.is_empty() {
            self.line(1, format!("QNAP's own system mirrors ({}): not needed for the data", names.join(", ")));
        }
    }

    fn group(&mut self, inventory: &Inventory, index: usize, group: &VolumeGroup, pools: &[PoolReport]) {
        if group.without_lvm {
            self.line(0, format!("{} ({})", group.name, group.text.what));
        } else {
            self.line(0, format!("Volume group {} (id {}, text number {})", group.name, group.id, group.seqno));
        }
        if group.text.chosen {
            self.line(1, format!("as you chose: {} ({})", group.text.generation, group.text.what));
        }
        for pv in &group.physical_volumes {
            let place = match &pv.place {
                Some(PvPlace::Array(array)) => {
                    format!("on array {}", inventory.arrays.get(*array).map(|array| array.name.as_str()).unwrap_or("?"))
                }
                Some(PvPlace::Direct(place)) => {
                    let disk = inventory.disks.get(place.disk).map(|disk| disk.path.display().to_string());
                    format!("directly on {}, sector {}", disk.unwrap_or_default(), place.start)
                }
                None => "MISSING".into(),
            };
            self.line(1, format!("{} {place}", pv.name));
        }
        for volume in &group.logical_volumes {
            self.volume(inventory, index, volume, pools);
        }
    }

    fn harvest(&mut self, harvest: &Harvest) {
        let known = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!(", {what} {value}"));
        let (model, firmware) = (known("model", &harvest.model), known("firmware", &harvest.firmware));
        self.line(1, format!("{}{}{}", harvest.place, model.unwrap_or_default(), firmware.unwrap_or_default()));
        if !harvest.lvm_texts.is_empty() {
            let count = harvest.lvm_texts.len();
            self.line(
                2,
                format!(
                    "{count} backups of LVM's texts: `tierlift lvm generations` lists them with those on the disks"
                ),
            );
        }
        for volume in &harvest.volumes {
            let name = volume.mapping.as_ref().or(volume.number.as_ref()).unwrap_or(&volume.section);
            let say = |yes: Option<bool>, what: &str| match yes {
                Some(true) => format!(", {what}"),
                Some(false) => format!(", not {what}"),
                None => String::new(),
            };
            self.line(
                2,
                format!("volume {name}{}{}", say(volume.encrypted, "encrypted"), say(volume.ssd_cache, "SSD cached")),
            );
        }
        for key in &harvest.keys {
            self.line(
                2,
                format!("a saved key of an encrypted volume: {key} (it may open the volume without its password)"),
            );
        }
        harvest.notes.iter().for_each(|note| self.line(2, format!("note: {note}")));
    }

    fn volume(&mut self, inventory: &Inventory, index: usize, volume: &LogicalVolume, pools: &[PoolReport]) {
        let (name, size) = (&volume.name, human(volume.size));
        match &volume.kind {
            LogicalVolumeKind::Pool(parts) => {
                self.line(1, format!("{name}: pool ({}), {size}", parts.segment_type));
                let report = pools.iter().find(|report| report.group == index && report.pool == *name);
                self.pool(parts, report);
            }
            LogicalVolumeKind::Thin { pool, device, origin } => {
                let origin = origin.as_ref().map(|origin| format!(", snapshot of {origin}")).unwrap_or_default();
                self.line(1, format!("{name}: volume, {size}, device {device} of pool {pool}{origin}"));
            }
            LogicalVolumeKind::Mapped(_) => {
                let what = match (volume.visible, is_reserve(name)) {
                    (_, true) => "QNAP's reserve, no user data",
                    (true, false) => "plain volume",
                    (false, false) => "hidden part",
                };
                let missing = pools::missing(inventory, index, name).map(|missing| format!("; {missing}"));
                self.line(1, format!("{name}: {what}, {size}{}", missing.unwrap_or_default()));
            }
            LogicalVolumeKind::Opaque(kind) => {
                self.line(1, format!("{name}: {size}, cannot be mapped by this version ({kind})"));
            }
        }
    }

    fn pool(&mut self, parts: &PoolVolume, report: Option<&PoolReport>) {
        let tiers = parts.tiers.iter().map(|tier| tier.as_deref().unwrap_or("(missing)"));
        self.line(2, format!("metadata {}, data {}", parts.metadata, tiers.collect::<Vec<_>>().join(", ")));
        parts.guesses.iter().for_each(|guess| self.line(2, format!("note: {guess}")));
        let Some(report) = report else { return };
        if let Some(stat) = &report.stat {
            self.line(2, health(stat, report));
            self.line(2, format!("mode: {}", stat.mode.mode));
        }
        report.wrong.iter().for_each(|line| self.line(2, format!("! {line}")));
        report.odd.iter().for_each(|line| self.line(2, line));
        for device in &report.unnamed {
            self.line(2, format!("unnamed thin device {device}: known only to the pool, no volume of the text is it"));
        }
    }
}

fn health(stat: &Stat, report: &PoolReport) -> String {
    let health = match (report.wrong.len(), stat.flags.needs_check) {
        (0, false) => "healthy".to_owned(),
        (0, true) => "readable; the kernel had asked for a check".to_owned(),
        (count, _) => format!("{count} things wrong"),
    };
    format!(
        "metadata version {}, {}-byte blocks; {} of {} chunks of {} used, {} devices: {health}",
        stat.version,
        stat.block_size.bytes(),
        stat.chunks.used,
        stat.chunks.total,
        human(stat.chunk_size),
        stat.devices.len()
    )
}
