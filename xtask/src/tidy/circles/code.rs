//! What one Rust source file imports, which paths it mentions, and what it defines.
//!
//! Knows as much of the grammar as that needs: comments and literals are not code, what is compiled
//! only for tests does not count, and a `use` tree is a list of paths. Never looks into another
//! file.

use super::token::{Token, tokens};

/// What one file contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// Every import, in order.
    pub(super) imports: Vec<Import>,
    /// Every path in other code, of two segments or more.
    pub(super) paths: Vec<Mention>,
    /// Names of the types, functions and so on that it defines.
    pub(super) items: Vec<String>,
    /// Modules declared here that are compiled only for tests.
    pub(super) test_modules: Vec<String>,
}

/// A path as it is written, and the inline modules around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) inside: Vec<String>,
    pub(super) segments: Vec<String>,
}

/// One leaf of a `use` tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) from: Mention,
    /// The name it has here; `*` for all names of a module.
    pub(super) name: String,
    /// Whether others may use it from here.
    pub(super) public: bool,
}

/// Keywords that define a name.
const DEFINITIONS: [&str; 8] =
    ["struct", "enum", "union", "trait", "fn", "type", "const", "static"];

/// Reads a file.
pub(super) fn read(text: &str) -> Code {
    let mut reader =
        Reader { tokens: tokens(text), at: 0, inside: Vec::new(), code: Code::default() };
    let mut depth = 0;
    while let Some(token) = reader.peek(0) {
        match token {
            Token::Mark('#') if reader.is_for_tests() => {
                reader.skip_item();
                continue;
            }
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth = usize::saturating_sub(depth, 1);
                reader.inside.pop_if(|(_, opened)| *opened > depth);
            }
            Token::Word("mod") if reader.peek(2) == Some(Token::Mark('{')) => {
                let name = reader.word(1).to_owned();
                depth += 1;
                reader.inside.push((name, depth));
                reader.at += 2;
            }
            // `impl Trait + use<'a>` imports nothing.
            Token::Word("use") if reader.peek(1) != Some(Token::Mark('<')) => reader.import(),
            Token::Word(word) if DEFINITIONS.contains(&word) => {
                let name = reader.word(1).to_owned();
                reader.code.items.push(name);
            }
            Token::Word(_) => reader.path(),
            _ => {}
        }
        reader.at += 1;
    }
    reader.code
}

struct Reader<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    /// The enclosing inline modules, each with the depth of braces inside it.
    inside: Vec<(String, usize)>,
    code: Code,
}

impl<'t> Reader<'t> {
    fn peek(&self, ahead: usize) -> Option<Token<'t>> {
        self.tokens.get(self.at + ahead).copied()
    }

    /// The word that many tokens ahead, or an empty one.
    fn word(&self, ahead: usize) -> &'t str {
        match self.peek(ahead) {
            Some(Token::Word(word)) => word,
            _ => "",
        }
    }

    fn before(&self, back: usize) -> Option<Token<'t>> {
        self.at.checked_sub(back).and_then(|at| self.tokens.get(at)).copied()
    }

    fn mention(&self, segments: Vec<String>) -> Mention {
        Mention { inside: self.inside.iter().map(|(name, _)| name.clone()).collect(), segments }
    }

    /// Whether `#[cfg(test)]`, or `#[cfg(all(test, ...` and the like, begins here.
    fn is_for_tests(&self) -> bool {
        let words = [self.word(2), self.word(4), self.word(6)];
        matches!(words, ["cfg", "test", _] | ["cfg", "all", "test"])
    }

    /// Skips the attribute and the item it applies to.
    fn skip_item(&mut self) {
        while self.peek(0) == Some(Token::Mark('#')) {
            self.at += 1;
            self.skip_group();
        }
        let start = self.at;
        let mut ends_with_brace = false;
        let mut is_item = false;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Word("use") => (is_item, ends_with_brace) = (true, false),
                Token::Word("const" | "static" | "type") => is_item = true,
                Token::Word("fn" | "mod" | "struct" | "enum" | "impl" | "trait") => {
                    (is_item, ends_with_brace) = (true, true);
                }
                _ => {}
            }
            match token {
                Token::Mark('{' | '(' | '[') => {
                    let is_brace = token == Token::Mark('{');
                    self.skip_group();
                    // A statement and a macro call end like this, too.
                    if is_brace && (ends_with_brace || !is_item) {
                        break;
                    }
                    continue;
                }
                // A field or an expression ends with what contains it.
                Token::Mark('}' | ')' | ']') => break,
                Token::Mark(',') if !is_item => break,
                Token::Mark(';') => break,
                _ => self.at += 1,
            }
        }
        let item = &self.tokens[start..self.at.min(self.tokens.len())];
        if let Some(at) = item.iter().position(|token| *token == Token::Word("mod"))
            && let Some(Token::Word(name)) = item.get(at + 1)
        {
            self.code.test_modules.push((*name).to_owned());
        }
        if matches!(self.peek(0), Some(Token::Mark(';' | ','))) {
            self.at += 1;
        }
    }

    /// Skips to behind the matching closing bracket.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.peek(0) {
            self.at += 1;
            match token {
                Token::Mark('{' | '(' | '[') => depth += 1,
                Token::Mark('}' | ')' | ']') => depth -= 1,
                _ => {}
            }
            if depth <= 0 {
                return;
            }
        }
    }

    /// Reads a whole `use`, up to its semicolon.
    fn import(&mut self) {
        let public = matches!(self.before(1), Some(Token::Word("pub") | Token::Mark(')')));
        self.at += 1;
        // A path that begins with `::` leads to another crate.
        if self.peek(0) != Some(Token::Path) {
            self.use_tree(&[], public);
        }
        while !matches!(self.peek(0), None | Some(Token::Mark(';'))) {
            self.at += 1;
        }
    }

    /// Reads one branch and stops at the mark behind it.
    fn use_tree(&mut self, prefix: &[String], public: bool) {
        let mut segments = prefix.to_vec();
        let mut name = String::new();
        while let Some(token) = self.peek(0) {
            match token {
                Token::Word("as") => {
                    name = self.word(1).to_owned();
                    self.at += 1;
                }
                Token::Word("self") if !segments.is_empty() => {}
                Token::Word(word) => segments.push(word.to_owned()),
                Token::Mark('*') => name = "*".to_owned(),
                Token::Path => {}
                Token::Mark('{') => {
                    while !matches!(self.peek(0), None | Some(Token::Mark('}' | ';'))) {
                        self.at += 1;
                        if !matches!(self.peek(0), Some(Token::Mark('}'))) {
                            self.use_tree(&segments, public);
                        }
                    }
                    self.at += 1;
                    return;
                }
                Token::Mark(_) => break,
            }
            self.at += 1;
        }
        if name.is_empty() {
            name = segments.last().cloned().unwrap_or_default();
        }
        let from = self.mention(segments);
        self.code.imports.push(Import { from, name, public });
    }

    /// Reads a path, if one begins here, and stops at its last word.
    fn path(&mut self) {
        // The path in `pub(in crate::session)` is not a use.
        let begins = !matches!(self.before(1), Some(Token::Path | Token::Word("in")));
        if !begins || self.peek(1) != Some(Token::Path) {
            return;
        }
        let mut segments = vec![self.word(0).to_owned()];
        while self.peek(1) == Some(Token::Path) && !self.word(2).is_empty() {
            segments.push(self.word(2).to_owned());
            self.at += 2;
        }
        if segments.len() > 1 {
            let mention = self.mention(segments);
            self.code.paths.push(mention);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<String> {
        let show = |import: Import| {
            let path = import.from.segments.join("::");
            format!("{}{path} as {}", if import.public { "pub " } else { "" }, import.name)
        };
        read(text).imports.into_iter().map(show).collect()
    }

    fn paths(text: &str) -> Vec<String> {
        let show = |path: Mention| [path.inside, path.segments].concat().join("::");
        read(text).paths.into_iter().map(show).collect()
    }

    #[test]
    fn a_use_tree_is_a_list_of_paths() {
        assert_eq!(imports("use super::a;"), ["super::a as a"]);
        assert_eq!(imports("use a::b as c;"), ["a::b as c"]);
        assert_eq!(
            imports("use crate::{a::{self, B}, c::*, d::{E as F,},};"),
            ["crate::a as a", "crate::a::B as B", "crate::c as *", "crate::d::E as F"]
        );
        assert_eq!(
            imports("pub(crate) use a::B; pub use c::D;"),
            ["pub a::B as B", "pub c::D as D"]
        );
        assert!(imports("use ::serde::Serialize; fn f() -> impl A + use<'a> {}").is_empty());
    }

    #[test]
    fn paths_in_code_are_found_with_the_modules_around_them() {
        assert_eq!(paths("fn f() { super::a::b::<T>(crate::C) }"), ["super::a::b", "crate::C"]);
        assert_eq!(
            paths("mod m { fn f() { super::g() } } fn h() { a::b() }"),
            ["m::super::g", "a::b"]
        );
        assert!(paths("pub(in crate::session) fn f() {} // crate::a").is_empty());
    }

    #[test]
    fn what_is_for_tests_does_not_count() {
        let text = "#[cfg(test)] mod tests { use super::a; } #[cfg(test)] mod double;
            #[cfg(test)] use crate::{b, c}; #[cfg(test)] #[derive(Debug)] struct S { a: crate::D }
            #[cfg(all(test, unix))] fn f(a: u8, b: crate::E) -> crate::F { crate::g() }
            #[cfg(test)] thread_local! { static A: crate::H = crate::H::new(); }
            struct T { #[cfg(test)] a: crate::I, b: crate::J }";
        assert!(imports(text).is_empty());
        assert_eq!(paths(text), ["crate::J"]);
        assert_eq!(read(text).test_modules, ["tests", "double"]);
        assert_eq!(paths("#[cfg(not(test))] fn f() { crate::a() }"), ["crate::a"]);
    }

    #[test]
    fn definitions_are_named() {
        assert_eq!(read("pub struct A; enum B {} const fn c() {}").items, ["A", "B", "fn", "c"]);
    }
}
