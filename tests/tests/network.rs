//! Files out through the network: to a share, to another machine by rsync over SSH, and fetched by SFTP.

mod common;

use common::{Whole, sha256};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use tierlift_forge::{ForgeOptions, Mirror};
use tierlift_tests::{Image, Machine, Settings};

const VOLUME: &str = "vg1/lv1";

fn forged() -> Whole {
    Whole::forge("F1-plain-ext4", &ForgeOptions { mirror: Mirror::Half, compact: true, ..ForgeOptions::default() })
}

fn settings(whole: &Whole) -> Settings {
    whole.attach(Settings::new(&Image::from_environment().unwrap()))
}

/// Every file of the truth lies below the folder, byte by byte.
fn assert_files(whole: &Whole, folder: &Path) {
    for file in &whole.fixture.files["final"] {
        let bytes = fs::read(folder.join(&file.path)).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        assert_eq!(sha256(&bytes), file.sha256, "{}", file.path);
    }
}

#[test]
fn to_a_shared_folder_of_another_machine() {
    let whole = forged();
    let share = TempDir::new().unwrap();
    // The server writes as a user of its own.
    fs::set_permissions(share.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = format!("user,id=net0,smb={}", share.path().display());
    let mut machine = settings(&whole).with(&["-netdev", &user, "-device", "e1000,netdev=net0"]).boot().unwrap();
    let before = machine.run(&["network"]).unwrap().success().unwrap();
    assert!(before.contains("eth0  off"), "{before}");
    let listening = machine.shell("netstat -ltn | grep -c LISTEN").unwrap();
    assert_eq!(listening.stdout.trim(), "0", "something listens before it was asked for");
    let no_network = machine.run(&["network", "mount", "//10.0.2.4/qemu"]).unwrap();
    assert!(no_network.code == 8 && no_network.stderr.contains("does not answer"), "{no_network:?}");
    machine.run(&["network", "up"]).unwrap().success().unwrap();
    let missing = machine.run(&["network", "mount", "//10.0.2.4/nothing"]).unwrap();
    assert!(missing.code == 8 && missing.stderr.contains("no share or folder"), "{missing:?}");
    machine.run(&["network", "mount", "//10.0.2.4/qemu"]).unwrap().success().unwrap();
    let said = machine.run(&["copy", VOLUME, "/mnt/network/nas"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let again = machine.run(&["copy", VOLUME, "/mnt/network/nas"]).unwrap().success().unwrap();
    assert!(again.contains(" 0 files copied"), "{again}");
    let auto = machine.run(&["auto", "--yes", "--target", "/mnt/network/all"]).unwrap();
    assert_eq!(auto.code, 0, "{auto:?}");
    machine.run(&["network", "unmount"]).unwrap().success().unwrap();
    assert_files(&whole, &share.path().join("nas"));
    assert_files(&whole, &share.path().join("all/vg1-lv1"));
    machine.finish().unwrap();
}

/// A port of this machine that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// OpenSSH's client with a password.
fn sftp(folder: &Path, port: u16, password: &str, batch: &str) -> Output {
    let (ask, commands) = (folder.join("ask"), folder.join("batch"));
    fs::write(&ask, format!("#!/bin/sh\necho '{password}'\n")).unwrap();
    fs::set_permissions(&ask, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&commands, batch).unwrap();
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=no", "ConnectTimeout=30"];
    let mut command = Command::new("sftp");
    for option in options {
        command.args(["-o", option]);
    }
    command.args(["-P", &port.to_string(), "-b"]).arg(&commands).arg("recovery@127.0.0.1");
    command.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force").current_dir(folder);
    command.output().expect("sftp (openssh-client)")
}

#[test]
fn fetched_by_sftp_and_never_written() {
    let whole = forged();
    let port = free_port();
    let user = format!("user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22");
    let mut machine =
        settings(&whole).with(&["-netdev", &user, "-device", "virtio-net-pci,netdev=net0"]).boot().unwrap();
    let early = machine.run(&["share", "start"]).unwrap();
    assert!(early.code == 8 && early.stderr.contains("network up"), "{early:?}");
    machine.run(&["network", "up", "--address", "10.0.2.15/24", "--gateway", "10.0.2.2"]).unwrap().success().unwrap();
    machine.run(&["mount", VOLUME, "/mnt/volume"]).unwrap().success().unwrap();
    let started = machine.run(&["share", "start", "--json"]).unwrap().success().unwrap();
    let access: serde_json::Value = serde_json::from_str(&started).unwrap();
    let password = access["password"].as_str().unwrap().to_owned();
    assert!(password.len() == 14 && access["fingerprint"].as_str().unwrap().starts_with("SHA256:"), "{started}");
    let folder = TempDir::new().unwrap();
    let wrong = sftp(folder.path(), port, "wrong", "ls /mnt\n");
    assert!(!wrong.status.success(), "a wrong password was let in");
    let got = sftp(folder.path(), port, &password, "get -r /mnt/volume got\n");
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert_files(&whole, &folder.path().join("got"));
    let put = sftp(folder.path(), port, &password, "put ask /tmp/ask\n");
    assert!(!put.status.success(), "a file was written");
    assert!(machine.shell("ls /tmp/ask").unwrap().code != 0, "a file was written");
    machine.run(&["share", "stop"]).unwrap().success().unwrap();
    let after = sftp(folder.path(), port, &password, "ls /mnt\n");
    assert!(!after.status.success(), "somebody was let in after the end");
    machine.finish().unwrap();
}

/// The other machine is a second appliance with an SSH server of its own.
fn other_machine(net: &str) -> Machine {
    let settings = Settings::new(&Image::from_environment().unwrap());
    let mut machine = settings.with(&["-netdev", net, "-device", "virtio-net-pci,netdev=net0"]).boot().unwrap();
    machine.run(&["network", "up", "--address", "10.9.9.2/24"]).unwrap().success().unwrap();
    let server = "mkdir -p /etc/dropbear /tmp/backup && \
                  echo \"root:$(echo 'its password' | mkpasswd -m sha512):19000::::::\" > /etc/shadow && dropbear -R -p 22";
    machine.shell(server).unwrap().success().unwrap();
    machine
}

#[test]
fn to_another_machine_by_rsync() {
    let whole = forged();
    let folder = TempDir::new().unwrap();
    let wire = folder.path().join("wire");
    let net = |server| format!("stream,id=net0,server={server},addr.type=unix,addr.path={}", wire.display());
    let mut other = other_machine(&net("on"));
    let mut machine =
        settings(&whole).with(&["-netdev", &net("off"), "-device", "virtio-net-pci,netdev=net0"]).boot().unwrap();
    machine.run(&["network", "up", "--address", "10.9.9.1/24"]).unwrap().success().unwrap();
    let target = "root@10.9.9.2:/tmp/backup";
    let wrong = machine.run_with_input(&["copy", VOLUME, target], "wrong\n").unwrap();
    assert!(wrong.code == 8 && wrong.stderr.contains("does not let us in"), "{wrong:?}");
    let said = machine.run_with_input(&["copy", VOLUME, target], "its password\n").unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    for file in &whole.fixture.files["final"] {
        let hash = other.shell(&format!("sha256sum '/tmp/backup/{}'", file.path)).unwrap().success().unwrap();
        assert!(hash.starts_with(&file.sha256), "{}: {hash}", file.path);
    }
    let again = machine.run_with_input(&["copy", VOLUME, target], "its password\n").unwrap().success().unwrap();
    assert!(again.contains(" 0 files copied"), "{again}");
    let nobody = machine.run_with_input(&["copy", VOLUME, "root@10.9.9.77:/tmp"], "x\n").unwrap();
    assert!(nobody.code == 8 && nobody.stderr.contains("does not answer"), "{nobody:?}");
    machine.finish().unwrap();
    other.finish().unwrap();
}

#[test]
fn without_an_adapter() {
    let mut machine = Settings::new(&Image::from_environment().unwrap()).boot().unwrap();
    let up = machine.run(&["network", "up"]).unwrap();
    assert!(up.code == 8 && up.stderr.contains("no network adapter was found"), "{up:?}");
    let shown = machine.run(&["network"]).unwrap().success().unwrap();
    assert!(shown.contains("No network adapter"), "{shown}");
    machine.finish().unwrap();
}

/// A job goes on without the one who started it, and is followed again; small files come through the line as they are.
#[test]
fn jobs_and_small_files() {
    let mut machine = Settings::new(&Image::from_environment().unwrap()).boot().unwrap();
    let started = machine.run(&["job", "start", "shell", "--", "sh", "-c", "echo begun; sleep 3; echo ended; exit 3"]);
    assert_eq!(started.unwrap().success().unwrap(), "job 1\n");
    let list = machine.run(&["job", "list"]).unwrap().success().unwrap();
    assert!(list.contains("runs"), "{list}");
    let said = machine.run(&["job", "follow", "1"]).unwrap();
    assert_eq!((said.code, said.stdout.as_str()), (3, "begun\nended\n"));
    let rest = machine.run(&["job", "follow", "1", "--from", "6"]).unwrap();
    assert_eq!((rest.code, rest.stdout.as_str()), (3, "ended\n"));
    machine.run(&["job", "start", "shell", "--", "sleep", "600"]).unwrap().success().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    machine.run(&["job", "cancel", "2"]).unwrap().success().unwrap();
    assert_ne!(machine.run(&["job", "follow", "2"]).unwrap().code, 0);
    machine.shell("head -c 1048576 /dev/urandom > /tmp/file; head -c 1048577 /dev/zero > /tmp/large").unwrap();
    let hash = machine.shell("sha256sum /tmp/file").unwrap().success().unwrap();
    let bytes = machine.bytes(&["fetch", "/tmp/file"]).unwrap();
    assert!(hash.starts_with(&sha256(&bytes)), "{hash}");
    let large = machine.run(&["fetch", "/tmp/large"]).unwrap();
    assert!(large.code == 8 && large.stderr.contains("1 MiB"), "{large:?}");
    machine.finish().unwrap();
}
