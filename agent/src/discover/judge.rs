//! Which members of an array are current ("docs/disk-layout").
//!
//! QNAP's md freezes the event counter in some states, and a clock can be wrong, so neither decides alone. The strongest
//! witness is the table of roles: a member that says another one is gone has lived on without it.

use std::fmt;
use tierlift_ondisk::md::{FEATURE_RECOVERING, FEATURE_RESHAPE, Role, Superblock};

/// Update times of members that went on together differ by less, in seconds.
const TOGETHER: u64 = 60;
/// The one bit of QNAP's feature word that is understood.
const FEATURE_FLEX: u32 = 1;

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its data are as new as any.
    Current,
    /// Failed, but kept in use read-only because nothing was left.
    Rescue,
    /// Another member lived on without it.
    Stale(String),
    /// It and another lived on without each other; this is the half with the older update.
    Split,
    /// Never rebuilt to the end.
    Recovering(u64),
    /// No role that holds data.
    NoData,
    /// A second copy of the same member.
    Copy,
    /// Superblock not trustworthy, and there are better ones.
    Untrusted,
    /// Gone in the moment in which the array stopped: nothing was written without it.
    Last,
    /// Its data contradict the others', whatever its superblock says.
    Wrong(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Rescue => f.write_str("rescue: failed, last seen in use read-only; expect read errors"),
            Self::Stale(why) => write!(f, "stale: {why}"),
            Self::Split => {
                f.write_str("separate half: it and another member ran on without each other; this one stopped first")
            }
            Self::Recovering(offset) => write!(f, "incomplete: rebuilt only up to sector {offset}"),
            Self::NoData => f.write_str("spare or failed: holds no data of the array"),
            Self::Copy => f.write_str("older copy of a member that is also here"),
            Self::Last => f.write_str("failed when the array stopped: nothing was written without it"),
            Self::Wrong(why) => write!(f, "NOT used: {why}"),
            Self::Untrusted => f.write_str("superblock checksum wrong; left out, because there are better members"),
        }
    }
}

/// The role a member's data have, spares last.
pub(super) fn role_number(block: &Superblock) -> u16 {
    match block.role() {
        Role::Active(role) | Role::Rescue(role) => role,
        _ => u16::MAX,
    }
}

/// Judges the members of one array.
pub(super) fn judge(blocks: &[&Superblock]) -> Vec<Verdict> {
    let sound = blocks.iter().any(|block| block.checksum_ok);
    let mut verdicts: Vec<Verdict> = blocks.iter().map(|block| alone(block, sound)).collect();
    for (index, block) in blocks.iter().enumerate() {
        if !holds_data(verdicts.get(index)) {
            continue;
        }
        // Only members whose superblock can be trusted bear witness.
        let others = blocks.iter().enumerate().filter(|(other, _)| *other != index);
        let witnesses = others.filter(|(_, other)| other.checksum_ok || !sound);
        let against =
            witnesses.filter_map(|(other, witness)| testimony(block, witness, index > other)).max_by_key(weight);
        if let (Some(verdict), Some(place)) = (against, verdicts.get_mut(index)) {
            *place = verdict;
        }
    }
    verdicts
}

pub(super) fn holds_data(verdict: Option<&Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Current | Verdict::Rescue))
}

/// What a member says of itself.
fn alone(block: &Superblock, sound: bool) -> Verdict {
    if sound && !block.checksum_ok {
        return Verdict::Untrusted;
    }
    match block.role() {
        Role::Active(_) if block.features & FEATURE_RECOVERING != 0 && block.recovery_offset < block.size.0 => {
            Verdict::Recovering(block.recovery_offset)
        }
        Role::Active(role) if u32::from(role) < block.raid_disks => Verdict::Current,
        Role::Rescue(role) if u32::from(role) < block.raid_disks => Verdict::Rescue,
        _ => Verdict::NoData,
    }
}

/// Which of several testimonies counts: a copy is no member, and being left behind is worse than having parted.
fn weight(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Copy => 3,
        Verdict::Stale(_) => 2,
        _ => 1,
    }
}

/// What `witness` says against `block`; `later` breaks ties between equals.
fn testimony(block: &Superblock, witness: &Superblock, later: bool) -> Option<Verdict> {
    let older = age(block) < age(witness) || age(block) == age(witness) && later;
    if block.device_uuid == witness.device_uuid {
        return older.then_some(Verdict::Copy);
    }
    if !matches!(witness.role(), Role::Active(_) | Role::Rescue(_)) {
        return None;
    }
    let stale = || Some(Verdict::Stale(format!("another member ran on without it{}", behind(block, witness))));
    match (lost(witness, block), lost(block, witness)) {
        (true, true) => older.then_some(Verdict::Split),
        (false, false) => drifted(block, witness),
        // Once lost but newer in every respect: it came back, and the witness is an old copy.
        (true, false) if clearly_newer(block, witness) => None,
        (true, false) => stale(),
        (false, true) if clearly_newer(witness, block) => stale(),
        (false, true) => None,
    }
}

fn clearly_newer(block: &Superblock, other: &Superblock) -> bool {
    block.events > other.events.saturating_add(1) && block.updated > other.updated.saturating_add(TOGETHER)
}

pub(super) fn age(block: &Superblock) -> (u64, u64) {
    (block.updated, block.events)
}

/// Whether `witness` has seen `block`'s member fail or go.
fn lost(witness: &Superblock, block: &Superblock) -> bool {
    match witness.roles.get(block.device_number as usize) {
        Some(Role::Active(role) | Role::Rescue(role)) => *role != role_number(block),
        _ => true,
    }
}

/// Both think they are together, but the counters say one stopped before the other.
fn drifted(block: &Superblock, witness: &Superblock) -> Option<Verdict> {
    let apart = block.updated.abs_diff(witness.updated) > TOGETHER;
    let older = if apart { block.updated < witness.updated } else { block.events.saturating_add(1) < witness.events };
    // Close in time and in events is how members look after a power cut.
    (older).then(|| Verdict::Stale(format!("it stopped before the others{}", behind(block, witness))))
}

fn behind(block: &Superblock, witness: &Superblock) -> String {
    let events = witness.events.saturating_sub(block.events);
    let seconds = witness.updated.saturating_sub(block.updated);
    format!(" ({events} events, {seconds} seconds behind)")
}

/// The superblock that speaks for the array.
pub(super) fn newest<'a>(verdicts: &[Verdict], blocks: &[&'a Superblock]) -> Option<&'a Superblock> {
    let pairs = || verdicts.iter().zip(blocks);
    let current = pairs().filter(|(verdict, _)| holds_data(Some(verdict))).max_by_key(|(_, block)| age(block));
    current.or_else(|| pairs().max_by_key(|(_, block)| (block.checksum_ok, age(block)))).map(|(_, block)| *block)
}

/// Which member to read, and why.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The member that carries all data by itself; index into the blocks judged.
    pub(super) member: Option<usize>,
    /// What is wrong.
    pub(super) notes: Vec<String>,
    /// What is good to know.
    pub(super) remarks: Vec<String>,
}

/// Chooses the member that carries all data by itself.
pub(super) fn usable(verdicts: &[Verdict], blocks: &[&Superblock]) -> Choice {
    let Some(block) = newest(verdicts, blocks) else { return Choice::default() };
    if refusal(block).is_some() || !is_mirror(block) {
        return Choice::default();
    }
    let of_kind = |wanted: Verdict| verdicts.iter().position(|verdict| *verdict == wanted);
    // A member with gaps in its own data is taken only when there is no other.
    let spotless = verdicts.iter().zip(blocks).position(|(verdict, block)| {
        *verdict == Verdict::Current && block.features & tierlift_ondisk::md::FEATURE_BAD_BLOCKS == 0
    });
    let member = spotless.or_else(|| of_kind(Verdict::Current)).or_else(|| of_kind(Verdict::Rescue));
    let mut choice = Choice { member, ..Choice::default() };
    tell(verdicts, block, &mut choice);
    choice
}

/// Why an array is not put together, whatever members are here.
pub(super) fn refusal(block: &Superblock) -> Option<String> {
    if block.features & FEATURE_RESHAPE != 0 {
        Some(format!(
            "a reshape (to {}, {:+} members) is under way and stands at array sector {}: on one side of it the array has its \
             old shape, on the other its new one. This version does not read such arrays; do not let any other machine go on \
             with the reshape, and keep the disks as they are",
            super::arrays::level_name(block.reshape.level),
            block.reshape.delta_disks,
            block.reshape_position
        ))
    } else if block.qnap_feature & !FEATURE_FLEX != 0 {
        Some("QNAP's feature word has bits nobody has explained; please report this, with the word".into())
    } else {
        None
    }
}

/// Whether one member has all the data.
fn is_mirror(block: &Superblock) -> bool {
    block.level == 1 || block.raid_disks == 1 && matches!(block.level, -1 | 0)
}

fn tell(verdicts: &[Verdict], block: &Superblock, choice: &mut Choice) {
    let has = |wanted: fn(&Verdict) -> bool| verdicts.iter().any(wanted);
    if choice.member.is_none() {
        return;
    }
    if has(|verdict| matches!(verdict, Verdict::Split)) {
        choice.notes.push(
            "two halves of this mirror ran on without each other; they are never mixed. The one updated last is used; scan the \
             other disk alone to see its older state"
                .into(),
        );
    }
    if has(|verdict| matches!(verdict, Verdict::Stale(_))) {
        choice.notes.push("a stale half of this mirror is left out".into());
    }
    let current = verdicts.iter().filter(|verdict| holds_data(Some(verdict))).count();
    let expected = block.roles.iter().filter(|role| matches!(role, Role::Active(_))).count();
    if current < expected {
        choice.remarks.push(format!(
            "{current} of {expected} current members are here; one is enough to read, but a second one helps where sectors are bad"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_ondisk::units::Sectors;

    /// Member `number` of a mirror of two, both well.
    fn member(number: u32) -> Superblock {
        Superblock {
            features: 0,
            array_uuid: [1; 16],
            name: "1".into(),
            created: 0,
            level: 1,
            size: Sectors(1000),
            chunk: 0,
            raid_disks: 2,
            reshape_position: 0,
            data_offset: Sectors(0),
            data_size: Sectors(1000),
            super_offset: Sectors(1016),
            recovery_offset: 0,
            device_number: number,
            device_uuid: [number as u8; 16],
            bad_blocks_size: 8,
            bad_blocks_offset: -8,
            updated: 1_700_000_000,
            events: 100,
            resync_offset: u64::MAX,
            checksum_ok: true,
            roles: vec![Role::Active(0), Role::Active(1)],
            ..Superblock::default()
        }
    }

    /// Who is usable, and the verdicts in the order given.
    fn outcome(members: &[Superblock]) -> (Option<usize>, Vec<Verdict>) {
        let blocks: Vec<&Superblock> = members.iter().collect();
        let verdicts = judge(&blocks);
        (usable(&verdicts, &blocks).member, verdicts)
    }

    fn is_stale(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Stale(_))
    }

    #[test]
    fn a_power_cut_leaves_both_halves_current() {
        let ahead = Superblock { events: 101, updated: 1_700_000_001, ..member(1) };
        assert_eq!(outcome(&[member(0), ahead]), (Some(0), vec![Verdict::Current, Verdict::Current]));
    }

    #[test]
    fn equal_events_do_not_hide_that_one_ran_on_alone() {
        // QNAP's frozen counter: only the role table and the time tell.
        let alone = Superblock { updated: 1_700_100_000, roles: vec![Role::Faulty, Role::Active(1)], ..member(1) };
        let (usable, verdicts) = outcome(&[member(0), alone]);
        assert!(usable == Some(1) && is_stale(&verdicts[0]) && verdicts[1] == Verdict::Current, "{verdicts:?}");
    }

    #[test]
    fn a_lost_clock_does_not_make_the_survivor_stale() {
        let alone = Superblock { updated: 5, events: 500, roles: vec![Role::Active(0), Role::Faulty], ..member(0) };
        let (usable, verdicts) = outcome(&[alone, member(1)]);
        assert!(usable == Some(0) && is_stale(&verdicts[1]), "{verdicts:?}");
    }

    #[test]
    fn more_events_do_not_win_against_the_role_table() {
        let gone = Superblock { events: 900, ..member(0) };
        let alone =
            Superblock { events: 100, updated: 1_700_100_000, roles: vec![Role::Faulty, Role::Active(1)], ..member(1) };
        let (usable, verdicts) = outcome(&[gone, alone]);
        assert!(usable == Some(1) && is_stale(&verdicts[0]), "{verdicts:?}");
    }

    #[test]
    fn a_member_that_came_back_beats_an_old_copy_of_its_witness() {
        let old_copy = Superblock { roles: vec![Role::Active(0), Role::Faulty], ..member(0) };
        let back = Superblock { events: 300, updated: 1_700_100_000, ..member(1) };
        let (usable, verdicts) = outcome(&[old_copy, back]);
        assert!(usable == Some(1) && is_stale(&verdicts[0]), "{verdicts:?}");
    }

    #[test]
    fn halves_that_parted_are_never_mixed() {
        let first = Superblock { roles: vec![Role::Active(0), Role::Faulty], events: 900, ..member(0) };
        let second =
            Superblock { roles: vec![Role::Faulty, Role::Active(1)], updated: 1_700_000_500, events: 800, ..member(1) };
        assert_eq!(outcome(&[first, second]), (Some(1), vec![Verdict::Split, Verdict::Current]));
    }

    #[test]
    fn half_a_mirror_is_enough() {
        let half = Superblock { roles: vec![Role::Active(0), Role::Faulty], ..member(0) };
        assert_eq!(outcome(&[half]), (Some(0), vec![Verdict::Current]));
    }

    #[test]
    fn what_holds_no_data_is_not_used() {
        let spare = Superblock { roles: vec![Role::Spare], ..member(0) };
        assert_eq!(outcome(&[spare]), (None, vec![Verdict::NoData]));
        let half_built = Superblock { features: FEATURE_RECOVERING, recovery_offset: 7, ..member(0) };
        assert_eq!(outcome(std::slice::from_ref(&half_built)), (None, vec![Verdict::Recovering(7)]));
        assert_eq!(outcome(&[half_built, member(1)]).0, Some(1));
        let beyond = Superblock { device_number: 1, raid_disks: 1, ..member(1) };
        assert_eq!(outcome(&[beyond]).1, [Verdict::NoData]);
    }

    #[test]
    fn qnaps_rescue_role_is_the_last_choice() {
        let rescue = Superblock { roles: vec![Role::Rescue(0), Role::Active(1)], ..member(0) };
        assert_eq!(outcome(std::slice::from_ref(&rescue)), (Some(0), vec![Verdict::Rescue]));
        let other = Superblock { roles: vec![Role::Rescue(0), Role::Active(1)], ..member(1) };
        assert_eq!(outcome(&[rescue, other]).0, Some(1));
    }

    #[test]
    fn a_clone_and_a_broken_superblock_are_set_aside() {
        let newer = Superblock { updated: 1_700_000_002, ..member(0) };
        assert_eq!(outcome(&[member(0), newer.clone()]), (Some(1), vec![Verdict::Copy, Verdict::Current]));
        assert_eq!(outcome(&[member(0), member(0)]), (Some(0), vec![Verdict::Current, Verdict::Copy]));
        let broken = Superblock { checksum_ok: false, events: 9999, ..member(1) };
        assert_eq!(outcome(&[member(0), broken.clone()]), (Some(0), vec![Verdict::Current, Verdict::Untrusted]));
        assert_eq!(outcome(&[broken]).0, Some(0));
    }

    #[test]
    fn states_that_cannot_be_read_are_named() {
        let told = |block: Superblock| {
            assert_eq!(usable(&judge(&[&block]), &[&block]).member, None);
            refusal(&block).unwrap()
        };
        let reshape = Superblock { features: FEATURE_RESHAPE, reshape_position: 4711, ..member(0) };
        assert!(told(reshape).contains("stands at array sector 4711"));
        assert!(told(Superblock { qnap_feature: 2, ..member(0) }).contains("nobody has explained"));
        for level in [-1, 0, 1] {
            let single = Superblock { level, raid_disks: 1, roles: vec![Role::Active(0)], ..member(0) };
            assert_eq!(outcome(&[single]).0, Some(0), "level {level}");
        }
        assert_eq!(outcome(&[Superblock { level: 5, ..member(0) }]).0, None);
    }
}
