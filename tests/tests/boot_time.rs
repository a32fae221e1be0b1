//! What the appliance itself adds to a boot, beside the same kernel with a first program that only ends the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tierlift_tests::{Image, Settings, processor_time};

/// The appliance may take so many times what the kernel alone takes.
const LIMIT: f64 = 3.0;

/// A program of one instruction after some loads: `reboot`, which ends QEMU. A header, one segment, the code.
fn first_program() -> Vec<u8> {
    /// Where the program lies in memory, and where its code begins there.
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let code: [u8; 22] = [
        0xb8, 169, 0, 0, 0, // the call's number: reboot
        0xbf, 0xad, 0xde, 0xe1, 0xfe, 0xbe, 0x69, 0x19, 0x12, 0x28, // its two magic numbers
        0xba, 0x67, 0x45, 0x23, 0x01, // restart
        0x0f, 0x05,
    ];
    let size = HEADERS + code.len() as u64;
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    [BASE + HEADERS, 64, 0].iter().for_each(|number: &u64| program.extend(number.to_le_bytes()));
    program.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    [0, BASE, BASE, size, size, 0x1000].iter().for_each(|number: &u64| program.extend(number.to_le_bytes()));
    program.extend(code);
    program
}

/// A cpio archive with this program as `init`.
fn archive(program: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, mode, content) in [("init", 0o100_755, program), ("TRAILER!!!", 0, &[])] {
        let numbers = [0, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        archive.extend(b"070701");
        numbers.iter().for_each(|number| archive.extend(format!("{number:08x}").bytes()));
        for part in [[name.as_bytes(), b"\0"].concat().as_slice(), content] {
            archive.extend(part);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
    }
    archive
}

/// Seconds of processor time that QEMU takes to boot and end.
fn kernel_alone(image: &Image, folder: &Path) -> f64 {
    let initramfs: PathBuf = folder.join("initramfs.cpio");
    fs::write(&initramfs, archive(&first_program())).unwrap();
    let mut qemu: Command = Settings::new(&Image { kernel: image.kernel.clone(), initramfs }).command();
    let log = folder.join("console.log");
    qemu.args(["-serial", &format!("file:{}", log.display())]).stdin(Stdio::null());
    let mut child = qemu.spawn().unwrap();
    let mut last = 0.0;
    while child.try_wait().unwrap().is_none() {
        last = processor_time(child.id()).unwrap_or(last);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let said = fs::read_to_string(log).unwrap();
    assert!(!said.contains("panic"), "{said}");
    last
}

#[test]
fn the_appliance_adds_little_to_the_kernels_own_boot() {
    let folder = tempfile::TempDir::new().unwrap();
    let image = Image::from_environment().unwrap();
    let alone = kernel_alone(&image, folder.path());
    let machine = Settings::new(&image).boot().unwrap();
    let whole = machine.processor_time().unwrap();
    println!("boot: {whole:.2} s of processor time, the kernel alone {alone:.2} s: {:.2} times", whole / alone);
    assert!(alone > 0.5, "the kernel alone cannot have booted in {alone} s");
    assert!(whole / alone <= LIMIT, "{whole} s, the kernel alone {alone} s");
}
