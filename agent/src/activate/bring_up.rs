//! Makes volumes readable: the one way that `activate`, `mount` and `copy` share.

use super::dm::{DeviceMapper, path_of};
use super::execute::{Executed, execute, existing_members};
use super::plan::{Choice, ModeChoice, Plan, Scratch, Wish};
use super::session::Session;
use super::{ground, lock, md, scratch};
use crate::block::FileView;
use crate::case::{self, Activation};
use crate::commands::{Failure, Outcome};
use std::path::PathBuf;
use tierlift_ondisk::units::Sectors;
use tierlift_ondisk::view::ReadAt;

/// What the user said about how to do it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Overrides the pool's mode.
    pub mode: Option<ModeChoice>,
    /// Overrides the mask of usable tiers.
    pub enable_map: Option<u8>,
    /// Tiers to do without.
    pub missing_tiers: Vec<u32>,
    /// Scratch disk.
    pub scratch: Option<PathBuf>,
    /// Take a scratch disk that is not blank.
    pub force_scratch: Option<String>,
    /// Be content with the volume as it is active now, however it was made.
    pub reuse: bool,
}

/// A volume that is readable now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Active {
    /// The plan that was carried out.
    #[serde(flatten)]
    pub plan: Plan,
    /// Path of the device.
    pub path: PathBuf,
    /// What had to be done.
    #[serde(flatten)]
    pub executed: Executed,
}

/// Device-mapper, for those who may use it.
///
/// # Errors
/// With advice, when this is not root.
pub fn device_mapper() -> anyhow::Result<DeviceMapper> {
    if !nix::unistd::geteuid().is_root() {
        let message = "only root can make block devices; run this inside the appliance, or as root. (`tierlift activate --dry-run` \
                       shows the plan without root, `tierlift pool read` reads a volume without block devices.)";
        return Err(Failure { outcome: Outcome::FAILED, message: message.to_owned() }.into());
    }
    Ok(DeviceMapper::open()?)
}

/// Plans without touching anything.
///
/// # Errors
/// When no plan can be made.
pub fn plan_only(session: &mut Session, group: usize, wish: &Wish, request: &Request) -> anyhow::Result<Plan> {
    let scratch = match &request.scratch {
        Some(path) => {
            let size = FileView::open(path)?.size().to_sectors();
            Some(Scratch { path: path.clone(), size, free_from: Sectors(0) })
        }
        None => None,
    };
    let choice = Choice { scratch, ..choice(request)? };
    session.plan(group, wish, &choice)
}

/// The scratch disk that the user named, made ready; else the one in use already. `None` while everything is in memory.
///
/// # Errors
/// When the named disk may not be written to.
pub fn scratch_of(dm: &DeviceMapper, session: &Session, request: &Request) -> anyhow::Result<Option<Scratch>> {
    Ok(named_scratch(dm, session, request)?.or(scratch::in_use(dm)?))
}

fn named_scratch(dm: &DeviceMapper, session: &Session, request: &Request) -> anyhow::Result<Option<Scratch>> {
    let prepare = |path| scratch::prepare(dm, path, &session.sources(), request.force_scratch.as_deref());
    request.scratch.as_deref().map(prepare).transpose()
}

/// Makes a volume readable and notes it in the case.
///
/// # Errors
/// When it cannot be; then nothing this call made is left.
pub fn bring_up(
    dm: &DeviceMapper,
    session: &mut Session,
    group: usize,
    wish: &Wish,
    request: &Request,
) -> anyhow::Result<Active> {
    let _lock = lock::devices()?;
    let scratch = named_scratch(dm, session, request)?;
    let choice =
        Choice { scratch, existing: existing_members(dm)?, existing_arrays: md::existing()?, ..choice(request)? };
    let plan = session.plan(group, wish, &choice)?;
    let executed = if request.reuse && dm.state(&plan.device)?.is_some_and(|state| state.is_ours()) {
        Executed { already: vec![plan.device.clone()], ..Executed::default() }
    } else {
        execute(dm, &plan)?
    };
    // What was active already is in the case already, with the overlays that were made then.
    if !executed.made.is_empty() {
        note(session, group, wish, &plan)?;
    }
    Ok(Active { path: path_of(&plan.device), plan, executed })
}

fn choice(request: &Request) -> anyhow::Result<Choice> {
    Ok(Choice {
        mode: request.mode,
        enable_map: request.enable_map,
        missing_tiers: request.missing_tiers.clone(),
        memory_cap: ground::memory_cap()?,
        ..Choice::default()
    })
}

fn note(session: &mut Session, group: usize, wish: &Wish, plan: &Plan) -> anyhow::Result<()> {
    let pool = session.pool_sentence(group, wish)?;
    let tables = |device: &super::plan::PlannedDevice| {
        (device.name.clone(), device.table.iter().map(ToString::to_string).collect())
    };
    let activation = Activation {
        target: plan.target.clone(),
        device: plan.device.clone(),
        devices: plan.devices.iter().map(tables).collect(),
        pool,
        mode: plan.mode.clone(),
        evidence: plan.evidence.clone(),
        warnings: plan.warnings.clone(),
        active: true,
    };
    let found = case::Found::of(&session.inventory);
    case::keep(|case| {
        case.inventory = Some(found);
        case.activated(activation);
    })
}
