//! `tierlift activate`: makes volumes readable as block devices.

use super::lvm::TextArgs;
use super::{Failure, Outcome};
use crate::activate::bring_up::{Active, Request, bring_up, device_mapper, plan_only};
use crate::activate::fullness;
use crate::activate::plan::{ModeChoice, Plan, Wish};
use crate::activate::session::{Candidate, Session};
use crate::commands::text::{print_object, say};
use crate::discover::{MapOf, Wishes};
use crate::say::tell;
use crate::volume;
use serde_json::json;
use std::path::PathBuf;

const SCHEMA: &str = "tierlift.activate/1";

/// Makes a volume readable. Without a name: lists what can be made readable.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/LV, a pool as VG/POOL, or a thin device without a name as VG/thin:ID
    target: Option<String>,
    /// Every volume, snapshot and thin device
    #[arg(long, conflicts_with = "target")]
    all: bool,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Show the plan and touch nothing
    #[arg(long)]
    dry_run: bool,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Which disks to look at.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DiskArgs {
    /// Source disk or image; may be repeated. In the appliance: all disks when none is named
    #[arg(long = "disk", value_name = "PATH")]
    pub(super) disks: Vec<PathBuf>,
    /// Which map of ddrescue belongs to a disk, where several disks fit; may be repeated
    #[arg(long = "map", value_name = "DISK=MAP")]
    maps: Vec<MapOf>,
    #[command(flatten)]
    texts: TextArgs,
}

impl DiskArgs {
    /// Looks at them.
    pub(super) fn look(&self) -> anyhow::Result<Session> {
        let wishes = Wishes { texts: self.texts.of_case()?, maps: self.maps.clone(), ..Wishes::default() };
        Session::look(&self.disks, &wishes)
    }
}

/// Where writes go.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ScratchArgs {
    /// Empty disk that takes writes meant for the sources; memory does without it
    #[arg(long, value_name = "DEV")]
    scratch: Option<PathBuf>,
    /// Take the scratch disk although it is not empty: all of it is lost. Its model and size must be given, as the refusal tells
    /// them
    #[arg(long, requires = "scratch", value_name = "MODEL SIZE")]
    force_scratch: Option<String>,
}

impl ScratchArgs {
    /// What they ask for, and nothing else.
    pub(super) fn request(self) -> Request {
        Request { scratch: self.scratch, force_scratch: self.force_scratch, ..Request::default() }
    }
}

/// How the stack is built.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct StackArgs {
    #[command(flatten)]
    scratch: ScratchArgs,
    /// Insist that pool sectors go straight to one tier
    #[arg(long, conflicts_with = "tier_map")]
    bypass: bool,
    /// Insist that pool sectors go through the tier tree
    #[arg(long)]
    tier_map: bool,
    /// Mask of usable tiers: 1 for tier 0, 2 for tier 1, 4 for tier 2, added up
    #[arg(long, value_name = "MASK")]
    enable_map: Option<u8>,
    /// Do without this tier: its data give errors; may be repeated
    #[arg(long, value_name = "TIER")]
    missing_tier: Vec<u32>,
}

impl StackArgs {
    /// What `mount` and `copy` want: a volume that is active is taken as it is, unless the user insists on something.
    pub(super) fn request_or_active(self) -> Request {
        let plain = !self.bypass && !self.tier_map && self.enable_map.is_none() && self.missing_tier.is_empty();
        Request { reuse: plain, ..self.request() }
    }

    fn request(self) -> Request {
        let mode = match (self.bypass, self.tier_map) {
            (true, _) => Some(ModeChoice::Bypass),
            (_, true) => Some(ModeChoice::TierMap),
            _ => None,
        };
        Request { mode, enable_map: self.enable_map, missing_tiers: self.missing_tier, ..self.scratch.request() }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut session = args.disks.look()?;
    let targets = match (&args.target, args.all) {
        (Some(target), _) => vec![session.resolve(target)?],
        (None, true) => every_volume(&mut session)?,
        (None, false) => return list(&mut session, args.json),
    };
    let request = args.stack.request();
    if args.dry_run {
        show_plans(&mut session, &targets, &request, args.json)
    } else {
        make(&mut session, &targets, &request, args.json)
    }
}

fn every_volume(session: &mut Session) -> anyhow::Result<Vec<(usize, Wish)>> {
    let (candidates, problems) = session.candidates();
    problems.iter().for_each(|problem| tell!("tierlift: {problem}"));
    let targets: Vec<(usize, Wish)> = candidates
        .into_iter()
        .filter(|candidate| candidate.user)
        .map(|candidate| (candidate.group, candidate.wish))
        .collect();
    if targets.is_empty() {
        let message = "no volume was found on the disks; `tierlift scan` tells what is there and what is missing";
        return Err(Failure::unusable(message).into());
    }
    Ok(targets)
}

fn list(session: &mut Session, json: bool) -> anyhow::Result<Outcome> {
    let (candidates, problems) = session.candidates();
    let rows: Vec<(String, String)> =
        candidates.iter().map(|candidate| (name(session, candidate), candidate.what.clone())).collect();
    if json {
        let available: Vec<_> = rows.iter().map(|(target, what)| json!({"target": target, "what": what})).collect();
        print_object(&json!({"schema": SCHEMA, "available": available, "problems": problems}))?;
    } else {
        rows.iter().for_each(|(target, what)| say!("{target}  {what}"));
        problems.iter().for_each(|problem| say!("problem: {problem}"));
        say!("{}", advice(&rows));
    }
    Ok(match (rows.is_empty(), problems.is_empty()) {
        (true, _) => Outcome::UNUSABLE,
        (false, true) => Outcome::CLEAN,
        (false, false) => Outcome::DAMAGE,
    })
}

fn advice(rows: &[(String, String)]) -> &'static str {
    if rows.is_empty() {
        "Nothing here can be made readable; `tierlift scan` tells what is there and what is missing."
    } else {
        "Make one of them readable with `tierlift activate NAME`, or mount it with `tierlift mount NAME`."
    }
}

/// What to type for something that can be activated.
pub(super) fn name(session: &Session, candidate: &Candidate) -> String {
    let group = volume::spoken_name(&session.inventory, candidate.group);
    match &candidate.wish {
        Wish::Volume(name) => format!("{group}/{name}"),
        Wish::Thin(Some(pool), id) => format!("{group}/{pool}/thin:{id}"),
        Wish::Thin(None, id) => format!("{group}/thin:{id}"),
    }
}

fn show_plans(
    session: &mut Session,
    targets: &[(usize, Wish)],
    request: &Request,
    json: bool,
) -> anyhow::Result<Outcome> {
    let mut plans = Vec::new();
    for (group, wish) in targets {
        plans.push(plan_only(session, *group, wish, request)?);
    }
    if json {
        print_object(&json!({"schema": SCHEMA, "dry_run": true, "volumes": plans}))?;
    } else {
        plans.iter().for_each(|plan| say!("{}", plan_text(plan)));
        say!("Nothing was touched (--dry-run).");
    }
    Ok(Outcome::CLEAN)
}

fn plan_text(plan: &Plan) -> String {
    let mut text = format!("{}: readable as /dev/mapper/{}\n", plan.target, plan.device);
    text += &reasons(plan);
    for array in &plan.arrays {
        text += &format!("  {} (read-only, by mdadm over overlays): {}\n", array.path, array.purpose);
    }
    for device in &plan.devices {
        let mode = if device.read_only { "read-only" } else { "writable" };
        text += &format!("  {} ({mode}): {}\n", device.name, device.purpose);
        device.table.iter().for_each(|line| text += &format!("      {line}\n"));
    }
    text
}

fn reasons(plan: &Plan) -> String {
    let mode = plan.mode.iter().map(|mode| format!("  mode: {mode}\n"));
    let evidence = plan.evidence.iter().map(|text| format!("  because: {text}\n"));
    let warnings = plan.warnings.iter().map(|text| format!("  WARNING: {text}\n"));
    mode.chain(evidence).chain(warnings).collect()
}

/// One that cannot be made readable does not keep the others from it.
fn make(session: &mut Session, targets: &[(usize, Wish)], request: &Request, json: bool) -> anyhow::Result<Outcome> {
    let dm = device_mapper()?;
    let (mut active, mut failed) = (Vec::new(), Vec::new());
    for (group, wish) in targets {
        match bring_up(&dm, session, *group, wish, request) {
            Ok(volume) => active.push(volume),
            Err(error) if targets.len() == 1 => return Err(error),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    let overlays = fullness::told(&dm)?;
    if json {
        print_object(
            &json!({"schema": SCHEMA, "dry_run": false, "volumes": active, "failed": failed, "overlays": overlays}),
        )?;
    } else {
        active.iter().for_each(|volume| say!("{}", active_text(volume)));
        overlays.iter().for_each(|overlay| say!("{overlay}"));
        failed.iter().for_each(|error| say!("FAILED: {error}"));
    }
    let failure = if failed.is_empty() { Outcome::CLEAN } else { Outcome::FAILED };
    let incomplete = active.iter().any(|volume| volume.plan.incomplete);
    Ok(failure.and(if incomplete { Outcome::DAMAGE } else { Outcome::CLEAN }))
}

fn active_text(volume: &Active) -> String {
    let done = match (volume.executed.made.len(), volume.executed.already.len()) {
        (0, _) => "it was active already".to_owned(),
        (made, 0) => format!("{made} devices made"),
        (made, already) => format!("{made} devices made, {already} were there already"),
    };
    format!(
        "{}: readable as {}, read-only; {done}\n{}",
        volume.plan.target,
        volume.path.display(),
        reasons(&volume.plan)
    )
}
