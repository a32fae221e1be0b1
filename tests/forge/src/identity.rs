//! Identities that look random but follow from a seed, so that a forged disk is the same every time.

use sha2::{Digest, Sha256};

const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Sixteen bytes for a UUID.
pub(crate) fn uuid(seed: &str, what: &str) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&digest(seed, what)[..16]);
    out
}

/// An id as LVM makes them, with dashes.
pub(crate) fn lvm_id(seed: &str, what: &str) -> String {
    let letters: Vec<u8> = digest(seed, what).iter().map(|byte| LETTERS[usize::from(*byte) % 62]).collect();
    tierlift_ondisk::lvm_label::dashed(&letters)
}

fn digest(seed: &str, what: &str) -> [u8; 32] {
    Sha256::digest(format!("{seed}/{what}")).into()
}
