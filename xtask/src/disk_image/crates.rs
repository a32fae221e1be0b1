//! The Rust crates inside the agent, with their licences.

use crate::{agent, process};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate that is compiled into the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    #[serde(skip_serializing)]
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

/// Every crate of the agent, by name and version.
pub fn all() -> anyhow::Result<Vec<Crate>> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let tree = process::output(
        agent::cargo().args(["tree", "--locked", "--package", "tierlift", "--edges", "normal"]).args([
            "--prefix",
            "none",
            "--no-dedupe",
            "--target",
            TARGET,
            "--format",
            "{p}",
        ]),
    )?;
    let inside: BTreeSet<(&str, &str)> = tree.lines().filter_map(named).collect();
    let text = process::output(agent::cargo().args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        TARGET,
    ]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cannot read what cargo metadata printed")?;
    let mut crates = metadata.packages;
    crates.retain(|one| inside.contains(&(one.name.as_str(), one.version.as_str())));
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(crates)
}

/// Name and version of a line such as `clap v4.5.1 (proc-macro)`.
fn named(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?.strip_prefix('v')?))
}

impl Crate {
    /// Copies the texts of the licence into a folder; a crate may have none and name its licence only.
    pub fn copy_licences(&self, to: &Path) -> anyhow::Result<()> {
        let folder = self.manifest_path.parent().context("crate without folder")?;
        fs::create_dir_all(to)?;
        fs::write(to.join("LICENCE"), format!("{}\n", self.license.as_deref().unwrap_or("not stated")))?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().context("file without name")?.to_string_lossy().into_owned();
            let is_text =
                ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"].iter().any(|word| name.to_uppercase().starts_with(word));
            if is_text && path.is_file() {
                fs::copy(&path, to.join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_of_the_tree() {
        assert_eq!(super::named("clap v4.5.1 (proc-macro)"), Some(("clap", "4.5.1")));
        assert_eq!(super::named(""), None);
    }
}
