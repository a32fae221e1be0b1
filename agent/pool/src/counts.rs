//! Reference counts of an address space: four bits for each block near one that is in use, nothing for the rest.
//!
//! The length of the space is only a claim of the superblock, up to 2^40 chunks, so memory follows what is counted: a page
//! begins as a short list and becomes an array when enough of it is in use. Counts from 15 on, which are rare, lie apart.
//! Small arrays are what makes counting fast: chunks are counted in no order, and millions of counts fit a processor's cache.

use std::collections::HashMap;

/// Indices in a page.
const PAGE: u64 = 4096;
/// Counted indices from which a page becomes an array.
const FEW: usize = 64;
/// In a page: the count lies apart.
const APART: u8 = 15;
/// Pages that are found by their number, not by a search: those of the first 2^30 indices, whose list takes 2 MiB at most.
const NEAR: usize = 1 << 18;

/// How often each index from 0 up to a length was added.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    len: u64,
    /// The pages that are arrays, of the lower part of the space: where nearly all additions go.
    near: Vec<Option<Flat>>,
    /// All other pages.
    pages: HashMap<u64, Page>,
    apart: HashMap<u64, u32>,
    non_zero: u64,
}

/// Four counts of four bits in each, the first in the lowest bits.
type Flat = Box<[u16; PAGE as usize / 4]>;

/// Place of a page's index in an array: which four, and how far they are to be shifted.
const fn quarter(index: u16) -> (usize, u16) {
    (index as usize / 4, (index % 4).saturating_mul(4))
}

fn flat_get(flat: &Flat, index: u16) -> u8 {
    let (at, shift) = quarter(index);
    flat.get(at).map_or(0, |four| (four >> shift & 15) as u8)
}

fn flat_set(flat: &mut Flat, index: u16, count: u8) {
    let (at, shift) = quarter(index);
    if let Some(four) = flat.get_mut(at) {
        *four = *four & !(15 << shift) | u16::from(count & 15) << shift;
    }
}

/// The counts of [`PAGE`] indices.
#[derive(Debug, Clone)]
enum Page {
    /// Ascending by index.
    Few(Vec<(u16, u8)>),
    Flat(Flat),
}

impl Page {
    fn get(&self, index: u16) -> u8 {
        match self {
            Self::Flat(flat) => flat_get(flat, index),
            Self::Few(list) => {
                let place = list.binary_search_by_key(&index, |(index, _)| *index);
                place.ok().and_then(|at| list.get(at)).map_or(0, |(_, count)| *count)
            }
        }
    }

    fn set(&mut self, index: u16, count: u8) {
        match self {
            Self::Flat(flat) => flat_set(flat, index, count),
            Self::Few(list) => match list.binary_search_by_key(&index, |(index, _)| *index) {
                Ok(at) => drop(list.get_mut(at).map(|entry| entry.1 = count)),
                Err(at) => list.insert(at, (index, count)),
            },
        }
    }

    /// The same as an array, when it is a list no longer short.
    fn grown(&self) -> Option<Flat> {
        let Self::Few(list) = self else { return None };
        (list.len() >= FEW).then(|| flat(list))
    }

    /// All counts above 0, ascending.
    fn entries(&self) -> Box<dyn Iterator<Item = (u16, u8)> + '_> {
        match self {
            Self::Few(list) => Box::new(list.iter().copied()),
            Self::Flat(flat) => Box::new(flat_entries(flat)),
        }
    }
}

fn flat_entries(flat: &Flat) -> impl Iterator<Item = (u16, u8)> + '_ {
    (0..PAGE as u16).map(|index| (index, flat_get(flat, index))).filter(|(_, count)| *count > 0)
}

fn flat(list: &[(u16, u8)]) -> Flat {
    let mut flat = Box::new([0; PAGE as usize / 4]);
    for (index, count) in list {
        flat_set(&mut flat, *index, *count);
    }
    flat
}

/// Page and index inside it.
const fn split(index: u64) -> (u64, u16) {
    (index / PAGE, (index % PAGE) as u16)
}

impl Counts {
    /// All zero, for indices below `len`.
    pub fn new(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    /// Number of indices.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no indices at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one and gives the new count; an index beyond the length is not counted and gives 0.
    pub fn add(&mut self, index: u64) -> u32 {
        if index >= self.len {
            return 0;
        }
        let (page, inside) = split(index);
        let near = usize::try_from(page).ok().and_then(|page| self.near.get_mut(page)?.as_mut());
        let (at, shift) = quarter(inside);
        let Some(four) = near.and_then(|flat| flat.get_mut(at)) else { return self.add_elsewhere(index, page, inside) };
        let count = (*four >> shift & 15) as u8;
        if count.saturating_add(1) < APART {
            self.non_zero = self.non_zero.saturating_add(u64::from(count == 0));
            *four = four.wrapping_add(1 << shift);
            return u32::from(count).saturating_add(1);
        }
        *four |= 15 << shift;
        self.add_apart(index)
    }

    fn add_elsewhere(&mut self, index: u64, number: u64, inside: u16) -> u32 {
        let page = self.pages.entry(number).or_insert_with(|| Page::Few(Vec::new()));
        if let Some(flat) = page.grown() {
            self.place_flat(number, flat);
            return self.add(index);
        }
        let count = page.get(inside).saturating_add(1).min(APART);
        page.set(inside, count);
        self.non_zero = self.non_zero.saturating_add(u64::from(count == 1));
        if count < APART { u32::from(count) } else { self.add_apart(index) }
    }

    fn place_flat(&mut self, number: u64, flat: Flat) {
        match usize::try_from(number) {
            Ok(at) if at < NEAR => {
                self.pages.remove(&number);
                if self.near.len() <= at {
                    self.near.resize(at.saturating_add(1), None);
                }
                if let Some(place) = self.near.get_mut(at) {
                    *place = Some(flat);
                }
            }
            _ => drop(self.pages.insert(number, Page::Flat(flat))),
        }
    }

    fn add_apart(&mut self, index: u64) -> u32 {
        let count = self.apart.entry(index).or_insert(u32::from(APART).saturating_sub(1));
        *count = count.saturating_add(1);
        *count
    }

    /// The count of an index; 0 beyond the length.
    pub fn get(&self, index: u64) -> u32 {
        let (page, inside) = split(index);
        let count = match self.near(page) {
            Some(flat) => flat_get(flat, inside),
            None => self.pages.get(&page).map_or(0, |page| page.get(inside)),
        };
        self.full(index, count)
    }

    /// The counts of sixteen indices at once, four bits each with the first in the lowest; 15 stands for 15 and more. `first`
    /// is rounded down to a multiple of sixteen.
    pub(crate) fn sixteen(&self, first: u64) -> u64 {
        let (page, inside) = split(first & !15);
        let fours = |flat: &Flat| {
            let fours = flat.get(quarter(inside).0..).unwrap_or_default().iter().take(4);
            fours.rev().fold(0, |sixteen, four| sixteen << 16 | u64::from(*four))
        };
        match (self.near(page), self.pages.get(&page)) {
            (Some(flat), _) | (None, Some(Page::Flat(flat))) => fours(flat),
            (None, Some(page)) => {
                let counts = (inside..inside.saturating_add(16)).rev().map(|index| u64::from(page.get(index)));
                counts.fold(0, |sixteen, count| sixteen << 4 | count)
            }
            (None, None) => 0,
        }
    }

    fn near(&self, page: u64) -> Option<&Flat> {
        self.near.get(usize::try_from(page).ok()?)?.as_ref()
    }

    fn full(&self, index: u64, count: u8) -> u32 {
        if count == APART { self.apart.get(&index).copied().unwrap_or(count.into()) } else { count.into() }
    }

    /// Number of indices whose count is above 0.
    pub fn non_zero(&self) -> u64 {
        self.non_zero
    }

    /// Every index whose count is above 0, ascending, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let near = (0..).zip(&self.near).filter(|(_, flat)| flat.is_some()).map(|(number, _)| number);
        let mut pages: Vec<u64> = self.pages.keys().copied().chain(near).collect();
        pages.sort_unstable();
        pages.into_iter().flat_map(move |number| {
            let first = number.saturating_mul(PAGE);
            self.entries(number).map(move |(inside, count)| {
                let index = first.saturating_add(inside.into());
                (index, self.full(index, count))
            })
        })
    }

    fn entries(&self, number: u64) -> Box<dyn Iterator<Item = (u16, u8)> + '_> {
        match (self.near(number), self.pages.get(&number)) {
            (Some(flat), _) => Box::new(flat_entries(flat)),
            (None, Some(page)) => page.entries(),
            (None, None) => Box::new(std::iter::empty()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn large_counts_and_large_spaces() {
        let mut counts = Counts::new(1 << 40);
        let last = (1 << 40) - 1;
        for expected in 1..=70_000 {
            assert_eq!(counts.add(last), expected);
        }
        assert_eq!(counts.add(1 << 40), 0, "beyond the length");
        assert_eq!((counts.get(last), counts.get(1 << 40), counts.get(7)), (70_000, 0, 0));
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(last, 70_000)]);
    }

    #[test]
    fn pages_near_and_far_become_arrays() {
        let far = NEAR as u64 * PAGE;
        let mut counts = Counts::new(u64::MAX);
        let indices: Vec<_> = (0..200).chain(far - 100..far + 100).chain(u64::MAX - 100..u64::MAX).collect();
        for round in 1..=300 {
            assert!(indices.iter().all(|index| counts.add(*index) == round), "round {round}");
        }
        assert_eq!(counts.near.iter().flatten().count(), 2);
        assert_eq!(counts.iter().collect::<Vec<_>>(), indices.iter().map(|index| (*index, 300)).collect::<Vec<_>>());
        assert!(indices.iter().all(|index| counts.get(*index) == 300));
        assert_eq!((counts.get(200), counts.get(far + 100), counts.non_zero()), (0, 0, 500));
    }

    /// One block in use on each of a million pages must not cost a million pages.
    #[test]
    fn a_scattered_space_stays_small() {
        let mut counts = Counts::new(u64::MAX);
        for step in 0..100_000 {
            counts.add(step * (PAGE + 1));
        }
        assert!(counts.near.is_empty() && counts.pages.values().all(|page| matches!(page, Page::Few(_))));
        assert_eq!(counts.non_zero(), 100_000);
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_map(adds in proptest::collection::vec((0..3_u64, 0..200_u64), 0..2000)) {
            let mut counts = Counts::new(2 * PAGE + 150);
            let mut truth = BTreeMap::new();
            for (page, inside) in adds {
                let index = page * PAGE + inside;
                let new = counts.add(index);
                if index < counts.len() {
                    let count = truth.entry(index).or_insert(0);
                    *count += 1;
                    prop_assert_eq!(new, *count);
                } else {
                    prop_assert_eq!(new, 0);
                }
            }
            prop_assert_eq!(counts.non_zero(), truth.len() as u64);
            for first in (0..2 * PAGE + 150).step_by(16) {
                let sixteen = counts.sixteen(first + 1);
                let nibble = |at: u64| (sixteen >> (at * 4) & 15) as u32;
                prop_assert!((0..16).all(|at| nibble(at) == counts.get(first + at).min(15)));
            }
            prop_assert!(truth.iter().all(|(index, count)| counts.get(*index) == *count));
            prop_assert_eq!(counts.iter().collect::<Vec<_>>(), truth.into_iter().collect::<Vec<_>>());
        }
    }
}
