//! LVM's checksum: CRC-32 as everybody's, but with its own start value and without the final inversion ("docs/lvm").

const START: u32 = 0xf597_a6cf;

/// Checksum of `bytes` as LVM stores it in labels, area headers and for texts.
pub fn lvm_crc(bytes: &[u8]) -> u32 {
    lvm_crc_of(&[bytes])
}

/// Checksum of several pieces, as if they were one.
pub fn lvm_crc_of(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!START);
    pieces.iter().for_each(|piece| hasher.update(piece));
    !hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(lvm_crc(b""), 0xf597_a6cf);
        assert_eq!(lvm_crc(b"123456789"), 0x4991_cf02);
        assert_eq!(lvm_crc(&[0; 508]), 0x6702_d122);
        assert_eq!(lvm_crc_of(&[b"1234", b"", b"56789"]), 0x4991_cf02);
    }
}
