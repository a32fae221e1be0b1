//! Generations: the texts of a volume group, newest first, each with where it was found and what proves it.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierlift_ondisk::lvm_archive::archive;
use tierlift_ondisk::lvm_history::{Head, find};
use tierlift_ondisk::lvm_text::{Parsed, Section, parse};

use super::find_group;

/// Characters of an id that name a group when its name does not: the first group of the dashed form.
const SHORT_ID: usize = 6;

/// How a text came to be where it was found. In the order of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An older text still in a metadata area.
    Ring,
    /// A file LVM wrote on the system partition: its backup of each change.
    Backup,
    /// A file the user gave.
    File,
    /// The new text of a change that was not finished.
    Precommitted,
    /// The text in force.
    Committed,
}

/// How sure it is that a text is as LVM wrote it. In the order of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Only part of it is left: to be read by people, not to be used.
    Part,
    /// It has a checksum, which is wrong: something in it is not as it was written.
    WrongChecksum,
    /// It is whole from the first line to the last; no checksum exists for it.
    Whole,
    /// Its checksum is right.
    Checksum,
}

/// A place a text was found at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it came there.
    pub origin: Origin,
    /// Where, for people: physical volume and byte, or file.
    pub place: String,
    /// Whether the checksum kept for it here is right; `None` where none is kept.
    pub checksum_ok: Option<bool>,
}

/// One text of a group.
#[derive(Debug, Clone, Serialize)]
pub struct Generation {
    /// What to type to mean this one: `vg1@278`.
    pub name: String,
    /// Name of the group.
    pub group: String,
    /// Id of the group.
    pub id: String,
    /// Number of the text.
    pub seqno: u64,
    /// The best of its findings.
    pub origin: Origin,
    /// How sure it is.
    pub proof: Proof,
    /// When it was written, seconds since 1970.
    pub creation_time: Option<u64>,
    /// The host that wrote it.
    pub creation_host: Option<String>,
    /// What LVM wrote of it: in an archive file, the command that was about to run.
    pub description: Option<String>,
    /// The LVM that wrote it.
    pub lvm_version: Option<String>,
    /// Ids of its physical volumes.
    pub physical_volumes: Vec<String>,
    /// Names of its logical volumes.
    pub volumes: Vec<String>,
    /// Where it was found.
    pub found: Vec<Finding>,
    /// The text.
    #[serde(skip)]
    pub text: Arc<[u8]>,
}

/// A text as found, before equal ones are put together.
#[derive(Debug, Clone)]
pub struct FoundText {
    /// Where.
    pub finding: Finding,
    /// Whether it is there from the first line to the last.
    pub whole: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Generation {
    /// The tree of the text; `None` for what cannot be read as one.
    pub fn parse(&self) -> Option<Parsed> {
        parse(&self.text).ok().filter(|parsed| find_group(parsed).is_some())
    }

    /// Whether volumes can be taken from it.
    pub fn is_usable(&self) -> bool {
        self.proof > Proof::Part
    }

    /// In a few words: "the committed text", "an older text left in the ring".
    pub fn what(&self) -> &'static str {
        match (self.proof, self.origin) {
            (Proof::Part, _) => "part of a text",
            (_, Origin::Committed) => "the committed text",
            (_, Origin::Precommitted) => "the text of an interrupted change",
            (_, Origin::File) => "a text file given by hand",
            (_, Origin::Backup) => "LVM's backup on the system partition",
            (_, Origin::Ring) => "an older text left in the metadata area",
        }
    }

    /// What is known of its correctness, in a few words.
    pub fn proof_words(&self) -> &'static str {
        match self.proof {
            Proof::Checksum => "checksum right",
            Proof::Whole => "whole, no checksum exists",
            Proof::WrongChecksum => "CHECKSUM WRONG",
            Proof::Part => "incomplete",
        }
    }

    /// When and by whom it was written, as far as it says.
    pub fn written(&self) -> String {
        let host = self.creation_host.as_ref().map(|host| format!(" by {host}")).unwrap_or_default();
        match self.creation_time {
            Some(time) => format!("{}{host}", moment(time)),
            None => format!("at an unknown time{host}"),
        }
    }

    /// The better first: proved, then trusted by origin.
    fn rank(&self) -> (Proof, Origin) {
        (self.proof, self.origin)
    }

    fn new(text: FoundText) -> (Vec<u8>, Self) {
        let parsed = if text.whole { parse(&text.bytes).ok() } else { None };
        let section = parsed.as_ref().and_then(find_group);
        let (group, id, seqno) = match (section, Head::read(&text.bytes)) {
            (Some((name, group)), _) => {
                (name.to_owned(), owned(group, "id"), group.number("seqno").unwrap_or_default())
            }
            (None, Some(head)) => (head.name, head.id, head.seqno),
            (None, None) => Default::default(),
        };
        let proof = match (section, text.finding.checksum_ok) {
            (None, _) => Proof::Part,
            (Some(_), Some(true)) => Proof::Checksum,
            (Some(_), Some(false)) => Proof::WrongChecksum,
            (Some(_), None) => Proof::Whole,
        };
        let root = parsed.as_ref().map(|parsed| &parsed.root);
        let part = |name: &str| section.and_then(|(_, group)| group.section(name));
        let volumes = part("logical_volumes");
        let pvs = part("physical_volumes");
        let likeness = likeness(section, &text.bytes);
        let generation = Self {
            name: String::new(),
            group,
            id,
            seqno,
            origin: text.finding.origin,
            proof,
            creation_time: root.and_then(|root| root.number("creation_time")),
            creation_host: root.map(|root| owned(root, "creation_host")).filter(|host| !host.is_empty()),
            description: root.map(|root| owned(root, "description")).filter(|text| !text.is_empty()),
            lvm_version: lvm_version(&text.bytes),
            physical_volumes: pvs.iter().flat_map(|pvs| pvs.sections()).map(|(_, pv)| owned(pv, "id")).collect(),
            volumes: volumes.iter().flat_map(|lvs| lvs.sections()).map(|(name, _)| name.to_owned()).collect(),
            found: vec![text.finding],
            text: text.bytes.into(),
        };
        (likeness, generation)
    }

    /// Takes another finding of the same text.
    fn merge(&mut self, other: Self) {
        self.origin = self.origin.max(other.origin);
        self.proof = self.proof.max(other.proof);
        self.description = self.description.take().or(other.description);
        for finding in other.found {
            if !self.found.contains(&finding) {
                self.found.push(finding);
            }
        }
    }
}

/// The id of each, that of a damaged text corrected: a physical volume belongs to one group only, so a text with a wrong checksum
/// and an id nobody else knows is of the group that sound texts give its physical volumes to.
fn true_ids(all: &[Generation]) -> Vec<String> {
    let sound = || all.iter().filter(|generation| generation.proof > Proof::WrongChecksum);
    let known: BTreeSet<&str> = sound().map(|generation| generation.id.as_str()).collect();
    let owner: BTreeMap<&str, &str> = sound()
        .flat_map(|generation| generation.physical_volumes.iter().map(|pv| (pv.as_str(), generation.id.as_str())))
        .collect();
    let id = |generation: &Generation| {
        let doubtful = generation.proof == Proof::WrongChecksum && !known.contains(generation.id.as_str());
        let owner = generation.physical_volumes.iter().find_map(|pv| owner.get(pv.as_str()));
        owner.filter(|_| doubtful).map_or(generation.id.clone(), |id| (*id).to_owned())
    };
    all.iter().map(id).collect()
}

fn owned(section: &Section, key: &str) -> String {
    section.text(key).unwrap_or_default().to_owned()
}

/// The version in LVM's own comment: "2.02.138(2)-git (2015-12-14)".
fn lvm_version(text: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"# Generated by LVM2 version ";
    let from = find(text, MARK)?.checked_add(MARK.len())?;
    let line = text.get(from..)?.split(|byte| *byte == b'\n').next()?;
    let version = String::from_utf8_lossy(line.get(..line.len().min(200))?).into_owned();
    Some(version.split("): ").next()?.to_owned() + if version.contains("): ") { ")" } else { "" })
}

/// Puts equal texts together, names them, and orders them: by group, newest first.
pub fn generations(texts: Vec<FoundText>) -> Vec<Generation> {
    let mut by_text: BTreeMap<Vec<u8>, Generation> = BTreeMap::new();
    for (key, generation) in texts.into_iter().map(Generation::new) {
        match by_text.get_mut(&key) {
            Some(known) => known.merge(generation),
            None => drop(by_text.insert(key, generation)),
        }
    }
    let mut all: Vec<Generation> = by_text.into_values().collect();
    let all_ids = true_ids(&all);
    all.iter_mut().zip(all_ids).for_each(|(generation, id)| generation.id = id);
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    name(&mut all);
    all
}

/// What makes two texts equal: the same tree of the group. (LVM's files differ from its rings in tabs and comments, and say when
/// the file was written.) Of what cannot be read as a tree, the bytes.
fn likeness(group: Option<(&str, &Section)>, bytes: &[u8]) -> Vec<u8> {
    match group {
        Some((name, group)) => archive("", &[], name, group).into_bytes(),
        None => bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
    }
}

type Order<'a> = (bool, &'a str, std::cmp::Reverse<(u64, Option<u64>, (Proof, Origin))>);

fn order(generation: &Generation) -> Order<'_> {
    let (nameless, id) = (generation.id.is_empty(), generation.id.as_str());
    (nameless, id, std::cmp::Reverse((generation.seqno, generation.creation_time, generation.rank())))
}

/// `vg1@278`; with a part of the id where two groups have the same name, with `.2` where a number occurs twice.
fn name(all: &mut [Generation]) {
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for generation in all.iter() {
        ids.entry(generation.group.clone()).or_default().insert(generation.id.clone());
    }
    let mut count: BTreeMap<(String, u64), u32> = BTreeMap::new();
    let mut order: Vec<&mut Generation> = all.iter_mut().collect();
    // Of texts with the same number the most trusted is the one without a suffix.
    order.sort_by_key(|generation| std::cmp::Reverse(generation.rank()));
    for generation in order {
        let collides = ids.get(&generation.group).is_some_and(|ids| ids.len() > 1);
        let group = match (generation.id.is_empty(), collides) {
            (true, _) => "part".to_owned(),
            (false, true) => short_id(&generation.id),
            (false, false) => generation.group.clone(),
        };
        let number = count.entry((group.clone(), generation.seqno)).or_default();
        *number = number.saturating_add(1);
        let suffix = if *number > 1 { format!(".{number}") } else { String::new() };
        generation.name = format!("{group}@{}{suffix}", generation.seqno);
    }
}

/// The beginning of an id that is enough to mean it.
pub fn short_id(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

/// The text to use when nobody chose: the newest committed one with a right checksum; without any, the newest whole one; only
/// then one that is known to be damaged.
pub fn default_of<'a>(of_one_group: &[&'a Generation]) -> Option<&'a Generation> {
    let trust = |generation: &&&Generation| match (generation.proof, generation.origin) {
        (Proof::Part, _) => None,
        (Proof::Checksum, Origin::Committed) => Some(3),
        (Proof::Checksum | Proof::Whole, Origin::Precommitted) => Some(1),
        (Proof::Checksum | Proof::Whole, _) => Some(2),
        (Proof::WrongChecksum, _) => Some(0),
    };
    let usable = of_one_group.iter().filter(|generation| trust(generation).is_some());
    let order =
        |generation: &&&Generation| (trust(generation), generation.seqno, generation.creation_time, generation.rank());
    usable.max_by_key(order).copied()
}

/// A time as people read it.
pub fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    match time {
        Some(time) => time.to_string().replace('T', " ").replace('Z', " UTC"),
        None => format!("{seconds} seconds after 1970"),
    }
}
