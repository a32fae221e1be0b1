//! The tools that there already are, for comparing: Debian's thin-provisioning-tools and today's release.
//!
//! Nothing of the project needs them; only `bench` and `matrix` install or build them. A peer is a folder with its commands.

use crate::{agent, deps, paths, process};
use anyhow::{Context, bail};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package, and the release as the package registry may have it.
const PACKAGE: &str = "thin-provisioning-tools";
const CRATE: &str = "thinp";
/// The release that is measured against.
pub const RELEASE: &str = "1.3";
/// Where the release comes from when the package registry has none.
pub const VARIABLE: &str = "TIERLIFT_PEER";
/// The one program behind all commands.
const PROGRAM: &str = "pdata_tools";
const COMMANDS: [&str; 2] = ["thin_check", "thin_repair"];

/// What help says of it.
pub const HELP: &str = "Compares with thin-provisioning-tools: the package of that name is installed where it is missing, and \
    release 1.3 is built into target/bench/peer, from the package registry or, where that has none, from what TIERLIFT_PEER \
    names: a folder with its sources, or a pdata_tools already built. What cannot be had is left out, and it is said.";

/// One version of the tools.
#[derive(Debug, Clone)]
pub struct Peer {
    /// As it says itself.
    pub version: String,
    folder: PathBuf,
}

impl Peer {
    fn at(folder: PathBuf) -> anyhow::Result<Self> {
        let version = process::output(Command::new(folder.join("thin_check")).arg("-V"))?.trim().to_owned();
        Ok(Self { version, folder })
    }

    /// Where its commands lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of its commands.
    pub fn command(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether this is the release that limits are about.
    pub fn is_release(&self) -> bool {
        self.version.starts_with(RELEASE)
    }
}

/// Every version that can be had here, the oldest first.
pub fn all() -> Vec<Peer> {
    let found = [("Debian's package", packaged()), ("the release", release())];
    let mut peers: Vec<Peer> = Vec::new();
    for (name, found) in found {
        match found {
            Ok(peer) if peers.iter().any(|known| known.version == peer.version) => {}
            Ok(peer) => peers.push(peer),
            Err(error) => println!("peers: {name} of {PACKAGE} cannot be had: {error:#}"),
        }
    }
    peers
}

fn packaged() -> anyhow::Result<Peer> {
    deps::ensure_packages(&[PACKAGE])?;
    let files = process::output(Command::new("dpkg-query").args(["-L", PACKAGE]))?;
    let check = files.lines().find(|file| file.ends_with("/thin_check")).context("the package has no thin_check")?;
    Peer::at(Path::new(check).parent().unwrap_or(Path::new("/")).to_owned())
}

fn release() -> anyhow::Result<Peer> {
    let folder = paths::target().join("bench/peer");
    let program = match env::var_os(VARIABLE) {
        Some(given) => given_program(Path::new(&given), &folder)?,
        None => installed_program(&folder)?,
    };
    fs::create_dir_all(&folder)?;
    for command in COMMANDS {
        let link = folder.join(command);
        let _ = fs::remove_file(&link);
        symlink(&program, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    let peer = Peer::at(folder)?;
    if !peer.is_release() {
        bail!("{} is version {}, not {RELEASE}", program.display(), peer.version);
    }
    Ok(peer)
}

/// A program, or the one built from a folder of sources.
fn given_program(given: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let given = given.canonicalize().with_context(|| format!("{VARIABLE} names {}", given.display()))?;
    if !given.is_dir() {
        return Ok(given);
    }
    let target = folder.join("build");
    println!("peers: building {}", given.display());
    let mut cargo = agent::cargo();
    cargo.args(["build", "--release", "--quiet", "--bin", PROGRAM, "--manifest-path"]);
    process::run(cargo.arg(given.join("Cargo.toml")).arg("--target-dir").arg(&target))?;
    Ok(target.join("release").join(PROGRAM))
}

fn installed_program(folder: &Path) -> anyhow::Result<PathBuf> {
    let program = folder.join("bin").join(PROGRAM);
    if !program.exists() {
        println!("peers: building {CRATE} {RELEASE}");
        let mut cargo = agent::cargo();
        cargo.args(["install", CRATE, "--version", &format!("~{RELEASE}"), "--locked", "--quiet", "--root"]);
        process::output(cargo.arg(folder)).with_context(|| {
            format!(
                "the package registry has no {CRATE} {RELEASE} that builds; name its sources, or a {PROGRAM} already \
                 built, in {VARIABLE}"
            )
        })?;
    }
    Ok(program)
}
