//! Canonical text of a tree: what the parser reads back into the same tree.

use std::fmt::{self, Display, Formatter};

use crate::{
    ast::{Comparison, Expr, Field, FieldTest, Glob, Regex, TextTest},
    text::is_word_char,
};

/// What a printed expression stands in, loosest last; decides about parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Not,
    And,
    Or,
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_expr(self, f, Binding::Or)
    }
}

fn write_expr(expr: &Expr, f: &mut Formatter<'_>, within: Binding) -> fmt::Result {
    match expr {
        Expr::All => f.write_str("*"),
        Expr::Or(parts) if parts.is_empty() => f.write_str("-*"),
        Expr::And(parts) if parts.is_empty() => f.write_str("*"),
        Expr::And(parts) => write_group(parts, " ", Binding::And, f, within),
        Expr::Or(parts) => write_group(parts, " OR ", Binding::Or, f, within),
        Expr::Not(inner) => {
            f.write_str("-")?;
            write_expr(inner, f, Binding::Not)
        }
        Expr::Message(test) => test.fmt(f),
        Expr::Field(field, test) => write_field(field, test, f, within),
    }
}

fn write_group(
    parts: &[Expr],
    between: &str,
    binding: Binding,
    f: &mut Formatter<'_>,
    within: Binding,
) -> fmt::Result {
    let needs_parentheses = parts.len() > 1 && within < binding;
    if needs_parentheses {
        f.write_str("(")?;
    }
    for (idx, part) in parts.iter().enumerate() {
        if idx > 0 {
            f.write_str(between)?;
        }
        write_expr(part, f, if parts.len() > 1 { binding } else { within })?;
    }
    if needs_parentheses {
        f.write_str(")")?;
    }
    Ok(())
}

impl Display for TextTest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phrase(words) => write_words(words, f),
            Self::Prefix(words) => {
                write_words(words, f)?;
                f.write_str("*")
            }
            Self::Suffix(words) => {
                f.write_str("*")?;
                write_words(words, f)
            }
            Self::Substring(part) => {
                f.write_str("*")?;
                if !part.is_empty() && part.chars().all(is_word_char) {
                    f.write_str(part)?;
                } else {
                    f.write_str(&quoted(part))?;
                }
                f.write_str("*")
            }
            Self::Regex(regex) => regex.fmt(f),
        }
    }
}

fn write_words(words: &[String], f: &mut Formatter<'_>) -> fmt::Result {
    match words {
        [word] if word.chars().all(is_word_char) => f.write_str(word),
        words => f.write_str(&quoted(&words.join(" "))),
    }
}

fn write_field(
    field: &Field,
    test: &FieldTest,
    f: &mut Formatter<'_>,
    within: Binding,
) -> fmt::Result {
    match test {
        FieldTest::Equals(value) if is_plain_value(value) => {
            write!(f, "{field}:{value}")
        }
        FieldTest::Equals(value) => write!(f, "{field}:{}", quoted(value)),
        FieldTest::Glob(glob) => write_glob(field, glob, f),
        FieldTest::Regex(regex) => write!(f, "{field}:{regex}"),
        FieldTest::Number(Comparison::Equal, number) => write!(f, "{field}=={number}"),
        // There is no sign for it, because `!=` is true of entries without the field.
        FieldTest::Number(Comparison::NotEqual, number) => {
            let (open, close) = if within < Binding::Or {
                ("(", ")")
            } else {
                ("", "")
            };
            write!(f, "{open}{field}<{number} OR {field}>{number}{close}")
        }
        FieldTest::Number(comparison, number) => {
            write!(f, "{field}{}{number}", comparison.symbol())
        }
        FieldTest::Severity(Comparison::Equal, severity) => write!(f, "{field}:{severity}"),
        FieldTest::Severity(comparison, severity) => {
            write!(f, "{field}{}{severity}", comparison.symbol())
        }
        FieldTest::Exists => write!(f, "{field}:*"),
        FieldTest::Absent => write!(f, "-{field}:*"),
    }
}

/// Bare where the parser reads it so; else the parts between the wild signs in quotes.
fn write_glob(field: &Field, glob: &Glob, f: &mut Formatter<'_>) -> fmt::Result {
    let pattern = glob.pattern();
    write!(f, "{field}:")?;
    let means_more = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"');
    let starts_otherwise = pattern.starts_with(['/', '<', '>', '=', ':']);
    if !pattern.is_empty() && !starts_otherwise && !pattern.contains(means_more) {
        return f.write_str(pattern);
    }
    if pattern.is_empty() {
        return f.write_str("\"\"");
    }
    for part in pattern.split_inclusive(['*', '?']) {
        let literal = part.trim_end_matches(['*', '?']);
        if !literal.is_empty() {
            f.write_str(&quoted(literal))?;
        }
        f.write_str(part.strip_prefix(literal).unwrap_or_default())?;
    }
    Ok(())
}

/// Whether a value needs no quotes; narrower than the parser.
fn is_plain_value(value: &str) -> bool {
    value.starts_with(|c: char| is_word_char(c) || c == '.')
        && value.chars().all(|c| {
            is_word_char(c)
                || matches!(
                    c,
                    '_' | '-' | '.' | '/' | ':' | '@' | '+' | ',' | '=' | '%' | '&'
                )
        })
}

/// The text in quotes, `"` and `\` escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

impl Display for Regex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.as_str().strip_prefix(IGNORE_CASE) {
            Some(pattern) if !pattern.is_empty() => write!(f, "{}i", slashed(pattern)),
            _ => f.write_str(&slashed(self.as_str())),
        }
    }
}

/// What the `i` behind a regex stands for.
pub(crate) const IGNORE_CASE: &str = "(?i)";

fn slashed(pattern: &str) -> String {
    if pattern.is_empty() {
        return "/(?:)/".to_owned();
    }
    let mut slashed = String::from("/");
    let mut is_escaped = false;
    for c in pattern.chars() {
        if c == '/' && !is_escaped {
            slashed.push('\\');
        }
        slashed.push(c);
        is_escaped = c == '\\' && !is_escaped;
    }
    slashed.push('/');
    slashed
}
