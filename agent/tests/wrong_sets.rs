//! A wrong set of members is never read: seeded sets with stale, exchanged, missing and foreign members, with superblocks
//! that tell the truth and superblocks that lie. Each must give the right set, or none and a reason.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tierlift::block::FileView;
use tierlift::discover::inventory;
use tierlift_forge::{Dice, Fixture, ForgeOptions, Raid, forge_disks};
use tierlift_ondisk::md::{Role, Superblock, place_1_0};
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;

/// A disk whose bytes are known.
#[derive(Debug, Clone)]
struct Content {
    path: PathBuf,
    /// The role whose data it really holds; `None` when they are stale or of another array.
    true_role: Option<usize>,
}

/// Disks around one genuine pool.
struct Scene {
    _dir: tempfile::TempDir,
    raid: Raid,
    partition: (u64, u64),
    fresh: Vec<Content>,
    /// For each role the same disk as it was before: a little, some, most of it older.
    stale: Vec<Vec<Content>>,
    /// For each role the same disk with zeros in place of all, or half, of what it held: never written, or wiped.
    blank: Vec<Vec<Content>>,
    /// Disks of another NAS of the same shape.
    foreign: Vec<Content>,
    blocks: Vec<Superblock>,
}

fn forge(name: &str, raid: Raid, seed: &str, dir: &Path) -> (Vec<PathBuf>, (u64, u64)) {
    let options = ForgeOptions { raid: Some(raid), compact: true, seed: seed.into(), ..ForgeOptions::default() };
    let forged = forge_disks(&Fixture::named(name).unwrap(), &options, dir).unwrap();
    let array = &forged.arrays[0];
    fs::remove_file(&array.image).unwrap();
    (array.disks.iter().map(|disk| forged.disks[*disk].clone()).collect(), array.partition)
}

impl Scene {
    fn new(name: &str, raid: Raid, dice: &mut Dice) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (disks, partition) = forge(name, raid, "a", &dir.path().join("a"));
        let (others, _) = forge(name, raid, "b", &dir.path().join("b"));
        let content = |role: usize, path: &PathBuf| Content { path: path.clone(), true_role: Some(role) };
        let fresh: Vec<Content> = disks.iter().enumerate().map(|(role, path)| content(role, path)).collect();
        // Another NAS holds other data: here those of the next role, moved by one block.
        let foreign = others.iter().map(|path| {
            age(path, partition, 100, Older::Other, dice);
            Content { path: path.clone(), true_role: None }
        });
        let foreign = foreign.collect();
        let (mut stale, mut blank) = (Vec::new(), Vec::new());
        for (role, path) in disks.iter().enumerate() {
            let percents = if role % 2 == 0 { [4, 70] } else { [20, 40] };
            let copy = |name: &str, percent: u64, older: Older, dice: &mut Dice| {
                let copy = dir.path().join(format!("{name}{role}-{percent}.img"));
                std::process::Command::new("cp").arg("--sparse=always").arg(path).arg(&copy).status().unwrap();
                age(&copy, partition, percent, older, dice);
                Content { path: copy, true_role: None }
            };
            stale.push(percents.map(|percent| copy("old", percent, Older::Other, dice)).to_vec());
            let dice = &mut Dice::new(role as u64);
            blank.push([50, 100].map(|percent| copy("blank", percent, Older::Zeros, dice)).to_vec());
        }
        let blocks = fresh.iter().map(|content| read_block(&content.path, partition)).collect();
        Self { _dir: dir, raid, partition, fresh, stale, blank, foreign, blocks }
    }

    fn write(&self, content: &Content, block: &Superblock) {
        let file = OpenOptions::new().write(true).open(&content.path).unwrap();
        let at = self.partition.0 + place_1_0(Sectors(self.partition.1)).unwrap().0;
        file.write_all_at(&block.encode(), at * 512).unwrap();
    }
}

fn read_block(path: &Path, partition: (u64, u64)) -> Superblock {
    let at = partition.0 + place_1_0(Sectors(partition.1)).unwrap().0;
    let mut bytes = vec![0; 4096];
    fs::File::open(path).unwrap().read_exact_at(&mut bytes, at * 512).unwrap();
    Superblock::decode(&bytes).unwrap()
}

/// What lies on an older member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Older {
    /// Another block of the same disk, or noise.
    Other,
    Zeros,
}

/// Turns so many of the data blocks in use into what they might have been before.
fn age(path: &Path, partition: (u64, u64), percent: u64, older: Older, dice: &mut Dice) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let end = place_1_0(Sectors(partition.1)).unwrap().0 - 264;
    let mut block = vec![0; 8192];
    let mut before: Option<Vec<u8>> = None;
    let view = FileView::open(path).unwrap();
    let (mut at, end) = (partition.0 * 512, (partition.0 + end) * 512);
    while let Some(data) = view.next_data(Bytes(at)).filter(|data| data.0 < end) {
        let place = at + (data.0 - at) / 8192 * 8192;
        at = place + 8192;
        file.read_exact_at(&mut block, place).unwrap();
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let other = before.replace(block.clone());
        if dice.below(100) < percent {
            let old = other
                .filter(|_| older == Older::Other)
                .filter(|_| dice.below(2) == 0)
                .unwrap_or_else(|| (0..1024).flat_map(|_| dice.roll().to_le_bytes()).collect());
            let old = if older == Older::Zeros { vec![0; 8192] } else { old };
            file.write_all_at(&old, place).unwrap();
        }
    }
}

/// What is done to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Missing,
    StaleTold,
    StaleFrozenCounter,
    StaleLying,
    StaleAndMissingTold,
    StaleAndMissingLying,
    ExchangedLying,
    RotatedLying,
    ExchangedAndMissingLying,
    ForeignTold,
    ForeignLying,
    ForeignAndMissingLying,
    OldCloneToo,
    TooManyMissing,
    BlankTold,
    BlankLying,
    BlankAndMissingLying,
    Unequal,
    UnequalAndMissing,
}

impl Kind {
    const OLDER: [Self; 14] = [
        Self::Missing,
        Self::StaleTold,
        Self::StaleFrozenCounter,
        Self::StaleLying,
        Self::StaleAndMissingTold,
        Self::StaleAndMissingLying,
        Self::ExchangedLying,
        Self::RotatedLying,
        Self::ExchangedAndMissingLying,
        Self::ForeignTold,
        Self::ForeignLying,
        Self::ForeignAndMissingLying,
        Self::OldCloneToo,
        Self::TooManyMissing,
    ];
    const BLANK_AND_UNEQUAL: [Self; 5] =
        [Self::BlankTold, Self::BlankLying, Self::BlankAndMissingLying, Self::Unequal, Self::UnequalAndMissing];

    /// Enough sound members are here and the superblocks say which: nothing but the right set will do.
    fn must_be_read(self, parities: usize) -> bool {
        match self {
            Self::Missing | Self::StaleTold | Self::StaleFrozenCounter | Self::ForeignTold | Self::OldCloneToo => true,
            Self::BlankTold | Self::Unequal | Self::UnequalAndMissing => true,
            Self::StaleAndMissingTold => parities == 2,
            _ => false,
        }
    }
}

/// Disks with the superblocks they shall have.
type Set = Vec<(Content, Superblock)>;

fn set(scene: &Scene, kind: Kind, dice: &mut Dice) -> Set {
    let n = scene.raid.disks;
    let mut set: Set = scene.fresh.iter().cloned().zip(scene.blocks.iter().cloned()).collect();
    let role = dice.below(n as u64) as usize;
    let other = (role + 1 + dice.below(n as u64 - 1) as usize) % n;
    let old = scene.stale[role][dice.below(2) as usize].clone();
    let blank = scene.blank[role][dice.below(2) as usize].clone();
    // What the others say of a member that left: it is gone, and time went on.
    let leave = |set: &mut Set, events: u64| {
        let seconds = 3600 * (1 + events);
        for (number, (_, block)) in set.iter_mut().enumerate() {
            if number == role {
                block.events -= events;
                block.updated -= seconds;
            } else {
                block.roles[role] = Role::Faulty;
            }
        }
    };
    match kind {
        Kind::Missing | Kind::TooManyMissing => {}
        Kind::BlankTold => {
            set[role].0 = blank;
            leave(&mut set, 5 + dice.below(400));
        }
        Kind::BlankLying | Kind::BlankAndMissingLying => set[role].0 = blank,
        // Disks of several sizes: of the larger ones only the start is used.
        Kind::Unequal | Kind::UnequalAndMissing => {
            set.iter_mut().for_each(|(_, block)| block.data_size = Sectors(block.data_size.0 - dice.below(16) * 8));
        }
        Kind::StaleTold | Kind::StaleAndMissingTold => {
            set[role].0 = old;
            leave(&mut set, 5 + dice.below(400));
        }
        Kind::StaleFrozenCounter => {
            set[role].0 = old;
            leave(&mut set, 0);
        }
        Kind::StaleLying | Kind::StaleAndMissingLying => set[role].0 = old,
        Kind::ExchangedLying | Kind::ExchangedAndMissingLying => {
            let block = set[role].1.clone();
            set[role].1 = std::mem::replace(&mut set[other].1, block);
        }
        Kind::RotatedLying => {
            let mut blocks: Vec<Superblock> = set.iter().map(|(_, block)| block.clone()).collect();
            blocks.rotate_left(1 + dice.below(n as u64 - 1) as usize);
            set.iter_mut().zip(blocks).for_each(|((_, place), block)| *place = block);
        }
        Kind::ForeignTold => {
            set.remove(role);
            let foreign = scene.foreign[role].clone();
            let own = Superblock { array_uuid: [0xbb; 16], ..scene.blocks[role].clone() };
            set.push((foreign, own));
        }
        Kind::ForeignLying | Kind::ForeignAndMissingLying => set[role].0 = scene.foreign[role].clone(),
        Kind::OldCloneToo => {
            let block = &scene.blocks[role];
            set.push((old, Superblock { updated: block.updated - 9000, events: block.events - 40, ..block.clone() }));
        }
    }
    let parities = if scene.raid.level == 6 { 2 } else { 1 };
    let gone = match kind {
        Kind::BlankAndMissingLying | Kind::UnequalAndMissing => 1,
        Kind::Missing => 1 + dice.below(parities) as usize,
        Kind::TooManyMissing => parities as usize + 1,
        Kind::StaleAndMissingTold | Kind::StaleAndMissingLying | Kind::ForeignAndMissingLying => 1,
        Kind::ExchangedAndMissingLying => parities as usize,
        _ => 0,
    };
    // Never the member the case is about.
    for _ in 0..gone {
        let keep = |content: &Content| {
            content.true_role.is_none()
                || kind == Kind::ExchangedAndMissingLying && [Some(role), Some(other)].contains(&content.true_role)
        };
        let candidates: Vec<usize> = (0..set.len()).filter(|place| !keep(&set[*place].0)).collect();
        if candidates.is_empty() {
            break;
        }
        set.remove(candidates[dice.below(candidates.len() as u64) as usize]);
    }
    set
}

/// Right, refused, or wrong.
fn outcome(scene: &Scene, set: &Set) -> (&'static str, String) {
    for (content, block) in set {
        scene.write(content, block);
    }
    let paths: Vec<PathBuf> = set.iter().map(|(content, _)| content.path.clone()).collect();
    let found = inventory(&paths).unwrap();
    let uuid = scene.blocks[0].array_id();
    let array = found.arrays.iter().find(|array| array.uuid == uuid).unwrap();
    let Some(assembly) = &array.assembly else {
        assert!(!array.notes.is_empty(), "refused without a reason");
        return ("refused", array.notes.join("; "));
    };
    let wrong = assembly.roles.iter().enumerate().find(|(role, member)| {
        let member = member.map(|member| &array.members[member]);
        let content = member.map(|member| &set[member.place.disk].0);
        content.is_some_and(|content| content.true_role != Some(*role))
    });
    let text = format!("{:?} {:?} {:?}", array.notes, assembly.roles, assembly.evidence);
    let warned = array.notes.iter().any(|note| note.contains("no parity is left to check"));
    let outcome = match (wrong.is_some(), warned) {
        (true, true) => "WRONG, warned",
        (true, false) => "WRONG",
        _ => "right",
    };
    (outcome, text)
}

#[test]
fn no_wrong_set_is_ever_read() {
    trials(4711, &Kind::OLDER, 4, |outcome| outcome.starts_with("WRONG"));
}

/// Members of zeros, and members of unequal length, with other dice. With no redundancy left, samples cannot see every member that is
/// old in a few places under a superblock that lies: of those that are read all the same, none is read without a warning.
#[test]
fn no_set_of_blank_or_unequal_members_is_read_wrong_without_a_word() {
    let kinds = [&Kind::BLANK_AND_UNEQUAL[..], &[Kind::StaleAndMissingLying, Kind::ForeignAndMissingLying]].concat();
    trials(4712, &kinds, 4, |outcome| outcome == "WRONG");
}

/// So many trials of each kind on each scene; `failed` says which outcomes must not be.
fn trials(seed: u64, kinds: &[Kind], each: usize, failed: fn(&str) -> bool) {
    let mut dice = Dice::new(seed);
    let small = |level, disks| Raid { chunk: 128, ..Raid::new(level, disks) };
    let scenes = [
        Scene::new("F2-snaps", Raid::new(5, 4), &mut dice),
        Scene::new("F3-3tiers", small(5, 3), &mut dice),
        Scene::new("F1-plain-ext4", small(5, 6), &mut dice),
        Scene::new("F2-snaps", Raid::new(6, 5), &mut dice),
        Scene::new("F3-3tiers", small(6, 4), &mut dice),
        Scene::new("F3-3tiers", Raid::new(6, 6), &mut dice),
    ];
    let mut table: BTreeMap<(i32, Kind), BTreeMap<&str, usize>> = BTreeMap::new();
    let mut failures = Vec::new();
    for trial in 0..each * kinds.len() * scenes.len() {
        let scene = &scenes[trial % scenes.len()];
        let kind = kinds[trial / scenes.len() % kinds.len()];
        let set = set(scene, kind, &mut dice);
        let (outcome, text) = outcome(scene, &set);
        *table.entry((scene.raid.level, kind)).or_default().entry(outcome).or_default() += 1;
        let parities = if scene.raid.level == 6 { 2 } else { 1 };
        if failed(outcome) || outcome == "refused" && kind.must_be_read(parities) {
            let disks: Vec<_> = set.iter().map(|(content, _)| content.path.file_name().unwrap()).collect();
            failures.push(format!("trial {trial}, {kind:?}, {:?}, {disks:?}: {outcome}: {text}", scene.raid));
        }
    }
    for ((level, kind), outcomes) in &table {
        println!("raid{level} {kind:?}: {outcomes:?}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
