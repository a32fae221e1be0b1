//! `tierlift serve`: the protocol server on the program console.

use super::{Failure, Outcome};
use crate::console::child::this_program;
use crate::console::port::{Port, open_server_tty};
use crate::console::server::{Runner, Session};
use crate::say::tell;
use anyhow::Context;
use clap::CommandFactory;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// How long to wait before a line that failed is tried again.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Serial device, as TTY or TTY:BAUD; or unix-listen:PATH to listen on a socket
    #[arg(long, value_name = "PORT")]
    port: Port,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let runner = runner();
    match args.port {
        Port::Tty(path, baud) => serve_tty(&path, baud, &runner),
        Port::UnixListen(path) => serve_socket(&path, &runner),
        Port::Unix(_) | Port::Tcp(_) => {
            let message = "serve takes a serial device or unix-listen:PATH; unix: and tcp: are for `tierlift remote`";
            Err(Failure::usage(message).into())
        }
    }
}

/// What programs may run, and how.
pub(super) fn runner() -> Runner {
    Runner { verbs: plain_verbs(), command: this_program }
}

/// The verbs that may be run from a console: all but those that are consoles themselves.
pub(super) fn plain_verbs() -> Vec<String> {
    let consoles = ["serve", "console", "remote"];
    let command = super::Cli::command();
    let names = command.get_subcommands().map(|verb| verb.get_name().to_owned());
    names.filter(|name| !consoles.contains(&name.as_str())).collect()
}

/// Serves a serial device for ever. A device that exists but has no hardware behind it, or hangs up, is tried again quietly:
/// init would only start the server again.
fn serve_tty(path: &Path, baud: u32, runner: &Runner) -> anyhow::Result<Outcome> {
    let mut told = false;
    loop {
        let end = match open_server_tty(path, baud) {
            Ok(tty) => Session::new(tty, runner).serve(),
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Err(error),
            Err(error) => {
                return Err(error).with_context(|| format!("{}: cannot be used as a serial line", path.display()));
            }
        };
        if let (Err(error), false) = (end, told) {
            tell!("tierlift: {}: {error}; trying again every {} seconds", path.display(), PAUSE.as_secs());
            told = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Serves one connection after the other.
fn serve_socket(path: &Path, runner: &Runner) -> anyhow::Result<Outcome> {
    let listener = UnixListener::bind(path)
        .with_context(|| format!("{}: cannot listen here; if a server left it behind, remove it", path.display()))?;
    loop {
        let (stream, _) = listener.accept().context("waiting for a client")?;
        stream.set_nonblocking(true)?;
        if let Err(error) = Session::new(stream, runner).serve() {
            log::info!("the connection failed: {error}");
        }
    }
}
