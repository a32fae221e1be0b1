//! The prompt as a person sees it: the real program on a pseudo-terminal.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing)]

mod large_dump;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tierlift_protocol::{Client, Exit, Transport};

/// A broken prompt fails a test instead of hanging it.
const LIMIT: Duration = Duration::from_secs(60);
const PROMPT: &str = "tierlift> ";

/// A person at a terminal.
struct Person {
    /// Closed to hang up.
    terminal: Option<PtyMaster>,
    console: Child,
    /// What was shown and not yet looked at.
    shown: String,
}

impl Person {
    /// Starts the prompt the way init does: as leader of its own session, with the terminal as the controlling one.
    fn at_a_terminal(run_folder: &Path, path: &str) -> Self {
        // Closed on exec: the prompts of other tests must not keep this terminal open.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let device = ptsname_r(&master).unwrap();
        let end = || File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(&device).unwrap();
        let console = Command::new("setsid")
            .args(["--ctty", "--wait", "env", &format!("PATH={path}"), env!("CARGO_BIN_EXE_tierlift")])
            .args(["console", "--run-folder"])
            .arg(run_folder)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self { terminal: Some(master), console, shown: String::new() }
    }

    fn types(&mut self, text: &str) {
        self.terminal.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown; answers with everything before it.
    fn sees(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let before = self.shown[..at].to_owned();
                self.shown.drain(..at + text.len());
                return before;
            }
            assert!(start.elapsed() < LIMIT, "waited for {text:?}, saw {:?}", self.shown);
            self.look();
        }
    }

    /// Starts a verb that is stuck until somebody looks at what it says.
    fn starts_a_dump(&mut self, folder: &tempfile::TempDir) {
        self.types(&large_dump::dump_words(folder.path()).join(" "));
        self.types("\r");
        self.sees("<superblock");
    }

    fn look(&mut self) {
        let terminal = self.terminal.as_mut().unwrap();
        let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100u8)).unwrap() > 0 {
            let mut buffer = [0; 4096];
            let count = terminal.read(&mut buffer).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Types a line and answers with what is shown from there to the next prompt.
    fn asks(&mut self, line: &str) -> String {
        self.types(&format!("{line}\r"));
        self.sees(&format!("{line}\r\n"));
        self.sees(PROMPT)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.terminal = None;
        let _ = self.console.kill();
        self.console.wait().unwrap();
    }
}

fn path() -> String {
    std::env::var("PATH").unwrap()
}

fn person() -> (Person, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Person::at_a_terminal(folder.path(), &path()), folder)
}

#[test]
fn the_welcome_says_what_matters_and_the_marker_comes_once() {
    let (mut person, folder) = person();
    let welcome = person.sees(PROMPT);
    for part in ["QNAP", "attached", "Nothing is written", "help", "TIERLIFT READY\r\n"] {
        assert!(welcome.contains(part), "{part}: {welcome}");
    }
    assert!(welcome.is_ascii() && !welcome.contains('\x1b'));
    assert!(welcome.lines().all(|line| line.len() < 80), "{welcome}");
    drop(person);
    let mut again = Person::at_a_terminal(folder.path(), &path());
    assert!(!again.sees(PROMPT).contains("TIERLIFT READY"));
}

#[test]
fn help_lists_the_verbs_and_explains_one() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    let list = person.asks("help");
    for word in ["scan", "activate", "copy", "shell", "poweroff", "vg288/lv1 /dev/sdc"] {
        assert!(list.contains(word), "{word}: {list}");
    }
    let scan = person.asks("help scan");
    assert!(scan.contains("Usage: tierlift scan") && !scan.contains('\x1b'), "{scan}");
    assert!(person.asks("help nonsense").contains("no command \"nonsense\""));
}

#[test]
fn what_is_no_command_is_told_and_the_prompt_goes_on() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    assert!(person.asks("frobnicate now").contains("There is no command \"frobnicate\""));
    assert!(person.asks("serve --port x").contains("There is no command \"serve\""));
    assert!(person.asks("scan 'a b").contains("the quote ' is not closed"));
    assert!(person.asks("scan --nonsense").contains("(exit code 16: wrong usage)"));
    assert_eq!(person.asks(""), "");
    assert!(person.asks("exit").contains("poweroff"));
}

#[test]
fn quotes_and_editing_reach_the_program_as_meant() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    assert!(person.asks("scan '/no such/a  b'").contains("/no such/a  b cannot be opened"));
    assert!(person.asks("scan \"/no such/c'd\"").contains("/no such/c'd cannot be opened"));
    assert!(person.asks("scan /no\\ such/e").contains("/no such/e cannot be opened"));
    person.types("nonsense\x15scaX\x7fn /no/w\x08there\r");
    person.sees("there\r\n");
    assert!(person.sees(PROMPT).contains("/no/there cannot be opened"));
}

#[test]
fn ctrl_c_asks_and_stops_the_verb_and_not_the_prompt() {
    let (mut person, folder) = person();
    person.sees(PROMPT);
    person.types("half a li\x03");
    person.sees("^C\r\n");
    person.sees(PROMPT);
    person.starts_a_dump(&folder);
    person.types("\x03");
    person.sees("anything else goes on: ");
    person.types("no\r");
    person.sees("Going on.");
    person.sees("</superblock>");
    person.sees(PROMPT);
    person.starts_a_dump(&folder);
    person.types("\x03");
    person.sees("anything else goes on: ");
    person.types("y\r");
    let rest = person.sees(PROMPT);
    assert!(rest.contains("stopped before its end, signal 15") && !rest.contains("</superblock>"), "{rest}");
    // Twice means it.
    person.starts_a_dump(&folder);
    person.types("\x03");
    person.sees("anything else goes on: ");
    person.types("\x03");
    person.sees("stopped before its end, signal 15");
    person.sees(PROMPT);
    assert!(person.asks("scan /no/there").contains("cannot be opened"));
}

#[test]
fn a_shell_is_for_experts_and_for_the_appliance() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    // Its lines are broken where the terminal ends.
    let answer = person.asks("shell").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(answer.contains("for experts") && answer.contains("not the appliance"), "{answer}");
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    person.types("scan /no/one\rscan /no/two\r");
    person.sees("/no/one cannot be opened");
    person.sees("tierlift> scan /no/two\r\n");
    person.sees("/no/two cannot be opened");
}

#[test]
fn hanging_up_ends_the_prompt_and_its_verb() {
    let (mut person, folder) = person();
    person.sees(PROMPT);
    person.starts_a_dump(&folder);
    let id = person.console.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let verb = Path::new("/proc").join(children.trim());
    assert!(!children.is_empty() && verb.exists(), "the dump is stuck on its way to the terminal");
    person.terminal = None;
    assert!(!person.console.wait().unwrap().success());
    let start = Instant::now();
    while verb.exists() {
        assert!(start.elapsed() < LIMIT, "the verb still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn switching_off_is_asked_for_first() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("poweroff");
    std::fs::write(&fake, "#!/bin/sh\necho switched off\n").unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Nothing but this folder: the machine's own poweroff must not be found, whatever happens.
    let mut person = Person::at_a_terminal(folder.path(), folder.path().to_str().unwrap());
    person.sees(PROMPT);
    for answer in ["no", "", "y"] {
        person.types(&format!("poweroff\r{answer}\r"));
        person.sees("Type yes: ");
        person.sees("Not done.\r\n");
        person.sees(PROMPT);
    }
    person.types("poweroff\ryes\r");
    person.sees("switched off\r\n");
}

#[test]
fn without_a_terminal_it_says_so() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tierlift")).arg("console").stdin(std::process::Stdio::null()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(8));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a terminal"));
}

/// The far end of the terminal, for a program.
struct Wire(File);

impl Transport for Wire {
    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> std::io::Result<usize> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap();
        if poll(&mut fds, timeout).unwrap() == 0 { Ok(0) } else { self.0.read(buffer) }
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }
}

impl Person {
    /// A program takes the line.
    fn makes_room(&self) -> Client<Wire> {
        let line = File::from(self.terminal.as_ref().unwrap().as_fd().try_clone_to_owned().unwrap());
        Client::connect(Wire(line), LIMIT).unwrap()
    }
}

#[test]
fn a_program_takes_the_line_and_silence_gives_it_back() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    person.types("help sc");
    person.sees("help sc");
    for _ in 0..2 {
        let mut program = person.makes_room();
        // Every byte comes through, whatever it means to a terminal.
        let refused = program.output(&["\x03\x11\x13\r\n"], LIMIT).unwrap_err().to_string();
        assert!(refused.contains(r"\u{3}\u{11}\u{13}\r\n"), "{refused}");
        let said = program.output(&["--version"], LIMIT).unwrap();
        assert_eq!((said.exit, said.stdout.starts_with(b"tierlift")), (Exit::Code(0), true));
        drop(program);
        person.sees("(a program used this line)\r\n");
        person.sees(&format!("{PROMPT}help sc"));
    }
    person.types("an\r");
    assert!(person.sees(PROMPT).contains("Usage: tierlift scan"));
}

#[test]
fn what_only_begins_like_a_frame_was_typed() {
    let (mut person, _folder) = person();
    person.sees(PROMPT);
    for typed in [&b"\xa5\r"[..], b"\xa5TL\r", b"\xc3\xa5TLZ\r"] {
        person.terminal.as_mut().unwrap().write_all(typed).unwrap();
        person.sees("There is no command");
        person.sees(PROMPT);
    }
}
