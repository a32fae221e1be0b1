//! What LUKS may have been given for what the user knows ("docs/disk-layout, section 5.1").

use super::md5_crypt::md5_crypt;
use tierlift_protocol::Secret;

/// The salt QNAP's firmware always uses.
const SALT: &str = "YCCaQNAP";
/// Old firmware cut passwords; shorter ones than this were never allowed.
const SHORTEST: usize = 8;

/// A passphrase to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How it was made, for people; never the passphrase itself.
    pub what: String,
    /// The passphrase.
    pub passphrase: Secret,
}

fn candidate(what: impl Into<String>, passphrase: impl Into<String>) -> Candidate {
    Candidate { what: what.into(), passphrase: Secret(passphrase.into()) }
}

/// For a password typed by the user: by QNAP's rule, as it is, then by the rule on ever shorter beginnings of it.
pub fn of_password(password: &str) -> Vec<Candidate> {
    let mut all = vec![
        candidate("the password by QNAP's rule", md5_crypt(password.as_bytes(), SALT)),
        candidate("the password as typed", password),
    ];
    let length = password.chars().count();
    let shorter = (SHORTEST..length).rev().map(|count| {
        let beginning: String = password.chars().take(count).collect();
        candidate(
            format!("the first {count} letters of the password by QNAP's rule (old firmware cut longer ones)"),
            md5_crypt(beginning.as_bytes(), SALT),
        )
    });
    all.extend(shorter);
    all
}

/// For the text of a key file: as it is, without the end of its line, and as a password.
pub fn of_key_file(text: &str) -> Vec<Candidate> {
    let line = text.trim_end_matches(['\r', '\n']);
    let mut all = vec![candidate("the key file as it is", text)];
    if line != text {
        all.push(candidate("the key file without the end of its line", line));
    }
    all.push(candidate("the key file's text by QNAP's rule", md5_crypt(line.as_bytes(), SALT)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrases(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().map(|candidate| candidate.passphrase.0.as_str()).collect()
    }

    #[test]
    fn qnaps_rule_comes_first_and_shorter_beginnings_last() {
        let all = of_password("TEST_PASSWORD");
        let passphrases = passphrases(&all);
        assert_eq!(passphrases[0], "$1$YCCaQNAP$pxXi3RLamBdUEIjkGd/Fu1");
        assert_eq!(passphrases[1], "TEST_PASSWORD");
        assert_eq!(passphrases.len(), 2 + 5);
        assert_eq!(passphrases[6], md5_crypt(b"TEST_PAS", SALT));
        assert!(passphrases.iter().skip(2).all(|passphrase| passphrase.len() == 34));
        assert_eq!(of_password("short").len(), 2);
    }

    #[test]
    fn letters_of_more_than_one_byte_are_not_cut_in_two() {
        assert_eq!(of_password("Grüßeüßü9").len(), 2 + 1);
    }

    #[test]
    fn a_key_file_is_tried_with_and_without_its_line_end() {
        assert_eq!(passphrases(&of_key_file("key\n"))[..2], ["key\n", "key"]);
        assert_eq!(of_key_file("key").len(), 2);
    }

    #[test]
    fn what_is_shown_hides_the_passphrase() {
        let shown = format!("{:?}", of_password("TEST_PASSWORD"));
        assert!(!shown.contains("TEST") && !shown.contains("$1$") && shown.contains("hidden"), "{shown}");
    }
}
