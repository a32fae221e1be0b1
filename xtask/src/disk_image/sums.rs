//! SHA-256 sums of files.

use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use tierlift_ondisk::field::hex;

/// The sum of a file in hexadecimal.
pub fn of(path: &Path) -> anyhow::Result<String> {
    let mut file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).with_context(|| path.display().to_string())?;
    Ok(hex(&hash.finalize()))
}

/// Lines as `sha256sum --check` reads them.
pub fn list(folder: &Path, names: &[&str]) -> anyhow::Result<String> {
    names.iter().map(|name| Ok(format!("{}  {name}\n", of(&folder.join(name))?))).collect()
}
