//! Dealing out: each device gets one tree, and each tree has room for a known number of devices.

/// More devices or seats than this are not tried; it also bounds how deep the search recurses.
const MOST: usize = 2048;
/// Pairs of device and tree looked at.
const MOST_PAIRS: usize = 65_536;

/// For each device the trees that it gets in some way of giving all devices a tree and filling all room: one that is alone is
/// certain. `choices` are the trees that each device may have, `room` how many devices each tree takes. Nothing when there
/// is no such way.
pub(crate) fn possible(choices: &[Vec<usize>], room: &[usize]) -> Option<Vec<Vec<usize>>> {
    let seats: Vec<usize> = room.iter().enumerate().flat_map(|(tree, room)| vec![tree; (*room).min(MOST)]).collect();
    let pairs = choices.iter().map(Vec::len).fold(0, usize::saturating_add);
    if choices.len() != seats.len() || seats.len() > MOST || pairs > MOST_PAIRS {
        return None;
    }
    let mut deal = Deal { choices, taken: vec![None; seats.len()], seats };
    if !(0..choices.len()).all(|device| deal.seat(device, &mut deal.none_tried())) {
        return None;
    }
    let found = choices.iter().enumerate();
    Some(
        found
            .map(|(device, choices)| choices.iter().copied().filter(|tree| deal.allows(device, *tree)).collect())
            .collect(),
    )
}

#[derive(Clone)]
struct Deal<'a> {
    choices: &'a [Vec<usize>],
    /// The tree of each seat.
    seats: Vec<usize>,
    /// The device on each seat.
    taken: Vec<Option<usize>>,
}

impl Deal<'_> {
    fn none_tried(&self) -> Vec<bool> {
        vec![false; self.seats.len()]
    }

    fn give(&mut self, seat: usize, device: Option<usize>) {
        if let Some(taken) = self.taken.get_mut(seat) {
            *taken = device;
        }
    }

    fn holder(&self, seat: usize) -> Option<usize> {
        self.taken.get(seat).copied().flatten()
    }

    /// Whether the device has this tree in some full deal. Starts from a full deal.
    fn allows(&self, device: usize, tree: usize) -> bool {
        let held = self.taken.iter().position(|holder| *holder == Some(device));
        let Some(seat) = self.seats.iter().position(|of| *of == tree) else { return false };
        let Some(held) = held else { return false };
        if self.seats.get(held) == Some(&tree) {
            return true;
        }
        // The device moves there for good, and whoever sat there must find another seat.
        let mut other = self.clone();
        let moved = other.holder(seat);
        other.give(held, None);
        other.give(seat, Some(device));
        let mut tried = other.none_tried();
        tried.get_mut(seat).into_iter().for_each(|tried| *tried = true);
        moved.is_none_or(|moved| other.seat(moved, &mut tried))
    }

    /// Seats a device, moving others where that helps. Each seat is tried once.
    fn seat(&mut self, device: usize, tried: &mut [bool]) -> bool {
        for seat in 0..self.seats.len() {
            let tree = self.seats.get(seat);
            let may = self.choices.get(device).zip(tree).is_some_and(|(choices, tree)| choices.contains(tree));
            if !may || tried.get_mut(seat).is_none_or(|tried| std::mem::replace(tried, true)) {
                continue;
            }
            if self.holder(seat).is_none_or(|holder| self.seat(holder, tried)) {
                self.give(seat, Some(device));
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_dealt_in_two_ways_stays_open() {
        let found = possible(&[vec![0, 1], vec![0, 1], vec![1, 2]], &[1, 1, 1]);
        assert_eq!(found, Some(vec![vec![0, 1], vec![0, 1], vec![2]]));
        assert_eq!(possible(&[vec![0, 1], vec![1]], &[1, 1]), Some(vec![vec![0], vec![1]]));
        // Moving one moves two others.
        let around = vec![vec![0, 1], vec![1, 2], vec![0, 2]];
        assert_eq!(possible(&around, &[1, 1, 1]), Some(around));
    }

    #[test]
    fn a_shared_tree_has_room_for_several() {
        assert_eq!(possible(&[vec![0], vec![0, 1], vec![0, 1]], &[2, 1]), Some(vec![vec![0], vec![0, 1], vec![0, 1]]));
        assert_eq!(possible(&[vec![0], vec![1], vec![0, 1]], &[2, 1]), Some(vec![vec![0], vec![1], vec![0]]));
    }

    #[test]
    fn nothing_is_possible_when_no_deal_gives_all_a_tree() {
        assert_eq!(possible(&[vec![0], vec![0]], &[1, 1]), None);
        assert_eq!(possible(&[vec![], vec![0]], &[1, 1]), None);
        assert_eq!(possible(&[vec![0]], &[1, 1]), None, "room must be filled");
    }
}
