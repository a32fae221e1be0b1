//! Telling a person what a rebuild could not save, by device and range.

use crate::say::tell;
use tierlift_ondisk::units::Bytes;
use tierlift_pool::rebuild::{Rebuilt, RebuiltDevice};
use tierlift_pool::{KeyRange, Pool};

/// More losses than this are counted, not told one by one; `--json` has more of them.
const MOST_TOLD: usize = 100;

/// Tells on stderr everything that is lost.
pub(super) fn tell(pool: &Pool, rebuilt: &Rebuilt) {
    let lines = lines(pool, rebuilt);
    for line in lines.iter().take(MOST_TOLD) {
        tell!("tierlift: lost: {line}");
    }
    let all =
        rebuilt.devices.iter().fold(rebuilt.tiers.lost_ranges, |sum, device| sum.saturating_add(device.lost_ranges));
    let more = all.max(lines.len() as u64).saturating_sub(lines.len().min(MOST_TOLD) as u64);
    if more > 0 {
        tell!("tierlift: lost: {more} more ranges, not told here; --json lists them");
    }
}

fn lines(pool: &Pool, rebuilt: &Rebuilt) -> Vec<String> {
    let mut lines = Vec::new();
    for hole in &rebuilt.unknown_devices {
        lines.push(format!(
            "devices with ids {}: nothing is known of them (block {}: {})",
            hole.keys, hole.block, hole.fault
        ));
    }
    let piece = pool.superblock().tier_block_size.to_bytes().unwrap_or_default();
    for lost in &rebuilt.tiers.lost {
        lines.push(format!("pool pieces {} ({}): {}", lost.keys, span(lost.keys, piece), lost.reason));
    }
    if rebuilt.chunks_unaccounted > 0 {
        lines.push(format!(
            "{} chunks were in use, but no mapping that was found names them: leaked, or of devices and ranges that are lost",
            rebuilt.chunks_unaccounted
        ));
    }
    for device in &rebuilt.devices {
        for lost in &device.lost {
            let place = span(lost.keys, pool.chunk_bytes());
            lines.push(format!("device {}, chunks {} ({place}): {}", device.id, lost.keys, lost.reason));
        }
        lines.extend(device_notes(device));
    }
    lines
}

fn device_notes(device: &RebuiltDevice) -> Option<String> {
    let id = device.id;
    if device.left_out {
        return Some(format!(
            "device {id} was LEFT OUT: its lost ranges are too long to be marked one by one. Give its size (--device-size \
             {id}=BYTES, from LVM), or use pool read"
        ));
    }
    let last = device.marked_up_to?;
    Some(format!(
        "device {id}: its last lost range is marked as errors up to chunk {last}; without --device-size {id}=BYTES that is an \
         estimate"
    ))
}

/// A range in bytes.
fn span(keys: KeyRange, unit: Bytes) -> String {
    let start = keys.first.saturating_mul(unit.0);
    let end = keys.last.checked_add(1).and_then(|end| end.checked_mul(unit.0));
    match end {
        Some(end) => format!("bytes {start} to {end}, {}", Bytes(end.saturating_sub(start)).human()),
        None => format!("from byte {start} on"),
    }
}

/// What was written of a device.
pub(super) fn device_line(device: &RebuiltDevice) -> String {
    let mut line = format!("    {:>8}  {} mappings", device.id.0, device.written);
    if let Some(recorded) = device.recorded.filter(|recorded| *recorded != device.found) {
        line.push_str(&format!(" (its record told {recorded}, {} were found)", device.found));
    }
    if device.record_made_up {
        line.push_str(", record made up");
    }
    if device.left_out {
        line.push_str(", LEFT OUT");
    } else if device.lost_ranges > 0 {
        line.push_str(&format!(", {} ranges lost", device.lost_ranges));
    }
    line
}
