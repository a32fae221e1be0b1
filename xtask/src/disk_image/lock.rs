//! `image/packages.lock`: the packages the images are made of, as they were when somebody last looked at them.

use crate::debian::Package;
use crate::paths;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs;

/// The file, from the root of the clone.
const FILE: &str = "image/packages.lock";
const HEAD: &str = "# Package, version, SHA-256 of its file. Written by: cargo xtask image --all --update-lock\n";

/// What to do when Debian has other packages now than those recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// An image for other people: nothing new goes in unseen.
    Fail,
    /// Tests of what there is now: say it loudly, and go on.
    Report,
    /// Somebody has looked at it: record it.
    Record,
}

/// Compares the packages with those recorded.
pub fn check(packages: &[Package], on_change: OnChange) -> anyhow::Result<()> {
    let path = paths::root().join(FILE);
    if on_change == OnChange::Record {
        let mut sorted = packages.to_vec();
        sorted.sort();
        let lines: String = sorted.iter().map(|p| format!("{} {} {}\n", p.name, p.version, p.sha256)).collect();
        fs::write(&path, format!("{HEAD}{lines}")).with_context(|| FILE.to_owned())?;
        println!("image: {} packages recorded in {FILE}", packages.len());
        return Ok(());
    }
    let recorded = fs::read_to_string(&path).with_context(|| {
        format!("{FILE} is missing; record today's packages with: cargo xtask image --all --update-lock")
    })?;
    let changes = changes(&recorded, packages);
    if changes.is_empty() {
        return Ok(());
    }
    let message = format!(
        "other Debian packages than {FILE} records:\n  {}\nLook at what changed, then take it with: cargo xtask image --all --update-lock",
        changes.join("\n  ")
    );
    if on_change == OnChange::Fail {
        bail!("{message}");
    }
    println!("image: WARNING: the image of these tests is made of {message}");
    Ok(())
}

/// Every difference, in words.
fn changes(recorded: &str, packages: &[Package]) -> Vec<String> {
    let mut old: BTreeMap<&str, (&str, &str)> = recorded
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, (words.next()?, words.next()?)))
        })
        .collect();
    let mut changes = Vec::new();
    for now in packages {
        match old.remove(now.name.as_str()) {
            None => changes.push(format!("{} {}: new", now.name, now.version)),
            Some((version, _)) if version != now.version => {
                changes.push(format!("{}: version {version} recorded, {} now", now.name, now.version));
            }
            Some((_, sum)) if sum != now.sha256 => changes.push(format!(
                "{} {}: the same version with other content: SHA-256 {sum} recorded, {} now",
                now.name, now.version, now.sha256
            )),
            Some(_) => {}
        }
    }
    changes.extend(old.keys().map(|name| format!("{name}: recorded, not used any more")));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, sum: &str) -> Package {
        Package { name: name.into(), version: version.into(), sha256: sum.into(), source: String::new() }
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let recorded = "# head\nmdadm 4.2 aa\nlibc6 2.36 bb\nold 1 cc\nsame 1 dd\n";
        let now = [package("mdadm", "4.3", "ee"), package("libc6", "2.36", "ff"), package("same", "1", "dd")];
        let changes = changes(recorded, &now);
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert!(changes[0].contains("4.2") && changes[0].contains("4.3"));
        assert!(changes[1].contains("other content") && changes[2].contains("old"));
    }
}
