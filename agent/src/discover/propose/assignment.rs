//! The order for which most speaks, and the next best.

/// The best order: the disk in each role, `None` where the member is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) score: i64,
    pub(super) order: Vec<Option<usize>>,
    pub(super) second: Option<(i64, Vec<Option<usize>>)>,
}

type Order = (i64, Vec<Option<usize>>);

/// `weights[role][disk]` is what speaks for that disk in that role, `None` where it must not be. Every disk gets a role, unless
/// there are more disks than roles; at most `missing` roles get none.
///
/// Role by role, the two best orders of every set of disks are kept: some thousand steps for twelve disks, not 12 factorial.
pub(super) fn best(weights: &[Vec<Option<i64>>], disks: usize, missing: usize) -> Option<Best> {
    if disks > 16 {
        return None;
    }
    let sets = 1usize.checked_shl(u32::try_from(disks).ok()?)?;
    let mut now: Vec<Vec<Order>> = vec![Vec::new(); sets];
    now.first_mut()?.push((0, Vec::new()));
    for (role, weights) in weights.iter().enumerate() {
        let mut next: Vec<Vec<Order>> = vec![Vec::new(); sets];
        for (set, orders) in now.iter().enumerate() {
            for (score, order) in orders {
                let taken = usize::try_from(set.count_ones()).ok()?;
                if role.saturating_sub(taken) < missing {
                    keep(&mut next, set, *score, order, None);
                }
                for (disk, weight) in weights.iter().enumerate() {
                    let bit = 1usize.checked_shl(u32::try_from(disk).ok()?)?;
                    if let (Some(weight), 0) = (weight, set & bit) {
                        keep(&mut next, set | bit, score.saturating_add(*weight), order, Some(disk));
                    }
                }
            }
        }
        now = next;
    }
    let most = disks.min(weights.len());
    let full =
        now.into_iter().enumerate().filter(|(set, _)| set.count_ones() as usize == most).flat_map(|(_, orders)| orders);
    let mut orders: Vec<Order> = full.collect();
    orders.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let mut orders = orders.into_iter();
    let (score, order) = orders.next()?;
    Some(Best { score, order, second: orders.next() })
}

/// Adds an order to those of a set, of which the two best are kept.
fn keep(sets: &mut [Vec<Order>], set: usize, score: i64, order: &[Option<usize>], disk: Option<usize>) {
    let Some(orders) = sets.get_mut(set) else { return };
    if orders.len() >= 2 && orders.iter().all(|(other, _)| *other >= score) {
        return;
    }
    let mut longer = order.to_vec();
    longer.push(disk);
    orders.push((score, longer));
    orders.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    orders.truncate(2);
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn orders(disks: usize, roles: usize) -> Vec<Vec<Option<usize>>> {
        if roles == 0 {
            return vec![Vec::new()];
        }
        let shorter = orders(disks, roles - 1);
        let all = shorter.iter().flat_map(|order| {
            let left = (0..disks).filter(|disk| !order.contains(&Some(*disk))).map(Some);
            left.chain([None]).map(|disk| [order.clone(), vec![disk]].concat()).collect::<Vec<_>>()
        });
        all.collect()
    }

    proptest::proptest! {
        /// The same as trying every order.
        #[test]
        fn it_is_the_best_of_all(
            weights in proptest::collection::vec(proptest::collection::vec(proptest::option::weighted(0.9, -9i64..9), 4), 4..6),
        ) {
            let missing = weights.len() - 4;
            let valid = orders(4, weights.len()).into_iter().filter(|order| order.iter().flatten().count() == 4);
            let score = |order: &Vec<Option<usize>>| {
                order.iter().enumerate().map(|(role, disk)| disk.map_or(Some(0), |disk| weights[role][disk])).sum::<Option<i64>>()
            };
            let mut scores: Vec<i64> = valid.filter_map(|order| score(&order)).collect();
            scores.sort_unstable();
            scores.reverse();
            let found = best(&weights, 4, missing);
            proptest::prop_assert_eq!(found.as_ref().map(|best| best.score), scores.first().copied());
            let second = found.as_ref().and_then(|best| best.second.as_ref().map(|(score, _)| *score));
            proptest::prop_assert_eq!(second, scores.get(1).copied());
            if let Some(best) = found {
                proptest::prop_assert_eq!(score(&best.order), Some(best.score));
            }
        }
    }
}
