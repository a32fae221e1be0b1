//! What a machine boots from: a kernel given to QEMU, or a medium that firmware reads.

use std::path::{Path, PathBuf};
use std::process::Command;

/// UEFI for QEMU, from Debian's package `ovmf`.
const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

/// What is in the machine before any disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF without Secure Boot.
    Uefi,
}

/// How the boot medium is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// A virtio disk of its own.
    Virtio,
    /// The PIIX IDE controller of an old PC, as in generation 1 of Hyper-V.
    Ide,
    /// SATA by AHCI.
    Ahci,
    /// A stick on an xHCI USB controller.
    Usb,
    /// A SCSI disk on a virtio controller.
    Scsi,
    /// An NVMe drive.
    Nvme,
    /// A CD on AHCI.
    Cd,
}

/// A boot medium: QEMU keeps what the guest writes to it in a file of its own and drops it.
#[derive(Debug, Clone)]
pub struct Medium {
    path: PathBuf,
    format: &'static str,
    firmware: Firmware,
    port: Port,
}

impl Medium {
    /// An image in one of QEMU's formats (`raw`, `vpc`, `vhdx`, `vmdk`, `qcow2`).
    #[must_use]
    pub fn new(path: &Path, format: &'static str, firmware: Firmware, port: Port) -> Self {
        Self { path: path.to_path_buf(), format, firmware, port }
    }

    /// The machine this medium needs.
    pub(crate) fn machine(&self) -> &'static str {
        if self.port == Port::Ide { "pc" } else { "q35" }
    }

    pub(crate) fn attach(&self, qemu: &mut Command) {
        if self.firmware == Firmware::Uefi {
            qemu.args(["-bios", UEFI]);
        }
        let path = self.path.display().to_string().replace(',', ",,");
        qemu.arg("-drive").arg(format!("file={path},if=none,id=boot,format={},snapshot=on", self.format));
        let devices: &[&str] = match self.port {
            Port::Virtio => &["virtio-blk-pci"],
            // The first controller of either machine: PIIX there, AHCI here.
            Port::Ide | Port::Ahci => &["ide-hd,bus=ide.0"],
            Port::Usb => &["qemu-xhci", "usb-storage"],
            Port::Scsi => &["virtio-scsi-pci", "scsi-hd"],
            Port::Nvme => &["nvme,serial=boot"],
            Port::Cd => &["ide-cd,bus=ide.0"],
        };
        if let Some((disk, controllers)) = devices.split_last() {
            for controller in controllers {
                qemu.args(["-device", controller]);
            }
            qemu.arg("-device").arg(format!("{disk},drive=boot,bootindex=0"));
        }
    }
}
