//! Switching off while files are copied: the target is left in order, and the same command goes on afterwards.

mod common;

use common::files::{attached, ext4, volume};
use common::{monitor, wait_for};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use tierlift_forge::Forged;
use tierlift_tests::{Machine, Settings};

struct Recovery {
    folder: TempDir,
    forged: Forged,
    hashes: Vec<String>,
    target: PathBuf,
}

impl Recovery {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (forged, hashes) = volume(folder.path(), |_| ());
        let target = ext4(&folder.path().join("target.img"), 96);
        Self { folder, forged, hashes, target }
    }

    fn settings(&self) -> Settings {
        attached(&self.forged).writable(&self.target)
    }

    fn device(&self) -> String {
        format!("/dev/vd{}", char::from(b'a' + self.forged.disks.len() as u8))
    }

    /// A machine in which a copy is on its way.
    fn copying(&self, settings: &Settings) -> Machine {
        let mut machine = settings.boot().unwrap();
        machine.run(&["job", "start", "copy", "md1/volume", &self.device()]).unwrap().success().unwrap();
        machine.shell("while [ -z \"$(ls /mnt/target/.tierlift-parts 2>/dev/null)\" ]; do :; done").unwrap();
        machine
    }

    /// The target is in order, and the same command ends the copy.
    fn goes_on(&self) {
        let said = Command::new("dumpe2fs").arg("-h").arg(&self.target).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("Filesystem state:         clean") && !said.contains("needs_recovery"), "{said}");
        let check = Command::new("e2fsck").args(["-f", "-n"]).arg(&self.target).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        let mut machine = self.settings().boot().unwrap();
        machine.run(&["copy", "md1/volume", &self.device()]).unwrap().success().unwrap();
        // As after another restart: the case that is on the target goes on.
        machine.shell("rm /run/tierlift/case.json").unwrap().success().unwrap();
        machine.run(&["copy", "md1/volume", &self.device()]).unwrap().success().unwrap();
        let look = "mount -o ro DEVICE /mnt; grep -c 'copied md1/volume\\|went on after' /mnt/tierlift-case/case.json; umount /mnt";
        let events = machine.shell(&look.replace("DEVICE", &self.device())).unwrap().success().unwrap();
        assert_eq!(events.trim(), "3", "both copies, and that the second went on");
        let list = format!("mount -o ro {} /mnt && cd /mnt/photos && sha256sum *; cd /; umount /mnt", self.device());
        let list = machine.shell(&list).unwrap().success().unwrap();
        for (number, hash) in self.hashes.iter().enumerate() {
            assert!(list.contains(&format!("{hash}  {number}\n")), "file {number} in {list}");
        }
        assert_eq!(list.lines().count(), self.hashes.len(), "{list}");
        machine.finish().unwrap();
    }
}

#[test]
fn a_person_switches_off() {
    let recovery = Recovery::new();
    let machine = recovery.copying(&recovery.settings());
    let mut console = UnixStream::connect(machine.console_socket()).unwrap();
    console.write_all(b"poweroff\r").unwrap();
    wait_for(&mut console, "Type yes: ");
    console.write_all(b"yes\r").unwrap();
    machine.off().unwrap();
    recovery.goes_on();
}

#[test]
fn the_power_button() {
    let recovery = Recovery::new();
    let socket = recovery.folder.path().join("monitor");
    let listen = format!("unix:{},server=on,wait=off", socket.display());
    let machine = recovery.copying(&recovery.settings().with(&["-monitor", &listen]));
    monitor(&socket, "system_powerdown");
    machine.off().unwrap();
    recovery.goes_on();
}

/// The kernel itself asks for it, as it does when Hyper-V does.
#[test]
fn the_kernel_switches_off() {
    let recovery = Recovery::new();
    let mut machine = recovery.copying(&recovery.settings());
    // With the environment the kernel gives to it.
    let line = "env -i HOME=/ PATH=/sbin:/bin:/usr/sbin:/usr/bin $(cat /proc/sys/kernel/poweroff_cmd) &";
    machine.shell(line).unwrap();
    machine.off().unwrap();
    recovery.goes_on();
}
