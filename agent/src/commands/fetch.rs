//! `tierlift fetch`: a small file of the appliance on standard output, so that it can be had through the serial line.

use super::{Failure, Outcome};
use anyhow::Context;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

/// Files larger than this leave by a disk or the network: a serial line carries some 10 KB a second.
const LIMIT: u64 = 1 << 20;

/// Writes a file of up to 1 MiB to standard output, byte by byte as it is: reports, packs of metadata. From another machine:
/// `tierlift remote --port PORT fetch /run/tierlift/case.json > case.json`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file
    path: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let name = args.path.display();
    let file = File::open(&args.path).with_context(|| format!("{name} cannot be opened"))?;
    if !file.metadata().with_context(|| name.to_string())?.is_file() {
        return Err(Failure::usage(format!("{name} is no file")).into());
    }
    let mut bytes = Vec::new();
    file.take(LIMIT.saturating_add(1)).read_to_end(&mut bytes).with_context(|| format!("{name} cannot be read"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LIMIT) {
        let message = format!(
            "{name} is larger than 1 MiB, too much for a serial line: copy it to a disk, or use `share` and fetch it by SFTP"
        );
        return Err(Failure { outcome: Outcome::FAILED, message }.into());
    }
    std::io::stdout().write_all(&bytes)?;
    Ok(Outcome::CLEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        File::create(&path).unwrap().set_len(LIMIT + 1).unwrap();
        let error = run(&Args { path }).unwrap_err().to_string();
        assert!(error.contains("larger than 1 MiB"), "{error}");
        assert!(run(&Args { path: folder.path().to_owned() }).is_err());
        assert!(run(&Args { path: folder.path().join("none") }).is_err());
    }
}
