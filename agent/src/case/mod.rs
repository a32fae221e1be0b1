//! The journal of one recovery: what was found, decided, done.
//!
//! One JSON file, replaced atomically and under a lock, so that two verbs at once, or a power cut, never leave half of it.
//! Verbs append to it; `report` tells it.

pub mod beside;
mod chunk_map;
mod counts;
mod found;
pub mod programs;
mod store;

pub use chunk_map::{ChunkMap, ChunkState};
pub use counts::Counts;
pub use store::{keep, load, location, read};

use crate::volume::choice::Choices;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Schema of the file.
pub const SCHEMA: &str = "tierlift.case/1";
/// Events kept; older ones are dropped first, so that a case cannot grow without end.
const MAX_EVENTS: usize = 10_000;

/// Everything known of one recovery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// [`SCHEMA`].
    pub schema: String,
    /// Drawn when it began: what lies on a target is the same case or another one, whatever clocks say.
    #[serde(default)]
    pub id: String,
    /// When it began, seconds since 1970.
    pub started: u64,
    /// The last inventory.
    pub inventory: Option<Found>,
    /// The texts of volume groups the user chose.
    #[serde(default)]
    pub texts: Choices,
    /// Pools that were repaired, each in a few sentences.
    #[serde(default)]
    pub repairs: Vec<RepairedPool>,
    /// The state of the chunks of each volume, as its pool was read.
    #[serde(default)]
    pub chunk_maps: Vec<ChunkMap>,
    /// What is active, by what was asked for.
    pub activations: Vec<Activation>,
    /// What is mounted.
    pub mounts: Vec<Mounted>,
    /// Copies made.
    pub copies: Vec<Copied>,
    /// Volumes that could not be recovered, or only in part, for another reason than damaged files.
    #[serde(default)]
    pub failures: Vec<FailedVolume>,
    /// How far `auto` came.
    #[serde(default)]
    pub auto: Option<AutoState>,
    /// Everything that was done, in order.
    pub events: Vec<Event>,
}

/// The inventory in sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// One line per disk.
    pub disks: Vec<String>,
    /// One line per array that carries data.
    pub arrays: Vec<String>,
    /// One line per volume group and volume.
    pub volumes: Vec<String>,
    /// What is wrong or noteworthy.
    pub notes: Vec<String>,
    /// Ids of the volume groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// How far `auto` came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoState {
    /// Ids of the volume groups it is about.
    pub groups: Vec<String>,
    /// Exit code, once it came to its end and nothing failed.
    pub finished: Option<u8>,
    /// What it finished with: other volumes, or older forms of files that were not looked for, are still to be done.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Older forms of damaged files were fetched from snapshots.
    #[serde(default)]
    pub from_snapshots: bool,
}

/// A volume that could not be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedVolume {
    /// "vg1/lv1".
    pub volume: String,
    /// Why.
    pub why: String,
}

/// A pool that was repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairedPool {
    /// "vg1/tp1".
    pub pool: String,
    /// What was wrong and what was done, in lines for people.
    pub salvage: Vec<String>,
    /// What each volume lost, in sentences.
    pub volumes: Vec<String>,
    /// Nothing is lost.
    pub whole: bool,
}

/// A volume made readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// What was asked for: "vg1/lv1".
    pub target: String,
    /// Its device.
    pub device: String,
    /// Every device it needs, lowest first, each with its table.
    pub devices: Vec<(String, Vec<String>)>,
    /// The pool with its version and figures.
    pub pool: Option<String>,
    /// How the pool is read.
    pub mode: Option<String>,
    /// Decisions and their evidence.
    pub evidence: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Still active.
    pub active: bool,
}

/// A volume mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// What was asked for.
    pub target: String,
    /// Where.
    pub directory: PathBuf,
    /// What to know of its file system.
    pub notes: Vec<String>,
    /// Still mounted.
    pub active: bool,
}

/// A copy made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// Counts.
    pub counts: Counts,
    /// The first of the files that were lost or damaged, each with why.
    pub losses: Vec<String>,
    /// Where the manifest lies, for people.
    pub manifest: String,
    /// Time it took; 0 when it was not taken.
    #[serde(default)]
    pub milliseconds: u64,
    /// The part of it that went into SHA-256 and into reading back what was written.
    #[serde(default)]
    pub verifying_milliseconds: u64,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, seconds since 1970.
    pub time: u64,
    /// What.
    pub what: String,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            id: new_id(),
            started: now(),
            inventory: None,
            texts: Choices::default(),
            repairs: Vec::new(),
            chunk_maps: Vec::new(),
            activations: Vec::new(),
            mounts: Vec::new(),
            copies: Vec::new(),
            failures: Vec::new(),
            auto: None,
            events: Vec::new(),
        }
    }
}

impl Case {
    /// Notes that something was done.
    pub fn note(&mut self, what: impl Into<String>) {
        self.events.push(Event { time: now(), what: what.into() });
        let surplus = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..surplus);
    }

    /// Keeps which texts of volume groups were chosen; each choice replaces the one before.
    pub fn chose_texts(&mut self, texts: Choices) {
        if self.texts != texts {
            let arrays = texts.arrays.iter().map(|array| format!("array {array}"));
            let files = texts.files.iter().map(|file| file.display().to_string());
            let all: Vec<String> =
                texts.generations.iter().chain(&texts.parts).cloned().chain(files).chain(arrays).collect();
            self.note(format!("chose how volume groups are read: {}", all.join(", ")));
            self.texts = texts;
        }
    }

    /// Puts a repair in, in place of an older one of the same pool.
    pub fn repaired(&mut self, repaired: RepairedPool) {
        self.note(format!(
            "repaired pool {}: {}",
            repaired.pool,
            if repaired.whole { "nothing lost" } else { "with losses" }
        ));
        self.repairs.retain(|old| old.pool != repaired.pool);
        self.repairs.push(repaired);
    }

    /// Puts drawings of volumes in, in place of older ones.
    pub fn drew(&mut self, maps: Vec<ChunkMap>) {
        self.chunk_maps.retain(|old| !maps.iter().any(|new| new.volume == old.volume));
        self.chunk_maps.extend(maps);
    }

    /// Puts an activation in, in place of an older one of the same target.
    pub fn activated(&mut self, activation: Activation) {
        self.note(format!("activated {} as {}", activation.target, activation.device));
        self.activations.retain(|old| old.target != activation.target);
        self.activations.push(activation);
    }

    /// Puts a mount in, in place of an older one at the same directory.
    pub fn mounted(&mut self, mounted: Mounted) {
        self.note(format!("mounted {} on {}", mounted.target, mounted.directory.display()));
        self.mounts.retain(|old| old.directory != mounted.directory);
        self.mounts.push(mounted);
    }

    /// Puts a copy in, in place of an older one of the same.
    pub fn copied(&mut self, copied: Copied) {
        self.note(format!("copied {} to {}", copied.source, copied.target));
        self.copies.retain(|old| (&old.source, &old.target) != (&copied.source, &copied.target));
        self.failures.retain(|failure| failure.volume != copied.source);
        self.copies.push(copied);
    }

    /// Notes that a volume could not be recovered; what was known of it before is replaced.
    pub fn failed(&mut self, volume: &str, why: &str) {
        self.note(format!("{volume} could not be recovered: {why}"));
        self.failures.retain(|failure| failure.volume != volume);
        self.failures.push(FailedVolume { volume: volume.to_owned(), why: why.to_owned() });
    }

    /// Forgets how a volume, or a part of it, failed before: it is tried again.
    pub fn tries_again(&mut self, volume: &str) {
        let of_volume = |name: &str| {
            name.split_once(": ").map_or(name, |(name, _)| name).trim_start_matches("A part of ") == volume
        };
        self.failures.retain(|failure| !of_volume(&failure.volume));
    }

    /// Whether both are about the same disks, as far as they know any: one volume group of them is the same.
    pub fn is_of_same_disks(&self, other: &Self) -> bool {
        let mut own = self.groups();
        own.any(|group| other.groups().any(|theirs| theirs == group))
    }

    fn groups(&self) -> impl Iterator<Item = &String> {
        let found = self.inventory.iter().flat_map(|found| &found.groups);
        let all = found.chain(self.auto.iter().flat_map(|auto| &auto.groups));
        // What has no id is nobody's: two of them are not the same.
        all.filter(|group| !group.is_empty())
    }

    /// Goes on with an earlier case: what that had is kept, and what this machine did since its start comes behind it.
    pub fn continue_from(&mut self, mut earlier: Self) {
        earlier.inventory = self.inventory.take().or(earlier.inventory);
        earlier.activations.iter_mut().for_each(|activation| activation.active = false);
        earlier.mounts.iter_mut().for_each(|mount| mount.active = false);
        if self.texts != Choices::default() {
            earlier.texts = std::mem::take(&mut self.texts);
        }
        let replaced = |repair: &RepairedPool| !self.repairs.iter().any(|new| new.pool == repair.pool);
        earlier.repairs.retain(replaced);
        earlier.repairs.append(&mut self.repairs);
        earlier.drew(std::mem::take(&mut self.chunk_maps));
        earlier.activations.retain(|old| !self.activations.iter().any(|new| new.target == old.target));
        earlier.activations.append(&mut self.activations);
        earlier.mounts.retain(|old| !self.mounts.iter().any(|new| new.directory == old.directory));
        earlier.mounts.append(&mut self.mounts);
        earlier.copies.retain(|old| !self.copies.iter().any(|new| new.source == old.source));
        earlier.copies.append(&mut self.copies);
        earlier.failures.retain(|old| !self.failures.iter().any(|new| new.volume == old.volume));
        earlier.failures.append(&mut self.failures);
        earlier.note("went on after an interruption");
        earlier.events.append(&mut self.events);
        *self = earlier;
    }

    /// Notes which devices and mounts are gone.
    pub fn taken_down(&mut self, removed: &[String], unmounted: &[PathBuf]) {
        for place in unmounted {
            self.note(format!("unmounted {}", place.display()));
            self.mounts.iter_mut().filter(|mount| mount.directory == *place).for_each(|mount| mount.active = false);
        }
        if !removed.is_empty() {
            self.note(format!("removed {}", removed.join(", ")));
        }
        for activation in &mut self.activations {
            activation.active &= !removed.contains(&activation.device);
        }
    }
}

/// A number nobody drew before, from the kernel where it has one.
fn new_id() -> String {
    let drawn = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map(|id| id.trim().to_owned());
    drawn.unwrap_or_else(|_| format!("{:016x}", RandomState::new().hash_one(now())))
}

/// Seconds since 1970; 0 on a machine whose clock says it is earlier.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(target: &str, device: &str) -> Activation {
        Activation {
            target: target.into(),
            device: device.into(),
            devices: vec![(device.into(), vec!["0 8 linear /dev/mapper/x 0".into()])],
            pool: None,
            mode: None,
            evidence: vec![],
            warnings: vec![],
            active: true,
        }
    }

    #[test]
    fn a_choice_of_texts_is_kept_and_noted_once() {
        let mut case = Case::default();
        let texts = Choices { generations: vec!["vg1@270".into()], ..Choices::default() };
        case.chose_texts(texts.clone());
        case.chose_texts(texts.clone());
        assert_eq!((case.texts, case.events.len()), (texts, 1));
        assert!(case.events[0].what.contains("vg1@270"));
    }

    #[test]
    fn activating_twice_is_one_activation() {
        let mut case = Case::default();
        case.activated(activation("vg1/lv1", "vg1-lv1"));
        case.activated(activation("vg1/lv1", "vg1-lv1"));
        assert_eq!((case.activations.len(), case.events.len()), (1, 2));
    }

    #[test]
    fn what_was_removed_is_no_longer_active() {
        let mut case = Case::default();
        case.activated(activation("vg1/lv1", "vg1-lv1"));
        case.activated(activation("vg1/lv2", "vg1-lv2"));
        case.taken_down(&["vg1-lv1".into()], &[]);
        let active: Vec<bool> = case.activations.iter().map(|activation| activation.active).collect();
        assert_eq!(active, [false, true]);
    }

    #[test]
    fn an_earlier_case_goes_on_whatever_the_clock_says() {
        let copied = |source: &str| Copied { source: source.into(), target: "/dev/sdb".into(), ..Copied::default() };
        let mut earlier = Case { started: u64::MAX, ..Case::default() };
        earlier.copied(copied("vg1/lv1"));
        earlier.failed("vg1/lv2", "wrong password");
        earlier.activated(activation("vg1/lv1", "vg1-lv1"));
        let id = earlier.id.clone();
        let mut now = Case::default();
        assert_ne!(now.id, id);
        now.note("looked");
        now.repaired(RepairedPool { pool: "vg1/tp1".into(), salvage: vec![], volumes: vec![], whole: true });
        now.continue_from(earlier);
        assert_eq!((now.id.as_str(), now.copies.len(), now.repairs.len(), now.failures.len()), (id.as_str(), 1, 1, 1));
        assert!(!now.activations[0].active && now.events.iter().any(|event| event.what == "looked"));
        now.copied(copied("vg1/lv2"));
        assert!(now.failures.is_empty(), "what is copied has not failed any more");
        for name in ["A part of vg1/lv1", "vg1/lv1: files without a name", "vg1/lv10"] {
            now.failed(name, "a disk is missing");
        }
        now.tries_again("vg1/lv1");
        assert_eq!(now.failures.iter().map(|failure| failure.volume.as_str()).collect::<Vec<_>>(), ["vg1/lv10"]);
    }

    #[test]
    fn cases_of_the_same_disks_are_known_by_their_groups() {
        let found = |groups: &[&str]| {
            let groups = groups.iter().map(ToString::to_string).collect();
            Case { inventory: Some(Found { groups, ..Found::default() }), ..Case::default() }
        };
        assert!(found(&["one", "two"]).is_of_same_disks(&found(&["two"])));
        assert!(!found(&["one"]).is_of_same_disks(&found(&["two"])));
        assert!(!found(&[""]).is_of_same_disks(&found(&[""])), "arrays and groups without an id");
        assert!(!found(&[]).is_of_same_disks(&found(&[])), "nothing is known of either");
        let auto = Some(AutoState { groups: vec!["one".into()], ..AutoState::default() });
        assert!(found(&["one"]).is_of_same_disks(&Case { auto, ..Case::default() }));
    }

    #[test]
    fn a_case_does_not_grow_without_end() {
        let mut case = Case::default();
        for number in 0..=MAX_EVENTS {
            case.note(number.to_string());
        }
        assert_eq!(case.events.len(), MAX_EVENTS);
        assert_eq!(case.events[0].what, "1");
    }
}
