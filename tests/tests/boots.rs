//! Everything `cargo xtask image --all` builds starts the appliance, on the machines people have.

mod common;

use common::Whole;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tierlift_forge::{ForgeOptions, Mirror};
use tierlift_tests::{Firmware, Image, Machine, Medium, Port, Settings};

/// What the scan says about the disk the appliance was booted from.
const LEFT_ALONE: &str = "boot disk of the appliance, left alone";

fn built(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("TIERLIFT_IMAGE").unwrap()).join(name)
}

fn settings() -> Settings {
    Settings::new(&Image::from_environment().unwrap())
}

fn pool() -> Whole {
    Whole::forge("F1-plain-ext4", &ForgeOptions { mirror: Mirror::Half, ..ForgeOptions::default() })
}

fn boot(settings: Settings, name: &str) -> Machine {
    let machine = settings.boot().unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("boot: {name}: {:.1} s", machine.boot_time().as_secs_f64());
    machine
}

/// The pool's disk is seen; the boot disk, where there is one, is known and not looked into.
fn assert_scan(machine: &mut Machine, boot_disk: bool) {
    let said = machine.run(&["scan"]).unwrap().stdout;
    assert!(said.contains("tp1"), "{said}");
    assert_eq!(said.matches(LEFT_ALONE).count(), usize::from(boot_disk), "{said}");
}

/// From scan to the hash of every file.
fn assert_files(machine: &mut Machine, whole: &Whole) {
    let volume = whole.volume(1);
    machine.run(&["mount", &volume, "/mnt/volume"]).unwrap().success().unwrap();
    let list = machine.shell("cd /mnt/volume && find . -type f -exec sha256sum {} +").unwrap().success().unwrap();
    let found: BTreeMap<&str, &str> = list.lines().map(|line| (&line[66..], &line[..64])).collect();
    let expected = &whole.fixture.files["final"];
    assert!(!expected.is_empty());
    for file in expected {
        assert_eq!(found.get(file.path.as_str()), Some(&file.sha256.as_str()), "{}", file.path);
    }
    machine.run(&["deactivate", "--all", "--unmount"]).unwrap().success().unwrap();
}

/// Boots from a medium, scans, and with `files` goes all the way.
fn from_medium((name, format): (&str, &'static str), firmware: Firmware, port: Port, files: bool) {
    let whole = pool();
    let medium = Medium::new(&built(name), format, firmware, port);
    let mut machine = boot(whole.attach(settings()).medium(medium), &format!("{name} by {firmware:?} on {port:?}"));
    if port == Port::Usb {
        // A stick comes up some time after the appliance is ready.
        let wait = "n=0; while [ ! -e /dev/sda ] && [ $n -lt 150 ]; do sleep 0.2; n=$((n+1)); done";
        machine.shell(wait).unwrap().success().unwrap();
    }
    assert_scan(&mut machine, port != Port::Cd);
    assert!(name == "tierlift.iso" || machine.console().contains("1 disk is attached"), "{}", machine.console());
    if files {
        assert_files(&mut machine, &whole);
    }
    machine.finish().unwrap();
}

const RAW: (&str, &str) = ("tierlift.raw", "raw");
const VHD: (&str, &str) = ("tierlift.vhd", "vpc");
const VHDX: (&str, &str) = ("tierlift.vhdx", "vhdx");
const ISO: (&str, &str) = ("tierlift.iso", "raw");

/// Hyper-V's enlightenments are asked for. Under emulation QEMU takes the words and shows the guest none of them, so here they
/// only prove to do no harm.
#[test]
fn direct_kernel_with_little_memory() {
    let whole = pool();
    let settings =
        whole.attach(settings()).memory(256).processor("max,hv_relaxed,hv_vapic,hv_time,hv_spinlocks=0x1fff");
    let mut machine = boot(settings, "direct kernel, 256 MiB");
    assert_scan(&mut machine, false);
    assert_files(&mut machine, &whole);
    machine.finish().unwrap();
}

#[test]
fn bios_raw_by_virtio() {
    from_medium(RAW, Firmware::Bios, Port::Virtio, true);
}

#[test]
fn bios_vhd_by_ide() {
    from_medium(VHD, Firmware::Bios, Port::Ide, false);
}

#[test]
fn bios_raw_by_ahci() {
    from_medium(RAW, Firmware::Bios, Port::Ahci, false);
}

#[test]
fn bios_raw_by_usb() {
    from_medium(RAW, Firmware::Bios, Port::Usb, false);
}

#[test]
fn uefi_vhdx_by_scsi() {
    from_medium(VHDX, Firmware::Uefi, Port::Scsi, true);
}

#[test]
fn uefi_vhdx_by_nvme() {
    from_medium(VHDX, Firmware::Uefi, Port::Nvme, false);
}

#[test]
fn bios_iso_on_cd() {
    from_medium(ISO, Firmware::Bios, Port::Cd, true);
}

#[test]
fn uefi_iso_on_cd() {
    from_medium(ISO, Firmware::Uefi, Port::Cd, false);
}

#[test]
fn bios_iso_on_a_stick() {
    from_medium(ISO, Firmware::Bios, Port::Usb, false);
}

#[test]
fn uefi_iso_on_a_stick() {
    from_medium(ISO, Firmware::Uefi, Port::Usb, false);
}

/// 256 MiB are enough on the way through firmware and boot loader too, and the boot disk is never written on.
#[test]
fn little_memory_and_a_boot_disk_that_is_no_target() {
    let whole = pool();
    let medium = Medium::new(&built("tierlift.raw"), "raw", Firmware::Bios, Port::Virtio);
    let mut machine = boot(whole.attach(settings()).medium(medium).memory(256), "raw, 256 MiB");
    let volume = whole.volume(1);
    for target in ["/dev/vdb", "/dev/vdb2"] {
        let refused = machine.run(&["copy", &volume, target]).unwrap();
        assert_eq!(refused.code, 8, "{}{}", refused.stdout, refused.stderr);
        assert!(refused.stderr.contains("appliance"), "{}", refused.stderr);
    }
    let refused = machine.run(&["activate", &volume, "--scratch", "/dev/vdb", "--force-scratch", "x"]).unwrap();
    assert!(refused.code == 8 && refused.stderr.contains("boot disk of the appliance"), "{}", refused.stderr);
    machine.finish().unwrap();
}

#[test]
fn the_compressed_image_is_small() {
    let compressed = zstd::encode_all(fs::File::open(built("tierlift.raw")).unwrap(), 3).unwrap();
    println!(
        "image: {} bytes raw, compressed {}",
        fs::metadata(built("tierlift.raw")).unwrap().len(),
        compressed.len()
    );
    assert!(compressed.len() <= 40 << 20);
    for name in ["tierlift.iso", "tierlift.ova", "tierlift.qcow2"] {
        assert!(fs::metadata(built(name)).unwrap().len() <= 40 << 20, "{name}");
    }
}

/// Runs a program in the folder of the images; it must end well.
fn run(line: &str) {
    let status = Command::new("sh").args(["-e", "-c", line]).current_dir(built("")).status().unwrap();
    assert!(status.success(), "{line}");
}

#[test]
fn every_format_holds_the_same_disk() {
    for (format, name) in
        [("vpc", "tierlift.vhd"), ("vhdx", "tierlift.vhdx"), ("vmdk", "tierlift.vmdk"), ("qcow2", "tierlift.qcow2")]
    {
        run(&format!("qemu-img compare -q -f raw -F {format} tierlift.raw {name}"));
        // The comparison takes a longer disk for the same when zeros follow.
        let size = fs::metadata(built("tierlift.raw")).unwrap().len();
        run(&format!("qemu-img info -f {format} --output=json {name} | grep -q '\"virtual-size\": {size},'"));
    }
    run("qemu-img check -q tierlift.vhdx && qemu-img check -q tierlift.qcow2 && qemu-img check -q tierlift.vmdk");
    run("sha256sum --quiet --check SHA256SUMS");
}

/// The parts of the OVA have the sums its manifest says, and its disk is the same as all others.
#[test]
fn the_ova_is_whole() {
    let folder = tempfile::TempDir::new().unwrap();
    let inside = folder.path().display();
    run(&format!("tar -xf tierlift.ova -C {inside}"));
    run(&format!("qemu-img compare -q -f raw -F vmdk tierlift.raw {inside}/tierlift-disk1.vmdk"));
    run(&format!("cd {inside} && sed -E 's/SHA256\\((.*)\\)= (.*)/\\2  \\1/' tierlift.mf | sha256sum --quiet --check"));
    run(&format!("tar -tf tierlift.ova | head -n1 | grep -qx tierlift.ovf && test -s {inside}/tierlift.mf"));
}
