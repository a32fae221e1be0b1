//! Reference counts of an address space: a byte for each block near one that is in use, nothing for the rest.
//!
//! The length of the space is only a claim of the superblock, up to 2^40 chunks, so memory follows what is counted: a page
//! begins as a short list and becomes an array of bytes when enough of it is in use. Counts from 255 on, which are rare, lie
//! apart.

use std::collections::HashMap;

/// Indices in a page.
const PAGE: u64 = 4096;
/// Counted indices from which a page becomes an array.
const FEW: usize = 64;
/// In a page: the count lies apart.
const APART: u8 = u8::MAX;

/// How often each index from 0 up to a length was added.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    len: u64,
    pages: HashMap<u64, Page>,
    apart: HashMap<u64, u32>,
    non_zero: u64,
}

/// The counts of [`PAGE`] indices.
#[derive(Debug, Clone)]
enum Page {
    /// Ascending by index.
    Few(Vec<(u16, u8)>),
    Flat(Box<[u8]>),
}

impl Page {
    fn get(&self, index: u16) -> u8 {
        match self {
            Self::Flat(bytes) => bytes.get(usize::from(index)).copied().unwrap_or(0),
            Self::Few(list) => {
                let place = list.binary_search_by_key(&index, |(index, _)| *index);
                place.ok().and_then(|at| list.get(at)).map_or(0, |(_, count)| *count)
            }
        }
    }

    /// The place of a count, made when it is not there yet.
    fn place(&mut self, index: u16) -> Option<&mut u8> {
        if let Self::Few(list) = self
            && list.len() >= FEW
        {
            *self = Self::Flat(flat(list));
        }
        match self {
            Self::Flat(bytes) => bytes.get_mut(usize::from(index)),
            Self::Few(list) => {
                let at = list.binary_search_by_key(&index, |(index, _)| *index).unwrap_or_else(|at| {
                    list.insert(at, (index, 0));
                    at
                });
                list.get_mut(at).map(|(_, count)| count)
            }
        }
    }

    /// All counts above 0, ascending.
    fn entries(&self) -> Box<dyn Iterator<Item = (u16, u8)> + '_> {
        match self {
            Self::Few(list) => Box::new(list.iter().copied()),
            Self::Flat(bytes) => Box::new((0..).zip(bytes.iter().copied()).filter(|(_, count)| *count > 0)),
        }
    }
}

fn flat(list: &[(u16, u8)]) -> Box<[u8]> {
    let mut bytes = vec![0; PAGE as usize];
    for (index, count) in list {
        if let Some(place) = bytes.get_mut(usize::from(*index)) {
            *place = *count;
        }
    }
    bytes.into_boxed_slice()
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
        let page = self.pages.entry(page).or_insert_with(|| Page::Few(Vec::new()));
        let Some(place) = page.place(inside) else { return 0 };
        if *place == 0 {
            self.non_zero = self.non_zero.saturating_add(1);
        }
        if *place < APART {
            *place = place.saturating_add(1);
            if *place < APART {
                return u32::from(*place);
            }
        }
        let count = self.apart.entry(index).or_insert(u32::from(APART).saturating_sub(1));
        *count = count.saturating_add(1);
        *count
    }

    /// The count of an index; 0 beyond the length.
    pub fn get(&self, index: u64) -> u32 {
        let (page, inside) = split(index);
        let count = self.pages.get(&page).map_or(0, |page| page.get(inside));
        self.full(index, count)
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
        let mut pages: Vec<_> = self.pages.iter().collect();
        pages.sort_unstable_by_key(|(number, _)| **number);
        pages.into_iter().flat_map(move |(number, page)| {
            let first = number.saturating_mul(PAGE);
            page.entries().map(move |(inside, count)| {
                let index = first.saturating_add(inside.into());
                (index, self.full(index, count))
            })
        })
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

    /// One block in use on each of a million pages must not cost a million pages.
    #[test]
    fn a_scattered_space_stays_small() {
        let mut counts = Counts::new(u64::MAX);
        for step in 0..100_000 {
            counts.add(step * (PAGE + 1));
        }
        assert!(counts.pages.values().all(|page| matches!(page, Page::Few(_))));
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
            prop_assert!(truth.iter().all(|(index, count)| counts.get(*index) == *count));
            prop_assert_eq!(counts.iter().collect::<Vec<_>>(), truth.into_iter().collect::<Vec<_>>());
        }
    }
}
