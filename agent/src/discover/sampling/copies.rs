//! RAID 10: copies against each other.

use super::{Findings, LIKELY, SAMPLE_BYTES, SAMPLE_SECTORS, Sampler, tolerable};
use tierlift_ondisk::raid::{Place, Run, Target};
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

pub(super) fn judge(sampler: &Sampler<'_>, findings: &mut Findings) {
    // Without redundancy there is one copy; the halves of a mirror are compared where they are read.
    let (mut all, mut wrong) = (0usize, Vec::new());
    for sector in places(sampler) {
        let Some(Run { target: Target::Copies(places), .. }) = sampler.geometry.locate(sector) else { return };
        let read: Vec<(usize, Vec<u8>)> =
            places.iter().filter_map(|place| Some((place.role, read(sampler, *place)?))).collect();
        let Some((first, rest)) = read.split_first().filter(|(_, rest)| !rest.is_empty()) else { continue };
        all = all.saturating_add(1);
        wrong.extend(rest.iter().find(|other| other.1 != first.1).map(|other| (first.0, other.0)));
    }
    match wrong.first() {
        None if all > 0 => findings.evidence.push(format!("the copies are equal in all {all} places sampled")),
        None => {}
        Some(_) if tolerable(wrong.len(), all, sampler.dirty) => findings.notes.push(format!(
            "the copies differ in {} of {all} places sampled; so few are what a power cut leaves",
            wrong.len()
        )),
        Some((one, two)) => {
            findings.refuse = Some(format!(
                "the copies differ in {} of {all} places sampled, first on the members of roles {one} and {two}: a member is \
                 stale, of another array, or in the wrong role; {LIKELY}. Leave out one of them",
                wrong.len()
            ));
        }
    }
}

fn places(sampler: &Sampler<'_>) -> Vec<Sectors> {
    let count = sampler.budget();
    let size = sampler.geometry.size();
    let step = size.0.checked_div(count as u64).unwrap_or(0).max(SAMPLE_SECTORS);
    let spread = (0..count as u64).map(|number| Sectors(number.saturating_mul(step)));
    sampler.wanted.iter().copied().take(count).chain(spread).filter(|sector| *sector < size).collect()
}

fn read(sampler: &Sampler<'_>, place: Place) -> Option<Vec<u8>> {
    let mut bytes = vec![0; SAMPLE_BYTES.min(512)];
    let member = sampler.members.get(place.role)?.as_ref()?;
    member.read_at(place.sector.to_bytes()?, &mut bytes).ok().map(|()| bytes)
}
