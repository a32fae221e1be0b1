//! The kernel's log: why device-mapper refused a table, and whether the kernel itself got into trouble.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Longest record `/dev/kmsg` hands out.
const RECORD: usize = 8192;
/// Records read at most at one go; the kernel's ring holds fewer.
const MAX_RECORDS: usize = 100_000;
/// Signs of trouble in the kernel, as it words them.
const TROUBLE: [&str; 8] = [
    "Oops",
    "BUG:",
    "kernel BUG at",
    "WARNING:",
    "general protection fault",
    "blocked for more than",
    "soft lockup",
    "Kernel panic",
];

/// A place in the kernel's log from which on messages are wanted.
#[derive(Debug)]
pub struct KernelLog {
    device: Option<File>,
}

impl KernelLog {
    /// Watches from now on. Without the right to read the log there is simply nothing to tell.
    pub fn from_now() -> Self {
        Self { device: open(SeekFrom::End(0)).ok() }
    }

    /// Device-mapper's messages since the watch began (or the last call), without its prefix.
    pub fn device_mapper_lines(&mut self) -> Vec<String> {
        let lines = self.device.as_mut().map(messages).unwrap_or_default();
        lines.iter().filter_map(|line| device_mapper_text(line)).collect()
    }
}

/// Messages since boot that mean the kernel itself is in trouble.
///
/// # Errors
/// When the log may not be read.
pub fn trouble_since_boot() -> io::Result<Vec<String>> {
    let mut device = open(SeekFrom::Start(0))?;
    Ok(messages(&mut device).into_iter().filter(|line| is_trouble(line)).collect())
}

/// How often each device failed a request since boot, by its name; devices made of others (dm, md, loop) are left out, for their
/// errors are those of what lies below, or what is lost. The kernel tells only some of many: these are the least numbers.
///
/// # Errors
/// When the log may not be read.
pub fn disk_errors_since_boot() -> io::Result<BTreeMap<String, u64>> {
    let mut device = open(SeekFrom::Start(0))?;
    let mut errors = BTreeMap::new();
    for name in messages(&mut device).iter().filter_map(|line| failed_disk(line)) {
        let count: &mut u64 = errors.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
    Ok(errors)
}

/// "I/O error, dev sda, sector 2048 op 0x0:(READ) …", "critical medium error, dev sda, …".
fn failed_disk(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(" error, dev ")?;
    let (name, _) = rest.split_once(',')?;
    let made_of_others = ["dm-", "md", "loop", "zram"].iter().any(|prefix| name.starts_with(prefix));
    (!made_of_others).then_some(name)
}

fn open(from: SeekFrom) -> io::Result<File> {
    let mut options = File::options();
    let mut device = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg")?;
    device.seek(from)?;
    Ok(device)
}

/// The text of every record from the current place to the end.
fn messages(device: &mut File) -> Vec<String> {
    let mut record = vec![0; RECORD];
    let mut lines = Vec::new();
    for _ in 0..MAX_RECORDS {
        match device.read(&mut record) {
            Ok(0) => break,
            Ok(length) => lines.extend(record.get(..length).and_then(message_text)),
            // Records were overwritten before they were read: go on with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    lines
}

/// The message of a record "priority,sequence,time,flags;message\n KEY=value".
fn message_text(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.split_once(';')?;
    message.lines().next().map(str::to_owned)
}

fn device_mapper_text(line: &str) -> Option<String> {
    line.split_once("device-mapper: ").map(|(_, text)| text.trim().to_owned())
}

/// A sign counts only where a word begins: "DEBUG:" is none.
fn is_trouble(line: &str) -> bool {
    let begins_word = |at: usize| !line.get(..at).is_some_and(|before| before.ends_with(char::is_alphanumeric));
    TROUBLE.iter().any(|sign| line.match_indices(sign).any(|(at, _)| begins_word(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_taken_from_a_record() {
        let record = b"3,1052,8123456,-;device-mapper: table: 254:3: thin-pool: needs the word qnap_format (-EINVAL)\n SUBSYSTEM=block\n";
        let line = message_text(record).unwrap();
        assert_eq!(
            device_mapper_text(&line).as_deref(),
            Some("table: 254:3: thin-pool: needs the word qnap_format (-EINVAL)")
        );
        assert_eq!(device_mapper_text("EXT4-fs (dm-3): mounted"), None);
    }

    #[test]
    fn errors_belong_to_real_disks() {
        assert_eq!(
            failed_disk("I/O error, dev vda, sector 20 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0"),
            Some("vda")
        );
        assert_eq!(failed_disk("blk_update_request: critical medium error, dev sdb, sector 7"), Some("sdb"));
        assert_eq!(failed_disk("I/O error, dev dm-3, sector 20"), None);
        assert_eq!(failed_disk("Buffer I/O error on dev vda, logical block 2, async page read"), None);
    }

    #[test]
    fn trouble_is_told_from_ordinary_lines() {
        assert!(is_trouble("INFO: task kworker/u4:1:25 blocked for more than 120 seconds."));
        assert!(is_trouble("BUG: unable to handle page fault for address: 0000000000001000"));
        assert!(is_trouble("Oops: 0000 [#1] PREEMPT SMP"));
        assert!(!is_trouble("device-mapper: thin: Data device (dm-1) discard unsupported"));
        assert!(!is_trouble("DEBUG: nothing"));
    }
}
