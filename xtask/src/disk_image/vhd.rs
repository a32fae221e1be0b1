//! A fixed VHD: the raw image and a footer of 512 bytes that says what it is.
//!
//! `qemu-img` never writes the same footer twice: it has the time and a random number in it.

/// The footer for a disk of this many bytes.
pub fn footer(bytes: u64, identity: [u8; 16]) -> [u8; 512] {
    /// Features: none but the bit that is always set; version of the format.
    const FEATURES_AND_VERSION: [u8; 8] = [0, 0, 0, 2, 0, 1, 0, 0];
    /// Seconds from 2000-01-01 to 2026-01-01.
    const TIME: u32 = 820_540_800;
    const FIXED: u32 = 2;
    let mut footer = Vec::with_capacity(512);
    footer.extend_from_slice(b"conectix");
    footer.extend_from_slice(&FEATURES_AND_VERSION);
    footer.extend_from_slice(&u64::MAX.to_be_bytes());
    footer.extend_from_slice(&TIME.to_be_bytes());
    // Who made it. Of makers it knows QEMU uses the size below, of others only the geometry, which is rounded.
    footer.extend_from_slice(b"win \0\x0a\0\0Wi2k");
    footer.extend_from_slice(&bytes.to_be_bytes());
    footer.extend_from_slice(&bytes.to_be_bytes());
    footer.extend_from_slice(&geometry(bytes / 512));
    footer.extend_from_slice(&FIXED.to_be_bytes());
    footer.extend_from_slice(&[0; 4]);
    footer.extend_from_slice(&identity);
    let mut whole = [0; 512];
    whole[..footer.len()].copy_from_slice(&footer);
    let sum = !whole.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    whole[64..68].copy_from_slice(&sum.to_be_bytes());
    whole
}

/// Cylinders, heads, sectors of a track, as the format's description computes them.
fn geometry(sectors: u64) -> [u8; 4] {
    let sectors = sectors.min(65_535 * 16 * 255);
    let (track, heads) = if sectors >= 65_535 * 16 * 63 { (255, 16) } else { small(sectors) };
    let cylinders = u16::try_from(sectors / track / heads).unwrap_or(u16::MAX).to_be_bytes();
    [cylinders[0], cylinders[1], heads as u8, track as u8]
}

/// Sectors of a track and heads of a disk below 32 GiB.
fn small(sectors: u64) -> (u64, u64) {
    let heads = (sectors / 17).div_ceil(1024).max(4);
    if sectors / 17 < heads * 1024 && heads <= 16 {
        (17, heads)
    } else if sectors / 31 < 16 * 1024 {
        (31, 16)
    } else {
        (63, 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_rest() {
        let mut footer = footer(42 << 20, [9; 16]);
        let sum = u32::from_be_bytes(footer[64..68].try_into().unwrap());
        footer[64..68].fill(0);
        assert_eq!(!sum, footer.iter().map(|byte| u32::from(*byte)).sum::<u32>());
        assert_eq!(footer[40..48], (42u64 << 20).to_be_bytes());
    }

    #[test]
    fn the_geometry_never_exceeds_the_disk() {
        for sectors in [0, 1, 4096, 86_016, 1 << 20, 1 << 24, 1 << 28, u64::MAX] {
            let [high, low, heads, track] = geometry(sectors);
            let product = u64::from(u16::from_be_bytes([high, low])) * u64::from(heads) * u64::from(track);
            assert!(product <= sectors && heads <= 16, "{sectors}");
        }
    }
}
