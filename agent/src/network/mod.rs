//! The network: nothing is switched on and nothing listens until the user asks for it.
//!
//! The programs do the work (busybox, rsync, dropbear, mount.cifs); this says what is wanted and puts what they answer in words.

pub mod adapters;
pub mod rsync;
pub mod share;
pub mod smb;

use crate::case::programs;
use crate::commands::{Failure, Outcome};
use anyhow::Context;
use std::process::{Command, Output, Stdio};

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started.
fn output(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    programs::output(command.stdin(Stdio::null()))
        .with_context(|| format!("{name} cannot be started; is it installed?"))
}

/// Runs a program that must end well, and answers what it said.
///
/// # Errors
/// It cannot be started, or ends badly: then with what it said.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let said = output(command)?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let text = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    Err(failure(format!("{name} says: {}", if text.is_empty() { said.status.to_string() } else { text })))
}

fn failure(message: String) -> anyhow::Error {
    Failure { outcome: Outcome::FAILED, message }.into()
}
