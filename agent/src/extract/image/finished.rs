//! An image that an earlier run finished: told by the file of JSON beside it.

use super::{Refused, same};
use crate::extract::file::{self, Content, LostRange, Nowhere};
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tierlift_ondisk::field::hex;

/// Schema of the file.
const SCHEMA: &str = "tierlift.image/1";
/// Longer ones are none of ours: 10,000 lost ranges need a tenth of it.
const MAX_JSON: u64 = 8 << 20;

/// What the file tells.
#[derive(Debug, Serialize, Deserialize)]
struct Described {
    schema: String,
    size: u64,
    sha256: String,
    lost: Vec<LostRange>,
}

/// Writes the file for an image that is, or will be, called `path`.
pub(super) fn describe(path: &Path, size: u64, content: &Content) -> anyhow::Result<()> {
    let name = beside(path);
    let sha256 = hex(&content.sha256);
    let text = serde_json::to_vec(&Described { schema: SCHEMA.to_owned(), size, sha256, lost: content.lost.clone() })?;
    let write = || {
        let mut file = File::create(&name)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", name.display()))
}

/// The finished image under one of these names, read back once, with what was lost of it. `None` when there is none.
///
/// # Errors
/// [`Refused`] when there is a file of that name that is none, or none of this source as it is now.
pub(super) fn find(source: &File, paths: &[PathBuf], size: u64) -> anyhow::Result<Option<(PathBuf, Vec<LostRange>)>> {
    let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) else { return Ok(None) };
    let refused = |why: &str| Refused(format!("{} is there already and {why}", path.display()));
    let something_else = || refused("is something else: move it away first");
    let described = described(path, size).ok_or_else(something_else)?;
    let there = File::open(path).map_err(|_| something_else())?;
    if !there.metadata().is_ok_and(|found| found.is_file() && found.len() == size) {
        return Err(something_else().into());
    }
    let mut places = same::spread(size).filter(|at| !same::is_in(&described.lost, *at));
    if places.any(|at| same::differs(source, &there, at, size)) {
        return Err(something_else().into());
    }
    if described.lost.iter().take(same::PLACES).any(|lost| same::is_back(source, lost)) {
        let why =
            "was copied when less of the volume could be read than now: move it away or delete it to copy it anew";
        return Err(refused(why).into());
    }
    // So that reading back asks the disk and not the memory.
    let _ = posix_fadvise(&there, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let back = file::read(&there, size, &mut Nowhere)?;
    if hex(&back.sha256) != described.sha256 || !back.lost.is_empty() {
        return Err(refused("does not hold any more what its .json tells: move it away first").into());
    }
    Ok(Some((path.clone(), described.lost)))
}

/// What the file beside an image tells, when it can be true.
fn described(path: &Path, size: u64) -> Option<Described> {
    let mut text = Vec::new();
    File::open(beside(path)).ok()?.take(MAX_JSON).read_to_end(&mut text).ok()?;
    let described: Described = serde_json::from_slice(&text).ok()?;
    let inside = |range: &LostRange| range.length > 0 && range.length <= size.saturating_sub(range.offset);
    let possible = described.schema == SCHEMA && described.size == size && described.lost.iter().all(inside);
    possible.then_some(described)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    name.into()
}
