//! Holding what came back against the truth.

use std::collections::BTreeMap;
use std::convert::Infallible;
use tierlift_forge::simulator;
use tierlift_ondisk::thin::TierValue;
use tierlift_pool::{KeyRange, Pool, Step};

/// Virtual chunk, chunk, zeroed; by virtual chunk.
type Mappings = Vec<(u64, u64, u8)>;

/// What the last commit says.
#[derive(Default)]
pub struct Truth {
    devices: BTreeMap<u64, Mappings>,
    tiers: BTreeMap<u64, (u8, u64)>,
    /// Mappings of all devices.
    pub count: u64,
}

impl Truth {
    /// As the simulator kept it.
    pub fn of_simulator(truth: &simulator::Truth) -> Self {
        let entry = |(at, value): (&u64, &tierlift_ondisk::thin::MappingValue)| (*at, value.chunk.0, value.zeroed);
        let devices = truth.mappings.iter().map(|(id, chunks)| (id.0, chunks.iter().map(entry).collect())).collect();
        let tiers = truth.tiers.iter().map(|(piece, value)| (*piece, place(*value))).collect();
        Self { devices, tiers, count: truth.count() }
    }

    /// As a pool that is whole says it.
    pub fn of_pool(pool: &Pool) -> Self {
        let found = Found::read(pool);
        assert!(found.holes.values().all(Vec::is_empty) && found.lost_roots.is_empty() && found.tier_holes.is_empty());
        let count = found.devices.values().map(|chunks| chunks.len() as u64).sum();
        Self { devices: found.devices, tiers: found.tiers, count }
    }
}

fn place(value: TierValue) -> (u8, u64) {
    (value.tier, value.block.0)
}

/// What a pool says, with its holes.
#[derive(Default)]
struct Found {
    devices: BTreeMap<u64, Mappings>,
    holes: BTreeMap<u64, Vec<KeyRange>>,
    lost_roots: Vec<KeyRange>,
    tiers: BTreeMap<u64, (u8, u64)>,
    tier_holes: Vec<KeyRange>,
}

impl Found {
    fn read(pool: &Pool) -> Self {
        let mut found = Self::default();
        let table = pool.devices();
        found.lost_roots = table.lost_roots.iter().map(|lost| lost.keys).collect();
        for (id, device) in table.devices {
            let holes = found.holes.entry(id.0).or_default();
            let Some(root) = device.root else {
                holes.push(KeyRange::ALL);
                continue;
            };
            let mappings = found.devices.entry(id.0).or_default();
            let done: Result<(), Infallible> = pool.mappings(root, |step| {
                match step {
                    Step::Found(at, value) => mappings.push((at, value.chunk.0, value.zeroed)),
                    Step::Lost(lost) => holes.push(lost.keys),
                }
                Ok(())
            });
            let Ok(()) = done;
        }
        let done: Result<(), Infallible> = pool.tiers(|step| {
            match step {
                Step::Found(piece, value) => drop(found.tiers.insert(piece, place(value))),
                Step::Lost(lost) => found.tier_holes.push(lost.keys),
            }
            Ok(())
        });
        let Ok(()) = done;
        found
    }

    fn has_holes(&self) -> bool {
        let empty = self.lost_roots.is_empty() && self.tier_holes.is_empty();
        !empty || self.holes.values().any(|holes| !holes.is_empty())
    }

    fn is_in_hole(&self, device: u64, at: u64) -> bool {
        let inside = |holes: &[KeyRange], key: u64| holes.iter().any(|hole| hole.contains(key));
        inside(&self.lost_roots, device) || self.holes.get(&device).is_some_and(|holes| inside(holes, at))
    }
}

/// What came back, in mappings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score {
    /// True ones there are.
    pub total: u64,
    /// True ones found.
    pub right: u64,
    /// Found with another chunk or flag than the true one.
    pub wrong: u64,
    /// Found where nothing is mapped.
    pub extra: u64,
    /// True ones that are neither found nor said to be lost: they would read as zeros.
    pub silent: u64,
    /// Entries of the tier tree there are.
    pub tier_total: u64,
    /// Of these found.
    pub tier_right: u64,
    /// Entries of the tier tree that are not true.
    pub tier_wrong: u64,
    /// Mappings that the tool itself says are missing.
    pub predicted: Option<u64>,
    /// Something is said to be lost.
    pub has_holes: bool,
    /// 0 whole, 1 put right, 2 damaged but usable, 4 nothing usable.
    pub exit: u8,
}

impl Score {
    /// Nothing came back, and it was said so.
    pub fn nothing(truth: &Truth) -> Self {
        Self { total: truth.count, tier_total: truth.tiers.len() as u64, exit: 4, ..Self::default() }
    }

    /// Holds a pool against the truth.
    pub fn of(pool: &Pool, truth: &Truth) -> Self {
        let found = Found::read(pool);
        let mut score = Self::nothing(truth);
        score.exit = 0;
        score.has_holes = found.has_holes();
        for (id, mappings) in &truth.devices {
            let there = found.devices.get(id).map(Vec::as_slice).unwrap_or_default();
            score.add_device(&found, *id, mappings, there);
        }
        let unknown = found.devices.iter().filter(|(id, _)| !truth.devices.contains_key(id));
        score.extra += unknown.map(|(_, mappings)| mappings.len() as u64).sum::<u64>();
        for (piece, place) in &found.tiers {
            let right = truth.tiers.get(piece) == Some(place);
            *(if right { &mut score.tier_right } else { &mut score.tier_wrong }) += 1;
        }
        score
    }

    fn add_device(&mut self, found: &Found, id: u64, truth: &Mappings, there: &[(u64, u64, u8)]) {
        let mut matched = 0;
        for wanted in truth {
            match there.binary_search_by_key(&wanted.0, |entry| entry.0) {
                Err(_) => self.silent += u64::from(!found.is_in_hole(id, wanted.0)),
                Ok(index) => {
                    matched += 1;
                    *(if there[index] == *wanted { &mut self.right } else { &mut self.wrong }) += 1;
                }
            }
        }
        self.extra += there.len() as u64 - matched;
    }

    /// Mappings of which something untrue is said.
    pub fn lies(&self) -> u64 {
        self.wrong + self.extra + self.silent
    }

    /// Said to be whole, and is not.
    pub fn is_falsely_clean(&self) -> bool {
        self.exit < 2 && (self.right < self.total || self.lies() > 0 || self.tier_right < self.tier_total)
    }

    /// A count as a share of the true mappings.
    pub fn share(&self, count: u64) -> f64 {
        count as f64 / self.total.max(1) as f64
    }

    /// How far the predicted loss is from the real one, as a share of the true mappings.
    pub fn prediction_error(&self) -> Option<f64> {
        let lost = self.total - self.right - self.wrong;
        self.predicted.map(|predicted| self.share(predicted.abs_diff(lost)))
    }

    /// What is worth having, less what misleads: negative when there is more of that.
    pub fn net(&self) -> f64 {
        self.share(self.right) - self.share(self.wrong + self.extra)
    }
}
