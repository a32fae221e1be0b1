//! The table line of the pool: from what the metadata say and the user insists on to the words the kernel wants
//! (kernel patch design, sections 1.2 and 1.4).

use super::plan::{Choice, Mode, ModeChoice, PlanError, PoolFacts, line};
use super::wire::TargetLine;
use tierlift_ondisk::units::Sectors;

/// A tier word for a device that is not there: its blocks give I/O errors.
pub const MISSING: &str = "-";
/// QNAP's kernels know three tiers.
const MAX_TIERS: u32 = 3;
/// Words every pool gets. Read-only, nothing zeroed, nothing discarded, no waiting for space that will never come.
const ALWAYS: [&str; 4] = ["read_only", "skip_block_zeroing", "no_discard_passdown", "error_if_no_space"];

/// The mode to load the pool in, after the user's word.
///
/// # Errors
/// When the user's word makes no sense for this pool.
pub fn mode(facts: &PoolFacts, choice: &Choice) -> Result<Mode, PlanError> {
    match (choice.mode, facts.mode) {
        (None, mode) => Ok(mode),
        (Some(_), _) if facts.tiers == 0 => {
            Err(PlanError("this pool has no tiers: --bypass and --tier-map mean nothing for it; leave them out".into()))
        }
        (Some(ModeChoice::TierMap), _) => Ok(Mode::TierMap),
        (Some(ModeChoice::Bypass), Mode::Bypass { tier }) => Ok(Mode::Bypass { tier }),
        (Some(ModeChoice::Bypass), _) => {
            let map = choice.enable_map.unwrap_or_else(|| every_tier(facts.tiers));
            Ok(Mode::Bypass { tier: highest(map).unwrap_or(0) })
        }
    }
}

/// The pool's one line. `tiers` are the paths of the tier devices, [`MISSING`] where there is none; `data` is the data device
/// of a pool without tiers.
///
/// # Errors
/// When a device that holds all the data is missing, or the superblock's figures cannot be a pool.
pub fn table(
    facts: &PoolFacts,
    mode: Mode,
    metadata: &str,
    tiers: &[String],
    choice: &Choice,
) -> Result<TargetLine, PlanError> {
    let length = facts.chunks.0.checked_mul(facts.chunk.0).filter(|&length| length > 0);
    let length = length.ok_or_else(|| {
        PlanError(format!(
            "the superblock's pool length makes no sense: {} chunks of {} sectors",
            facts.chunks, facts.chunk
        ))
    })?;
    let (data, mut words) = match mode {
        Mode::Plain => (plain_device(tiers)?, Vec::new()),
        Mode::Bypass { .. } | Mode::TierMap => ("TIER".to_owned(), tier_words(facts, mode, tiers, choice)?),
    };
    if facts.qnap {
        words.push("qnap_format".to_owned());
    }
    words.extend(ALWAYS.map(str::to_owned));
    let arguments = format!("{metadata} {data} {} 0 {} {}", facts.chunk, words.len(), words.join(" "));
    Ok(line(0, length, "thin-pool", arguments))
}

/// The line of a pool in stock Linux's form over one data device of `length` sectors.
pub fn stock(length: u64, chunk: Sectors, metadata: &str, data: &str) -> TargetLine {
    line(0, length, "thin-pool", format!("{metadata} {data} {chunk} 0 {} {}", ALWAYS.len(), ALWAYS.join(" ")))
}

fn plain_device(tiers: &[String]) -> Result<String, PlanError> {
    let device = tiers.first().filter(|device| *device != MISSING);
    device.cloned().ok_or_else(|| PlanError("the pool's data volume is missing: without it nothing can be read".into()))
}

fn tier_words(facts: &PoolFacts, mode: Mode, tiers: &[String], choice: &Choice) -> Result<Vec<String>, PlanError> {
    if facts.tiers == 0 || facts.tiers > MAX_TIERS {
        return Err(PlanError(format!("the superblock tells {} tiers; only 1 to {MAX_TIERS} can be", facts.tiers)));
    }
    let map = enable_map(facts, mode, choice)?;
    let mut words = vec![format!("TIER:{}", facts.tiers)];
    for tier in 0..facts.tiers {
        let device = tiers.get(tier as usize).filter(|_| !choice.missing_tiers.contains(&tier));
        words.push(device.cloned().unwrap_or_else(|| MISSING.to_owned()));
    }
    words.push(format!("enable_map:{map}"));
    match mode {
        Mode::TierMap => words.push("bypass_off".to_owned()),
        _ => check_bypass_tier(&words, map)?,
    }
    Ok(words)
}

/// In bypass the highest usable tier has everything; without it there is nothing to read.
fn check_bypass_tier(words: &[String], map: u8) -> Result<(), PlanError> {
    let tier = highest(map).unwrap_or(0);
    let word = words.get((tier as usize).saturating_add(1));
    if word.is_none_or(|word| word == MISSING) {
        return Err(PlanError(format!(
            "all data of this pool lie on tier {tier}, and the volume of tier {tier} is missing: attach its disks, or name the \
             right tier with --enable-map (4 for tier 2, 2 for tier 1, 1 for tier 0)"
        )));
    }
    Ok(())
}

fn enable_map(facts: &PoolFacts, mode: Mode, choice: &Choice) -> Result<u8, PlanError> {
    let all = every_tier(facts.tiers);
    let own = match mode {
        Mode::Bypass { tier } => 1_u8.checked_shl(tier).unwrap_or(0),
        _ => all,
    };
    let map = choice.enable_map.unwrap_or(own);
    if map == 0 || map & !all != 0 {
        return Err(PlanError(format!("enable_map {map} does not fit a pool of {} tiers (1 to {all})", facts.tiers)));
    }
    Ok(map)
}

/// Mask of all tiers of a pool.
fn every_tier(tiers: u32) -> u8 {
    1_u8.checked_shl(tiers).unwrap_or(0).wrapping_sub(1)
}

fn highest(map: u8) -> Option<u32> {
    map.checked_ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::test_inventory::facts;

    fn tiers() -> Vec<String> {
        vec!["t0".into(), "t1".into(), "t2".into()]
    }

    fn words(facts: &PoolFacts, choice: &Choice, tiers: &[String]) -> Result<String, String> {
        let mode = mode(facts, choice).map_err(|error| error.to_string())?;
        table(facts, mode, "m", tiers, choice).map(|line| line.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_lines_of_each_mode() {
        let none = Choice::default();
        assert_eq!(
            words(&facts(Mode::Bypass { tier: 2 }), &none, &tiers()).unwrap(),
            "0 262144 thin-pool m TIER 1024 0 10 TIER:3 t0 t1 t2 enable_map:4 qnap_format read_only skip_block_zeroing \
             no_discard_passdown error_if_no_space"
        );
        assert_eq!(
            words(&facts(Mode::TierMap), &none, &tiers()).unwrap(),
            "0 262144 thin-pool m TIER 1024 0 11 TIER:3 t0 t1 t2 enable_map:7 bypass_off qnap_format read_only \
             skip_block_zeroing no_discard_passdown error_if_no_space"
        );
        let plain = PoolFacts { tiers: 0, ..facts(Mode::Plain) };
        assert_eq!(
            words(&plain, &none, &tiers()[..1]).unwrap(),
            "0 262144 thin-pool m t0 1024 0 5 qnap_format read_only skip_block_zeroing no_discard_passdown error_if_no_space"
        );
        assert_eq!(
            words(&PoolFacts { qnap: false, ..plain }, &none, &tiers()[..1]).unwrap(),
            "0 262144 thin-pool m t0 1024 0 4 read_only skip_block_zeroing no_discard_passdown error_if_no_space"
        );
    }

    #[test]
    fn a_missing_tier_is_a_dash_where_others_can_be_read() {
        let choice = Choice { missing_tiers: vec![1], ..Choice::default() };
        let line = words(&facts(Mode::TierMap), &choice, &tiers()).unwrap();
        assert!(line.contains(" TIER:3 t0 - t2 enable_map:7 bypass_off "), "{line}");
        let short = words(&facts(Mode::TierMap), &Choice::default(), &tiers()[..2]).unwrap();
        assert!(short.contains(" TIER:3 t0 t1 - "), "{short}");
    }

    #[test]
    fn a_bypass_pool_without_its_tier_is_refused() {
        let choice = Choice { missing_tiers: vec![2], ..Choice::default() };
        let error = words(&facts(Mode::Bypass { tier: 2 }), &choice, &tiers()).unwrap_err();
        assert!(error.contains("tier 2 is missing"), "{error}");
    }

    #[test]
    fn the_user_may_insist() {
        let map = Choice { mode: Some(ModeChoice::TierMap), ..Choice::default() };
        assert!(words(&facts(Mode::Bypass { tier: 2 }), &map, &tiers()).unwrap().contains("enable_map:7 bypass_off"));
        let bypass = Choice { mode: Some(ModeChoice::Bypass), enable_map: Some(3), ..Choice::default() };
        let line = words(&facts(Mode::TierMap), &bypass, &tiers()).unwrap();
        assert!(line.contains("enable_map:3 qnap_format"), "{line}");
        let wrong = Choice { enable_map: Some(8), ..Choice::default() };
        assert!(words(&facts(Mode::TierMap), &wrong, &tiers()).unwrap_err().contains("enable_map 8"));
        let senseless = PoolFacts { tiers: 0, ..facts(Mode::Plain) };
        assert!(words(&senseless, &map, &tiers()).unwrap_err().contains("no tiers"));
    }

    #[test]
    fn figures_that_cannot_be_a_pool_are_refused() {
        for chunks in [0, u64::MAX] {
            let facts = PoolFacts { chunks: tierlift_ondisk::units::Chunk(chunks), ..facts(Mode::TierMap) };
            assert!(words(&facts, &Choice::default(), &tiers()).unwrap_err().contains("pool length"));
        }
        let facts = PoolFacts { tiers: 200, ..facts(Mode::TierMap) };
        assert!(words(&facts, &Choice::default(), &tiers()).unwrap_err().contains("200 tiers"));
    }
}
