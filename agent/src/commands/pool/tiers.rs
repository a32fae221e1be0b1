//! `--tier` and the mode: which file is which data device, checked before anything is read.

use crate::block::{Place, View};
use crate::commands::Failure;
use crate::say::tell;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;
use tierlift_ondisk::units::Bytes;
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Mode, Pool, PoolError, Stat};

/// `--tier [N=]FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TierArg {
    /// The tier, when said.
    pub number: Option<u8>,
    /// The file or device.
    pub place: Place,
}

impl FromStr for TierArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let numbered = text.split_once('=').and_then(|(number, place)| Some((number.parse().ok()?, place)));
        let (number, place) = match numbered {
            Some((number, place)) => (Some(number), place),
            None => (None, text),
        };
        let Ok(place) = place.parse();
        Ok(Self { number, place })
    }
}

/// The mode the user asked for, or the one the metadata tells.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ModeArgs {
    /// Pool sectors lie straight on one tier: N, or the one the metadata points to (overrides the decision)
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, conflicts_with = "tier_map")]
    bypass: Option<Option<u8>>,
    /// Pool sectors go through the tier tree (overrides the decision)
    #[arg(long)]
    tier_map: bool,
}

impl ModeArgs {
    /// # Errors
    /// When nothing was asked and the metadata does not say, or what was asked cannot be.
    pub(super) fn choose(&self, stat: &Stat) -> anyhow::Result<Mode> {
        if self.tier_map {
            let no_tree = || Failure::usage("this pool has no tier tree: it cannot be read with --tier-map").into();
            return if stat.tiers.is_empty() { Err(no_tree()) } else { Ok(Mode::TierMap) };
        }
        match (self.bypass, stat.mode.mode) {
            (Some(_), Mode::Plain) | (None, Mode::Plain) => Ok(Mode::Plain),
            (Some(Some(tier)), _) if usize::from(tier) >= stat.tiers.len() => Err(no_such_tier(tier, stat)),
            (Some(Some(tier)), _) => Ok(Mode::Bypass { tier }),
            (Some(None), Mode::Bypass { tier }) => Ok(Mode::Bypass { tier }),
            (Some(None), _) => {
                let sized = stat.tiers.iter().rev().find(|tier| tier.blocks.total > 0);
                let tier = sized.context(Failure::usage("no tier has a size; say which one: --bypass=N"))?;
                Ok(Mode::Bypass { tier: tier.tier })
            }
            (None, Mode::Undecided) => Err(Failure::unusable(format!(
                "how the data lie on the tiers cannot be decided ({}); look at the volume group's text, then say --bypass or \
                 --tier-map",
                stat.mode.evidence.join("; ")
            ))
            .into()),
            (None, mode) => Ok(mode),
        }
    }
}

fn no_such_tier(tier: u8, stat: &Stat) -> anyhow::Error {
    let tiers = match stat.tiers.len() {
        0 => "none: give its one data device as --tier FILE".to_owned(),
        count => format!("{count}, numbered from 0"),
    };
    Failure::usage(format!("there is no tier {tier}; the tiers of this pool: {tiers}")).into()
}

/// Opens the data devices and says which tier each is.
///
/// # Errors
/// When a file cannot be opened or is the pool's metadata, a number does not exist or comes twice, or a needed tier is not
/// given and `partial` does not allow for it.
pub(super) fn open(
    args: &[TierArg],
    pool: &Pool,
    stat: &Stat,
    mode: Mode,
    partial: bool,
) -> anyhow::Result<BTreeMap<u8, View>> {
    let mut tiers = BTreeMap::new();
    for (number, place) in assign(args, stat, mode)? {
        let view = place.open()?;
        refuse_metadata(place, &view)?;
        warn_short(number, place, &view, pool, stat, mode);
        tiers.insert(number, view);
    }
    for tier in needed(stat, mode).filter(|tier| !tiers.contains_key(tier)) {
        if !partial {
            bail!(
                "tier {tier} holds data of this pool and was not given; add --tier {tier}=FILE. If it is gone for good, \
                 --partial reads the rest and lists what is lost with it"
            );
        }
        tell!("tierlift: warning: tier {tier} was not given; what lies on it is lost");
    }
    Ok(tiers)
}

/// Which number each file has. In a plain pool the one device may have any.
fn assign<'a>(args: &'a [TierArg], stat: &Stat, mode: Mode) -> anyhow::Result<BTreeMap<u8, &'a Place>> {
    let single = match mode {
        Mode::Plain | Mode::Empty => Some(0),
        Mode::Bypass { tier } => Some(tier),
        Mode::TierMap | Mode::Undecided => None,
    };
    if let (Mode::Plain, [_, _, ..]) = (mode, args) {
        return Err(Failure::usage(format!("this pool has one data device, but {} were given", args.len())).into());
    }
    let mut places = BTreeMap::new();
    for arg in args {
        let number = match (arg.number, single) {
            (_, Some(0)) if mode == Mode::Plain => 0,
            (Some(number), _) if usize::from(number) >= stat.tiers.len() => return Err(no_such_tier(number, stat)),
            (Some(number), _) => number,
            (None, Some(number)) => number,
            (None, None) => {
                let message = format!(
                    "the data of this pool lie on several tiers; say which one {} is: --tier N=FILE",
                    arg.place
                );
                return Err(Failure::usage(message).into());
            }
        };
        if places.insert(number, &arg.place).is_some() {
            return Err(Failure::usage(format!("tier {number} was given twice")).into());
        }
    }
    Ok(places)
}

/// Tiers without which something will be missing.
fn needed(stat: &Stat, mode: Mode) -> impl Iterator<Item = u8> {
    let numbers: Vec<u8> = match mode {
        Mode::Plain => vec![0],
        Mode::Bypass { tier } => vec![tier],
        Mode::TierMap => stat.tiers.iter().filter(|tier| tier.mapped > 0).map(|tier| tier.tier).collect(),
        Mode::Empty | Mode::Undecided => Vec::new(),
    };
    numbers.into_iter()
}

/// The usual mix-up: the metadata device given as data.
fn refuse_metadata(place: &Place, view: &View) -> anyhow::Result<()> {
    if matches!(Pool::open(view.clone()), Ok(_) | Err(PoolError::Version(_) | PoolError::Incompatible(_))) {
        let message = format!("{place} is the metadata of a pool, not a data device; give it as --meta");
        return Err(Failure::unusable(message).into());
    }
    Ok(())
}

/// What lies beyond the end will be reported as lost; this says why beforehand.
fn warn_short(number: u8, place: &Place, view: &View, pool: &Pool, stat: &Stat, mode: Mode) {
    let whole = match mode {
        Mode::TierMap => {
            let block = stat.tier_block_size.to_bytes().unwrap_or_default();
            let blocks = stat.tiers.get(usize::from(number)).map_or(0, |tier| tier.blocks.total);
            block.0.saturating_mul(blocks)
        }
        Mode::Bypass { tier } if tier != number => return,
        _ => pool.chunk_bytes().0.saturating_mul(pool.chunks()),
    };
    if view.size().0 < whole {
        let (size, whole) = (view.size().human(), Bytes(whole).human());
        tell!(
            "tierlift: warning: {place} is too short for tier {number}: {size}, but the pool needs {whole}. A copy cut short, \
             or the wrong file? What lies beyond its end is lost"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_names() {
        let arg = |text: &str| -> TierArg { text.parse().unwrap() };
        assert_eq!(arg("2=a.img@512"), TierArg { number: Some(2), place: "a.img@512".parse().unwrap() });
        assert_eq!(arg("a.img"), TierArg { number: None, place: Place::whole("a.img") });
        assert_eq!(arg("a=b.img"), TierArg { number: None, place: Place::whole("a=b.img") });
        assert_eq!(arg("256=b.img").number, None);
    }
}
