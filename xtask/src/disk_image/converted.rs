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

/// Replaces the digits behind `CID=`. QEMU leaves leading zeros out, so the text may grow into the zeros that follow it.
fn put_content_id(descriptor: &mut [u8]) -> anyhow::Result<()> {
    const KEY: &[u8] = b"\nCID=";
    let find = |bytes: &[u8], wanted: u8| bytes.iter().position(|byte| *byte == wanted);
    let at = descriptor.windows(KEY.len()).position(|window| window == KEY).context("no content id in the VMDK")?;
    let text = &mut descriptor[at + KEY.len()..];
    let digits = find(text, b'\n').context("the VMDK's content id has no end")?;
    let end = find(text, 0).context("the VMDK's descriptor has no end")?;
    let grown = end + CONTENT_ID.len().saturating_sub(digits);
    let room = text.get(end..grown).is_some_and(|room| room.iter().all(|byte| *byte == 0));
    ensure!(digits <= CONTENT_ID.len() && digits < end && room, "the VMDK's content id cannot be replaced");
    text.copy_within(digits..end, CONTENT_ID.len());
    text[..CONTENT_ID.len()].copy_from_slice(CONTENT_ID);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::put_content_id;

    #[test]
    fn only_the_content_id_changes() {
        for digits in ["0123abcd", "1", "fedcba9"] {
            let mut text = format!("version=1\nCID={digits}\nparentCID=ffffffff\n").into_bytes();
            text.resize(64, 0);
            put_content_id(&mut text).unwrap();
            assert!(text.starts_with(b"version=1\nCID=26010100\nparentCID=ffffffff\n\0"));
            assert!(text.len() == 64 && text.ends_with(&[0; 16]));
        }
        assert!(put_content_id(&mut b"nothing".to_vec()).is_err());
        assert!(put_content_id(&mut b"\nCID=1\nfull".to_vec()).is_err());
    }
}
