//! Several numbers as one: what a finding says of many blocks or chunks.

use serde::Serialize;
use std::fmt;

/// Several numbers, told in short.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// How many; there may be others between them that are not meant.
    pub count: u64,
}

impl Spread {
    pub(super) fn add(&mut self, number: u64) {
        self.add_range(number, number);
    }

    pub(super) fn add_range(&mut self, first: u64, last: u64) {
        self.first = if self.count == 0 { first } else { self.first.min(first) };
        self.last = self.last.max(last);
        self.count = self.count.saturating_add(last.saturating_sub(first)).saturating_add(1);
    }

    /// The same numbers when there are any.
    pub(super) fn some(self) -> Option<Self> {
        (self.count > 0).then_some(self)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, count } = self;
        match last.checked_sub(*first).and_then(|length| length.checked_add(1)) {
            Some(1) => write!(f, "{first}"),
            Some(length) if length == *count => write!(f, "{first} to {last}"),
            _ => write!(f, "{first} to {last} ({count} of them)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_short() {
        let mut spread = Spread::default();
        assert_eq!(spread.some(), None);
        spread.add(7);
        assert_eq!(spread.to_string(), "7");
        spread.add_range(8, 9);
        assert_eq!(spread.to_string(), "7 to 9");
        spread.add(3);
        assert_eq!(spread.to_string(), "3 to 9 (4 of them)");
        let all = Spread { first: 0, last: u64::MAX, count: u64::MAX };
        assert_eq!(all.to_string(), format!("0 to {0} ({0} of them)", u64::MAX));
    }
}
