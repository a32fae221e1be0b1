//! `cargo xtask image --verify`: everything built twice, in two folders with names of different lengths, and compared.

use super::FILES;
use crate::{paths, process};
use anyhow::{Context, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Builds and compares. With `kernel` the second build has a cache of its own, and so compiles its kernel from nothing.
pub fn run(kernel: bool) -> anyhow::Result<()> {
    let start = Instant::now();
    let base = paths::target().join("verify");
    let _ = fs::remove_dir_all(&base);
    let first = build(&base.join("a"), None)?;
    let cache = kernel.then(|| base.join("cache"));
    let second = build(&base.join("another folder").join("with-a-longer-name"), cache.as_deref())?;
    let different = compare(&first, &second)?;
    if !different.is_empty() {
        bail!(
            "these files differ between two builds: {}\nthey are kept in {} and {}",
            different.join(", "),
            first.display(),
            second.display()
        );
    }
    print!("{}", fs::read_to_string(first.join("SHA256SUMS"))?);
    fs::remove_dir_all(&base)?;
    println!("verify: {} files are identical in both builds ({} s)", FILES.len(), start.elapsed().as_secs());
    if !kernel {
        println!(
            "verify: the kernel was compiled once and taken from the cache; to compile it anew too: --verify --kernel"
        );
    }
    Ok(())
}

/// Builds all images in a copy of this clone and gives their folder.
fn build(folder: &Path, cache: Option<&Path>) -> anyhow::Result<PathBuf> {
    println!("verify: building in {}", folder.display());
    copy_sources(folder)?;
    let mut xtask = Command::new(env::current_exe().context("where is this program?")?);
    xtask
        .args(["image", "--all"])
        .current_dir(folder)
        .env(paths::ROOT, folder)
        .env("CARGO_TARGET_DIR", folder.join("target"));
    if let Some(cache) = cache {
        xtask.env("TIERLIFT_CACHE", cache);
    }
    process::run(&mut xtask)?;
    Ok(folder.join("target/image/all"))
}

/// Every file of the clone that git knows or would take, as it is now.
fn copy_sources(folder: &Path) -> anyhow::Result<()> {
    let list = process::output(
        Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(paths::root()),
    )?;
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (paths::root().join(name), folder.join(name));
        // A file that git knows may have been deleted since.
        if from.is_file() {
            fs::create_dir_all(to.parent().context("file without folder")?)?;
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// The files that are not the same in both folders.
fn compare(first: &Path, second: &Path) -> anyhow::Result<Vec<&'static str>> {
    let mut different = Vec::new();
    for name in FILES.iter().chain(&["SHA256SUMS"]) {
        if fs::read(first.join(name))? != fs::read(second.join(name))? {
            different.push(*name);
        }
    }
    Ok(different)
}
