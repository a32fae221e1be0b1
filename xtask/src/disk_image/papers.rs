//! What goes with the images: a manifest of everything inside, the licences, and where the source is.

use super::{crates, ova};
use crate::debian::{Package, Unpacked};
use crate::{deps, kernel, process};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Packages of the building machine whose versions decide about bytes of the images.
const TOOLS: [&str; 8] =
    ["dosfstools", "gcc", "grub-common", "libc6-dev", "linux-source-6.12", "mtools", "qemu-utils", "xorriso"];

const SOURCE: &str = include_str!("source.txt");

#[derive(Serialize)]
struct Manifest<'a> {
    schema: &'static str,
    tierlift: &'static str,
    kernel: &'a kernel::Provenance,
    /// The distribution's packages parts of which are inside.
    packages: &'a [&'a Package],
    /// Rust crates inside the agent.
    crates: &'a [crates::Crate],
    built_with: BTreeMap<String, String>,
}

/// Writes manifest, licences and the way to the source into `folder`.
pub fn write(unpacked: &[&Unpacked], work: &Path, folder: &Path) -> anyhow::Result<()> {
    let packages: Vec<&Package> = unpacked.iter().flat_map(|unpacked| unpacked.packages()).collect();
    let (kernel, crates) = (kernel::provenance()?, crates::all()?);
    let manifest = Manifest {
        schema: "tierlift.manifest/1",
        tierlift: env!("CARGO_PKG_VERSION"),
        kernel: &kernel,
        packages: &packages,
        crates: &crates,
        built_with: tools()?,
    };
    fs::write(folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)? + "\n")?;
    fs::write(folder.join("SOURCE.txt"), source(&kernel, &packages, &distribution()))?;
    licences(unpacked, &crates, &work.join("licences"))?;
    ova::tar(work, &["licences"], &folder.join("licences.tar"))
}

fn tools() -> anyhow::Result<BTreeMap<String, String>> {
    let text = process::output(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}\n"]).args(TOOLS))?;
    let mut tools: BTreeMap<String, String> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    tools.insert("rustc".into(), process::output(Command::new("rustc").arg("--version"))?.trim().to_owned());
    Ok(tools)
}

/// Whose packages those of this machine are, as "Debian GNU/Linux 12".
fn distribution() -> String {
    let words = ["NAME", "VERSION_ID"].map(|key| deps::os_release(key).unwrap_or_default());
    words.join(" ").trim().to_owned()
}

fn source(kernel: &kernel::Provenance, packages: &[&Package], distribution: &str) -> String {
    let sources: BTreeSet<&str> = packages.iter().map(|package| package.source.as_str()).collect();
    let lines: String = sources.iter().map(|source| format!("  apt-get source {source}\n")).collect();
    SOURCE
        .replace("@DISTRIBUTION@", distribution)
        .replace("@KERNEL@", &format!("{}={}", kernel.source, kernel.version))
        .replace(
            "@PATCHES@",
            &kernel.patches.iter().map(|name| format!("  kernel-patches/{name}\n")).collect::<String>(),
        )
        .replace("@PACKAGES@", &lines)
}

fn licences(unpacked: &[&Unpacked], crates: &[crates::Crate], folder: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(folder);
    for unpacked in unpacked {
        for package in unpacked.packages() {
            let place = folder.join("packages").join(&package.name);
            fs::create_dir_all(&place)?;
            fs::write(place.join("copyright"), unpacked.licence(&package.name)?)?;
        }
    }
    for one in crates {
        one.copy_licences(&folder.join("crates").join(format!("{}-{}", one.name, one.version)))?;
    }
    let kernel = Path::new("/usr/share/doc/linux-source-6.12/copyright");
    fs::create_dir_all(folder.join("packages/linux"))?;
    fs::copy(kernel, folder.join("packages/linux/copyright"))?;
    Ok(())
}
