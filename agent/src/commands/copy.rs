//! `tierlift copy`: copies files out to another disk, verified.

use super::activate::{DiskArgs, StackArgs};
use super::{Failure, Outcome};
use crate::activate::is_appliance;
use crate::activate::session::Session;
use crate::case::{self, Copied};
use crate::extract::copy::{Job, outcome, run as copy};
use crate::extract::target;
use anyhow::Context;
use serde_json::json;
use std::path::{Component, Path, PathBuf};

/// Copies a volume's files, a folder of it, or any folder. Everything written is read back and compared; the target gets a
/// manifest with the SHA-256 of every file. Run it again to go on after an interruption.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/LV, VG/LV:FOLDER, or a folder
    source: String,
    /// A disk with a file system (/dev/sdb1), a folder on it (/dev/sdb1:FOLDER), or a folder
    target: String,
    /// Replace files on the target that differ
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the files come from.
struct Source {
    name: String,
    root: PathBuf,
    /// Disks that must not be the target.
    disks: Vec<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let source = source(&args)?;
    let target = target::open(&args.target, &source.disks)?;
    let job = Job { name: source.name, source: source.root, target: target.folder.clone(), force: args.force };
    let result = check(&job).and_then(|()| copy(&job, &mut |line| eprintln!("copy: {line}")));
    let result = result.map(|done| Copied { target: args.target.clone(), ..done });
    let released = target.release();
    let done = result?;
    released?;
    case::keep(|case| {
        case.note(format!("copied {} to {}", done.source, done.target));
        case.copies.push(done.clone());
    })?;
    tell(&done, args.json);
    Ok(outcome(&done.counts))
}

fn source(args: &Args) -> anyhow::Result<Source> {
    if Path::new(&args.source).is_dir() {
        let root = Path::new(&args.source).canonicalize().with_context(|| format!("{} cannot be read", args.source))?;
        let disks = if is_appliance() { Session::look(&args.disks.disks)?.sources() } else { Vec::new() };
        return Ok(Source { name: root.display().to_string(), root, disks });
    }
    let (volume, below) = match args.source.split_once(':').filter(|(before, _)| !before.ends_with("/thin")) {
        Some((volume, below)) => (volume, Some(below)),
        // VG/thin:7:FOLDER has the folder behind the second colon.
        None => match args.source.match_indices(':').nth(1) {
            Some((at, _)) => (args.source.get(..at).unwrap_or_default(), args.source.get(at.saturating_add(1)..)),
            None => (args.source.as_str(), None),
        },
    };
    let mut session = Session::look(&args.disks.disks)?;
    let (mounted, done) = super::mount::mount(&mut session, volume, None, &args.stack.clone().request())?;
    done.notes.iter().for_each(|note| eprintln!("copy: note: {note}"));
    let root = match below {
        Some(below) => inside(&mounted, below)?,
        None => mounted,
    };
    Ok(Source { name: args.source.clone(), root, disks: session.sources() })
}

/// `root/below`, where no part of the way is a link: a link may lead out of the volume.
fn inside(root: &Path, below: &str) -> anyhow::Result<PathBuf> {
    let mut path = root.to_owned();
    for part in Path::new(below.trim_start_matches('/')).components() {
        let Component::Normal(name) = part else {
            return Err(Failure::usage(format!("'{below}' must be a plain path inside the volume")).into());
        };
        path.push(name);
        let found = std::fs::symlink_metadata(&path).with_context(|| format!("there is no {below} in the volume"))?;
        if found.is_symlink() {
            let message = format!("{below}: {} is a link; name the folder it leads to", name.to_string_lossy());
            return Err(Failure::usage(message).into());
        }
    }
    Ok(path)
}

/// A folder cannot be copied into itself.
fn check(job: &Job) -> anyhow::Result<()> {
    let there = job.target.ancestors().find_map(|folder| folder.canonicalize().ok());
    if job.source.is_dir() && there.is_some_and(|there| there.starts_with(&job.source)) {
        let message = format!("{} lies inside {}: name a folder elsewhere", job.target.display(), job.source.display());
        return Err(Failure::usage(message).into());
    }
    Ok(())
}

fn tell(done: &Copied, json: bool) {
    if json {
        println!("{}", json!({"schema": "tierlift.copy/1", "copy": done}));
        return;
    }
    let counts = &done.counts;
    let size = tierlift_ondisk::units::Bytes(counts.bytes).human();
    println!(
        "{} to {}: {} files copied and read back, {} were there already; {size} in {} directories, {} links",
        done.source, done.target, counts.copied, counts.identical, counts.directories, counts.symlinks
    );
    if counts.damaged > 0 {
        let lost = counts.lost_bytes;
        println!(
            "DAMAGED: {} files could not be read whole ({lost} bytes lost); they end in .damaged, or are missing",
            counts.damaged
        );
    }
    if counts.failed > 0 {
        println!("NOT COPIED: {} files or folders, because of the target", counts.failed);
    }
    done.losses.iter().for_each(|loss| println!("  {loss}"));
    if counts.special > 0 {
        println!("Left out: {} sockets, pipes, devices or other file systems", counts.special);
    }
    if counts.attributes_dropped > 0 {
        println!("{} owners, times or attributes could not be kept on the target", counts.attributes_dropped);
    }
    println!("Every file with its SHA-256: {}", done.manifest.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_volume_is_reached_without_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("a/out")).unwrap();
        assert_eq!(inside(root.path(), "/a/b").unwrap(), root.path().join("a/b"));
        for way in ["a/out", "a/out/passwd", "../x", "nothing"] {
            assert!(inside(root.path(), way).is_err(), "{way}");
        }
    }

    #[test]
    fn nothing_is_copied_into_itself() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().canonicalize().unwrap();
        let job = Job { name: "x".into(), target: source.join("new/folder"), source, force: false };
        assert!(check(&job).is_err());
    }
}
