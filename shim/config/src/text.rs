//! Text for messages: escaped, quoted, cut to a length.
//!
//! Three places of this workspace need another form and do not use this one:
//!
//! - The logs of the programs (`time="..." level=... msg="..."`) also escape `"` and `\`, as
//!   logrus does, because log readers parse the line.
//! - A printed plan (`pidone_plan::Plan`) quotes strings in Rust's notation, which also escapes
//!   `"` and `\`.
//! - A picture of a trace (SVG) has `?` in place of a control character, which XML cannot express.

use std::fmt;

/// The longest excerpt of a value in an error, in characters.
pub(crate) const EXCERPT: usize = 80;

/// Displays text with its control characters escaped, as `\n` or `\u{1b}`.
///
/// Text that a container or the author of a bundle has chosen may hold sequences that a terminal
/// acts on.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

/// Returns the [`excerpt`] of a text in quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text))
}

/// Returns a text, cut after [`EXCERPT`] characters.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            Escaped("a\u{1b}[2J\nb\t\u{9b}\"\\é").to_string(),
            "a\\u{1b}[2J\\nb\\t\\u{9b}\"\\é"
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "é".repeat(1000);
        assert_eq!(quoted(&text), format!("\"{}...\"", "é".repeat(EXCERPT)));
        assert_eq!(quoted("short"), "\"short\"");
    }
}
