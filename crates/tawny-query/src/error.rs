//! Why a text is no query, told so that a person can mend it.

use std::fmt;

use tawny_model::Remedy;

/// A text does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where, in characters from 1; one behind the last when the text ended too early.
    pub column: usize,
    /// What stands there, quoted, or `the end`.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// What to write instead, when that can be guessed.
    pub hint: Option<String>,
}

/// Characters of the query [`ParseError::render`] shows on either side of the column.
const SHOWN_EACH_SIDE: usize = 50;

impl ParseError {
    /// What a caller should do: the same text never parses.
    pub fn remedy(&self) -> Remedy {
        Remedy::Reject
    }

    /// Three lines for a terminal: the query, a caret under the column, the message. `text` is the query.
    pub fn render(&self, text: &str) -> String {
        let at = self.column - 1;
        let from = at.saturating_sub(SHOWN_EACH_SIDE);
        let mut shown: String = text
            .chars()
            .skip(from)
            .take(2 * SHOWN_EACH_SIDE)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let lead = if from > 0 { "…" } else { "" };
        if text.chars().nth(from + 2 * SHOWN_EACH_SIDE).is_some() {
            shown.push('…');
        }
        let indent = " ".repeat(at - from + lead.chars().count());
        format!("{lead}{shown}\n{indent}^\n{self}")
    }
}

impl std::error::Error for ParseError {}

/// One line: `column 5: expected a value after "pod:", found the end; …`.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            column,
            found,
            expected,
            hint,
        } = self;
        write!(f, "column {column}: expected {expected}, found {found}")?;
        match hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}
