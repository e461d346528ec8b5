//! Reads the file. Whatever is wrong with it is reported in one line: file, line, key, what is
//! allowed.

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::keys::{allowed, refused};
use crate::failure::Failure;

/// The configuration in a file, checked on its own.
pub(super) fn read(path: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    parse(&text).map_err(|wrong| Failure::Usage(format!("{}:{wrong}", path.display())))
}

/// Like [`read`], but from text; the error lacks the file's name.
pub(super) fn parse(text: &str) -> Result<Config, String> {
    let root = DeTable::parse(text).map_err(|error| {
        let line = line(text, error.span().map_or(0, |span| span.start));
        format!("{line}: {}", error.message())
    })?;
    let root = root.get_ref();
    let config: Config = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let line = line(text, span.start);
        match key_at(root, &span) {
            Some(key) if error.message().starts_with("unknown field") => {
                format!("{line}: {key}: unknown key; {}", expected_fields(error.message()))
            }
            Some(key) => format!("{line}: {}", not_allowed(text, &key, span)),
            None => format!("{line}: {}", error.message()),
        }
    })?;
    match refused(&config).first() {
        None => Ok(config),
        Some(key) => {
            let span = value_span(root, key).unwrap_or(0..0);
            Err(format!("{}: {}", line(text, span.start), not_allowed(text, key, span)))
        }
    }
}

fn not_allowed(text: &str, key: &str, span: Range<usize>) -> String {
    let value = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
    format!("{key}: {value} is not allowed; expected {}", allowed(key))
}

/// The `expected ...` part of serde's "unknown field `x`, expected ...".
fn expected_fields(message: &str) -> String {
    let expected = message.split_once(", ").map_or(message, |(_, expected)| expected);
    expected.replace('`', "")
}

fn line(text: &str, position: usize) -> usize {
    let before = text.as_bytes().iter().take(position);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// The innermost `section.key` or `section` whose key or value contains the span.
fn key_at(root: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let holds = |key: Range<usize>, value: &Spanned<DeValue<'_>>| {
        let inside = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
        inside(key) || inside(value.span())
    };
    for (section, entries) in root {
        for (key, value) in entries.get_ref().as_table().into_iter().flatten() {
            if holds(key.span(), value) {
                return Some(format!("{}.{}", section.get_ref(), key.get_ref()));
            }
        }
    }
    let mut sections = root.iter();
    sections.find(|(key, value)| holds(key.span(), value)).map(|(key, _)| key.get_ref().to_string())
}

/// Where the value of `section.key` is in the text.
fn value_span(root: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (section, name) = key.split_once('.')?;
    let entries = root.get(section)?.get_ref().as_table()?;
    Some(entries.get(name)?.span())
}
