//! `tierlift auto`: from disks to verified files in one go, with at most five questions.
//!
//! Every step is one of the verbs' own and can be done again: what is on the target already is only compared. So a run that
//! was cut short goes on where it was, and one that was finished changes nothing.

mod choice;
mod journal;
mod lost_inodes;
mod nameless;
mod older;
mod pools;
mod questions;
mod target;
mod volumes;

use super::activate::{DiskArgs, StackArgs};
use super::deactivate::everything;
use super::report::machine;
use super::text::print_lines;
use super::{Failure, Outcome};
use crate::activate::bring_up::{Request, device_mapper};
use crate::activate::dm::DeviceMapper;
use crate::activate::execute::take_down;
use crate::activate::session::Session;
use crate::case::{self, Found};
use crate::commands::text::say;
use crate::extract::room;
use crate::extract::target::Target;
use crate::report;
use anyhow::Context;
use journal::Journal;
use questions::Questions;
use std::path::PathBuf;

/// Does the whole recovery: looks at the disks, repairs damaged pools (in new metadata beside the case), copies every volume's
/// files to the target, verifies them, writes a report beside them. Asks at most five questions; --yes asks none. The source
/// disks are never written. Run it again to go on after an interruption.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the files go: a disk with a file system (/dev/sdb1), a folder on it (/dev/sdb1:FOLDER), or a folder
    #[arg(long, value_name = "DEV[:FOLDER]")]
    target: Option<String>,
    /// Make a file system on the target disk first (ext4 unless told otherwise). Only on a blank disk
    #[arg(long, requires = "target", value_name = "KIND", num_args = 0..=1, require_equals = true, default_missing_value = "ext4")]
    format: Option<target::Kind>,
    /// Only these volumes; may be repeated. Without: every volume, no snapshots
    #[arg(long = "volume", value_name = "VG/LV")]
    volumes: Vec<String>,
    /// Snapshots, too
    #[arg(long, conflicts_with = "volumes")]
    snapshots: bool,
    /// Fetch files that are damaged from older snapshots that have them whole, into a folder of their own
    #[arg(long)]
    from_snapshots: bool,
    /// Ask nothing: repair what is damaged, copy everything
    #[arg(long, requires = "target")]
    yes: bool,
    /// The first line of standard input is the password of encrypted volumes
    #[arg(long)]
    password: bool,
    /// Do it all again, although an earlier run on this target was finished
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
}

/// What the steps share.
struct Work<'a> {
    dm: DeviceMapper,
    session: Session,
    request: Request,
    ask: Questions,
    journal: Journal,
    /// The target as the user named it.
    target_name: String,
    target: &'a Target,
    outcome: Outcome,
    /// Volumes this run dealt with.
    done: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let dm = device_mapper()?;
    let session = args.disks.look()?;
    let mut ask = Questions::new(args.yes, args.password)?;
    show(&session)?;
    let target_name = target::choose(&args, &session, &mut ask)?;
    let target = crate::extract::target::open(&target_name, &session.sources())?;
    let result = on_target(&args, dm, session, ask, &target_name, &target);
    let released = target.release();
    let outcome = result?;
    released?;
    Ok(outcome)
}

fn on_target(
    args: &Args,
    dm: DeviceMapper,
    mut session: Session,
    ask: Questions,
    target_name: &str,
    target: &Target,
) -> anyhow::Result<Outcome> {
    let journal = Journal::open(&target.folder, &session.inventory)?;
    if case::load()?.unwrap_or_default().texts != session.choices {
        say!("This recovery was begun with other choices of how volume groups are read; they are taken again.");
        session = args.disks.look()?;
    }
    let wanted = choice::named(&mut session, args);
    if let Some(outcome) = journal.finished(&wanted, args.from_snapshots).filter(|_| !args.again) {
        say!("This recovery was finished before: nothing is done. The report is in {}.", journal.folder().display());
        say!("--again compares everything once more.");
        return Ok(outcome);
    }
    let request = args.stack.clone().request_or_active();
    let mut work = Work {
        done: Vec::new(),
        dm,
        session,
        request,
        ask,
        journal,
        target_name: target_name.to_owned(),
        target,
        outcome: Outcome::CLEAN,
    };
    let result = work.everything(args);
    // Whatever happened: nothing stays active, and the report tells how far it came.
    let taken = work.take_everything_down();
    if let Err(error) = &result {
        // The report comes first: it is written also when this machine has no room for a word more.
        if let Err(error) = case::keep(|case| case.note(format!("auto stopped: {error:#}"))) {
            log::warn!("{error:#}");
        }
    }
    // What failed may go better next time: another password, a disk that is attached then.
    let finished = result.is_ok() && taken.is_ok() && work.outcome.0 & Outcome::FAILED.0 == 0;
    let reported = work.report(finished.then_some(args.from_snapshots));
    result?;
    taken?;
    reported?;
    work.say_the_end();
    Ok(work.outcome)
}

/// What was found, before anything is asked.
fn show(session: &Session) -> anyhow::Result<()> {
    let found = Found::of(&session.inventory);
    let mut text = String::from("What is on the disks:\n");
    for line in found.disks.iter().chain(&found.arrays).chain(&found.volumes) {
        text += &format!("  {line}\n");
    }
    found.notes.iter().for_each(|note| text += &format!("  note: {note}\n"));
    case::keep(|case| case.inventory = Some(found))?;
    print_lines(&text)
}

impl Work<'_> {
    fn everything(&mut self, args: &Args) -> anyhow::Result<()> {
        let (mut chosen, all) = self.choose_volumes(args)?;
        self.repair_pools(&chosen)?;
        if all {
            self.add_found_by_repair(&mut chosen, args.snapshots);
        }
        let room = room::free(&self.target.folder)?;
        say!("Room on the target: {}.", room.human());
        for volume in &chosen {
            self.journal.save()?;
            self.recover(volume, args.from_snapshots)?;
            self.done.push(volume.name.clone());
        }
        Ok(())
    }

    fn take_everything_down(&self) -> anyhow::Result<()> {
        let done = take_down(&self.dm, &everything(&self.dm)?, true)?;
        case::keep(|case| case.taken_down(&done.removed, &done.unmounted))?;
        match done.busy.first() {
            None => Ok(()),
            Some(busy) => Err(Failure { outcome: Outcome::FAILED, message: busy.clone() }.into()),
        }
    }

    /// The report in all its forms beside the files, and the case.
    /// `finished` when it came to its end, and whether older forms of files were fetched then.
    fn report(&mut self, finished: Option<bool>) -> anyhow::Result<()> {
        if let Some(from_snapshots) = finished {
            self.journal.finish(self.outcome, std::mem::take(&mut self.done), from_snapshots)?;
        }
        let case = case::load()?.unwrap_or_default();
        let machine = machine();
        let json = serde_json::json!({"schema": "tierlift.report/1", "case": case, "machine": machine}).to_string();
        let files = [
            ("report.txt", report::text(&case, &machine)),
            ("report.html", report::html(&case, &machine)),
            ("report.json", json),
        ];
        for (name, text) in files {
            let path: PathBuf = self.journal.folder().join(name);
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        self.journal.save()
    }

    fn say_the_end(&self) {
        say!(
            "\nFinished. Each volume has a folder on {}; the report is in tierlift-case beside them.",
            self.target_name
        );
        let refused = case::load().ok().flatten().unwrap_or_default().copies.iter().any(|copy| copy.counts.failed > 0);
        let state = match self.outcome.0 {
            0 => "Every file that was found was copied whole and verified.",
            code if code & 8 != 0 => {
                "Some volumes could NOT be recovered: see above and the report. When what was in the way is mended, the same command goes \
                 on with them."
            }
            code if code & 6 != 0 => "Some files are damaged or missing: the report names them.",
            _ if refused => "Some files could NOT be stored on this target: the report names them, and why.",
            _ => "Everything was copied and verified; there is something to know about it (see above and the report).",
        };
        say!("{state}");
    }
}
