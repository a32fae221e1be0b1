//! `tierlift repair`: new metadata for a damaged pool, in place of which they are used from then on. The original stays.

use super::activate::{DiskArgs, ScratchArgs};
use super::pool::{DeviceGenerations, Progress, describe_generations, describe_salvage, salvage_outcome};
use super::text::{print_json, print_lines};
use super::{Failure, Outcome};
use crate::activate::bring_up::{Request, device_mapper, scratch_of};
use crate::activate::dm::DeviceMapper;
use crate::activate::plan::{ModeChoice, Wish};
use crate::activate::session::Session;
use crate::activate::{is_appliance, lock, names, stack};
use crate::case::{self, RepairedPool};
use crate::commands::text::say;
use crate::interrupt::Open;
use crate::repair::{self, Loss, Preview, Repaired, VolumeFiles, Wanted};
use crate::say::{self, tell};
use crate::volume;
use anyhow::{Context, bail};
use serde::Serialize;
use std::io::IsTerminal;
use tierlift_ondisk::units::{Bytes, Sectors};
use tierlift_ondisk::view::ReadAt;
use tierlift_pool::{Generation, GenerationView, SalvageOptions, SalvageReport, generations};

/// Older generations whose volumes are looked into; each is read like a repair.
const MOST_CANDIDATES: usize = 6;

/// Looks for everything that is left of a damaged pool, shows what a repair gives back, and after a yes writes new metadata
/// beside the case. activate, mount and copy use them from then on; the disks stay as they are. `--undo` goes back.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/POOL, or any volume of the pool
    target: String,
    /// Use this generation instead of the newest trustworthy one: block0, copy:BLOCK, index:BLOCK or trees:BLOCK
    #[arg(long, value_name = "GENERATION")]
    generation: Option<Generation>,
    #[command(flatten)]
    devices: DeviceGenerations,
    /// Hand out sound parts of volumes whose owner cannot be told as thin devices of their own, numbered from 8388608
    #[arg(long)]
    unattributed: bool,
    /// Insist that pool sectors go straight to one tier
    #[arg(long, conflicts_with = "tier_map")]
    bypass: bool,
    /// Insist that pool sectors go through the tier tree
    #[arg(long)]
    tier_map: bool,
    /// Only show what a repair gives back, with every older generation
    #[arg(long, conflicts_with_all = ["yes", "undo"])]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Forget the new metadata: the pool is read as it was found again
    #[arg(long, conflicts_with_all = ["yes", "generation"])]
    undo: bool,
    #[command(flatten)]
    scratch: ScratchArgs,
    #[command(flatten)]
    disks: DiskArgs,
    /// Answer with one JSON object (asks nothing: needs --yes, --dry-run or --undo)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    pool: &'a str,
    made: Option<&'a Repaired>,
    salvage: &'a SalvageReport,
    losses: &'a [Loss],
    notes: &'a [String],
    whole: bool,
    files: &'a [VolumeFiles],
    generations: &'a [GenerationView],
    candidates: &'a [Candidate],
}

/// What a repair from another generation would give.
#[derive(Debug, Serialize)]
struct Candidate {
    generation: String,
    losses: Vec<Loss>,
    files: Vec<VolumeFiles>,
    /// Why it gives nothing.
    error: Option<String>,
    #[serde(skip)]
    chunk: Sectors,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let session = args.disks.look()?;
    let wanted = args.wanted(&session)?;
    if args.undo {
        return undo(&session, &wanted);
    }
    if args.json && !args.yes && !args.dry_run {
        return Err(Failure::usage("--json asks nothing: add --yes, or --dry-run").into());
    }
    if !args.dry_run {
        ensure_not_active(&session, &wanted)?;
    }
    let request = args.scratch.clone().request();
    let preview = preview(&session, &wanted)?;
    drawn(&session, &wanted, &preview)?;
    let files = files(&session, &wanted, &preview);
    let others = if args.dry_run { other_generations(&session, &wanted)? } else { Vec::new() };
    let candidates = candidates(&session, &wanted, &others);
    if !args.json {
        print_lines(&text(&preview, &files, &others))?;
        candidates.iter().try_for_each(|candidate| print_lines(&candidate.describe()))?;
    }
    let made =
        if args.dry_run || !(args.yes || agreed(&preview)?) { None } else { Some(make(&session, &request, &preview)?) };
    if args.json {
        let answer = Answer {
            pool: &preview.name,
            made: made.as_ref(),
            salvage: &preview.salvaged,
            losses: &preview.losses,
            notes: &preview.notes,
            whole: preview.rebuilt.is_whole(),
            files: &files,
            generations: &others,
            candidates: &candidates,
        };
        print_json("tierlift.repair/1", &answer)?;
    } else {
        print_lines(&end(&preview, made.as_ref()))?;
    }
    Ok(outcome(&preview))
}

impl Args {
    fn wanted(&self, session: &Session) -> anyhow::Result<Wanted> {
        let (group, wish) = session.resolve(&self.target)?;
        let mode = match (self.bypass, self.tier_map) {
            (true, _) => Some(ModeChoice::Bypass),
            (_, true) => Some(ModeChoice::TierMap),
            _ => None,
        };
        let salvage = SalvageOptions {
            generation: self.generation,
            devices: self.devices.by_id()?,
            unattributed: self.unattributed,
            ..SalvageOptions::default()
        };
        Ok(Wanted { salvage, mode, ..wanted(session, group, &wish)? })
    }
}

/// The pool of a wish, to be repaired in the way that fits most.
pub(super) fn wanted(session: &Session, group: usize, wish: &Wish) -> anyhow::Result<Wanted> {
    let found = session.inventory.volume_groups.get(group).context("no such volume group")?;
    let pool = stack::pool_of(found, wish)?.map(|pool| pool.name.clone());
    let pool = pool.ok_or_else(|| {
        Failure::usage(
            "this volume lies in no pool: there is nothing to repair; `tierlift fsck` checks its file system",
        )
    })?;
    Ok(Wanted { group, pool, salvage: SalvageOptions::default(), mode: None })
}

/// What a repair gives, with progress on stderr.
pub(super) fn preview(session: &Session, wanted: &Wanted) -> anyhow::Result<Preview> {
    let mut progress = Progress::new("metadata", metadata_size(session, wanted)?);
    repair::preview(&session.inventory, wanted, &mut |done| progress.update(Bytes(done)))
}

fn metadata_size(session: &Session, wanted: &Wanted) -> anyhow::Result<Bytes> {
    metadata(session, wanted).map(|view| view.size())
}

fn metadata(session: &Session, wanted: &Wanted) -> anyhow::Result<crate::block::View> {
    let group = session.inventory.volume_groups.get(wanted.group).context("no such volume group")?;
    let parts = stack::parts(group, &wanted.pool)?;
    volume::view(&session.inventory, wanted.group, &parts.metadata)
}

fn other_generations(session: &Session, wanted: &Wanted) -> anyhow::Result<Vec<GenerationView>> {
    let found = generations(metadata(session, wanted)?, &wanted.salvage, &mut |_| {});
    Ok(found.unwrap_or_default())
}

/// The files a repair gives back, by volume, with progress on stderr.
pub(super) fn files(session: &Session, wanted: &Wanted, preview: &Preview) -> Vec<VolumeFiles> {
    repair::files(&session.inventory, wanted.group, preview, &mut |volume| {
        tell!("looking at the files of {volume} (its inodes are read)");
    })
}

/// Notes the state of the volumes' chunks in the case, for the report.
pub(super) fn drawn(session: &Session, wanted: &Wanted, preview: &Preview) -> anyhow::Result<()> {
    let maps = repair::chunk_maps(&session.inventory, wanted.group, preview);
    case::keep(|case| case.drew(maps))
}

/// What the other generations would give, the newest few of those that hold anything else than the chosen one.
fn candidates(session: &Session, wanted: &Wanted, others: &[GenerationView]) -> Vec<Candidate> {
    let differs = |view: &&GenerationView| !view.chosen && (view.only_here > 0 || view.only_chosen > 0);
    let look = |view: &GenerationView| {
        let salvage = SalvageOptions { generation: Some(view.generation), ..wanted.salvage.clone() };
        let wanted = Wanted { salvage, ..wanted.clone() };
        let mut candidate = Candidate {
            generation: view.generation.to_argument(),
            losses: Vec::new(),
            files: Vec::new(),
            error: None,
            chunk: Sectors(0),
        };
        match preview(session, &wanted) {
            Ok(preview) => {
                candidate.files = files(session, &wanted, &preview);
                candidate.chunk = preview.chunk();
                candidate.losses = preview.losses;
            }
            Err(error) => candidate.error = Some(format!("{error:#}")),
        }
        candidate
    };
    others.iter().filter(differs).take(MOST_CANDIDATES).map(look).collect()
}

impl Candidate {
    fn describe(&self) -> String {
        let mut text = format!("With --generation {} it would be:\n", self.generation);
        self.losses.iter().for_each(|loss| text += &format!("  {}\n", loss.describe(self.chunk)));
        self.files.iter().for_each(|files| text += &format!("  {}\n", files.describe()));
        self.error.iter().for_each(|error| text += &format!("  nothing: {error}\n"));
        text
    }
}

/// Refuses while the kernel has the pool with the new metadata of an earlier repair: they would be forgotten under it.
fn ensure_not_active(session: &Session, wanted: &Wanted) -> anyhow::Result<()> {
    let group = session.inventory.volume_groups.get(wanted.group).context("no such volume group")?;
    // A description that cannot be read belongs to no pool that is active; repairing anew replaces it.
    if !repair::load(&group.id, &wanted.pool).is_ok_and(|earlier| earlier.is_some()) {
        return Ok(());
    }
    // Who may not ask the kernel has made no devices either.
    let Ok(dm) = DeviceMapper::open() else { return Ok(()) };
    let device = names::layer(&group.name, &wanted.pool, "tpool");
    if dm.state(&device)?.is_some_and(|state| state.is_ours()) {
        bail!(
            "pool {}/{} is active with the new metadata of an earlier repair; nothing was changed. `tierlift deactivate --all`, \
             then repair it again",
            group.name,
            wanted.pool
        );
    }
    Ok(())
}

/// Makes the new metadata, on the scratch disk where there is one, and notes it in the case.
pub(super) fn make(session: &Session, request: &Request, preview: &Preview) -> anyhow::Result<Repaired> {
    let made = if is_appliance() || request.scratch.is_some() {
        let dm = device_mapper()?;
        let _lock = lock::devices()?;
        let scratch = scratch_of(&dm, session, request)?;
        repair::make(preview, scratch.as_ref().map(|scratch| (&dm, scratch)))?
    } else {
        repair::make(preview, None)?
    };
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut salvage = lines(&describe_salvage(&preview.salvaged));
    salvage.extend(preview.notes.iter().cloned());
    let volumes = preview.losses.iter().map(|loss| loss.describe(preview.chunk())).collect();
    let repaired = RepairedPool { pool: preview.name.clone(), salvage, volumes, whole: made.whole };
    case::keep(|case| case.repaired(repaired))?;
    Ok(made)
}

fn undo(session: &Session, wanted: &Wanted) -> anyhow::Result<Outcome> {
    let group = session.inventory.volume_groups.get(wanted.group).context("no such volume group")?;
    let name = format!("{}/{}", group.name, wanted.pool);
    if !repair::forget(&group.id, &wanted.pool)? {
        say!("Pool {name} was not repaired: there is nothing to undo.");
        return Ok(Outcome::CLEAN);
    }
    case::keep(|case| {
        case.note(format!("undid the repair of pool {name}"));
        case.repairs.retain(|repair| repair.pool != name);
    })?;
    say!("The repair of pool {name} is undone: it is read as it was found again.");
    say!("Volumes that are active now stay as they are until `tierlift deactivate --all --unmount`.");
    Ok(Outcome::CLEAN)
}

pub(super) fn outcome(preview: &Preview) -> Outcome {
    let lost = if preview.rebuilt.is_whole() { Outcome::CLEAN } else { Outcome::DAMAGE };
    let nothing = if preview.nothing_left() { Outcome::UNUSABLE } else { Outcome::CLEAN };
    salvage_outcome(&preview.salvaged).and(lost).and(nothing)
}

/// What a repair gives, for people.
pub(super) fn text(preview: &Preview, files: &[VolumeFiles], others: &[GenerationView]) -> String {
    let mut text = format!("Pool {}\n{}", preview.name, describe_salvage(&preview.salvaged));
    if !others.is_empty() {
        text += &format!("\n{}\n", describe_generations(others));
    }
    text += "What a repair gives back:\n";
    for loss in &preview.losses {
        text += &format!("  {}\n", loss.describe(preview.chunk()));
    }
    files.iter().for_each(|files| text += &format!("  {}\n", files.describe()));
    for hole in &preview.rebuilt.unknown_devices {
        text += &format!("  thin devices {}: nothing is known of them any more\n", hole.keys);
    }
    if preview.rebuilt.chunks_unaccounted > 0 {
        text += &format!(
            "  {} chunks were in use, but nothing that was found names them: leaked, or of lost devices or ranges\n",
            preview.rebuilt.chunks_unaccounted
        );
    }
    preview.notes.iter().for_each(|note| text += &format!("  note: {note}\n"));
    text
}

fn agreed(preview: &Preview) -> anyhow::Result<bool> {
    if preview.nothing_left() || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    say!(
        "New metadata will be written beside the case, or to the scratch disk where one is named; the disks are not touched, and `tierlift repair --undo` goes back."
    );
    say::ask(&format!("Repair pool {}? Type yes: ", preview.name));
    let mut answer = String::new();
    let _open = Open::now();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn end(preview: &Preview, made: Option<&Repaired>) -> String {
    match made {
        None if preview.nothing_left() => {
            "Nothing of this pool is left to repair: not a single mapping could be read.".into()
        }
        None => "Nothing was done; add --yes to repair (the disks are not touched, --undo goes back).".into(),
        Some(made) => format!(
            "Repaired: new metadata in {}, checked and clean. What is lost gives I/O errors, never zeros.\n\
             Next: `tierlift deactivate --all --unmount` if anything of the pool is active, then `tierlift copy {}/VOLUME TARGET`.",
            made.metadata.display(),
            preview.name.split('/').next().unwrap_or_default()
        ),
    }
}
