//! The log, on standard error: one line per event, whatever is in it.
//!
//! Names and texts from clients go into it. Characters that could begin a line of their own, or change
//! how a terminal shows what follows, are escaped.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

use crate::failure::Failure;

/// Logs what passes the filter from now on.
pub(crate) fn to_stderr(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(Failure::runtime)?;
    let fields = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(Escaping(writer), "{value:?}"),
        name => write!(Escaping(writer), "{name}={value:?}"),
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(fields.delimited(" "))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(Failure::runtime)
}

/// Writes text on, with what is not to be shown as it is escaped.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(must_be_escaped) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = from.chars();
            for escaped in chars.next().into_iter().flat_map(char::escape_default) {
                self.0.write_char(escaped)?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, and those that begin a line or change the direction of the text.
fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_a_line_or_steers_a_terminal() {
        let shown = |text: &str| {
            let mut out = String::new();
            write!(Escaping(&mut out), "{text}").expect("a string takes all");
            out
        };
        let table = [
            ("plain, größer, \u{1f407}", "plain, größer, \u{1f407}"),
            ("a\nb\rc\td", "a\\nb\\rc\\td"),
            ("\u{1b}[31mred\u{7f}\u{9b}", "\\u{1b}[31mred\\u{7f}\\u{9b}"),
            ("\u{202e}txt.exe\u{2028}", "\\u{202e}txt.exe\\u{2028}"),
            ("\0", "\\u{0}"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected);
            assert!(!shown(text).contains(must_be_escaped));
        }
    }
}
