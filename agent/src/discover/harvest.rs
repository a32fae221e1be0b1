//! Which system partitions are looked into for what they tell of the data.

use super::Search;
use crate::harvest::{self, BUDGET};
use crate::inventory::{Extents, PvPlace};
use tierlift_ondisk::units::Sectors;

/// Names of the mirrors that hold settings and programs.
const TELLING: [&str; 2] = ["9", "13"];
/// Numbers of their partitions, for disks that lost the mirror's superblock.
const PARTITIONS: [u32; 2] = [1, 4];
/// No system partition is larger.
const MAX_LENGTH: Sectors = Sectors(16 << 21);
/// Partitions without a superblock that are tried; those of one machine are all alike.
const MOST_BARE: usize = 8;

impl Search {
    /// Looks into one member of each mirror that tells something, the one written last, or the next when it cannot be read.
    pub(super) fn harvest(&mut self) {
        let mut left = BUDGET;
        for (name, candidates) in self.mirrors() {
            for place in candidates {
                if self.harvest_one(&place, &format!("system mirror {name}"), &mut left) {
                    break;
                }
            }
        }
        for place in self.bare() {
            self.harvest_one(&place, "system partition", &mut left);
        }
    }

    /// Each mirror with the places of its members' data, newest first.
    fn mirrors(&self) -> Vec<(String, Vec<Extents>)> {
        let telling =
            self.inventory.arrays.iter().filter(|array| array.system && TELLING.contains(&array.name.as_str()));
        let mut mirrors: Vec<(String, Vec<Extents>)> = Vec::new();
        for array in telling {
            let mut members: Vec<_> = array.members.iter().collect();
            members.sort_by_key(|member| std::cmp::Reverse(member.update_time));
            let place = |member: &&crate::inventory::Member| {
                let start = member.place.start.checked_add(member.data_offset)?;
                let length = Sectors(member.place.length.0.saturating_sub(member.data_offset.0));
                Some(Extents { disk: member.place.disk, start, length })
            };
            mirrors.push((array.name.clone(), members.iter().filter_map(place).collect()));
        }
        // Settings before programs: what may be read is bounded.
        mirrors.sort_by_key(|(name, _)| name.len());
        mirrors
    }

    /// First and fourth partitions that are no member of anything.
    fn bare(&self) -> Vec<Extents> {
        let mut places = Vec::new();
        for (disk, found) in self.inventory.disks.iter().enumerate() {
            for partition in found.partitions.iter().filter(|partition| PARTITIONS.contains(&partition.number)) {
                let place = Extents { disk, start: partition.start, length: partition.length };
                let mut members = self.inventory.arrays.iter().flat_map(|array| &array.members);
                let is_member = members.any(|member| member.place.disk == disk && member.place.start == place.start);
                let volumes = self.volumes.iter().any(|found| found.place == PvPlace::Direct(place.clone()));
                if !is_member && !volumes && partition.length <= MAX_LENGTH {
                    places.push(place);
                }
            }
        }
        places.truncate(MOST_BARE);
        places
    }

    /// Whether there was anything to look into.
    fn harvest_one(&mut self, place: &Extents, what: &str, left: &mut u64) -> bool {
        let Some(view) = self.open(place) else { return false };
        let disk = self.inventory.disks.get(place.disk).map(|disk| disk.path.display().to_string()).unwrap_or_default();
        let Some(told) = harvest::look(view, &format!("{what} on {disk}"), left) else { return false };
        // What cannot be read at all on one disk may be whole on the next.
        let readable = told.harvest.notes.is_empty() || !told.harvest.settings.is_empty() || !told.texts.is_empty();
        // A mirror of programs that tells nothing of the data is not worth a word.
        if !told.harvest.is_silent() {
            self.texts.extend(told.texts);
            self.inventory.harvest.push(told.harvest);
        }
        readable
    }
}
