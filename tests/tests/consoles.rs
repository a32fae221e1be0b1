//! The lines of the appliance: two serial ports, one for both people and programs, a virtio console, others by the kernel's
//! command line, and the screen.

mod common;

use common::{Loose, monitor, wait_for};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tempfile::TempDir;
use tierlift_protocol::{Client, Exit};
use tierlift_tests::{Image, Machine, Ports, Settings};

const PROMPT: &str = "tierlift> ";
const LIMIT: Duration = Duration::from_secs(120);

fn pool() -> Loose {
    Loose::unpack("F1-plain-ext4")
}

fn settings(pool: &Loose) -> Settings {
    pool.attach(Settings::new(&Image::from_environment().unwrap()))
}

/// A program scans, and sees the disks.
fn scans(machine: &mut Machine) {
    let said = machine.run(&["scan"]).unwrap();
    assert!(said.stdout.contains("/dev/vda"), "{}{}", said.stdout, said.stderr);
}

#[test]
fn a_person_and_a_program_share_one_line() {
    let pool = pool();
    let machine = settings(&pool).boot().unwrap();
    let mut line = UnixStream::connect(machine.console_socket()).unwrap();
    line.write_all(b"help sc").unwrap();
    wait_for(&mut line, "help sc");
    for _ in 0..2 {
        let mut program = Client::connect(line.try_clone().unwrap(), LIMIT).unwrap();
        let said = program.output(&["scan"], LIMIT).unwrap();
        assert!(matches!(said.exit, Exit::Code(_)) && String::from_utf8_lossy(&said.stdout).contains("/dev/vda"));
        drop(program);
        wait_for(&mut line, &format!("(a program used this line)\r\n{PROMPT}help sc"));
    }
    line.write_all(b"an\r").unwrap();
    let help = wait_for(&mut line, PROMPT);
    assert!(help.contains("Usage: tierlift scan"), "{help}");
    machine.finish().unwrap();
}

#[test]
fn one_port_is_enough() {
    let pool = pool();
    let mut machine = settings(&pool).ports(Ports::One).boot().unwrap();
    scans(&mut machine);
    // The prompt comes back, and the next command finds the way again.
    machine.shell("sleep 1").unwrap().success().unwrap();
    std::thread::sleep(Duration::from_secs(12));
    scans(&mut machine);
    assert!(machine.console().contains("(a program used this line)"), "{}", machine.console());
    machine.finish().unwrap();
}

#[test]
fn programs_use_a_virtio_console() {
    let pool = pool();
    let mut machine = settings(&pool).ports(Ports::Virtio).boot().unwrap();
    scans(&mut machine);
    let who = machine
        .shell("tr '\\0' ' ' < /proc/$(pidof -s tierlift | head -n 1)/cmdline; ps | grep 'serve --port'")
        .unwrap();
    assert!(who.stdout.contains("serve --port /dev/hvc0:115200"), "{}", who.stdout);
    machine.finish().unwrap();
}

#[test]
fn other_ports_by_the_kernels_command_line() {
    let pool = pool();
    let settings = settings(&pool).ports(Ports::Swapped).option("tierlift.console=ttyS1,57600 tierlift.program=ttyS0");
    let mut machine = settings.boot().unwrap();
    scans(&mut machine);
    let speed = machine.shell("stty -F /dev/ttyS1 speed").unwrap().success().unwrap();
    assert_eq!(speed.trim(), "57600");
    machine.finish().unwrap();
}

/// A port that is not there is no reason to be mute.
#[test]
fn a_port_that_is_not_there() {
    let pool = pool();
    let settings = settings(&pool).option("tierlift.console=ttyS3 tierlift.program=/dev/nothing");
    let mut machine = settings.boot().unwrap();
    scans(&mut machine);
    machine.finish().unwrap();
}

#[test]
fn the_screen_has_a_prompt() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("monitor");
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    let pool = pool();
    let mut machine = settings(&pool).with(&["-device", "VGA", "-monitor", &listen]).boot().unwrap();
    let mut screen = |wanted: &str| {
        let look =
            format!("for i in $(seq 50); do grep -q '{wanted}' /dev/vcs1 && break; usleep 200000; done; cat /dev/vcs1");
        let said = machine.shell(&look).unwrap().stdout;
        assert!(said.contains(wanted), "{wanted} is not on the screen: {said}");
    };
    screen("first serial port (ttyS0");
    monitor(&socket, "sendkey ret");
    screen(PROMPT);
    for key in ["h", "e", "l", "p", "ret"] {
        monitor(&socket, &format!("sendkey {key}"));
    }
    screen("poweroff");
    machine.finish().unwrap();
}
