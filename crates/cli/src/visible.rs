//! What others wrote, made fit for a terminal.

/// Text of somebody else's, for a terminal: control characters are shown, not obeyed.
pub(crate) fn visible(text: &str) -> String {
    let shown =
        |it: char| if it.is_control() { it.escape_default().to_string() } else { it.into() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("a\u{1b}[2J\tb ü"), "a\\u{1b}[2J\\tb ü");
    }
}
