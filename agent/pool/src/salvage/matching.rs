//! Dealing out: each device gets one tree, and each tree has room for a known number of devices.

/// More than this are not tried; it also bounds how deep the search recurses.
const MOST: usize = 2048;

/// The pairs of device and tree that are the same in every way of giving all devices a tree. `choices` are the trees that each
/// device may have, `room` how many devices each tree takes. Empty when there is no such way.
pub(crate) fn certain(choices: &[Vec<usize>], room: &[usize]) -> Vec<(usize, usize)> {
    let seats: Vec<usize> = room.iter().enumerate().flat_map(|(tree, room)| vec![tree; (*room).min(MOST)]).collect();
    if choices.len() > MOST || seats.len() > MOST {
        return Vec::new();
    }
    let mut deal = Deal { choices, taken: vec![None; seats.len()], seats, banned: None };
    if !(0..choices.len()).all(|device| deal.seat(device, &mut deal.none_tried())) {
        return Vec::new();
    }
    let taken = deal.taken.clone();
    let mut found = Vec::new();
    for (seat, device) in taken.iter().enumerate().filter_map(|(seat, device)| Some((seat, (*device)?))) {
        let Some(tree) = deal.seats.get(seat).copied() else { continue };
        deal.taken.clone_from(&taken);
        deal.give(seat, None);
        deal.banned = Some((device, tree));
        if !deal.seat(device, &mut deal.none_tried()) {
            found.push((device, tree));
        }
    }
    found.sort_unstable();
    found
}

struct Deal<'a> {
    choices: &'a [Vec<usize>],
    /// The tree of each seat.
    seats: Vec<usize>,
    /// The device on each seat.
    taken: Vec<Option<usize>>,
    /// A pair that may not be.
    banned: Option<(usize, usize)>,
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

    /// Seats a device, moving others where that helps. Each seat is tried once.
    fn seat(&mut self, device: usize, tried: &mut [bool]) -> bool {
        for seat in 0..self.seats.len() {
            let may = self.seats.get(seat).is_some_and(|tree| {
                self.banned != Some((device, *tree))
                    && self.choices.get(device).is_some_and(|choices| choices.contains(tree))
            });
            if !may || tried.get_mut(seat).is_none_or(|tried| std::mem::replace(tried, true)) {
                continue;
            }
            let holder = self.taken.get(seat).copied().flatten();
            if holder.is_none_or(|holder| self.seat(holder, tried)) {
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
    fn what_can_be_dealt_in_two_ways_is_not_certain() {
        assert_eq!(certain(&[vec![0, 1], vec![0, 1], vec![1, 2]], &[1, 1, 1]), [(2, 2)]);
        assert_eq!(certain(&[vec![0, 1], vec![1]], &[1, 1]), [(0, 0), (1, 1)]);
    }

    #[test]
    fn a_shared_tree_has_room_for_several() {
        // Devices 1 and 3 share a tree; device 2 cannot have the other one by exclusion.
        assert_eq!(certain(&[vec![0], vec![0, 1], vec![0, 1]], &[2, 1]), [(0, 0)]);
        assert_eq!(certain(&[vec![0], vec![1], vec![0, 1]], &[2, 1]), [(0, 0), (1, 1), (2, 0)]);
    }

    #[test]
    fn nothing_is_certain_when_no_deal_gives_all_a_tree() {
        assert_eq!(certain(&[vec![0], vec![0]], &[1, 1]), []);
        assert_eq!(certain(&[vec![], vec![0]], &[1, 1]), []);
    }
}
