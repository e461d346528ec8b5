//! What others wrote, made fit for a terminal.

/// Text of somebody else's, for a terminal: characters that control it are shown, not obeyed.
pub(crate) fn visible(text: &str) -> String {
    let shown = |it: char| match it.is_control() || changes_direction(it) {
        true => it.escape_default().to_string(),
        false => it.into(),
    };
    text.chars().map(shown).collect()
}

/// Whether a character has text beside it read in another direction (Unicode's bidirectional controls).
fn changes_direction(it: char) -> bool {
    matches!(it, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("a\u{1b}[2J\tb ü"), "a\\u{1b}[2J\\tb ü");
        assert_eq!(visible("\u{202e}fdp.\u{2069} שלום"), "\\u{202e}fdp.\\u{2069} שלום");
    }
}
