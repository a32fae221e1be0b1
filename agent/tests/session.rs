//! The server's driver with real processes: a shell stands in for the agent, so that commands of every manner can be had.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tierlift::console::server::{Runner, Session};
use tierlift_protocol::message::RefusalKind;
use tierlift_protocol::{Client, ClientError, Exit, Output, Wish};

const PATIENCE: Duration = Duration::from_secs(60);

/// A line with a server at its other end, which ends when the line is closed.
fn line() -> (UnixStream, JoinHandle<()>) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let server = thread::spawn(move || {
        let runner = Runner { verbs: vec!["sh".into()], command: shell };
        Session::new(far, &runner).serve().unwrap();
    });
    (near, server)
}

/// The words are `sh` and a script.
fn shell(words: &[String]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").args(&words[1..]);
    command
}

fn client() -> Client<UnixStream> {
    Client::connect(line().0, PATIENCE).unwrap()
}

fn run(script: &str) -> Output {
    client().output(&["sh", script], PATIENCE).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The process group, named after the command itself, goes away.
fn assert_group_is_gone(group: &str) {
    let group = Pid::from_raw(group.trim().parse().unwrap());
    let start = Instant::now();
    while killpg(group, None).is_ok() {
        assert!(start.elapsed() < PATIENCE, "process group {group} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn exit_code_and_both_streams_come_through() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done; echo done >&2; exit 5";
    let output = run(script);
    let lines: String = (0..20_000).map(|i| format!("line {i}\n")).collect();
    assert!(text(&output.stdout) == lines, "the output differs");
    assert_eq!((output.exit, text(&output.stderr)), (Exit::Code(5), "done\n".into()));
}

#[test]
fn bytes_of_every_value_come_through() {
    let output = run("i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i+1)); done");
    assert_eq!(output.stdout, (0..=255).collect::<Vec<u8>>());
}

#[test]
fn one_session_runs_one_command_after_the_other() {
    let mut client = client();
    for code in [0, 1, 8] {
        assert_eq!(client.run(&["sh", &format!("exit {code}")], |_, _| {}).unwrap(), Exit::Code(code));
    }
    let refused = client.run(&["zsh"], |_, _| {});
    assert!(matches!(refused, Err(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::NotAllowed));
    assert_eq!(client.run(&["sh", "exit 3"], |_, _| {}).unwrap(), Exit::Code(3));
}

#[test]
fn a_signal_is_told() {
    assert_eq!(run("kill -9 $$").exit, Exit::Signal(9));
}

#[test]
fn there_is_no_input_to_wait_for() {
    assert_eq!(run("cat; echo end").stdout, b"end\n");
}

#[test]
fn a_process_left_in_the_background_does_not_hold_the_line() {
    let output = run("sleep 1000 & echo $!");
    assert_eq!(output.exit, Exit::Code(0));
    kill(Pid::from_raw(text(&output.stdout).trim().parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_command_that_closes_its_output_is_waited_for() {
    assert_eq!(run("exec >&- 2>&-; sleep 0.3; exit 6").exit, Exit::Code(6));
}

#[test]
fn cancelling_stops_the_command_and_what_it_started() {
    let group = RefCell::new(String::new());
    let asked = Cell::new(false);
    // The inner shell speaks, so that the outer one is past its start, where some shells lose a signal.
    let argv = ["sh", "sh -c 'echo $PPID; exec sleep 1000'; echo never"];
    let output = |_, bytes: &[u8]| group.borrow_mut().push_str(&text(bytes));
    let wish = || if group.borrow().ends_with('\n') && !asked.replace(true) { Wish::Cancel } else { Wish::Continue };
    assert_eq!(client().run_watched(&argv, output, wish).unwrap(), Exit::Signal(2));
    assert_group_is_gone(&group.borrow());
}

#[test]
fn cancelling_twice_kills_what_ignores_the_first() {
    let (ready, cancels) = (Cell::new(false), Cell::new(0));
    let argv = ["sh", "trap '' INT; echo ready; while true; do sleep 0.1; done"];
    let wish = || {
        if ready.get() && cancels.get() < 2 {
            cancels.set(cancels.get() + 1);
            return Wish::Cancel;
        }
        Wish::Continue
    };
    assert_eq!(client().run_watched(&argv, |_, _| ready.set(true), wish).unwrap(), Exit::Signal(9));
}

#[test]
fn giving_up_leaves_nothing_behind() {
    let (near, server) = line();
    let mut client = Client::connect(near, PATIENCE).unwrap();
    let group = RefCell::new(String::new());
    let wish = || if group.borrow().ends_with('\n') { Wish::GiveUp } else { Wish::Continue };
    let output = |_, bytes: &[u8]| group.borrow_mut().push_str(&text(bytes));
    // Hanging up asks politely first; this one does not listen.
    let result = client.run_watched(&["sh", "trap '' TERM; echo $$; while true; do sleep 0.1; done"], output, wish);
    assert!(matches!(result, Err(ClientError::GivenUp)));
    assert_eq!(client.run(&["sh", "exit 4"], |_, _| {}).unwrap(), Exit::Code(4), "in a new session");
    assert_group_is_gone(&group.borrow());
    drop(client);
    server.join().unwrap();
}

#[test]
fn noise_on_the_line_does_no_harm() {
    let (mut near, _server) = line();
    near.write_all(b"\r\nlogin: root\r\n\xa5TL\x5a\x01\x01\0\0").unwrap();
    let mut client = Client::connect(near, PATIENCE).unwrap();
    assert_eq!(client.run(&["sh", "exit 2"], |_, _| {}).unwrap(), Exit::Code(2));
}
