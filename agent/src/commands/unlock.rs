//! `tierlift unlock`: opens an encrypted volume with what the user knows.

use super::activate::{DiskArgs, StackArgs};
use super::{Failure, Outcome};
use crate::activate::bring_up::{bring_up, device_mapper};
use crate::block::FileView;
use crate::case;
use crate::commands::text::{print_object, say};
use crate::ext4::{Probe, probe};
use crate::say::tell;
use crate::unlock::candidates::{Candidate, of_key_file, of_password};
use crate::unlock::{crypt, prompt};
use anyhow::Context;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Longest key file LUKS takes.
const KEY_FILE_LIMIT: u64 = 8 << 20;

/// Opens an encrypted (LUKS) volume, making it readable first when it is not. Asks for the password that the NAS's web page
/// asked for; without a terminal, the first line of standard input is the password. `mount` and `copy` then work as always.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/LV, or a thin device without a name as VG/thin:ID
    target: String,
    /// The key file that the NAS exported, instead of the password
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let key_file = args.key_file.as_deref().map(read_key_file).transpose()?;
    let mut session = args.disks.look()?;
    let (group, wish) = session.resolve(&args.target)?;
    let dm = device_mapper()?;
    let active = bring_up(&dm, &mut session, group, &wish, &args.stack.clone().request_or_active())?;
    require_luks(&active.path)?;
    if let Some(open) = crypt::over_path(&active.path) {
        return tell(&args, &open.path, None);
    }
    let candidates = match key_file {
        Some(text) => of_key_file(&text),
        None => of_password(&prompt::password(&format!("Password of {}: ", args.target))?.0),
    };
    let name = format!("{}-unlocked", active.plan.device);
    let found =
        crypt::open(&active.path, &name, &candidates, |number, candidate| trying(number, &candidates, candidate))?;
    let Some(found) = found.and_then(|number| candidates.get(number)) else {
        return Err(none_fits(&args, &candidates));
    };
    case::keep(|case| case.note(format!("unlocked {} with {}", args.target, found.what)))?;
    tell(&args, &Path::new("/dev/mapper").join(name), Some(found))
}

fn read_key_file(path: &Path) -> anyhow::Result<String> {
    let size = FileView::open(path)?.require_content().map(|_| std::fs::metadata(path))??.len();
    anyhow::ensure!(size <= KEY_FILE_LIMIT, "{} has {size} bytes; no key file is that large", path.display());
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is no text, as QNAP's key files are", path.display()))
}

fn require_luks(device: &Path) -> anyhow::Result<()> {
    let what = match probe(&FileView::open(device)?)? {
        Probe::Luks => return Ok(()),
        Probe::Ext4(_) => "it is not encrypted: `tierlift mount` shows its files",
        Probe::Unknown => {
            "no LUKS header begins here. Where the header itself is lost, only a copy of it helps: without it no password opens \
             the volume"
        }
    };
    Err(Failure::unusable(format!("{} cannot be unlocked: {what}", device.display())).into())
}

fn trying(number: usize, all: &[Candidate], candidate: &Candidate) {
    tell!("unlock: try {} of {}: {}", number.saturating_add(1), all.len(), candidate.what);
}

fn none_fits(args: &Args, candidates: &[Candidate]) -> anyhow::Error {
    let message = format!(
        "{}: none of {} tries opened it. Check capital letters and the keyboard's language; a key file saved by the NAS lies on \
         its system disk under .config/.externalkey (`tierlift scan` lists those found)",
        args.target,
        candidates.len()
    );
    Failure { outcome: Outcome::UNUSABLE, message }.into()
}

fn tell(args: &Args, path: &Path, found: Option<&Candidate>) -> anyhow::Result<Outcome> {
    let how = found.map(|found| found.what.as_str());
    if args.json {
        print_object(&json!({"schema": "tierlift.unlock/1", "target": args.target, "path": path, "opened_with": how}))?;
    } else {
        let how = how.map_or("it was open already".to_owned(), |how| format!("opened with {how}"));
        say!("{}: readable as {}, read-only; {how}", args.target, path.display());
        say!("Next: `tierlift mount {}`, or `tierlift copy {} TARGET`.", args.target, args.target);
    }
    Ok(Outcome::CLEAN)
}
