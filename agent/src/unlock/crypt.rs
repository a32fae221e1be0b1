//! cryptsetup: opening a LUKS volume read-only, what is open over a volume, and closing it.

use super::candidates::Candidate;
use crate::activate::sysfs::{self, DeviceNumber};
use crate::case::programs;
use anyhow::{Context, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// cryptsetup's exit code for a passphrase that opens nothing.
const WRONG_PASSPHRASE: i32 = 2;
/// How cryptsetup begins the unique ids of its devices.
const MARK: &str = "CRYPT-";

/// A volume that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlocked {
    /// Name in `/dev/mapper`.
    pub name: String,
    /// Its device.
    pub path: PathBuf,
}

/// Tries the candidates in turn; answers with the one that fits. `trying` hears of each before it is tried: each costs
/// seconds, by design of LUKS.
///
/// # Errors
/// When none fits, or cryptsetup fails for another reason.
pub fn open(
    volume: &Path,
    name: &str,
    candidates: &[Candidate],
    mut trying: impl FnMut(usize, &Candidate),
) -> anyhow::Result<Option<usize>> {
    for (number, candidate) in candidates.iter().enumerate() {
        trying(number, candidate);
        if opens(volume, name, candidate)? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn opens(volume: &Path, name: &str, candidate: &Candidate) -> anyhow::Result<bool> {
    let mut command = cryptsetup(["open", "--type", "luks", "--readonly", "--key-file", "-"]);
    command.arg(volume).arg(name).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().context("cryptsetup cannot be started; is it installed?")?;
    if let Some(mut pipe) = process.stdin.take() {
        // It may refuse before it has read anything; its own message says why.
        let _ = pipe.write_all(candidate.passphrase.0.as_bytes());
    }
    let output = process.wait_with_output().context("cryptsetup cannot be waited for")?;
    programs::ran(&command, output.status, &output.stderr);
    match output.status.code() {
        Some(0) => Ok(true),
        Some(WRONG_PASSPHRASE) => Ok(false),
        _ => bail!(
            "{} cannot be unlocked: cryptsetup says: {}",
            volume.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}

/// cryptsetup without udev, which the appliance has not.
fn cryptsetup<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("cryptsetup");
    command.args(arguments).env("DM_DISABLE_UDEV", "1");
    command
}

/// What is open over the volume with this number.
pub fn over(number: DeviceNumber) -> Vec<Unlocked> {
    let holders = Path::new("/sys/dev/block").join(number.to_string()).join("holders");
    let holders = std::fs::read_dir(holders).into_iter().flatten().flatten();
    let read = |path: PathBuf| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let unlocked = holders.filter_map(|holder| {
        let uuid = read(holder.path().join("dm/uuid"))?;
        let name = read(holder.path().join("dm/name")).filter(|_| uuid.starts_with(MARK))?;
        Some(Unlocked { path: Path::new("/dev/mapper").join(&name), name })
    });
    unlocked.collect()
}

/// What is open over the volume at `path`, if anything is.
pub fn over_path(path: &Path) -> Option<Unlocked> {
    let number = sysfs::number_of(path).ok().flatten()?;
    over(number).into_iter().next()
}

/// The device with what is stored: what is open over the volume at `path`, or the volume itself.
pub fn opened(path: &Path) -> PathBuf {
    over_path(path).map_or_else(|| path.to_owned(), |unlocked| unlocked.path)
}

/// Closes an open volume.
///
/// # Errors
/// When it is in use, or cryptsetup fails.
pub fn close(name: &str) -> anyhow::Result<()> {
    let output = programs::output(cryptsetup(["close"]).arg(name)).context("cryptsetup cannot be started")?;
    if !output.status.success() {
        bail!("{name} cannot be locked again: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
