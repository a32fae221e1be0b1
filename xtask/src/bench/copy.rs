//! `cargo xtask bench copy`: copying in the guest against `cp -a`, between the same two disks, in turn.

use crate::{image, paths, process};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tierlift_tests::{Image, Machine, Settings};

/// What is copied: number of files, and the size of each in KiB.
const LOADS: [(&str, usize, usize); 2] = [("48 files of 2 MiB", 48, 2048), ("3,000 files of 8 KiB", 3000, 8)];
/// The least share of `cp`'s speed, SHA-256 and reading back aside.
const LIMIT: f64 = 0.8;

/// Measures each load `runs` times, and fails when a limit is missed.
pub fn run(runs: usize) -> anyhow::Result<()> {
    let built = image::build()?;
    let image = Image { kernel: built.kernel, initramfs: built.initramfs };
    let folder = paths::target().join("bench-copy");
    let mut missed = 0;
    for (name, count, kib) in LOADS {
        let _ = fs::remove_dir_all(&folder);
        let source = source(&folder, count, kib)?;
        let target = disk(&folder.join("target.img"), None)?;
        let mut machine = Settings::new(&image)
            .protected_source(&source, "raw")
            .writable(&target)
            .with(&["-cpu", "max,-erms,-fsrm,-fzrm,-fsrs"])
            .boot()?;
        let (mut ours, mut theirs, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs.max(1) {
            theirs.push(by_cp(&mut machine)?);
            let (milliseconds, verifying) = by_us(&mut machine)?;
            ours.push(milliseconds - verifying);
            whole.push(milliseconds);
        }
        machine.finish()?;
        let (ours, theirs, whole) = (median(ours), median(theirs), median(whole));
        let speed = theirs / ours;
        println!(
            "bench: copy, {name}: {speed:.2}x the speed of cp -a (limit {LIMIT}x); cp {theirs:.0} ms, copy {ours:.0} ms, with \
             verification {whole:.0} ms"
        );
        missed += usize::from(speed < LIMIT);
    }
    let _ = fs::remove_dir_all(&folder);
    anyhow::ensure!(missed == 0, "{missed} limits are missed, see above");
    Ok(())
}

/// A disk with an ext4 file system full of files.
fn source(folder: &Path, count: usize, kib: usize) -> anyhow::Result<PathBuf> {
    let content = folder.join("content");
    fs::create_dir_all(&content)?;
    let mut state = 88_172_645_463_325_252_u64;
    for number in 0..count {
        let mut bytes = Vec::with_capacity(kib << 10);
        while bytes.len() < kib << 10 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        let below = content.join(format!("folder{}", number / 100));
        fs::create_dir_all(&below)?;
        fs::write(below.join(number.to_string()), bytes)?;
    }
    disk(&folder.join("source.img"), Some(&content))
}

fn disk(path: &Path, content: Option<&Path>) -> anyhow::Result<PathBuf> {
    fs::File::create(path)?.set_len(512 << 20)?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4"]);
    if let Some(content) = content {
        mke2fs.arg("-d").arg(content);
    }
    process::output(mke2fs.arg(path))?;
    Ok(path.to_owned())
}

/// Both begin with nothing in memory, and end with all on the disk.
const BEGIN: &str = "mkdir -p /tmp/s /tmp/t; blockdev --setrw /dev/vdb; mount -t ext4 -o ro,noload /dev/vda /tmp/s; \
                     mount -t ext4 /dev/vdb /tmp/t; rm -rf /tmp/t/out; sync; echo 3 > /proc/sys/vm/drop_caches; ";
const END: &str = "; umount /tmp/t /tmp/s";

fn by_cp(machine: &mut Machine) -> anyhow::Result<f64> {
    let line = "begin=$(cut -d' ' -f1 /proc/uptime); cp -a /tmp/s /tmp/t/out; sync; echo \"$begin $(cut -d' ' -f1 /proc/uptime)\"";
    let said = machine.shell(&format!("{BEGIN}{line}{END}"))?.success()?;
    let times: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [begin, end] = times[..] else { anyhow::bail!("unexpected: {said}") };
    Ok((end - begin) * 1000.0)
}

fn by_us(machine: &mut Machine) -> anyhow::Result<(f64, f64)> {
    let line = "tierlift copy --json /tmp/s /tmp/t/out 2>/dev/null";
    let said = machine.shell(&format!("{BEGIN}{line}{END}"))?.success()?;
    let answer: serde_json::Value = serde_json::from_str(said.trim()).with_context(|| said.clone())?;
    let figure = |name: &str| answer["copy"][name].as_f64().with_context(|| format!("no {name} in {said}"));
    Ok((figure("milliseconds")?, figure("verifying_milliseconds")?))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
