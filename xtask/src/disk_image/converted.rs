//! VMDK and qcow2: written by `qemu-img`, with what it draws at random replaced.

use crate::process;
use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Content id of every VMDK: QEMU draws one at random.
const CONTENT_ID: &[u8] = b"26010100";

/// A qcow2 with compressed clusters.
pub fn qcow2(raw: &Path, output: &Path) -> anyhow::Result<()> {
    // One worker: with several the order of the clusters would be that of chance.
    convert(raw, output, &["-m", "1", "-c", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"])
}

/// A VMDK for virtual machines that write to it: VMware Workstation, VirtualBox.
pub fn vmdk(raw: &Path, output: &Path) -> anyhow::Result<()> {
    convert(raw, output, &["-m", "1", "-O", "vmdk", "-o", "subformat=monolithicSparse,adapter_type=lsilogic"])?;
    fix_content_id(output)
}

/// A VMDK for transport inside an OVA.
pub fn stream_vmdk(raw: &Path, output: &Path) -> anyhow::Result<()> {
    convert(raw, output, &["-m", "1", "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic"])?;
    fix_content_id(output)
}

fn convert(raw: &Path, output: &Path, options: &[&str]) -> anyhow::Result<()> {
    process::output(Command::new("qemu-img").args(["convert", "-f", "raw"]).args(options).args([raw, output]))?;
    Ok(())
}

fn fix_content_id(path: &Path) -> anyhow::Result<()> {
    let mut bytes = fs::read(path)?;
    let descriptor = bytes.len().min(64 << 10);
    put_content_id(&mut bytes[..descriptor]).with_context(|| path.display().to_string())?;
    fs::write(path, bytes)?;
    Ok(())
}

/// Replaces the eight digits behind `CID=`, which may be fewer: the line keeps its length.
fn put_content_id(descriptor: &mut [u8]) -> anyhow::Result<()> {
    const KEY: &[u8] = b"\nCID=";
    let at = descriptor.windows(KEY.len()).position(|window| window == KEY).context("no content id in the VMDK")?;
    let digits = &mut descriptor[at + KEY.len()..];
    let length = digits.iter().position(|byte| *byte == b'\n').context("the VMDK's content id has no end")?;
    ensure!(length == CONTENT_ID.len(), "the VMDK's content id has {length} digits; 8 expected");
    digits[..length].copy_from_slice(CONTENT_ID);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::put_content_id;

    #[test]
    fn only_the_content_id_changes() {
        let mut text = b"version=1\nCID=0123abcd\nparentCID=ffffffff\n".to_vec();
        put_content_id(&mut text).unwrap();
        assert_eq!(text, b"version=1\nCID=26010100\nparentCID=ffffffff\n");
        assert!(put_content_id(&mut b"nothing".to_vec()).is_err());
    }
}
