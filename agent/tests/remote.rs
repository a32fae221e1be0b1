//! The real program at both ends of a line: `serve` on a socket or a pseudo-terminal, `remote` as its client.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]

mod large_dump;

use large_dump::dump_words;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn on_socket() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("line");
        let mut process = tierlift().args(["serve", "--port"]).arg(port("unix-listen", &socket)).spawn().unwrap();
        while UnixStream::connect(&socket).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "the server has ended");
            thread::sleep(Duration::from_millis(10));
        }
        Self { process, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("line")
    }

    fn remote<S: AsRef<OsStr>>(&self, words: &[S]) -> Output {
        self.remote_command(words).output().unwrap()
    }

    fn remote_command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = tierlift();
        command.args(["remote", "--port"]).arg(port("unix", &self.socket())).args(words);
        command
    }
}

impl Server {
    /// No command is left behind; one that is being stopped is waited for.
    fn assert_idle(&self) {
        let id = self.process.id();
        let start = Instant::now();
        while !fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap().is_empty() {
            assert!(start.elapsed() < PATIENCE, "a command still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn tierlift() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tierlift"))
}

fn port(kind: &str, path: &Path) -> String {
    format!("{kind}:{}", path.display())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn dump_here(words: &[String]) -> Vec<u8> {
    let here = tierlift().args(words).output().unwrap();
    assert!(here.stdout.len() > 200_000, "{}", text(&here.stderr));
    here.stdout
}

#[test]
fn a_verb_runs_at_the_other_end() {
    let server = Server::on_socket();
    let here = tierlift().args(["scan", "--help"]).output().unwrap();
    let there = server.remote(&["scan", "--help"]);
    assert_eq!(there.status.code(), Some(0));
    assert_eq!(text(&there.stdout), text(&here.stdout));
    assert!(there.stderr.is_empty());
}

#[test]
fn large_output_comes_through() {
    let server = Server::on_socket();
    let words = dump_words(server.folder.path());
    let there = server.remote(&words);
    assert_eq!((there.status.code(), text(&there.stderr)), (Some(0), String::new()));
    assert!(there.stdout == dump_here(&words), "the output differs");
}

#[test]
fn exit_code_and_errors_come_through() {
    let server = Server::on_socket();
    let words = ["scan", "/no such/image"];
    let (here, there) = (tierlift().args(words).output().unwrap(), server.remote(&words));
    assert_eq!((there.status.code(), here.status.code()), (Some(8), Some(8)));
    assert_eq!(text(&there.stderr), text(&here.stderr));
    assert!(there.stdout.is_empty());
    assert_eq!(server.remote(&["scan", "--nonsense"]).status.code(), Some(16));
}

#[test]
fn ctrl_c_stops_the_command() {
    let server = Server::on_socket();
    let words = dump_words(server.folder.path());
    let mut remote = server.remote_command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(remote.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    // The dump is stuck by now or soon: nobody reads on before the key is pressed.
    kill(Pid::from_raw(remote.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let output = remote.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    assert!(text(&output.stderr).contains("signal 2"), "{}", text(&output.stderr));
    assert!(first.len() + rest.len() < dump_here(&words).len());
    server.assert_idle();
}

#[test]
fn output_that_goes_nowhere_stops_the_command() {
    let server = Server::on_socket();
    let mut remote = server.remote_command(&dump_words(server.folder.path()));
    let mut remote = remote.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(remote.stdout.take());
    let output = remote.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    assert!(text(&output.stderr).contains("could not be passed on"), "{}", text(&output.stderr));
    server.assert_idle();
}

#[test]
fn a_client_that_vanishes_takes_its_command_with_it() {
    let server = Server::on_socket();
    let mut remote = server.remote_command(&dump_words(server.folder.path())).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(remote.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    remote.kill().unwrap();
    remote.wait().unwrap();
    server.assert_idle();
    assert_eq!(server.remote(&["--version"]).status.code(), Some(0));
}

#[test]
fn consoles_are_refused() {
    let server = Server::on_socket();
    for verb in ["serve", "console", "remote", "frobnicate"] {
        let output = server.remote(&[verb]);
        assert_eq!(output.status.code(), Some(16), "{verb}");
        let message = text(&output.stderr);
        assert!(message.contains("cannot be run from afar") && message.contains("scan"), "{message}");
    }
}

#[test]
fn a_line_nobody_answers_on_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("line");
    let listener = UnixListener::bind(&socket).unwrap();
    let remote =
        tierlift().args(["remote", "--timeout", "1", "--port"]).arg(port("unix", &socket)).arg("scan").output();
    let output = remote.unwrap();
    drop(listener);
    assert_eq!(output.status.code(), Some(8));
    let message = text(&output.stderr);
    assert!(
        message.contains("nobody answered within 1 seconds") && message.contains("second serial port"),
        "{message}"
    );
}

#[test]
fn wrong_ports_are_explained() {
    let missing = tierlift().args(["remote", "--port", "unix:/nonexistent/line", "scan"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(8));
    assert!(text(&missing.stderr).contains("cannot be opened"), "{}", text(&missing.stderr));
    let senseless = tierlift().args(["remote", "--port", "tcp:here", "scan"]).output().unwrap();
    assert_eq!(senseless.status.code(), Some(16));
    let no_verb = tierlift().args(["remote", "--port", "unix:/nonexistent/line"]).output().unwrap();
    assert_eq!(no_verb.status.code(), Some(16));
    let no_tty = tierlift().args(["serve", "--port", "/dev/null"]).output().unwrap();
    assert_eq!(no_tty.status.code(), Some(8));
    assert!(text(&no_tty.stderr).contains("serial line"), "{}", text(&no_tty.stderr));
}

/// Two pseudo-terminals joined like a null-modem cable: two devices, one for each end.
struct Cable {
    ends: [String; 2],
}

impl Cable {
    fn new() -> Self {
        let (one, two) = (raw_pty(), raw_pty());
        let ends = [ptsname_r(&one).unwrap(), ptsname_r(&two).unwrap()];
        // Masters stay open as long as a copying thread lives; with both devices also held open none of them reads an end.
        for device in &ends {
            std::mem::forget(fs::File::options().read(true).write(true).open(device).unwrap());
        }
        let (one, two) = (std::sync::Arc::new(one), std::sync::Arc::new(two));
        for (from, to) in [(one.clone(), two.clone()), (two, one)] {
            thread::spawn(move || carry(&from, &to));
        }
        Self { ends }
    }
}

fn raw_pty() -> PtyMaster {
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    master
}

fn carry(from: &PtyMaster, to: &PtyMaster) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = nix::unistd::read(from, &mut buffer) {
        let mut rest = &buffer[..count];
        while let (false, Ok(written)) = (rest.is_empty(), nix::unistd::write(to, rest)) {
            rest = &rest[written..];
        }
    }
}

#[test]
fn it_works_over_terminal_devices() {
    let cable = Cable::new();
    let folder = tempfile::tempdir().unwrap();
    let words = dump_words(folder.path());
    let mut serve = tierlift().args(["serve", "--port", &cable.ends[0]]).spawn().unwrap();
    let remote = |words: &[String]| {
        tierlift().args(["remote", "--timeout", "60", "--port", &cable.ends[1]]).args(words).output().unwrap()
    };
    let output = remote(&words);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(output.stdout == dump_here(&words), "the output differs");
    assert_eq!(remote(&["scan".into(), "/no such/image".into()]).status.code(), Some(8));
    serve.kill().unwrap();
    serve.wait().unwrap();
}
