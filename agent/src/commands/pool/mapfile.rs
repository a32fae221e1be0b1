//! GNU ddrescue's mapfile: which bytes of the output are known and which are lost.

use super::transfer::Loss;
use std::io::{self, Write};
use tierlift_ondisk::units::Bytes;

/// Writes the map of a device of this size; everything outside the losses was read or is zeros by right.
pub(super) fn write(out: &mut impl Write, size: Bytes, losses: &[Loss]) -> io::Result<()> {
    writeln!(out, "# Mapfile. Created by tierlift version {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "# + is right (read, or zeros because never written); - is lost (a hole in the file, NOT zeros)")?;
    writeln!(out, "# current_pos  current_status  current_pass")?;
    writeln!(out, "0x{:08X}     +               1", size.0)?;
    writeln!(out, "#      pos        size  status")?;
    let mut next = 0;
    for loss in losses {
        line(out, next, loss.offset.0, '+')?;
        next = loss.end().0;
        line(out, loss.offset.0, next, '-')?;
    }
    line(out, next, size.0, '+')
}

fn line(out: &mut impl Write, from: u64, to: u64, status: char) -> io::Result<()> {
    match to.checked_sub(from) {
        None | Some(0) => Ok(()),
        Some(length) => writeln!(out, "0x{from:08X}  0x{length:08X}  {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierlift_pool::LossReason;

    #[test]
    fn the_map_covers_every_byte_once() {
        let loss =
            |offset, length| Loss { offset: Bytes(offset), length: Bytes(length), reason: LossReason::MissingTier(0) };
        let mut out = Vec::new();
        write(&mut out, Bytes(0x5000), &[loss(0, 0x1000), loss(0x2000, 0x1000)]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let body: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).skip(1).collect();
        assert_eq!(
            body,
            [
                "0x00000000  0x00001000  -",
                "0x00001000  0x00001000  +",
                "0x00002000  0x00001000  -",
                "0x00003000  0x00002000  +"
            ]
        );
    }
}
