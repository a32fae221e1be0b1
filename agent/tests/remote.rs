//! The real program at both ends of a line: `serve` on a socket or a pseudo-terminal, `remote` as its client.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]

use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;
use tierlift_protocol::message::RefusalKind;
use tierlift_protocol::{Client, ClientError, Exit, Wish};

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

    fn client(&self) -> Client<UnixStream> {
        Client::connect(UnixStream::connect(self.socket()).unwrap(), PATIENCE).unwrap()
    }

    fn remote(&self, words: &[&str]) -> Output {
        self.remote_command(words).output().unwrap()
    }

    fn remote_command(&self, words: &[&str]) -> Command {
        let mut command = tierlift();
        command.args(["remote", "--port"]).arg(port("unix", &self.socket())).args(words);
        command
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

/// A script that says a lot on one stream and a little on the other, and ends with 5.
const LOTS: &str = "i=0; while [ $i -lt 20000 ]; do echo \"line $i of many\"; i=$((i+1)); done; echo done >&2; exit 5";

fn lots() -> String {
    (0..20_000).map(|i| format!("line {i} of many\n")).collect()
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
fn exit_code_and_both_streams_come_through() {
    let server = Server::on_socket();
    let output = server.remote(&["shell", "--", "/bin/sh", "-c", LOTS]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(text(&output.stdout), lots());
    assert_eq!(text(&output.stderr), "done\n");
}

#[test]
fn bytes_of_every_value_come_through() {
    let server = Server::on_socket();
    let file = server.folder.path().join("bytes");
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    let output = server.client().output(&["shell", "cat", file.to_str().unwrap()], PATIENCE).unwrap();
    assert_eq!(output.exit, Exit::Code(0));
    assert!(output.stdout == bytes, "the bytes differ");
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
fn one_session_runs_one_command_after_the_other() {
    let server = Server::on_socket();
    let mut client = server.client();
    for code in [0, 1, 8] {
        let line = format!("exit {code}");
        assert_eq!(client.run(&["shell", "sh", "-c", &line], |_, _| {}).unwrap(), Exit::Code(code));
    }
    let refused = client.run(&["console"], |_, _| {});
    assert!(matches!(refused, Err(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::NotAllowed));
    assert_eq!(client.run(&["--version"], |_, _| {}).unwrap(), Exit::Code(0));
}

#[test]
fn a_signal_is_told() {
    let server = Server::on_socket();
    let output = server.remote(&["shell", "sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(8));
    assert!(text(&output.stderr).contains("signal 9"));
}

#[test]
fn a_process_left_in_the_background_does_not_hold_the_line() {
    let server = Server::on_socket();
    let output = server.remote(&["shell", "sh", "-c", "sleep 1000 & echo $!"]);
    assert_eq!(output.status.code(), Some(0));
    let left: i32 = text(&output.stdout).trim().parse().unwrap();
    kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
}

#[test]
fn ctrl_c_stops_the_command_and_what_it_started() {
    let server = Server::on_socket();
    // Both shells must go. The inner one speaks, so that the outer one is past its start, where some lose a signal.
    let script = "sh -c 'echo $PPID; exec sleep 1000'; echo never";
    let mut remote = server.remote_command(&["shell", "sh", "-c", script]);
    let mut remote = remote.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut stdout = BufReader::new(remote.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    kill(Pid::from_raw(remote.id() as i32), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let output = remote.wait_with_output().unwrap();
    assert_eq!((output.status.code(), rest.as_str()), (Some(8), ""));
    assert!(text(&output.stderr).contains("signal 2"), "{}", text(&output.stderr));
    assert_group_is_gone(first.trim().parse().unwrap());
}

/// The shell was the leader of the command's process group.
fn assert_group_is_gone(group: i32) {
    let members = || nix::sys::signal::killpg(Pid::from_raw(group), None).is_ok();
    for _ in 0..500 {
        if !members() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    unreachable!("process group {group} is still there");
}

#[test]
fn cancelling_twice_kills_what_ignores_the_first() {
    let server = Server::on_socket();
    let mut client = server.client();
    let (ready, mut cancels) = (std::cell::Cell::new(false), 0);
    let argv = ["shell", "sh", "-c", "trap '' INT; echo ready; while true; do sleep 0.1; done"];
    let wish = || {
        if ready.get() && cancels < 2 {
            cancels += 1;
            return Wish::Cancel;
        }
        Wish::Continue
    };
    assert_eq!(client.run_watched(&argv, |_, _| ready.set(true), wish).unwrap(), Exit::Signal(9));
}

#[test]
fn a_client_that_vanishes_takes_its_command_with_it() {
    let server = Server::on_socket();
    let mut client = server.client();
    let group = std::cell::RefCell::new(String::new());
    let wish = || if group.borrow().ends_with('\n') { Wish::GiveUp } else { Wish::Continue };
    let output = |_, bytes: &[u8]| group.borrow_mut().push_str(&text(bytes));
    let result = client.run_watched(&["shell", "sh", "-c", "echo $$; sleep 1000"], output, wish);
    assert!(matches!(result, Err(ClientError::GivenUp)));
    drop(client);
    assert_group_is_gone(group.borrow().trim().parse().unwrap());
    assert_eq!(server.remote(&["--version"]).status.code(), Some(0));
}

#[test]
fn noise_on_the_line_does_no_harm() {
    let server = Server::on_socket();
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.write_all(b"\r\nlogin: root\r\n\xa5TL\x5a\x01\x01\0\0").unwrap();
    let mut client = Client::connect(stream, PATIENCE).unwrap();
    assert_eq!(client.run(&["--version"], |_, _| {}).unwrap(), Exit::Code(0));
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
    let mut serve = tierlift().args(["serve", "--port", &cable.ends[0]]).spawn().unwrap();
    let remote = |words: &[&str]| {
        tierlift().args(["remote", "--timeout", "60", "--port", &cable.ends[1]]).args(words).output().unwrap()
    };
    let output = remote(&["shell", "--", "/bin/sh", "-c", LOTS]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), lots());
    assert_eq!(text(&output.stderr), "done\n");
    let every_byte = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i+1)); done";
    let output = remote(&["shell", "sh", "-c", every_byte]);
    assert_eq!(output.stdout, (0..=255).collect::<Vec<u8>>());
    serve.kill().unwrap();
    serve.wait().unwrap();
}
