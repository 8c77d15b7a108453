//! The parser's cursor: what a term is made of, errors with their column, and the limits of a query.

use crate::{ParseError, ast::Regex, print::IGNORE_CASE};

/// Longest query text.
pub const MAX_TEXT_BYTES: usize = 8 << 10;
/// Most tests and negations in one query.
pub const MAX_NODES: usize = 1_000;
/// Deepest nesting of parentheses and negations.
pub const MAX_DEPTH: usize = 64;
/// Most regular expressions in one query; each may take megabytes when compiled.
pub const MAX_REGEXES: usize = 32;

pub(super) type Parsed<T> = Result<T, ParseError>;

pub(crate) struct Parser<'t> {
    text: &'t str,
    /// Byte offset of what comes next.
    pub(super) at: usize,
    depth: usize,
    n_nodes: usize,
    n_regexes: usize,
}

impl<'t> Parser<'t> {
    pub(crate) fn new(text: &'t str) -> Parsed<Self> {
        let parser = Self {
            text,
            at: 0,
            depth: 0,
            n_nodes: 0,
            n_regexes: 0,
        };
        if text.len() > MAX_TEXT_BYTES {
            let end = text.floor_char_boundary(MAX_TEXT_BYTES);
            return Err(ParseError {
                found: format!("{} bytes", text.len()),
                ..parser.error_at(
                    end,
                    &format!("at most {MAX_TEXT_BYTES} bytes of query"),
                    None,
                )
            });
        }
        Ok(parser)
    }

    pub(crate) fn rest(&self) -> &'t str {
        self.text
            .get(self.at..)
            .expect("`at` only moves over whole characters")
    }

    pub(super) fn since(&self, start: usize) -> &'t str {
        self.text
            .get(start..self.at)
            .expect("both were places of whole characters")
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Moves over `token` when it comes next.
    pub(crate) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Whether this word comes next and is not the beginning of a longer one.
    pub(crate) fn sees_keyword(&self, keyword: &str) -> bool {
        self.rest()
            .strip_prefix(keyword)
            .is_some_and(|after| after.chars().next().is_none_or(ends_term))
    }

    pub(crate) fn eat_keyword(&mut self, keyword: &str) -> bool {
        self.sees_keyword(keyword) && self.eat(keyword)
    }

    pub(crate) fn error(&self, expected: &str, hint: Option<&str>) -> ParseError {
        self.error_at(self.at, expected, hint)
    }

    pub(crate) fn error_at(&self, at: usize, expected: &str, hint: Option<&str>) -> ParseError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let found = self.text.get(at..).unwrap_or_default();
        let len = found
            .char_indices()
            .skip(1)
            .find(|(_, c)| ends_term(*c))
            .map_or(found.len(), |(at, _)| at);
        ParseError {
            column: before.chars().count() + 1,
            found: match found.get(..len).unwrap_or_default() {
                "" => "the end".to_owned(),
                term => quoted_short(term),
            },
            expected: expected.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    /// Counts one test or negation.
    pub(crate) fn count_node(&mut self) -> Parsed<()> {
        self.n_nodes += 1;
        if self.n_nodes > MAX_NODES {
            return Err(self.error(&format!("at most {MAX_NODES} terms in a query"), None));
        }
        Ok(())
    }

    /// Runs `inner` one level deeper.
    pub(crate) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH} levels of parentheses and negations");
            return Err(self.error(&expected, None));
        }
        self.depth += 1;
        let parsed = inner(self);
        self.depth -= 1;
        parsed
    }

    /// `/…/` or `/…/i` if one comes next; a path such as `/api/v1` is none.
    pub(super) fn regex(&mut self) -> Parsed<Option<Regex>> {
        let Some((pattern, len_bytes)) = regex_at(self.rest()) else {
            return Ok(None);
        };
        self.n_regexes += 1;
        if self.n_regexes > MAX_REGEXES {
            let expected = format!("at most {MAX_REGEXES} regular expressions in a query");
            return Err(self.error(&expected, None));
        }
        let regex = Regex::new(&pattern).map_err(|reason| {
            let hint = format!("{reason}; for the text itself use quotes");
            self.error("a regular expression", Some(&hint))
        })?;
        self.at += len_bytes;
        Ok(Some(regex))
    }

    /// Text in quotes, `\"` and `\\` unescaped; the opening quote comes next.
    pub(super) fn quoted(&mut self) -> Parsed<String> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' if chars.as_str().starts_with(['"', '\\']) => {
                    text.extend(chars.next().map(|(_, escaped)| escaped));
                }
                other => text.push(other),
            }
        }
        Err(self.error_at(
            start,
            r#"a closing '"'"#,
            Some(r#"inside quotes write \" for '"'"#),
        ))
    }

    /// Everything up to a space or parenthesis.
    pub(super) fn bare(&mut self) -> Parsed<&'t str> {
        let start = self.at;
        let rest = self.rest();
        self.at += rest
            .find(|c| ends_term(c) || c == '"')
            .unwrap_or(rest.len());
        self.expect_end_of_term()?;
        Ok(self.since(start))
    }

    pub(super) fn expect_end_of_term(&self) -> Parsed<()> {
        match self.peek() {
            None | Some(')') => Ok(()),
            Some(c) if c.is_whitespace() => Ok(()),
            Some(_) => {
                let hint = r#"to find text with quotes or parentheses, quote it: "f(\"x\")""#;
                Err(self.error("a space", Some(hint)))
            }
        }
    }
}

/// Where an unquoted term ends.
pub(super) fn ends_term(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')')
}

/// The pattern of the regex this text begins with, and the length of the whole in bytes.
///
/// It ends at the first `/` not escaped, which must end the term, or else the text is a path and no regex.
fn regex_at(text: &str) -> Option<(String, usize)> {
    let inner = text.strip_prefix('/')?;
    let mut pattern = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '/' => break,
            '\\' => match chars.next()? {
                '/' => pattern.push('/'),
                other => pattern.extend(['\\', other]),
            },
            other => pattern.push(other),
        }
    }
    let after = chars.as_str();
    let (after, ignore_case) = match after.strip_prefix('i') {
        Some(behind) => (behind, true),
        None => (after, false),
    };
    if pattern.is_empty() || !after.chars().next().is_none_or(ends_term) {
        return None;
    }
    if ignore_case {
        pattern.insert_str(0, IGNORE_CASE);
    }
    Some((pattern, text.len() - after.len()))
}

/// A piece of the query for a message: one line, not long.
pub(super) fn quoted_short(text: &str) -> String {
    const SHOWN: usize = 32;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
