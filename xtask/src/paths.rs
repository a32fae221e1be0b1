//! Where things lie: the clone, its target folder, and the cache outside it.

use anyhow::Context;
use std::env;
use std::path::{Path, PathBuf};

/// Names another clone to build: `cargo xtask image --verify` builds copies of this one.
pub const ROOT: &str = "TIERLIFT_ROOT";

/// The root of the clone.
pub fn root() -> PathBuf {
    if let Some(root) = env::var_os(ROOT) {
        return PathBuf::from(root);
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's target folder, where every output of the build lies.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// What is expensive to build and the same for every clone: `TIERLIFT_CACHE`, else the user's cache folder.
pub fn cache() -> anyhow::Result<PathBuf> {
    let folder = if let Some(folder) = env::var_os("TIERLIFT_CACHE") {
        PathBuf::from(folder)
    } else if let Some(folder) = env::var_os("XDG_CACHE_HOME") {
        PathBuf::from(folder).join("tierlift")
    } else {
        let home = env::var_os("HOME").context("HOME is not set: set TIERLIFT_CACHE to a folder for cached builds")?;
        PathBuf::from(home).join(".cache/tierlift")
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create the cache folder {}", folder.display()))?;
    Ok(folder)
}
