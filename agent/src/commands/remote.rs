//! `tierlift remote`: the same verbs on an appliance at the other end of a serial line.

use super::{Failure, Outcome};
use crate::console::port::{Port, open_client};
use crate::say::tell;
use crate::unlock::prompt;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::Cell;
use std::io::{self, Write};
use std::time::Duration;
use tierlift_protocol::message::RefusalKind;
use tierlift_protocol::{Client, ClientError, Exit, Secret, Stream, Wish};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The line: unix:PATH, tcp:HOST:PORT, or a serial device as TTY or TTY:BAUD
    #[arg(long, value_name = "PORT")]
    port: String,
    /// How many seconds a silent line is given before it counts as dead
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Send this program's standard input along: the password for `unlock`. At a terminal it is asked for, without echo
    #[arg(long)]
    input: bool,
    /// The verb to run there, with its options
    #[arg(value_name = "VERB", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    verb: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let port = args.port.parse::<Port>().map_err(|error| Failure::usage(format!("--port {}: {error}", args.port)))?;
    let line = open_client(&port).with_context(|| {
        format!("{}: cannot be opened; is the appliance running, and does nobody else use the line?", args.port)
    })?;
    let mut client =
        Client::connect(line, Duration::from_secs(args.timeout)).map_err(|error| explain(error, &args.port))?;
    if args.input {
        client.set_input(Secret(prompt::password("Password: ")?.0 + "\n"));
    }
    let interrupts = Interrupts::catch()?;
    let broken = Cell::new(None);
    let output = |stream, bytes: &[u8]| {
        if let Err(error) = pass_on(stream, bytes) {
            broken.set(Some(error.kind()));
        }
    };
    let result = client.run_watched(&args.verb, output, || interrupts.wish(broken.get().is_some()));
    match broken.get() {
        Some(kind) => Err(io::Error::from(kind)).context("the output of the command could not be passed on"),
        None => result.map_err(|error| explain(error, &args.port)).map(outcome),
    }
}

fn pass_on(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        }
        Stream::Stderr => io::stderr().write_all(bytes),
    }
}

/// The exit code of the verb there is the exit code here.
fn outcome(exit: Exit) -> Outcome {
    match exit {
        Exit::Code(code) => Outcome(u8::try_from(code).unwrap_or(Outcome::FAILED.0)),
        Exit::Signal(signal) => {
            tell!("tierlift: the command was stopped before its end (signal {signal})");
            Outcome::FAILED
        }
    }
}

/// Says which line it was and what to look at.
fn explain(error: ClientError, port: &str) -> anyhow::Error {
    match error {
        ClientError::NoAnswer { .. } => anyhow::anyhow!(
            "{port}: {error}\n\
             Check that\n\
             - the appliance has started: its screen or first serial port shows the prompt \"tierlift>\";\n\
             - this is its second serial port (the program console), not the one that shows text;\n\
             - no other program uses the line;\n\
             - the speed of a real cable is right: {} unless you changed it.",
            crate::console::port::DEFAULT_BAUD
        ),
        ClientError::Refused(refusal) if refusal.kind == RefusalKind::NotAllowed => {
            Failure::usage(format!("{port}: {}", refusal.message)).into()
        }
        other => anyhow::anyhow!("{port}: {other}"),
    }
}

/// Ctrl-C as something to be asked for, not as a bolt from the blue.
struct Interrupts {
    signals: SignalFd,
    seen: Cell<u32>,
}

impl Interrupts {
    fn catch() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.thread_block().context("catching Ctrl-C")?;
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("catching Ctrl-C")?;
        Ok(Self { signals, seen: Cell::new(0) })
    }

    /// The first Ctrl-C asks the command to stop, the second kills it, the third leaves. Output that goes nowhere counts as
    /// one Ctrl-C.
    fn wish(&self, output_is_broken: bool) -> Wish {
        let pressed = matches!(self.signals.read_signal(), Ok(Some(_))) || (output_is_broken && self.seen.get() == 0);
        if !pressed {
            return Wish::Continue;
        }
        self.seen.set(self.seen.get().saturating_add(1));
        match self.seen.get() {
            1 => tell!("tierlift: asking the command to stop; Ctrl-C again kills it, a third time leaves it alone"),
            2 => tell!("tierlift: killing the command"),
            _ => return Wish::GiveUp,
        }
        Wish::Cancel
    }
}
