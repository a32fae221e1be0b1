//! What the NAS's own system partition tells: backups of LVM's texts, settings of volumes, saved keys, the model.
//!
//! Every disk of a QNAP has a copy of it (md9, first partition; programs are on md13, fourth), an ext file system that begins with
//! the member's first byte. It is read in userland and never mounted: nothing is replayed, nothing written. Reads are bounded in
//! number and bytes, and whatever is wrong with the file system costs only what it would have told ("docs/lvm").

mod file_system;
mod reader;
mod settings;

#[cfg(test)]
mod tests;

pub use reader::BUDGET;

use crate::block::View;
use crate::inventory::Harvest;
use crate::volume::generation::{Finding, FoundText, Origin};
use file_system::{Entry, FileSystem, WalkEnd};
use reader::Budget;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tierlift_ondisk::lvm_history::{contains, is_group};

/// Where the settings are; looked into before the rest of the tree.
const FIRST: [&str; 3] = ["/.config", "/etc", "/"];
/// A text of LVM is no longer; a ring holds about a MiB.
const MAX_TEXT: u64 = 1 << 20;
/// Settings files are no longer.
const MAX_SETTINGS: u64 = 256 << 10;
/// What a file must begin with to be read whole.
const HEAD: u64 = 4096;
/// Texts taken from one file system; QTS keeps about ten of each group.
const MAX_TEXTS: usize = 512;
/// Keys and files listed.
const MAX_LISTED: usize = 256;

/// Everything a file system told.
#[derive(Debug, Default)]
pub struct Told {
    /// For the inventory.
    pub harvest: Harvest,
    /// The texts of LVM that lie in it.
    pub texts: Vec<FoundText>,
}

/// Looks into a file system. `place` says which one it is, for people. `left` are the bytes that may still be read; what is used
/// is taken off.
///
/// Answers `None` when there is no ext file system at the start of the view.
pub fn look(view: View, place: &str, left: &mut u64) -> Option<Told> {
    let budget = Budget::new(*left);
    // The reader of the file system is not ours; should it fail on odd bytes, only its findings are lost.
    let told = catch_unwind(AssertUnwindSafe(|| look_into(view, place, &budget)));
    *left = budget.left();
    match told {
        Ok(told) => told,
        Err(_) => {
            let note = "its file system is damaged in a way its reader does not survive; nothing is known of it";
            let harvest = Harvest { place: place.to_owned(), notes: vec![note.into()], ..Harvest::default() };
            Some(Told { harvest, texts: Vec::new() })
        }
    }
}

fn look_into(view: View, place: &str, budget: &Budget) -> Option<Told> {
    let harvest = Harvest { place: place.to_owned(), ..Harvest::default() };
    let mut told = Told { harvest, texts: Vec::new() };
    let system = match FileSystem::open(view, budget)? {
        Ok(system) => system,
        Err(why) => {
            told.harvest.notes.push(format!("its file system cannot be read: {why}"));
            return Some(told);
        }
    };
    if !system.journal_applied {
        told.harvest.notes.push(
            "it was in use when the NAS stopped; its journal is not applied, so the newest changes may be missing"
                .into(),
        );
    }
    let mut seen = BTreeSet::new();
    for first in FIRST {
        let end = system.walk(first, &mut seen, &mut |entry| told.take(&system, entry));
        match end {
            WalkEnd::Done => {}
            WalkEnd::Damaged(why) => told.harvest.notes.push(format!("below {first}: {why}")),
            WalkEnd::Bounded(why) => {
                told.harvest.notes.push(format!("only a part of it was searched: {why}"));
                break;
            }
        }
    }
    told.harvest.notes.truncate(16);
    Some(told)
}

impl Told {
    /// Takes what a file tells.
    fn take(&mut self, system: &FileSystem, entry: &Entry) {
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        if entry.path.contains("/.externalkey/") || name.ends_with(".key") && entry.path.contains("/.config/") {
            // Keys are told to exist. Their content is nobody's business before somebody unlocks a volume.
            if self.harvest.keys.len() < MAX_LISTED {
                self.harvest.keys.push(entry.path.clone());
            }
        } else if settings::is_wanted(name) && entry.size <= MAX_SETTINGS {
            if let Some(bytes) = system.read(&entry.path, MAX_SETTINGS) {
                self.take_settings(&entry.path, name, &bytes);
            }
        } else if entry.size <= MAX_TEXT && self.texts.len() < MAX_TEXTS {
            self.take_text(system, entry);
        }
    }

    fn take_settings(&mut self, path: &str, name: &str, bytes: &[u8]) {
        settings::take(&mut self.harvest, name, bytes);
        if self.harvest.settings.len() < MAX_LISTED && !self.harvest.settings.iter().any(|known| known == path) {
            self.harvest.settings.push(path.to_owned());
        }
    }

    fn take_text(&mut self, system: &FileSystem, entry: &Entry) {
        let head = system.read(&entry.path, HEAD);
        if !head.is_some_and(|head| could_be_text(&head)) {
            return;
        }
        let Some(bytes) = system.read(&entry.path, MAX_TEXT) else { return };
        if contains(&bytes, b"physical_volumes {") && is_group(&bytes).is_ok() {
            let place = format!("{}: {}", self.harvest.place, entry.path);
            let finding = Finding { origin: Origin::Backup, place, checksum_ok: None };
            self.texts.push(FoundText { finding, whole: true, bytes });
            self.harvest.lvm_texts.push(entry.path.clone());
        }
    }
}

/// Whether a file that begins so may be a text of LVM. (In its files the number stands within the first lines.)
fn could_be_text(head: &[u8]) -> bool {
    contains(head, b"seqno") && !head.contains(&0)
}
