//! The MD5-based password scheme of old Unix systems (`$1$`), which QNAP's rule is built on.

use md5::{Digest, Md5};

/// Letters of the printable form; the first stands for 0.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes of the digest in the order they are printed, three to a group of four letters; the last stands alone.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
const LAST: usize = 11;
const ROUNDS: usize = 1000;
/// Longer salts are cut.
const SALT_BYTES: usize = 8;

/// The printable result, `$1$SALT$…`.
pub fn md5_crypt(password: &[u8], salt: &str) -> String {
    let salt = salt.get(..SALT_BYTES).unwrap_or(salt);
    let mut digest = start(password, salt.as_bytes());
    for round in 0..ROUNDS {
        digest = stretch(&digest, password, salt.as_bytes(), round);
    }
    format!("$1${salt}${}", printable(&digest))
}

fn start(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let filling = hash(&[password, salt, password]);
    let mut parts: Vec<&[u8]> = vec![password, b"$1$", salt];
    parts.extend(password.chunks(filling.len()).filter_map(|chunk| filling.get(..chunk.len())));
    // A bit of the length that is set adds a zero byte, one that is not the first byte of the password.
    let mut bits = password.len();
    while bits > 0 {
        parts.push(if bits & 1 == 1 { &[0] } else { password.get(..1).unwrap_or_default() });
        bits >>= 1;
    }
    hash(&parts)
}

fn stretch(digest: &[u8; 16], password: &[u8], salt: &[u8], round: usize) -> [u8; 16] {
    let odd = round & 1 == 1;
    let (first, last): (&[u8], &[u8]) = if odd { (password, digest) } else { (digest, password) };
    let salt = if round % 3 == 0 { &[] } else { salt };
    let again = if round % 7 == 0 { &[] } else { password };
    hash(&[first, salt, again, last])
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    md5.finalize().into()
}

fn printable(digest: &[u8; 16]) -> String {
    let byte = |at: usize| digest.get(at).copied().map_or(0, u32::from);
    let groups = GROUPS.iter().map(|[high, middle, low]| (byte(*high) << 16 | byte(*middle) << 8 | byte(*low), 4));
    let words = groups.chain(std::iter::once((byte(LAST), 2)));
    words.flat_map(|(word, letters)| letters_of(word, letters)).collect()
}

/// Six bits a letter, lowest first.
fn letters_of(word: u32, count: u32) -> impl Iterator<Item = char> {
    (0..count).filter_map(move |letter| {
        let index = word >> letter.saturating_mul(6) & 0x3f;
        ALPHABET.get(index as usize).copied().map(char::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openssl_prints() {
        for (password, salt, expected) in [
            ("TEST_PASSWORD", "YCCaQNAP", "$1$YCCaQNAP$pxXi3RLamBdUEIjkGd/Fu1"),
            ("", "YCCaQNAP", "$1$YCCaQNAP$VawByKm6kn9XqJ4oKAdpA1"),
            ("a", "YCCaQNAP", "$1$YCCaQNAP$6ZpcFowX6hw7boBGUBSfW0"),
            ("a password of more than sixteen letters", "YCCaQNAP", "$1$YCCaQNAP$ywiOkT7VbEyEWAFaVLlzI/"),
            ("exactly16letters", "YCCaQNAP", "$1$YCCaQNAP$e7ei/QOGBySVEuHPsVBSL0"),
            ("Gr\u{fc}\u{df}e", "YCCaQNAP", "$1$YCCaQNAP$ZcfvDMD8.u54G6oOwlpdr0"),
        ] {
            assert_eq!(md5_crypt(password.as_bytes(), salt), expected, "{password}");
        }
    }
}
