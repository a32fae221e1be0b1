//! Which members make up an array, role by role ("docs/disk-layout", sections 2.8 and 2.9).

use super::judge::{self, Verdict};
use crate::inventory::Assembly;
use std::collections::BTreeMap;
use tierlift_ondisk::md::{FEATURE_RAID0_LAYOUT, Role, Superblock};
use tierlift_ondisk::raid::{Geometry, GeometryError, MAX_MEMBERS};
use tierlift_ondisk::units::Sectors;

/// Kernels since 3.14 place unequal members of RAID 0 like this, and QNAP's have done so for long.
const RAID0_LAYOUT: u32 = 2;
/// A member that failed when the array stopped is behind by no more events than stopping takes…
const STOPPING_EVENTS: u64 = 16;
/// … and by no more seconds.
const STOPPING_SECONDS: u64 = 600;

/// How an array can be put together.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// `None` when it cannot be.
    pub(super) assembly: Option<Assembly>,
    /// Data sectors of the array, as far as they can be told.
    pub(super) size: Sectors,
    /// What is wrong.
    pub(super) notes: Vec<String>,
    /// What is good to know.
    pub(super) remarks: Vec<String>,
}

/// Chooses a member for each role. A member that was needed although its own superblock speaks against it gets another
/// verdict.
pub(super) fn put_together(verdicts: &mut [Verdict], blocks: &[&Superblock]) -> Put {
    let Some(newest) = judge::newest(verdicts, blocks) else { return Put::default() };
    let mut put = Put { size: newest.size, ..Put::default() };
    match choose(verdicts, blocks, newest, &mut put) {
        Ok(()) => {}
        Err(why) => put.notes.push(why),
    }
    put
}

fn choose(verdicts: &mut [Verdict], blocks: &[&Superblock], newest: &Superblock, put: &mut Put) -> Result<(), String> {
    let geometry = geometry(newest, blocks, &[]).map_err(|error| format!("it cannot be put together: {error}"))?;
    put.size = geometry.size();
    if let Some(why) = judge::refusal(newest) {
        return Err(why);
    }
    let mut chosen = Chosen { roles: vec![None; geometry.members()], geometry };
    chosen.take(verdicts, blocks, |verdict| judge::holds_data(Some(verdict)));
    if !chosen.can_start() {
        chosen.take(verdicts, blocks, |verdict| matches!(verdict, Verdict::Recovering(_)));
    }
    if !chosen.can_start() && revive(verdicts, blocks, newest, &chosen.geometry) {
        chosen.take(verdicts, blocks, |verdict| *verdict == Verdict::Last);
        put.notes.push(
            "a member that failed when the array stopped is used: by the superblocks nothing was written after it failed"
                .into(),
        );
    }
    if !chosen.can_start() {
        return Err(chosen.too_few(verdicts, newest));
    }
    let missing = chosen.missing();
    if missing.is_empty() {
        put.remarks.push(format!("all {} members are here", chosen.roles.len()));
    } else if newest.level != 1 {
        let dirty = newest.resync_offset != u64::MAX && (4..=6).contains(&newest.level);
        let what = if dirty {
            "; it was not shut down in order either: what was being written at that moment may be wrong, and nothing can tell \
             where"
        } else {
            ", and is read without"
        };
        put.notes.push(format!("it lacks {}{what}", roles_in_words(&missing)));
    }
    let geometry = self::geometry(newest, blocks, &chosen.roles).map_err(|error| error.to_string())?;
    put.size = geometry.size();
    if order_is_unknown(newest, blocks, &chosen.roles) {
        return Err("its members differ in length, and nothing records in which of two orders the longer ones are filled (Linux before \
                    and since 3.14 differ; older firmware did not write it down). In the wrong order wrong data would be read, so it \
                    is not read at all"
            .into());
    }
    put.assembly = Some(assembly(newest, blocks, chosen.roles));
    Ok(())
}

/// RAID 0 of members that differ by a chunk or more, without a word on how their ends are filled ("docs/disk-layout", 2.5).
fn order_is_unknown(newest: &Superblock, blocks: &[&Superblock], roles: &[Option<usize>]) -> bool {
    let chunks = |block: &&Superblock| data_size(block).0.checked_div(u64::from(newest.chunk)).unwrap_or_default();
    let mut lengths = roles.iter().flatten().filter_map(|member| blocks.get(*member)).map(chunks);
    let first = lengths.next();
    newest.level == 0 && newest.features & FEATURE_RAID0_LAYOUT == 0 && lengths.any(|length| Some(length) != first)
}

fn assembly(newest: &Superblock, blocks: &[&Superblock], roles: Vec<Option<usize>>) -> Assembly {
    let used = roles.iter().flatten().count();
    let smallest = roles.iter().flatten().filter_map(|member| blocks.get(*member)).map(|block| data_size(block)).min();
    Assembly {
        level: newest.level,
        layout: layout(newest),
        chunk: Sectors(newest.chunk.into()),
        component: if newest.level > 0 { newest.size } else { smallest.unwrap_or(newest.size) },
        dirty: newest.resync_offset != u64::MAX,
        evidence: vec![format!(
            "the superblocks of {used} of {} members name each other, their roles, and one time and number of events",
            roles.len()
        )],
        roles,
    }
}

fn layout(block: &Superblock) -> u32 {
    match block.level {
        0 if block.features & FEATURE_RAID0_LAYOUT == 0 => RAID0_LAYOUT,
        _ => block.layout as u32,
    }
}

/// Sectors a level without redundancy uses of a member.
fn data_size(block: &Superblock) -> Sectors {
    if block.data_size.0 > 0 { block.data_size } else { block.size }
}

/// The layout by the newest superblock, with the members' own sizes where they may differ.
fn geometry(newest: &Superblock, blocks: &[&Superblock], roles: &[Option<usize>]) -> Result<Geometry, GeometryError> {
    let members = usize::try_from(newest.raid_disks).unwrap_or(usize::MAX);
    if members > MAX_MEMBERS {
        return Err(GeometryError::Members { level: newest.level, found: members });
    }
    let usual = if newest.level > 0 { newest.size } else { data_size(newest) };
    let own = |role: usize| {
        let member = roles.get(role).copied().flatten().filter(|_| newest.level <= 0)?;
        blocks.get(member).map(|block| data_size(block))
    };
    let components: Vec<Sectors> = (0..members).map(|role| own(role).unwrap_or(usual)).collect();
    Geometry::new(newest.level, layout(newest), Sectors(newest.chunk.into()), &components)
}

/// Members by role, so far.
struct Chosen {
    roles: Vec<Option<usize>>,
    geometry: Geometry,
}

impl Chosen {
    /// Fills empty roles with the members of one kind of verdict, the newest first.
    fn take(&mut self, verdicts: &[Verdict], blocks: &[&Superblock], wanted: fn(&Verdict) -> bool) {
        let mut candidates: Vec<usize> =
            verdicts.iter().enumerate().filter(|(_, verdict)| wanted(verdict)).map(|(member, _)| member).collect();
        candidates.sort_by_key(|member| blocks.get(*member).map(|block| std::cmp::Reverse(judge::age(block))));
        for member in candidates {
            let role = blocks.get(member).map(|block| usize::from(judge::role_number(block)));
            if let Some(place) = role.and_then(|role| self.roles.get_mut(role)) {
                place.get_or_insert(member);
            }
        }
    }

    fn can_start(&self) -> bool {
        let present: Vec<bool> = self.roles.iter().map(Option::is_some).collect();
        self.geometry.can_start(&present)
    }

    fn missing(&self) -> Vec<usize> {
        self.roles.iter().enumerate().filter(|(_, member)| member.is_none()).map(|(role, _)| role).collect()
    }

    fn too_few(&self, verdicts: &[Verdict], newest: &Superblock) -> String {
        let level = super::arrays::level_name(newest.level);
        let stale = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Stale(_) | Verdict::Split)).count();
        let stale = match stale {
            0 => String::new(),
            count => format!(
                " {count} more of its members are here but stopped before the others; mixing them in would damage files \
                 without a word."
            ),
        };
        format!(
            "{} of this {level} of {}: too few members are left to read it.{stale} Attach the missing disks, or images of them",
            roles_in_words(&self.missing()),
            self.roles.len()
        )
    }
}

/// "role 2 is missing", "roles 1 and 3 are missing".
fn roles_in_words(missing: &[usize]) -> String {
    match missing {
        [] => "no member is missing".into(),
        [role] => format!("the member of role {role}"),
        [first @ .., last] if first.len() < 12 => {
            let first: Vec<String> = first.iter().map(usize::to_string).collect();
            format!("the members of roles {} and {last}", first.join(", "))
        }
        many => format!("{} members", many.len()),
    }
}

/// Finds members that left the array in the very moment in which too few were left. From then on nothing could be written, so
/// their data are as new as the others'. True when there are any.
fn revive(verdicts: &mut [Verdict], blocks: &[&Superblock], newest: &Superblock, geometry: &Geometry) -> bool {
    if geometry.can_start(&in_use(newest, geometry)) {
        return false;
    }
    let mut found = BTreeMap::new();
    for (member, (verdict, block)) in verdicts.iter().zip(blocks).enumerate() {
        let close = newest.events.abs_diff(block.events) <= STOPPING_EVENTS
            && newest.updated.abs_diff(block.updated) <= STOPPING_SECONDS;
        if matches!(verdict, Verdict::Stale(_)) && close && geometry.can_start(&in_use(block, geometry)) {
            found.insert(judge::age(block), member);
        }
    }
    let last = found.keys().next_back().copied();
    let mut any = false;
    for ((updated, events), member) in found {
        // Those that went together with the last.
        let together = last.is_some_and(|last| last.0.abs_diff(updated) <= 60 && last.1.abs_diff(events) <= 1);
        if let Some(verdict) = verdicts.get_mut(member).filter(|_| together) {
            *verdict = Verdict::Last;
            any = true;
        }
    }
    any
}

/// The roles that were in use by this superblock.
fn in_use(block: &Superblock, geometry: &Geometry) -> Vec<bool> {
    let mut used = vec![false; geometry.members()];
    for role in &block.roles {
        if let Role::Active(role) | Role::Rescue(role) = role {
            if let Some(place) = used.get_mut(usize::from(*role)) {
                *place = true;
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Member `number` of two, of a RAID 0 array with chunks of 128 sectors.
    fn member(number: u32, sectors: u64, features: u32, layout: i32) -> Superblock {
        Superblock {
            features,
            layout,
            level: 0,
            chunk: 128,
            raid_disks: 2,
            data_size: Sectors(sectors),
            device_number: number,
            device_uuid: [number as u8; 16],
            resync_offset: u64::MAX,
            checksum_ok: true,
            roles: vec![Role::Active(0), Role::Active(1)],
            ..Superblock::default()
        }
    }

    fn put(members: [Superblock; 2]) -> Put {
        put_together(&mut [Verdict::Current, Verdict::Current], &[&members[0], &members[1]])
    }

    #[test]
    fn stripes_of_unequal_members_are_read_only_in_an_order_that_is_recorded() {
        let silent = put([member(0, 12_800, 0, 0), member(1, 25_600, 0, 0)]);
        assert!(silent.assembly.is_none() && silent.notes[0].contains("two orders"), "{:?}", silent.notes);
        for layout in [1, 2] {
            let said =
                [0, 1].map(|number| member(number, 12_800 * u64::from(number + 1), FEATURE_RAID0_LAYOUT, layout));
            assert_eq!(put(said).assembly.unwrap().layout, layout as u32);
        }
        // Less than a chunk makes no difference.
        assert!(put([member(0, 12_800, 0, 0), member(1, 12_900, 0, 0)]).assembly.is_some());
    }
}
