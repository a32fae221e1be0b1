//! The agent: for this machine, and static for the appliance.

use crate::{paths, process};
use std::env;
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the agent as one static binary and gives its path.
pub fn build_static() -> anyhow::Result<PathBuf> {
    println!("agent: building the static binary");
    // With --target these flags do not reach build scripts and procedural macros, which cannot be static.
    process::run(
        cargo()
            .args(["build", "--release", "--package", "tierlift", "--target", TARGET])
            .env("CARGO_ENCODED_RUSTFLAGS", flags()),
    )?;
    Ok(paths::target().join(TARGET).join("release/tierlift"))
}

/// Static, and with no name of a folder of this machine inside: the same bytes wherever it is built.
fn flags() -> String {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let moved = [(paths::root(), "/tierlift"), (cargo, "/cargo")];
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(moved.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())));
    // Between flags cargo wants this sign, because a path may have spaces in it.
    flags.join("\x1f")
}

/// Cargo as it was called, in the clone.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}
