//! Blocks of pool metadata know their own number: in a wrong order they lie at wrong places, and what a stale member helps to
//! rebuild has no right checksum.

use super::rows::Rows;
use super::{Findings, LIKELY, Sampler};
use std::collections::BTreeSet;
use tierlift_ondisk::raid::Target;
use tierlift_ondisk::thin::BlockSize;
use tierlift_ondisk::thin::{identify, own_number};
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// Blocks at wrong places that are needed to speak against an array whose parity could be checked.
const LEAST: usize = 2;

/// Samples cannot see a member that is old in a few places only, where nothing is left to compare it with.
const PARTLY: &str = "no parity is left to check the members with: what was sampled fits, but a member that is older than its superblock \
                      says, in places that were not sampled, could not be noticed. The missing member would tell; attach it if you can";

/// A place on the array at which a block of pool metadata should be.
#[derive(Debug, Clone, Copy)]
pub(in crate::discover) struct Block {
    pub(in crate::discover) number: u64,
    pub(in crate::discover) sector: Sectors,
    pub(in crate::discover) size: BlockSize,
}

/// What was found at the places.
#[derive(Debug, Clone, Default)]
struct Tally {
    /// Sound, and where it belongs.
    right: usize,
    /// Of these, rebuilt for a missing member.
    rebuilt: usize,
    /// Sound, but another block.
    misplaced: usize,
    /// Not sound.
    broken: usize,
    /// Roles with blocks that are not sound or not where they belong.
    odd_roles: BTreeSet<usize>,
    /// Roles whose bytes some sound block was read or rebuilt from.
    vouched: BTreeSet<usize>,
}

impl Tally {
    fn of(sampler: &Sampler<'_>, order: &[usize]) -> Self {
        let mut tally = Self::default();
        let Some(view) = sampler.reordered(order) else { return tally };
        for block in &sampler.blocks {
            let mut bytes = vec![0; block.size.bytes()];
            let read = block.sector.to_bytes().is_some_and(|offset| view.read_at(offset, &mut bytes).is_ok());
            if read && bytes.iter().any(|byte| *byte != 0) {
                tally.count(sampler, order, block, &bytes);
            }
        }
        tally
    }

    fn count(&mut self, sampler: &Sampler<'_>, order: &[usize], block: &Block, bytes: &[u8]) {
        let (place, row) = match sampler.geometry.locate(block.sector).map(|run| run.target) {
            Some(Target::Parity(place, row)) => (Some(place), Some(row)),
            Some(Target::Copies(places)) => (places.first().copied(), None),
            None => return,
        };
        let Some(place) = place else { return };
        let role = order.get(place.role).copied().unwrap_or(place.role);
        let here = sampler.members.get(role).is_some_and(Option::is_some);
        let own = own_number(bytes).map(|number| number.0);
        if identify(bytes).is_none() {
            self.broken = self.broken.saturating_add(1);
            self.odd_roles.insert(role);
        } else if own != Some(block.number) {
            self.misplaced = self.misplaced.saturating_add(1);
            self.odd_roles.insert(role);
        } else {
            self.right = self.right.saturating_add(1);
            if here || row.is_none() {
                self.vouched.insert(role);
            } else {
                self.rebuilt = self.rebuilt.saturating_add(1);
                self.vouched.extend(sampler.with_data(place.sector, block.size.bytes()));
            }
        }
    }

    fn odd(&self) -> usize {
        self.misplaced.saturating_add(self.broken)
    }
}

/// Blocks of metadata against their places. Where nothing can be compared with parity, each member needs something that
/// speaks for it: these blocks, or the rows.
pub(super) fn judge(sampler: &Sampler<'_>, rows: &Rows, findings: &mut Findings) {
    let own: Vec<usize> = (0..sampler.members.len()).collect();
    let tally = Tally::of(sampler, &own);
    if sampler.order_is_open() {
        if let Some((one, two, other)) = better(sampler, &tally) {
            findings.refuse = Some(format!(
                "{} blocks of pool metadata are sound and where they belong, and {} would be with the members of roles {one} \
                 and {two} exchanged: the superblocks name the wrong roles; {LIKELY}",
                tally.right, other.right
            ));
            return;
        }
    }
    if tally.misplaced >= LEAST && tally.misplaced.saturating_mul(8) > tally.right {
        findings.refuse = Some(format!(
            "{} of {} blocks of pool metadata lie where others belong: the members are in the wrong order, or one is of another \
             array; {LIKELY}",
            tally.misplaced,
            tally.misplaced.saturating_add(tally.right)
        ));
    } else if sampler.at_limit() {
        findings.refuse = unproved(sampler, &tally);
        if findings.refuse.is_none() && tally.right > 0 {
            findings.notes.push(silent(sampler, &tally, rows).unwrap_or_else(|| PARTLY.into()));
        }
    }
    if findings.refuse.is_none() && sampler.at_limit() && sampler.blocks.is_empty() {
        findings.notes.push(
            "no parity is left to check the members with, and no pool metadata lie here: that they belong together only their \
             superblocks say"
                .into(),
        );
    }
    if findings.refuse.is_none() && tally.right > 0 {
        findings.evidence.push(format!(
            "{} blocks of pool metadata lie where they belong, {} of them rebuilt for missing members",
            tally.right, tally.rebuilt
        ));
    }
}

/// An exchange of two members that puts clearly more blocks right.
fn better(sampler: &Sampler<'_>, now: &Tally) -> Option<(usize, usize, Tally)> {
    let enough = now.right.saturating_add(LEAST).max(now.right.saturating_add(now.right / 16));
    sampler.exchanges().find_map(|(one, two, order)| {
        let other = Tally::of(sampler, &order);
        (other.right > enough && other.odd() <= now.odd()).then_some((one, two, other))
    })
}

/// Without any parity left to compare with, what is rebuilt must prove itself: why it does not.
fn unproved(sampler: &Sampler<'_>, tally: &Tally) -> Option<String> {
    let told = "no parity is left to check the members with, and";
    if sampler.blocks.is_empty() {
        let why = format!(
            "{told} nothing on the array makes sense as it is: a member is stale, of another array, or in a wrong role"
        );
        return (!sampler.known).then_some(why);
    }
    if tally.right == 0 {
        return Some(format!("{told} not one block of pool metadata is where it belongs; {LIKELY}"));
    }
    // Damage of the pool itself strikes all members alike; a stale member spoils itself and what it helps to rebuild.
    let here = |role: &&usize| sampler.members.get(**role).is_some_and(Option::is_some);
    if tally.odd() > 0 && tally.odd_roles.iter().filter(here).count() < 2 {
        let named = tally.odd_roles.iter().find(here).map(|role| format!(" (most likely the one of role {role})"));
        return Some(format!(
            "{told} {} of {} blocks of pool metadata make no sense, all of them on one member or rebuilt for a missing one: one \
             of the members here is stale or of another array{}; {LIKELY}. Attach the missing member",
            tally.odd(),
            tally.odd().saturating_add(tally.right),
            named.unwrap_or_default()
        ));
    }
    None
}

/// Members that neither the rows nor a block of metadata speaks for, though nothing speaks against them either: small pools
/// have no metadata on every member. Only their superblocks vouch for them, which is said. A member that is empty wherever
/// it was looked at has nothing that could be wrong.
fn silent(sampler: &Sampler<'_>, tally: &Tally, rows: &Rows) -> Option<String> {
    let vouched = rows.vouched();
    let unproved = |role: &usize| {
        !tally.vouched.contains(role)
            && !vouched.contains(role)
            && !Rows::of_member(sampler, *role).vouched().contains(role)
    };
    let silent = rows.with_data().into_iter().filter(unproved).map(|role| format!("role {role}")).collect::<Vec<_>>();
    (!silent.is_empty()).then(|| {
        format!(
            "no parity is left to check the members with, and that the members of {} belong with the others only their superblocks \
             say: if files turn out damaged, one of them may be stale. The missing member would tell; attach it if you can",
            silent.join(", ")
        )
    })
}
