//! md members, grouped into arrays by UUID.

use super::Search;
use super::assemble::put_together;
use super::judge::{self, Verdict};
use crate::inventory::{Array, Extents, Member, MemberRange};
use std::collections::BTreeMap;
use tierlift_ondisk::md::{Role, Superblock};
use tierlift_ondisk::units::Sectors;

/// Names QNAP gives its own mirrors: swap, system, applications.
const SYSTEM_NAMES: [&str; 6] = ["8", "9", "13", "256", "321", "322"];
/// No system mirror is larger; a data array that happens to have such a name is.
const SYSTEM_SIZE: Sectors = Sectors((40 << 30) / 512);

/// A member as it was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The partition, at the length the superblock proves.
    pub(super) place: Extents,
    /// The array it lies on, when it is no disk.
    pub(super) on_array: Option<usize>,
    /// "1.0", "1.1", "1.2", "0.90".
    pub(super) version: &'static str,
    pub(super) block: Superblock,
    /// How many sectors before its place the superblock was found.
    pub(super) shift: Sectors,
    /// Written by a machine of the other byte order.
    pub(super) swapped: bool,
    /// Its bad-block log.
    pub(super) bad_blocks: Vec<MemberRange>,
}

impl Found {
    /// "md member of array 1 (raid1, role 0)"
    pub(super) fn describe(&self) -> String {
        let block = &self.block;
        let role = match block.role() {
            Role::Active(role) => format!("role {role}"),
            Role::Rescue(role) => format!("role {role}, failed but kept by QNAP's rescue mode"),
            Role::Journal => "journal".into(),
            Role::Faulty => "failed".into(),
            Role::Spare => "spare".into(),
        };
        let system = if is_system(block) { ", QNAP system mirror" } else { "" };
        format!("md member of array {} ({}, {role}{system})", block.name, level_name(block.level))
    }
}

pub(super) fn level_name(level: i32) -> String {
    match level {
        -1 => "linear".into(),
        level => format!("raid{level}"),
    }
}

fn is_system(block: &Superblock) -> bool {
    let name = block.name.rsplit(':').next().unwrap_or_default();
    SYSTEM_NAMES.contains(&name) && block.size < SYSTEM_SIZE
}

impl Search {
    /// Makes arrays of the members found since the last time, and puts them behind those that are known.
    pub(super) fn group_members(&mut self) {
        let mut groups: BTreeMap<[u8; 16], Vec<Found>> = BTreeMap::new();
        for found in std::mem::take(&mut self.members) {
            groups.entry(found.block.array_uuid).or_default().push(found);
        }
        let mut arrays: Vec<Array> = groups.into_values().filter_map(|members| self.array(members)).collect();
        // Data first, in the order of their names; system mirrors last.
        arrays.sort_by_key(|array| (array.system, array.name.len(), array.name.clone()));
        self.inventory.arrays.extend(arrays);
    }

    fn array(&self, mut members: Vec<Found>) -> Option<Array> {
        members.sort_by_key(|found| (judge::role_number(&found.block), found.place.disk, found.place.start));
        let blocks: Vec<&Superblock> = members.iter().map(|found| &found.block).collect();
        let mut verdicts = judge::judge(&blocks);
        let newest = judge::newest(&verdicts, &blocks)?;
        let system = is_system(newest);
        let judge::Choice { member: usable_member, mut notes, mut remarks } = judge::usable(&verdicts, &blocks);
        let decision = self.decisions.get(&newest.array_id());
        for (found, verdict) in members.iter().zip(&mut verdicts) {
            let excluded =
                decision.and_then(|decision| decision.excluded.iter().find(|(place, _)| *place == found.place));
            excluded.into_iter().for_each(|(_, why)| *verdict = Verdict::Wrong(why.clone()));
        }
        let mut put = put_together(&mut verdicts, &blocks);
        if let Some(why) = decision.and_then(|decision| decision.refused.clone()) {
            put.assembly = None;
            put.notes.push(why);
        }
        if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Wrong(_))) {
            put.notes.push("a member is left out because its data contradict all others' (see its line)".into());
        }
        if let Some(given) = self.given.get(&newest.array_id()) {
            put.notes.push(format!("put together as you chose, whatever superblocks say: --array {given}"));
            put.assembly.iter_mut().for_each(|assembly| assembly.evidence = vec!["your choice".into()]);
        }
        notes.extend(put.notes);
        remarks.extend(put.remarks);
        if system {
            // Most slots of QNAP's system mirrors were never filled; that is no damage.
            notes.clear();
            remarks.clear();
        }
        notes.extend(members.iter().flat_map(|found| self.member_notes(found)));
        Some(Array {
            uuid: newest.array_id(),
            name: newest.name.clone(),
            level: level_name(newest.level),
            raid_disks: newest.raid_disks,
            size: put.size,
            system,
            members: members.iter().zip(&verdicts).map(|(found, verdict)| member(found, verdict)).collect(),
            usable_member,
            assembly: put.assembly.filter(|_| !system),
            shape: u32::try_from(newest.layout).ok().map(|layout| (newest.level, layout, Sectors(newest.chunk.into()))),
            carries: remarks,
            notes,
        })
    }

    fn member_notes(&self, found: &Found) -> Vec<String> {
        let block = &found.block;
        let disk = self.inventory.disks.get(found.place.disk).map(|disk| disk.path.display().to_string());
        let below = found.on_array.and_then(|below| self.inventory.arrays.get(below));
        let disk = disk.or(below.map(|below| format!("array {}", below.name))).unwrap_or_default();
        let mut notes = Vec::new();
        if found.shift.0 > 0 {
            notes.push(format!(
                "{disk}: the superblock lies {} sectors before its place: the image is longer than the partition was; the \
                 true length is used",
                found.shift
            ));
        }
        if !block.checksum_ok {
            notes.push(format!(
                "{disk}: the superblock's checksum is wrong; it is trusted only when nothing better exists"
            ));
        }
        if block.qnap_feature != 0 {
            notes.push(format!("{disk}: QNAP's private feature word is {:#x}", block.qnap_feature));
        }
        if !found.bad_blocks.is_empty() {
            let bad: u64 = found.bad_blocks.iter().map(|range| range.length.0).fold(0, u64::saturating_add);
            notes.push(format!(
                "{disk}: its bad-block log names {bad} sectors in {} places: there this member holds no valid data",
                found.bad_blocks.len()
            ));
        }
        if found.swapped {
            notes.push(format!(
                "{disk}: its superblock was written by a machine of the other byte order (an old PowerPC NAS)"
            ));
        }
        if !matches!(found.version, "1.0" | "0.90") {
            notes.push(format!("{disk}: superblock version {} (QNAP writes 1.0): another maker's NAS, a plain Linux machine or somebody's repair made \
                 this array", found.version));
        }
        notes
    }
}

fn member(found: &Found, verdict: &Verdict) -> Member {
    let role = match found.block.role() {
        Role::Active(role) | Role::Rescue(role) => Some(u32::from(role)),
        _ => None,
    };
    Member {
        place: found.place.clone(),
        on_array: found.on_array,
        data_offset: found.block.data_offset,
        role,
        events: found.block.events,
        update_time: found.block.updated,
        current: *verdict == Verdict::Current,
        data_size: found.block.data_size,
        rebuilt_to: match verdict {
            Verdict::Recovering(end) => Some(Sectors(*end)),
            _ => None,
        },
        bad_blocks: found.bad_blocks.clone(),
        verdict: verdict.to_string(),
    }
}
