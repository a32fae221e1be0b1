//! Runs: neighbours in one address space that are neighbours in the other too, told as one; and the map that runs and holes
//! make together.

use crate::fault::Lost;

/// `length` keys from `key` on that lead to `target` and its successors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<A> {
    /// First key.
    pub key: u64,
    /// Where the first key leads.
    pub target: u64,
    /// Number of keys, at least 1.
    pub length: u64,
    /// What all of them have in common.
    pub attribute: A,
}

impl<A> Run<A> {
    /// The key after the last.
    pub fn end(&self) -> u64 {
        self.key.saturating_add(self.length)
    }
}

/// Merges entries that come in key order.
#[derive(Debug)]
pub struct Runs<A> {
    current: Option<Run<A>>,
}

impl<A> Default for Runs<A> {
    fn default() -> Self {
        Self { current: None }
    }
}

impl<A: Copy + PartialEq> Runs<A> {
    /// Takes the next entry; hands out the run before it when the entry does not continue it.
    pub fn push(&mut self, key: u64, target: u64, attribute: A) -> Option<Run<A>> {
        if let Some(run) = &mut self.current {
            let next = |start: u64| start.checked_add(run.length);
            if next(run.key) == Some(key) && next(run.target) == Some(target) && run.attribute == attribute {
                run.length = run.length.saturating_add(1);
                return None;
            }
        }
        self.current.replace(Run { key, target, length: 1, attribute })
    }

    /// Hands out the last run. Also called at a hole, across which nothing is merged.
    pub fn finish(&mut self) -> Option<Run<A>> {
        self.current.take()
    }
}

/// A whole tree in memory: its runs and its holes, both in key order and never overlapping.
#[derive(Debug)]
pub struct RunMap<A> {
    /// The runs.
    pub runs: Vec<Run<A>>,
    /// The holes.
    pub lost: Vec<Lost>,
    merging: Runs<A>,
}

/// What a map says of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, A> {
    /// It lies in this run.
    Run(&'a Run<A>),
    /// It lies in this hole.
    Hole(&'a Lost),
    /// There is no entry for it.
    Nothing,
}

impl<A> Default for RunMap<A> {
    fn default() -> Self {
        Self { runs: Vec::new(), lost: Vec::new(), merging: Runs::default() }
    }
}

impl<A: Copy + PartialEq> RunMap<A> {
    /// Takes the next entry of a walk.
    pub fn push(&mut self, key: u64, target: u64, attribute: A) {
        self.runs.extend(self.merging.push(key, target, attribute));
    }

    /// Takes the next hole of a walk.
    pub fn push_lost(&mut self, hole: Lost) {
        self.finish();
        self.lost.push(hole);
    }

    /// Ends the walk.
    pub fn finish(&mut self) {
        self.runs.extend(self.merging.finish());
    }

    /// What the map says of `key`, and the first key after it of which it says something else; `None` for never.
    pub fn lookup(&self, key: u64) -> (Lookup<'_, A>, Option<u64>) {
        let run = self.runs.get(self.runs.partition_point(|run| run.end() <= key));
        let hole = self.lost.get(self.lost.partition_point(|hole| hole.keys.last < key));
        if let Some(hole) = hole.filter(|hole| hole.keys.first <= key) {
            return (Lookup::Hole(hole), hole.keys.last.checked_add(1));
        }
        if let Some(run) = run.filter(|run| run.key <= key) {
            return (Lookup::Run(run), Some(run.end()));
        }
        (Lookup::Nothing, run.map(|run| run.key).into_iter().chain(hole.map(|hole| hole.keys.first)).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_say_exactly_the_entries(entries in proptest::collection::btree_map(0..40_u64, (0..8_u64, any::<bool>()), 0..40)) {
            let mut runs = Runs::default();
            let mut told = Vec::new();
            for (key, (target, attribute)) in &entries {
                told.extend(runs.push(*key, key.saturating_add(*target / 4), *attribute));
            }
            told.extend(runs.finish());
            let spread: Vec<_> = told.iter().flat_map(|run| {
                (0..run.length).map(|step| (run.key.saturating_add(step), run.target.saturating_add(step), run.attribute))
            }).collect();
            let expected: Vec<_> = entries.iter().map(|(key, (target, attribute))| (*key, key.saturating_add(*target / 4), *attribute)).collect();
            prop_assert_eq!(spread, expected);
            let mergeable = told.windows(2).any(|pair| {
                pair[0].end() == pair[1].key && pair[0].target.saturating_add(pair[0].length) == pair[1].target
                    && pair[0].attribute == pair[1].attribute
            });
            prop_assert!(!mergeable);
        }
    }
}
