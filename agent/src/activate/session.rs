//! From words on the command line to a plan: looks at the disks, finds what is meant, asks the pool.

use super::plan::{Mode, ModeChoice, Plan, PlanError, PoolFacts, ThinFacts, Wish};
use super::{plan::Choice, stack};
use crate::block::{FileView, View};
use crate::commands::{Failure, Outcome};
use crate::discover::{self, Wishes};
use crate::inventory::{Inventory, LogicalVolume, LogicalVolumeKind, PvPlace, VolumeGroup};
use crate::repair::{self, Repaired};
use crate::volume;
use crate::volume::choice::Choices;
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tierlift_ondisk::thin::Family;
use tierlift_ondisk::units::{Chunk, DeviceId};
use tierlift_pool::{Pool, Stat};

/// The disks looked at, and the pools asked so far.
#[derive(Debug)]
pub struct Session {
    /// What was found.
    pub inventory: Inventory,
    /// How volume groups and arrays were chosen to be read.
    pub choices: Choices,
    /// By group, name, and when the repair was made that is used: after one everything must be asked anew.
    pools: BTreeMap<(usize, String, Option<u64>), Stat>,
}

/// Something that can be activated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its group.
    pub group: usize,
    /// What it is.
    pub wish: Wish,
    /// For people: "thin volume, 96.0 MiB".
    pub what: String,
    /// `--all` takes it: it holds what users stored.
    pub user: bool,
}

impl Session {
    /// Looks at the named disks, or in the appliance at all disks.
    ///
    /// # Errors
    /// On any other machine when no disk is named: a stranger's disks are not looked at uninvited.
    pub fn look(disks: &[PathBuf], wishes: &Wishes) -> anyhow::Result<Self> {
        let disks = match disks {
            [] if super::is_appliance() => discover::default_disks()?,
            [] => {
                let message = "this is not the recovery appliance, so the disks of this machine are left alone; name the disks \
                               or images meant with --disk PATH, or start the appliance";
                return Err(Failure { outcome: Outcome::FAILED, message: message.to_owned() }.into());
            }
            named => named.to_vec(),
        };
        Ok(Self {
            inventory: discover::look(&disks, wishes)?.inventory,
            choices: wishes.texts.clone(),
            pools: BTreeMap::new(),
        })
    }

    /// Disks that carry user data: members of arrays and physical volumes.
    pub fn sources(&self) -> Vec<PathBuf> {
        let members = self.inventory.arrays.iter().flat_map(|array| &array.members).map(|member| member.place.disk);
        let volumes = self.inventory.volume_groups.iter().flat_map(|group| &group.physical_volumes);
        let direct = volumes.filter_map(|pv| match &pv.place {
            Some(PvPlace::Direct(place)) => Some(place.disk),
            _ => None,
        });
        let mut numbers: Vec<usize> = members.chain(direct).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|disk| Some(self.inventory.disks.get(disk)?.path.clone())).collect()
    }

    /// Finds what `text` means: `VG/LV`, `VG/POOL`, `VG/thin:ID`, `VG/POOL/thin:ID`, or `LV` where it is the only one.
    ///
    /// # Errors
    /// When it means nothing here, or more than one thing.
    pub fn resolve(&self, text: &str) -> anyhow::Result<(usize, Wish)> {
        let words: Vec<&str> = text.split('/').collect();
        let thin = words.last().and_then(|word| word.strip_prefix("thin:"));
        match (words.as_slice(), thin) {
            ([group, _], Some(id)) => {
                Ok((volume::find_group_index(&self.inventory, group)?, Wish::Thin(None, device_id(id)?)))
            }
            ([group, pool, _], Some(id)) => Ok((
                volume::find_group_index(&self.inventory, group)?,
                Wish::Thin(Some((*pool).to_owned()), device_id(id)?),
            )),
            _ => {
                let (group, found) = volume::find(&self.inventory, text)?;
                Ok((group, Wish::Volume(found.name.clone())))
            }
        }
    }

    /// Plans the devices for a wish.
    ///
    /// # Errors
    /// When the pool cannot be opened, or no plan can be made.
    pub fn plan(&mut self, group: usize, wish: &Wish, choice: &Choice) -> anyhow::Result<Plan> {
        let found = self.inventory.volume_groups.get(group).context("no such volume group")?;
        let pool = stack::pool_of(found, wish)?.cloned();
        let facts = match pool {
            Some(pool) => {
                let repaired = self.repaired(group, &pool)?;
                Some(facts(self.stat(group, &pool)?, choice, repaired)?)
            }
            None => None,
        };
        Ok(stack::plan(&self.inventory, group, wish, facts.as_ref(), choice)?)
    }

    /// What the pool of a wish is, in a sentence.
    ///
    /// # Errors
    /// When the pool cannot be opened.
    pub fn pool_sentence(&mut self, group: usize, wish: &Wish) -> anyhow::Result<Option<String>> {
        let found = self.inventory.volume_groups.get(group).context("no such volume group")?;
        let Some(pool) = stack::pool_of(found, wish)?.cloned() else { return Ok(None) };
        let name = format!("{}/{}", found.name, pool.name);
        let repaired = if self.repaired(group, &pool)?.is_some() { "repaired, " } else { "" };
        let stat = self.stat(group, &pool)?;
        Ok(Some(format!(
            "{name}: {repaired}{} metadata version {}, blocks of {} bytes; {} of {} chunks of {} in use; transaction {}; {} thin devices",
            match stat.family {
                Family::Qnap => "QNAP",
                Family::Mainline => "stock Linux",
            },
            stat.version,
            stat.block_size.bytes(),
            stat.chunks.used,
            stat.chunks.total,
            stat.chunk_size.to_bytes().unwrap_or_default().human(),
            stat.transaction,
            stat.devices.len(),
        )))
    }

    /// The pool's new metadata, when it was repaired.
    fn repaired(&self, group: usize, pool: &LogicalVolume) -> anyhow::Result<Option<Repaired>> {
        let group = self.inventory.volume_groups.get(group).context("no such volume group")?;
        repair::load(&group.id, &pool.name)
    }

    /// The pool's figures, those of the new metadata when it was repaired; read once.
    fn stat(&mut self, group: usize, pool: &LogicalVolume) -> anyhow::Result<&Stat> {
        let repaired = self.repaired(group, pool)?;
        let key = (group, pool.name.clone(), repaired.as_ref().map(|repaired| repaired.made));
        if !self.pools.contains_key(&key) {
            let LogicalVolumeKind::Pool(parts) = &pool.kind else { anyhow::bail!("{} is no pool", pool.name) };
            let metadata: View = match repaired {
                Some(repaired) => Arc::new(FileView::open(&repaired.metadata)?),
                None => volume::view(&self.inventory, group, &parts.metadata)?,
            };
            let opened = Pool::open(metadata).with_context(|| {
                let name = volume::spoken_name(&self.inventory, group);
                format!(
                    "pool {} cannot be opened; `tierlift repair {name}/{}` looks for what is left of it",
                    pool.name, pool.name
                )
            })?;
            self.pools.insert(key.clone(), opened.stat());
        }
        self.pools.get(&key).context("the pool's figures were not kept")
    }

    /// Everything that can be activated. A pool that cannot be opened is told and hides nothing else.
    pub fn candidates(&mut self) -> (Vec<Candidate>, Vec<String>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for index in 0..self.inventory.volume_groups.len() {
            let Some(group) = self.inventory.volume_groups.get(index).cloned() else { continue };
            found.extend(group.logical_volumes.iter().filter_map(|volume| candidate(index, volume)));
            for pool in stack::pools(&group) {
                match self.stat(index, pool) {
                    Ok(stat) => found.extend(unnamed(index, &group, pool, stat)),
                    Err(error) => problems.push(format!("{}/{}: {error:#}", group.name, pool.name)),
                }
            }
        }
        (found, problems)
    }
}

fn device_id(text: &str) -> anyhow::Result<DeviceId> {
    let id = text.parse().map(DeviceId);
    id.map_err(|_| Failure::usage(format!("'thin:{text}' names no thin device; write the number, as in thin:7")).into())
}

fn candidate(group: usize, volume: &LogicalVolume) -> Option<Candidate> {
    let size = volume.size.to_bytes().unwrap_or_default().human();
    let (what, user) = match &volume.kind {
        LogicalVolumeKind::Thin { origin: Some(origin), .. } => (format!("snapshot of {origin}, {size}"), true),
        LogicalVolumeKind::Thin { .. } => (format!("thin volume, {size}"), true),
        LogicalVolumeKind::Pool(_) => (format!("pool, {size}"), false),
        LogicalVolumeKind::Mapped(_) if volume.visible => (format!("plain volume, {size}"), true),
        LogicalVolumeKind::Mapped(_) | LogicalVolumeKind::Opaque(_) => return None,
    };
    Some(Candidate { group, wish: Wish::Volume(volume.name.clone()), what, user })
}

/// Thin devices with data that no volume of the text names.
fn unnamed(index: usize, group: &VolumeGroup, pool: &LogicalVolume, stat: &Stat) -> Vec<Candidate> {
    let named = |id: DeviceId| {
        group.logical_volumes.iter().any(|volume| match &volume.kind {
            LogicalVolumeKind::Thin { pool: of, device, .. } => *of == pool.name && *device == id,
            _ => false,
        })
    };
    let lost = stat.devices.iter().filter(|device| !named(device.id) && device.highest_chunk.is_some());
    let candidate = |id: DeviceId, size: String| Candidate {
        group: index,
        wish: Wish::Thin(Some(pool.name.clone()), id),
        what: format!("thin device without a name, at least {size}"),
        user: true,
    };
    lost.map(|device| candidate(device.id, device.minimal_size.unwrap_or_default().human())).collect()
}

/// What a plan needs of the pool's figures.
fn facts(stat: &Stat, choice: &Choice, repaired: Option<Repaired>) -> Result<PoolFacts, PlanError> {
    use tierlift_pool::Mode as Found;
    let tiers = u32::try_from(stat.tiers.len()).unwrap_or(u32::MAX);
    let mode = match (stat.mode.mode, choice.mode) {
        (Found::Plain, _) => Mode::Plain,
        (Found::Bypass { tier }, _) => Mode::Bypass { tier: u32::from(tier) },
        // An empty pool reads as zeros in any mode.
        (Found::Empty, _) if tiers == 0 => Mode::Plain,
        (Found::TierMap | Found::Empty, _) | (Found::Undecided, Some(ModeChoice::TierMap)) => Mode::TierMap,
        (Found::Undecided, Some(ModeChoice::Bypass)) => Mode::Bypass { tier: tiers.saturating_sub(1) },
        (Found::Undecided, None) => {
            return Err(PlanError(format!(
                "the pool does not tell how its sectors lie on the tiers ({}); reading it in the wrong way gives garbage. Say \
                 --tier-map for a pool with automatic tiering, --bypass for one without",
                stat.mode.evidence.join("; ")
            )));
        }
    };
    let devices = stat.devices.iter().map(|device| ThinFacts {
        id: device.id,
        extent: Chunk(device.highest_chunk.map_or(0, |chunk| chunk.saturating_add(1))),
    });
    Ok(PoolFacts {
        qnap: stat.family == Family::Qnap,
        chunk: stat.chunk_size,
        chunks: Chunk(stat.chunks.total),
        mode,
        tiers,
        evidence: stat.mode.evidence.clone(),
        transaction_id: stat.transaction,
        devices: devices.collect(),
        repaired,
    })
}
