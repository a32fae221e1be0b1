//! No code asks for a newer compiler than `rust-version` in Cargo.toml says: `let` chains came with Rust 1.88 and `if let` in
//! the guard of a match arm with 1.95, and neither a newer compiler nor Clippy says a word about either. Clippy's
//! `incompatible_msrv` looks after the standard library.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "it reads our own code")]

#[cfg(test)]
mod tests {
    use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// The lines where a `let` is part of a larger condition, also inside the arguments of macros.
    fn newer_conditions(code: TokenStream) -> BTreeSet<usize> {
        let tokens: Vec<TokenTree> = code.into_iter().collect();
        let mut lines = BTreeSet::new();
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                lines.extend(newer_conditions(group.stream()));
            }
            let before = &tokens[..at];
            let opens = before.last().is_some_and(|last| is_word(last, "if") || is_word(last, "while"));
            if is_word(token, "let") && (ends_in_and(before) || opens && goes_on(&tokens[at..])) {
                lines.insert(token.span().start().line);
            }
        }
        lines
    }

    fn is_word(token: &TokenTree, word: &str) -> bool {
        matches!(token, TokenTree::Ident(ident) if ident == word)
    }

    fn is_sign(token: &TokenTree, sign: char) -> bool {
        matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
    }

    fn ends_in_and(tokens: &[TokenTree]) -> bool {
        matches!(tokens, [.., first, second] if is_sign(first, '&') && is_joint(first) && is_sign(second, '&'))
    }

    fn is_joint(token: &TokenTree) -> bool {
        matches!(token, TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint)
    }

    /// Whether what begins with this `let` is more than `let pattern = value {`.
    fn goes_on(tokens: &[TokenTree]) -> bool {
        let is_block = |token: &TokenTree| matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace);
        // A pattern may have braces of its own; those behind the value are the body.
        let Some(equals) = tokens.iter().position(|token| is_sign(token, '=')) else { return false };
        let body = tokens.iter().skip(equals).position(is_block).map_or(tokens.len(), |body| equals + body);
        let value = &tokens[equals..body];
        // `&&` behind a sign borrows twice; behind a value it is the operator.
        let has_and = (1..value.len()).any(|at| {
            let last = &value[at - 1];
            let is_value = !matches!(last, TokenTree::Punct(_)) || is_sign(last, '?');
            is_value && value.get(..at + 2).is_some_and(ends_in_and)
        });
        let is_guard = value.windows(2).any(|two| is_sign(&two[0], '=') && is_joint(&two[0]) && is_sign(&two[1], '>'));
        has_and || is_guard
    }

    /// Every file with Rust code below a folder, but for what a build put there.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut found = Vec::new();
        for entry in entries {
            let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
            let is_ours = name != "target" && !name.starts_with('.');
            if entry.file_type().unwrap().is_dir() && is_ours {
                found.extend(files(&path));
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
        found
    }

    #[test]
    fn conditions_are_in_the_language_of_rust_1_85() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let files = files(root);
        for part in ["agent/pool/src/lib.rs", "xtask/tests/language.rs", "fuzz/fuzz_targets/thin.rs"] {
            assert!(files.contains(&root.join(part)), "{part} was not looked at");
        }
        let mut newer = Vec::new();
        for path in &files {
            let code: TokenStream = fs::read_to_string(path).unwrap().parse().unwrap();
            let path = path.strip_prefix(root).unwrap().display();
            newer.extend(newer_conditions(code).iter().map(|line| format!("{path}:{line}")));
        }
        assert!(newer.is_empty(), "Rust 1.85 does not take these `let` conditions: {}", newer.join(", "));
    }

    #[test]
    fn every_form_of_newer_condition_is_found() {
        let lines = |code: &str| newer_conditions(code.parse().unwrap()).into_iter().collect::<Vec<_>>();
        for newer in [
            "if a && let Some(b) = c { }",
            "if let Some(a) = b && c { }",
            "if let A { b, .. } = c() && *d { }",
            "while let Some(a) = b? && c { }",
            "while !a && let [b] = c && d { }",
            "{ assert!(if let Some(a) = b[0] && c { d } else { e }) }",
            "match a { Some(b) if let Some(c) = d(b) => e }",
        ] {
            assert_eq!(lines(&format!("fn f() {{\n{newer}\n}}")), [2], "{newer}");
        }
        for older in [
            "if a && b { } let c = d && e;",
            "if let Some(a) = b { c && d } else if e && f { }",
            "if let Some(a) = (b && c).then(|| d) { }",
            "if let &&a = &&b { } while let A { b, .. } = c { }",
            "match a { b if c && d => if let e = f { }, g => h && i }",
            "// if a && let b = c { }",
            "/* if let a = b && c { } */ let d = \"if a && let b = c {\"; let e = r#\"if let \"a\" = b && c {\"#;",
        ] {
            assert!(lines(older).is_empty(), "{older}");
        }
    }
}
