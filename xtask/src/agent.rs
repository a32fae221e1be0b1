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
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    Ok(paths::target().join(TARGET).join("release/tierlift"))
}

/// Cargo as it was called, in the clone.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}
