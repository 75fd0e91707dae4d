//! What others wrote, such as the names in a model, on its way into logs and messages.

use std::fmt::Display;

/// Longer texts are cut off.
const MOST_CHARACTERS: usize = 2000;

/// A text of one line and bounded length, without what terminals take for orders: control characters and those that
/// turn the direction of writing are escaped.
pub fn printable(text: impl Display) -> String {
    let text = text.to_string();
    let mut printable = String::with_capacity(text.len().min(4 * MOST_CHARACTERS));
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == MOST_CHARACTERS => {
                printable.push('…');
                break;
            }
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                printable.extend(character.escape_unicode());
            }
            _ if character.is_control() => printable.extend(character.escape_default()),
            _ => printable.push(character),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_obey_is_escaped_and_the_rest_stays_as_it_is() {
        let text = "a\nb\t\u{1b}[2J\0\u{9b}1m\u{7f}\u{202e}c 'é' \\ \"人\"";
        let expected = r#"a\nb\t\u{1b}[2J\u{0}\u{9b}1m\u{7f}\u{202e}c 'é' \ "人""#;
        assert_eq!(printable(text), expected);
    }

    #[test]
    fn long_texts_are_cut_off() {
        let long = "é".repeat(MOST_CHARACTERS);
        assert_eq!(printable(&long), long);
        assert_eq!(printable(format!("{long}ab")), format!("{long}…"));
    }
}
