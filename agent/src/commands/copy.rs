//! `tierlift copy`: copies files out to another disk, verified.

use super::activate::{DiskArgs, StackArgs};
use super::{Failure, Outcome};
use crate::activate::bring_up::{bring_up, device_mapper};
use crate::activate::is_appliance;
use crate::activate::repaired_inodes;
use crate::activate::session::Session;
use crate::activate::volume_overlay;
use crate::case::{self, ChunkMap, Copied, Found, beside};
use crate::commands::text::{print_object, say};
use crate::extract::copy::{Job, outcome, run as copy};
use crate::extract::image::{self, Image};
use crate::extract::mount::readable;
use crate::extract::{room, target, userland};
use crate::network::rsync::{self, Access, Place};
use crate::say::tell;
use crate::unlock::{crypt, prompt};
use anyhow::Context;
use serde_json::json;
use std::path::{Component, Path, PathBuf};

/// Copies a volume's files, a folder of it, or any folder. Everything written is read back and compared; the target gets a
/// manifest with the SHA-256 of every file. Run it again to go on after an interruption.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// VG/LV, VG/LV:FOLDER, or a folder
    source: String,
    /// A disk with a file system (/dev/sdb1), a folder on it (/dev/sdb1:FOLDER), a folder, or by rsync over SSH USER@HOST:FOLDER
    target: String,
    /// Copy the volume itself as one sparse image file: for LUNs, and file systems that nothing here can read
    #[arg(long, conflicts_with = "force")]
    image: bool,
    /// Read the file system without the kernel: for block sizes it does not mount, and damage it does not mount
    #[arg(long, conflicts_with = "image")]
    without_mount: bool,
    /// Take the files as the file system was found, although `fsck --yes` repaired it
    #[arg(long, conflicts_with = "image")]
    as_found: bool,
    /// Replace files on the target that differ
    #[arg(long)]
    force: bool,
    /// Private key for a copy to USER@HOST:FOLDER, in dropbear's form; without it the password is asked, or is the first line of
    /// standard input
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// TCP port of the SSH server of USER@HOST:FOLDER
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    disks: DiskArgs,
    #[command(flatten)]
    stack: StackArgs,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the files come from.
enum Source<'a> {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A volume, and a folder in it.
    Volume(&'a str, Option<&'a str>),
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let source = source(&args.source)?;
    // A folder of a stranger's machine is copied without a look at its disks.
    let mut session = match source {
        Source::Folder(_) if !is_appliance() => None,
        _ => Some(args.disks.look()?),
    };
    if let Some(place) = Place::parse(&args.target).filter(|_| !Path::new(&args.target).exists()) {
        return over_network(&args, source, session.as_mut(), &place);
    }
    // The target first: if it is the wrong disk, nothing at all is done.
    let sources = session.as_ref().map(Session::sources).unwrap_or_default();
    let target = target::open(&args.target, &sources)?;
    let result = copy_to(&args, source, session.as_mut(), &target);
    let failed = |error: &anyhow::Error| format!("copying {} to {} failed: {error:#}", args.source, args.target);
    // Whatever becomes of the case: the disk is not left mounted.
    let found = session.as_ref().map(|session| Found::of(&session.inventory));
    let kept = case::keep(|case| {
        // Whose disks they are, also where everything was active already.
        case.inventory = found.or(case.inventory.take());
        match &result {
            Ok(done) => case.copied(done.clone()),
            Err(error) => case.note(failed(error)),
        }
    });
    if is_appliance() {
        beside::save_on_target(&target.folder);
    }
    let released = target.release();
    let done = result?;
    if let Err(error) = released {
        case::keep(|case| case.failed(&args.source, &failed(&error)))?;
        return Err(error);
    }
    kept?;
    tell(&done, args.json)?;
    Ok(outcome(&done.counts))
}

/// To another machine, by rsync over SSH.
fn over_network(
    args: &Args,
    source: Source<'_>,
    session: Option<&mut Session>,
    place: &Place,
) -> anyhow::Result<Outcome> {
    if args.image || args.without_mount || args.force {
        let message = "--image, --without-mount and --force are for copies to a disk or a share, not for USER@HOST";
        return Err(Failure::usage(message).into());
    }
    let (name, root) = shown(args, source, session)?;
    let suspicious = repaired_inodes::shown_at(&root)?.len();
    if suspicious > 0 {
        let message = format!(
            "a repair took parts out of {suspicious} of the files, or they share blocks, and rsync would send them as if they were \
             whole: copy to a disk or a share instead (`network mount`), where such files get .damaged added to their names; or take \
             the files as they were found (--as-found)"
        );
        return Err(Failure { outcome: Outcome::FAILED, message }.into());
    }
    let mut access = Access { identity: args.identity.clone(), port: args.port, password: None };
    if access.identity.is_none() {
        access.password = Some(prompt::password(&format!("Password of {}: ", place.login))?);
    }
    let done = rsync::copy(&name, &root, place, &access, &mut |line| tell!("copy: {line}"))?;
    case::keep(|case| case.copied(done.clone()))?;
    tell(&done, args.json)?;
    Ok(outcome(&done.counts))
}

/// The name of what is copied, and the folder where it is to be seen.
fn shown(args: &Args, source: Source<'_>, session: Option<&mut Session>) -> anyhow::Result<(String, PathBuf)> {
    match (source, session) {
        (Source::Volume(volume, below), Some(session)) => {
            let shown =
                super::mount::mount(session, volume, None, args.as_found, &args.stack.clone().request_or_active())?;
            let (mounted, done) = (shown.directory, shown.done);
            done.notes.iter().for_each(|note| tell!("copy: note: {note}"));
            let root = below.map_or(Ok(mounted.clone()), |below| inside(&mounted, below))?;
            Ok((args.source.clone(), root))
        }
        (Source::Folder(root), _) => Ok((root.display().to_string(), root)),
        (Source::Volume(volume, _), None) => anyhow::bail!("{volume}: no disks were looked at"),
    }
}

fn copy_to(
    args: &Args,
    source: Source<'_>,
    session: Option<&mut Session>,
    target: &target::Target,
) -> anyhow::Result<Copied> {
    let whole_volume = matches!(source, Source::Volume(_, None));
    let (name, root) = match (source, session) {
        (Source::Volume(volume, None), Some(session)) if args.image => return image_to(args, volume, session, target),
        (Source::Volume(volume, None), Some(session)) if args.without_mount => {
            return without_mount(args, volume, session, target);
        }
        _ if args.image || args.without_mount => {
            return Err(Failure::usage("--image and --without-mount copy a whole volume: give VG/LV").into());
        }
        (source, session) => shown(args, source, session)?,
    };
    let suspicious = repaired_inodes::shown_at(&root)?;
    let job = Job { name, source: root, target: target.folder.clone(), force: args.force, suspicious };
    check(&job)?;
    if whole_volume {
        room::check(&job.source, &job.target)?;
    }
    let done = copy(&job, &mut |line| tell!("copy: {line}"))?;
    // The mount point is gone when the user reads this; the name on the target stays.
    let manifest = target.name_on_target(&args.target, &done.manifest);
    Ok(done.copied(&job.name, &args.target, manifest))
}

/// The files, read without the kernel.
fn without_mount(args: &Args, volume: &str, session: &mut Session, target: &target::Target) -> anyhow::Result<Copied> {
    let (group, wish) = session.resolve(volume)?;
    let dm = device_mapper()?;
    let active = bring_up(&dm, session, group, &wish, &args.stack.clone().request_or_active())?;
    let device = crypt::opened(&active.path);
    let device = if args.as_found { volume_overlay::as_found(&dm, &device)? } else { device };
    let source = readable(&dm, &device)?;
    let (name, suspicious) = (args.source.clone(), repaired_inodes::of(&source)?);
    let job = Job { name, source, target: target.folder.clone(), force: args.force, suspicious };
    let done = userland::copy(&job, &mut |line| tell!("copy: {line}"))?;
    let manifest = target.name_on_target(&args.target, &done.manifest);
    Ok(done.copied(&job.name, &args.target, manifest))
}

/// The volume itself, without a look at what is on it.
fn image_to(args: &Args, volume: &str, session: &mut Session, target: &target::Target) -> anyhow::Result<Copied> {
    let (group, wish) = session.resolve(volume)?;
    let active = bring_up(&device_mapper()?, session, group, &wish, &args.stack.clone().request_or_active())?;
    let device = crypt::opened(&active.path);
    std::fs::create_dir_all(&target.folder).with_context(|| format!("{} cannot be made", target.folder.display()))?;
    let file = target.folder.join(format!("{}.img", image::file_name(volume)));
    let expected = case::load()?.and_then(|case| ChunkMap::held(&case.chunk_maps, volume));
    let done = image::copy(&Image { device: &device, volume, target: &file, expected })?;
    let manifest = target.name_on_target(&args.target, &done.path);
    let (source, target) = (volume.to_owned(), args.target.clone());
    Ok(Copied { source, target, counts: done.counts, losses: done.losses, manifest, ..Copied::default() })
}

fn source(text: &str) -> anyhow::Result<Source<'_>> {
    if Path::new(text).is_dir() {
        let root = Path::new(text).canonicalize().with_context(|| format!("{text} cannot be read"))?;
        return Ok(Source::Folder(root));
    }
    // In VG/thin:7:FOLDER the first colon belongs to the name.
    let end = text.find("/thin:").map_or(0, |at| at.saturating_add("/thin:".len()));
    let colon = text.get(end..).and_then(|rest| rest.find(':')).map(|at| at.saturating_add(end));
    let below = colon.and_then(|colon| text.get(colon.saturating_add(1)..));
    Ok(Source::Volume(colon.and_then(|colon| text.get(..colon)).unwrap_or(text), below))
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

fn tell(done: &Copied, json: bool) -> anyhow::Result<()> {
    if json {
        return print_object(&json!({"schema": "tierlift.copy/1", "copy": done}));
    }
    let counts = &done.counts;
    let size = tierlift_ondisk::units::Bytes(counts.recovered_bytes()).human();
    say!(
        "{} to {}: {} files copied and read back, {} were there already; {size} in {} directories, {} links",
        done.source,
        done.target,
        counts.copied,
        counts.identical,
        counts.directories,
        counts.symlinks
    );
    if counts.damaged > 0 {
        let lost = counts.lost_bytes;
        say!(
            "DAMAGED: {} files are not whole ({lost} bytes lost); they end in .damaged, or are missing",
            counts.damaged
        );
    }
    if counts.failed > 0 {
        say!("NOT COPIED: {} files or folders, because of the target", counts.failed);
    }
    done.losses.iter().for_each(|loss| say!("  {loss}"));
    if counts.special > 0 {
        say!("Left out: {} sockets, pipes, devices or other file systems", counts.special);
    }
    counts.differences().iter().for_each(|told| say!("{told}"));
    say!("Every file with its SHA-256: {}", done.manifest);
    Ok(())
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
    fn volumes_and_their_folders_are_told_apart() {
        let parts = |text| match source(text).unwrap() {
            Source::Volume(volume, below) => (volume, below),
            Source::Folder(_) => panic!("no folder was meant"),
        };
        assert_eq!(parts("vg1/lv1"), ("vg1/lv1", None));
        assert_eq!(parts("vg1/lv1:a/b:c"), ("vg1/lv1", Some("a/b:c")));
        assert_eq!(parts("vg1/thin:7"), ("vg1/thin:7", None));
        assert_eq!(parts("vg1/thin:7:a"), ("vg1/thin:7", Some("a")));
    }

    #[test]
    fn nothing_is_copied_into_itself() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().canonicalize().unwrap();
        let job =
            Job { name: "x".into(), target: source.join("new/folder"), source, force: false, suspicious: [].into() };
        assert!(check(&job).is_err());
    }
}
