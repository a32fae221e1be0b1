//! A line split into words. Quotes keep words together; nothing is expanded, so what is typed is what a verb gets.

/// A quote or a backslash that is opened and not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// A `'` or `"` without its partner.
    #[error("the quote {0} is not closed; end it with another {0}, or put \\ before it to mean the sign itself")]
    Quote(char),
    /// A `\` at the end of the line.
    #[error("the line ends in a backslash; write \\\\ to mean the sign itself")]
    Backslash,
}

/// Splits at blanks. `'…'` is taken as it stands; in `"…"` a backslash protects `"` and `\`; elsewhere it protects any sign.
///
/// # Errors
/// A quote or a backslash is left open.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unfinished> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' | b'"' => quoted(byte, &mut bytes, word.get_or_insert_default())?,
            b'\\' => word.get_or_insert_default().push(bytes.next().ok_or(Unfinished::Backslash)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(quote: u8, bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<(), Unfinished> {
    let unfinished = Unfinished::Quote(char::from(quote));
    loop {
        match bytes.next().ok_or(unfinished)? {
            byte if byte == quote => return Ok(()),
            b'\\' if quote == b'"' => match bytes.next().ok_or(unfinished)? {
                protected @ (b'"' | b'\\') => word.push(protected),
                other => word.extend([b'\\', other]),
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(line: &str) -> Result<Vec<String>, Unfinished> {
        let text = |word: Vec<u8>| String::from_utf8(word).unwrap();
        Ok(split(line.as_bytes())?.into_iter().map(text).collect())
    }

    #[test]
    fn blanks_separate_and_quotes_join() {
        assert_eq!(words("  scan\t /dev/vda  ").unwrap(), ["scan", "/dev/vda"]);
        assert_eq!(words("copy 'vg 1/lv' \"/mnt/a b\"").unwrap(), ["copy", "vg 1/lv", "/mnt/a b"]);
        assert_eq!(words(r#"a\ b "say \"x\" \\ \n" 'c\d'"#).unwrap(), ["a b", r#"say "x" \ \n"#, r"c\d"]);
        assert_eq!(words("one''word\"\"").unwrap(), ["oneword"]);
        assert_eq!(words("'' \"\"").unwrap(), ["", ""]);
        assert!(words("   ").unwrap().is_empty());
        assert_eq!(words("$HOME * ~ ; |").unwrap(), ["$HOME", "*", "~", ";", "|"]);
    }

    #[test]
    fn what_is_left_open_is_told() {
        assert_eq!(words("copy 'a b"), Err(Unfinished::Quote('\'')));
        assert_eq!(words("copy \"a\\\""), Err(Unfinished::Quote('"')));
        assert_eq!(words("copy \\"), Err(Unfinished::Backslash));
    }

    proptest! {
        #[test]
        fn single_quotes_carry_every_word(input in proptest::collection::vec("[^']*", 0..5)) {
            let line = input.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line).unwrap(), input);
        }

        #[test]
        fn any_line_has_an_answer(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = split(&line);
        }
    }
}
