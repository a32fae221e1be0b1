//! LVM's text metadata: sections in braces, keys with numbers, strings and lists ("docs/lvm").
//!
//! The grammar is stock LVM's; what QNAP changed are only names inside it. So this reader knows no names: it keeps every key
//! in order, and readers of the tree ask for those they know. It accepts what stock accepts (bare words, missing commas,
//! single quotes, CRLF) and stops at the first NUL. Depth, list length and text length are bounded.

use crate::DecodeError;
use std::collections::BTreeMap;

/// Longest text that is read; a ring holds about a MiB.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
const MAX_DEPTH: usize = 64;
const MAX_LIST: usize = 1_000_000;

/// A value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer.
    Integer(i64),
    /// A quoted string.
    Text(String),
    /// Anything unquoted that is no integer: a float, a word.
    Word(String),
    /// A list; may be empty.
    List(Vec<Value>),
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `name = value`
    Value(Value),
    /// `name { … }`
    Section(Section),
}

/// Names with what stands behind them, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Section {
    items: Vec<(String, Item)>,
    places: BTreeMap<String, usize>,
}

/// A text that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// The top level.
    pub root: Section,
    /// Names that occurred twice in one section: the later value counts, sections are merged.
    pub duplicates: Vec<String>,
}

impl Value {
    /// The value as a number. A string of digits counts, and so does a list of one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) | Self::Word(text) => text.parse().ok(),
            Self::List(list) if list.len() == 1 => list.first()?.as_integer(),
            Self::List(_) => None,
        }
    }

    /// The value as a string; a list of one counts.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            Self::List(list) if list.len() == 1 => list.first()?.as_text(),
            _ => None,
        }
    }

    /// The values of a list; a scalar counts as a list of one.
    pub fn as_list(&self) -> &[Value] {
        match self {
            Self::List(list) => list,
            scalar => std::slice::from_ref(scalar),
        }
    }
}

impl Section {
    /// Names and what stands behind them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(name, item)| (name.as_str(), item))
    }

    /// The value of a key.
    pub fn value(&self, name: &str) -> Option<&Value> {
        match self.get(name)? {
            Item::Value(value) => Some(value),
            Item::Section(_) => None,
        }
    }

    /// A section inside this one.
    pub fn section(&self, name: &str) -> Option<&Section> {
        match self.get(name)? {
            Item::Section(section) => Some(section),
            Item::Value(_) => None,
        }
    }

    /// All sections inside this one.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.iter().filter_map(|(name, item)| match item {
            Item::Section(section) => Some((name, section)),
            Item::Value(_) => None,
        })
    }

    /// The value of a key as a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_text()
    }

    /// The value of a key as a number that is not negative.
    pub fn number(&self, name: &str) -> Option<u64> {
        u64::try_from(self.value(name)?.as_integer()?).ok()
    }

    /// The strings in the list of a key; empty when there is no such key.
    pub fn words(&self, name: &str) -> Vec<&str> {
        self.value(name).map(|value| value.as_list().iter().filter_map(Value::as_text).collect()).unwrap_or_default()
    }

    fn get(&self, name: &str) -> Option<&Item> {
        self.places.get(name).and_then(|place| self.items.get(*place)).map(|(_, item)| item)
    }

    fn insert(&mut self, name: String, item: Item, duplicates: &mut Vec<String>) {
        let old = self.places.get(&name).and_then(|place| self.items.get_mut(*place));
        match (old, item) {
            (None, item) => {
                self.places.insert(name.clone(), self.items.len());
                self.items.push((name, item));
            }
            (Some((_, Item::Section(old))), Item::Section(new)) => {
                duplicates.push(name);
                new.items.into_iter().for_each(|(name, item)| old.insert(name, item, duplicates));
            }
            (Some((_, old)), item) => {
                duplicates.push(name);
                *old = item;
            }
        }
    }
}

/// Reads a text up to its end or first NUL.
///
/// # Errors
/// When it does not follow the grammar, ends too early, or exceeds a bound.
pub fn parse(text: &[u8]) -> Result<Parsed, DecodeError> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut reader = Reader { text, at: 0, duplicates: Vec::new() };
    if text.len() > MAX_TEXT_BYTES {
        return Err(reader.error("length", format!("at most {MAX_TEXT_BYTES} bytes"), text.len()));
    }
    let root = reader.section(0)?;
    Ok(Parsed { root, duplicates: reader.duplicates })
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    duplicates: Vec<String>,
}

impl Reader<'_> {
    fn error(&self, field: &'static str, expected: impl ToString, found: impl ToString) -> DecodeError {
        DecodeError::new("LVM text", field, self.at, expected, found)
    }

    fn unexpected(&self, expected: &str) -> DecodeError {
        let found = self.peek().map_or("the end".to_owned(), |byte| format!("'{}'", byte.escape_ascii()));
        self.error("syntax", expected, found)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => self.take_while(|byte| byte != b'\n'),
                byte if byte.is_ascii_whitespace() => {
                    self.advance();
                    continue;
                }
                _ => return,
            };
        }
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> String {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| !wanted(*byte)).unwrap_or(rest.len());
        self.at = self.at.saturating_add(length);
        String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned()
    }

    /// The items up to the closing brace; at depth 0, up to the end.
    fn section(&mut self, depth: usize) -> Result<Section, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(self.error("depth", format!("at most {MAX_DEPTH} sections in each other"), "more"));
        }
        let mut section = Section::default();
        loop {
            self.skip_space();
            match self.peek() {
                None if depth == 0 => return Ok(section),
                Some(b'}') if depth > 0 => {
                    self.advance();
                    return Ok(section);
                }
                None => return Err(self.unexpected("'}'")),
                Some(_) => {
                    let name = self.name()?;
                    let item = self.item(depth)?;
                    section.insert(name, item, &mut self.duplicates);
                }
            }
        }
    }

    fn name(&mut self) -> Result<String, DecodeError> {
        let name = match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.quoted(quote)?,
            _ => self.take_while(|byte| !byte.is_ascii_whitespace() && !b"#={}".contains(&byte)),
        };
        if name.is_empty() { Err(self.unexpected("a name")) } else { Ok(name) }
    }

    fn item(&mut self, depth: usize) -> Result<Item, DecodeError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => {
                self.advance();
                self.section(depth.saturating_add(1)).map(Item::Section)
            }
            Some(b'=') => {
                self.advance();
                self.skip_space();
                self.value().map(Item::Value)
            }
            _ => Err(self.unexpected("'=' or '{'")),
        }
    }

    fn value(&mut self) -> Result<Value, DecodeError> {
        if self.peek() != Some(b'[') {
            return self.scalar();
        }
        self.advance();
        let mut list = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b']') => {
                    self.advance();
                    return Ok(Value::List(list));
                }
                Some(b',') => self.advance(),
                _ if list.len() >= MAX_LIST => {
                    return Err(self.error("list", format!("at most {MAX_LIST} values"), "more"));
                }
                _ => list.push(self.scalar()?),
            }
        }
    }

    fn scalar(&mut self) -> Result<Value, DecodeError> {
        if let Some(quote @ (b'"' | b'\'')) = self.peek() {
            return self.quoted(quote).map(Value::Text);
        }
        let word = self.take_while(|byte| !byte.is_ascii_whitespace() && !b"#,[]{}=\"'".contains(&byte));
        if word.is_empty() {
            return Err(self.unexpected("a value"));
        }
        Ok(word.parse().map_or(Value::Word(word), Value::Integer))
    }

    /// A quoted string; only double quotes know the backslash.
    fn quoted(&mut self, quote: u8) -> Result<String, DecodeError> {
        self.advance();
        let mut bytes = Vec::new();
        while let Some(byte) = self.peek() {
            self.advance();
            match byte {
                byte if byte == quote => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                b'\\' if quote == b'"' => {
                    bytes.extend(self.peek());
                    self.advance();
                }
                byte => bytes.push(byte),
            }
        }
        Err(self.unexpected("the closing quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn root(text: &str) -> Section {
        parse(text.as_bytes()).unwrap().root
    }

    #[test]
    fn a_text_of_every_form_is_read() {
        let text = "vg1 {\r\n\tid = \"a\\\"b\\\\c\" # comment = 1\n seqno=278 flags = [] status = [\"READ\", 'WRITE' \"X\",]\n\
                    288lv { size = -5 f = 1.5 word = off } }\n# Generated { \ncontents = \"T\"\n\n\0garbage {{{";
        let parsed = parse(text.as_bytes()).unwrap();
        let vg = parsed.root.section("vg1").unwrap();
        assert_eq!(vg.text("id"), Some("a\"b\\c"));
        assert_eq!(vg.number("seqno"), Some(278));
        assert_eq!(vg.words("status"), ["READ", "WRITE", "X"]);
        assert!(vg.words("flags").is_empty() && vg.words("absent").is_empty());
        let lv = vg.section("288lv").unwrap();
        assert_eq!((lv.number("size"), lv.value("size").unwrap().as_integer()), (None, Some(-5)));
        assert_eq!((lv.text("f"), lv.text("word")), (Some("1.5"), Some("off")));
        assert_eq!(parsed.root.text("contents"), Some("T"));
        assert_eq!(vg.sections().map(|(name, _)| name).collect::<Vec<_>>(), ["288lv"]);
    }

    #[test]
    fn a_scalar_for_a_list_and_the_reverse() {
        let root = root("flags = \"X\" count = [3] digits = \"12\"");
        assert_eq!(root.words("flags"), ["X"]);
        assert_eq!((root.number("count"), root.number("digits")), (Some(3), Some(12)));
    }

    #[test]
    fn what_comes_twice_is_merged_and_told() {
        let parsed = parse(b"a = 1 s { x = 1 y = 2 } a = 2 s { x = 3 }").unwrap();
        let section = parsed.root.section("s").unwrap();
        assert_eq!(parsed.root.number("a"), Some(2));
        assert_eq!((section.number("x"), section.number("y")), (Some(3), Some(2)));
        assert_eq!(parsed.duplicates, ["a", "s", "x"]);
    }

    #[test]
    fn broken_texts_are_refused_at_their_place() {
        for (text, message) in [
            ("vg1 {", "LVM text: syntax at byte 5: expected '}', found the end"),
            ("a = }", "LVM text: syntax at byte 4: expected a value, found '}'"),
            ("a 5", "LVM text: syntax at byte 2: expected '=' or '{', found '5'"),
            ("a = \"x", "LVM text: syntax at byte 6: expected the closing quote, found the end"),
            ("a = [1, 2", "LVM text: syntax at byte 9: expected a value, found the end"),
            ("}", "LVM text: syntax at byte 0: expected a name, found '}'"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message);
        }
        let deep = "a { ".repeat(100_000);
        assert!(parse(deep.as_bytes()).unwrap_err().to_string().contains("depth"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_soup_of_the_grammar_is_survived(text in "[a-c =#{}\\[\\],\"'\\\\0-9\n]{0,200}") {
            let _ = parse(text.as_bytes());
        }
    }
}
