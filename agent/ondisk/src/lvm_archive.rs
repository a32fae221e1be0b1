//! Writing a text in the form of LVM's backup files: header first, then the group, with tabs ("docs/lvm").

use crate::lvm_text::{Item, Section, Value};

/// The text of `group` called `name`. `header` stands above it: keys with values, a comment each.
///
/// Every key is written as it was read, also those nobody knows, so that reading the text gives the same tree.
pub fn archive(comment: &str, header: &[(&str, Value)], name: &str, group: &Section) -> String {
    let mut out = format!("# {}\n\n", comment.replace(char::is_control, " "));
    for (key, item) in header {
        assign(&mut out, 0, key, item);
    }
    out.push('\n');
    section(&mut out, 0, name, group);
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n('\t', depth));
}

fn section(out: &mut String, depth: usize, name: &str, items: &Section) {
    indent(out, depth);
    out.push_str(&format!("{} {{\n", key(name)));
    let inner = depth.saturating_add(1);
    for (name, item) in items.iter() {
        match item {
            Item::Value(value) => assign(out, inner, name, value),
            Item::Section(items) => {
                out.push('\n');
                section(out, inner, name, items);
            }
        }
    }
    indent(out, depth);
    out.push_str("}\n");
}

fn assign(out: &mut String, depth: usize, name: &str, value: &Value) {
    indent(out, depth);
    out.push_str(&format!("{} = {}\n", key(name), text(value)));
}

/// A name as it can be read again: quoted where it would not be one word.
fn key(name: &str) -> String {
    let special = |byte: u8| byte.is_ascii_whitespace() || b"#={}\"'".contains(&byte);
    if name.bytes().any(special) { quoted(name) } else { name.to_owned() }
}

fn text(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::Word(word) => word.clone(),
        Value::List(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", ")),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lvm_text::parse;
    use proptest::prelude::*;

    #[test]
    fn a_group_is_written_as_lvm_writes_its_backups() {
        let text =
            "vg1 { id = \"G\" seqno = 7 flags = [] tier keys = 1 pv { status = [\"READ\", \"a\\\"b\\\\\"] f = 1.5 } }";
        let parsed = parse(text.replace("tier keys", "\"tier keys\"").as_bytes()).unwrap();
        let header = [("contents", Value::Text("Text Format Volume Group".into())), ("version", Value::Integer(1))];
        let group = parsed.root.section("vg1").unwrap();
        let expected = "# by us\n\ncontents = \"Text Format Volume Group\"\nversion = 1\n\nvg1 {\n\tid = \"G\"\n\tseqno = 7\n\
                        \tflags = []\n\t\"tier keys\" = 1\n\n\tpv {\n\t\tstatus = [\"READ\", \"a\\\"b\\\\\"]\n\t\tf = 1.5\n\t}\n}\n";
        assert_eq!(archive("by\nus", &header, "vg1", group), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_tree(text in "[a-c =#{}\\[\\],\"'\\\\0-9\n]{0,200}") {
            let whole = format!("vg {{ {text} }}");
            if let Ok(parsed) = parse(whole.as_bytes()) {
                if let Some(group) = parsed.root.section("vg") {
                    let again = parse(archive("", &[], "vg", group).as_bytes()).unwrap();
                    prop_assert_eq!(again.root.section("vg"), Some(group));
                    prop_assert_eq!(again.duplicates.len(), 0);
                }
            }
        }
    }
}
