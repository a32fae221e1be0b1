//! `forge FIXTURE OUT_DIR [options]`: makes QNAP disks around a genuine pool by hand.

use anyhow::{Context, bail};
use std::path::Path;
use tierlift_forge::{AbsentTier, Fixture, ForgeOptions, Mirror, Raid, TierKeys, fixtures_dir, forge_disks};

const USAGE: &str = "usage: forge FIXTURE OUT_DIR [--seed WORD] [--mirror single|both|half] [--raid LEVEL:DISKS] [--chunk KIB] [--layout N]
       [--array-per-tier] [--drbd]
       [--tier-keys pool|list|numbered|section|none] [--no-mode-keys] [--absent zero|placeholder]
       [--compact] [--split] [--wrap] [--extent-sectors N]
FIXTURE is a folder with a manifest.json, or the name of one of the repository's pools.";

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(fixture), Some(out_dir)) = (words.next(), words.next()) else { bail!(USAGE) };
    let options = parse(words)?;
    let path = Path::new(&fixture);
    let fixture = Fixture::load(&if path.is_dir() { path.to_owned() } else { fixtures_dir().join(path) })?;
    let forged = forge_disks(&fixture, &options, Path::new(&out_dir))?;
    for disk in &forged.disks {
        println!("{}", disk.display());
    }
    for volume in &forged.volumes {
        println!("{}/{}: device {}, {} sectors", forged.volume_group, volume.name, volume.device, volume.sectors);
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<ForgeOptions> {
    let mut options = ForgeOptions::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => options.seed = value()?,
            "--extent-sectors" => options.extent_sectors = value()?.parse()?,
            "--raid" => options.raid = Some(raid(&value()?)?),
            "--chunk" => {
                options.raid.as_mut().context("--chunk after --raid")?.chunk =
                    value()?.parse::<u64>()?.saturating_mul(2)
            }
            "--layout" => options.raid.as_mut().context("--layout after --raid")?.layout = value()?.parse()?,
            "--mirror" => options.mirror = choose(&value()?, &MIRRORS)?,
            "--tier-keys" => options.tier_keys = choose(&value()?, &TIER_KEYS)?,
            "--absent" => options.absent_tier = choose(&value()?, &ABSENT)?,
            "--array-per-tier" => options.array_per_tier = true,
            "--no-mode-keys" => options.mode_keys = false,
            "--drbd" => options.drbd = true,
            "--compact" => options.compact = true,
            "--split" => options.split = true,
            "--wrap" => options.wrap = true,
            _ => bail!("{word} is not known\n{USAGE}"),
        }
    }
    Ok(options)
}

/// `5:4`: RAID 5 of four disks.
fn raid(text: &str) -> anyhow::Result<Raid> {
    let (level, disks) = text.split_once(':').with_context(|| format!("{text}: LEVEL:DISKS is wanted"))?;
    Ok(Raid::new(if level == "linear" { -1 } else { level.parse()? }, disks.parse()?))
}

const MIRRORS: [(&str, Mirror); 3] = [("single", Mirror::Single), ("both", Mirror::Both), ("half", Mirror::Half)];
const ABSENT: [(&str, AbsentTier); 2] = [("zero", AbsentTier::Zero), ("placeholder", AbsentTier::Placeholder)];
const TIER_KEYS: [(&str, TierKeys); 5] = [
    ("pool", TierKeys::Pool),
    ("list", TierKeys::List),
    ("numbered", TierKeys::Numbered),
    ("section", TierKeys::Section),
    ("none", TierKeys::None),
];

fn choose<T: Copy>(word: &str, choices: &[(&str, T)]) -> anyhow::Result<T> {
    let found = choices.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).with_context(|| format!("{word} is not known\n{USAGE}"))
}
