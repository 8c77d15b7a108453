//! Text → tree. A recursive descent over characters, because what a character means depends on where a term begins.
//!
//! The grammar is told for users in `docs/query-language.md`.

use tawny_model::{Output, Severity};

use crate::{
    ParseError, Query,
    ast::{Comparison, Expr, Field, FieldTest, Glob, TextTest},
    field::{MESSAGE_NAMES, name_len, split_prefix},
    print::quoted,
    text::{fold, is_word_char, number, tokens},
};

mod lex;

pub(crate) use lex::Parser;
pub use lex::{MAX_DEPTH, MAX_NODES, MAX_REGEXES, MAX_TEXT_BYTES};
use lex::{Parsed, ends_term, quoted_short};

/// Reads a query; the empty text is the query that matches everything.
///
/// # Errors
/// The first place that does not parse, with its column.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    let mut parser = Parser::new(text)?;
    parser.skip_space();
    let expr = if parser.rest().is_empty() {
        Expr::All
    } else {
        parser.any("")?
    };
    if !parser.rest().is_empty() {
        return Err(parser.error("the end of the query", Some("this `)` closes nothing")));
    }
    Ok(Query {
        text: text.to_owned(),
        expr,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// `:` and `=`.
    Is,
    /// `!=`.
    IsNot,
    /// `==`, `<`, `<=`, `>`, `>=`.
    Compare(Comparison),
}

/// Longest first where one begins another.
const OPERATORS: [(&str, Operator); 12] = [
    (":>=", Operator::Compare(Comparison::GreaterOrEqual)),
    (":<=", Operator::Compare(Comparison::LessOrEqual)),
    (":>", Operator::Compare(Comparison::Greater)),
    (":<", Operator::Compare(Comparison::Less)),
    (">=", Operator::Compare(Comparison::GreaterOrEqual)),
    ("<=", Operator::Compare(Comparison::LessOrEqual)),
    ("==", Operator::Compare(Comparison::Equal)),
    ("!=", Operator::IsNot),
    (">", Operator::Compare(Comparison::Greater)),
    ("<", Operator::Compare(Comparison::Less)),
    (":", Operator::Is),
    ("=", Operator::Is),
];

/// What a field test is about: a field, or the message under the name people give it elsewhere.
enum Subject {
    Message,
    Field(Field),
}

impl<'t> Parser<'t> {
    /// Alternatives joined by `OR`; `after` says what came before, for the error.
    fn any(&mut self, after: &str) -> Parsed<Expr> {
        let mut parts = vec![self.all(after)?];
        while self.eat_keyword("OR") {
            parts.push(self.all(" after OR")?);
        }
        Ok(Expr::any_of(parts))
    }

    /// Terms side by side or joined by `AND`; leaves the space behind them consumed.
    fn all(&mut self, after: &str) -> Parsed<Expr> {
        let mut parts = vec![self.unary(after)?];
        loop {
            self.skip_space();
            if self.eat_keyword("AND") {
                parts.push(self.unary(" after AND")?);
            } else if matches!(self.peek(), None | Some(')')) || self.sees_keyword("OR") {
                return Ok(Expr::all_of(parts));
            } else {
                parts.push(self.unary("")?);
            }
        }
    }

    fn unary(&mut self, after: &str) -> Parsed<Expr> {
        self.skip_space();
        let negation = if self.eat_keyword("NOT") {
            Some(" after NOT")
        } else if self.eat("-") {
            if self.peek().is_none_or(|c| c.is_whitespace() || c == ')') {
                let hint = r#"to find text with a dash, quote it: "a - b""#;
                return Err(self.error(r#"a term right behind "-""#, Some(hint)));
            }
            Some(r#" after "-""#)
        } else {
            None
        };
        if let Some(after) = negation {
            self.count_node()?;
            return self.deeper(|inner| inner.unary(after)).map(Expr::negate);
        }
        if self.eat("(") {
            let expr = self.deeper(|inner| inner.any(r#" after "(""#))?;
            return if self.eat(")") {
                Ok(expr)
            } else {
                Err(self.error(r#"")""#, None))
            };
        }
        let is_missing = self.peek().is_none_or(|c| c == ')')
            || self.sees_keyword("OR")
            || self.sees_keyword("AND");
        if is_missing {
            let hint = (!self.rest().is_empty())
                .then_some("to find the word or sign itself, put it in quotes");
            return Err(self.error(&format!("a word, a phrase or a field{after}"), hint));
        }
        self.count_node()?;
        self.term()
    }

    /// One test of the message or of a field.
    fn term(&mut self) -> Parsed<Expr> {
        let start = self.at;
        if let Some((subject, operator)) = self.subject()? {
            let name = self.since(start);
            let after = format!(" after {}", quoted_short(name));
            return match operator {
                Operator::Compare(comparison) => self.comparison(subject, comparison, &after),
                Operator::Is => self.values(&subject, &after),
                Operator::IsNot => self
                    .deeper(|inner| inner.values(&subject, &after))
                    .map(Expr::negate),
            };
        }
        self.text_term()
    }

    /// A field's name and operator, if the term begins with both.
    fn subject(&mut self) -> Parsed<Option<(Subject, Operator)>> {
        let start = self.at;
        let name_len = name_len(self.rest());
        if name_len == 0 {
            return Ok(None);
        }
        self.at += name_len;
        let name = self.since(start);
        let prefix = split_prefix(name).filter(|(_, key)| key.is_empty());
        let subject = match prefix {
            Some((prefix, _)) if self.rest().starts_with('"') => {
                let key = self.quoted()?;
                Subject::Field(prefix.field(key))
            }
            _ if MESSAGE_NAMES.contains(&name) => Subject::Message,
            _ => Subject::Field(Field::named(name)),
        };
        // `http://…` and `std::fmt` are text, whatever stands before.
        let is_text = self.rest().starts_with("://") || self.rest().starts_with("::");
        let operator = OPERATORS
            .into_iter()
            .find(|(sign, _)| self.rest().starts_with(sign))
            .filter(|_| !is_text);
        let Some((sign, operator)) = operator else {
            self.at = start;
            return Ok(None);
        };
        if prefix.is_some() && self.since(start) == name {
            return Err(self.error(&format!("a name after {}", quoted_short(name)), None));
        }
        self.at += sign.len();
        Ok(Some((subject, operator)))
    }

    /// What may follow `:`, `=` or `!=`: one value, or several in parentheses joined by `OR`.
    fn values(&mut self, subject: &Subject, after: &str) -> Parsed<Expr> {
        if !self.eat("(") {
            return self.value(subject, after);
        }
        self.deeper(|inner| {
            let mut parts = Vec::new();
            loop {
                inner.skip_space();
                inner.count_node()?;
                parts.push(inner.value(subject, after)?);
                inner.skip_space();
                if inner.eat(")") {
                    return Ok(Expr::any_of(parts));
                }
                if !inner.eat_keyword("OR") {
                    let hint = "a list of values is written (a OR b)";
                    return Err(inner.error(r#"OR or ")" behind a value"#, Some(hint)));
                }
            }
        })
    }

    fn value(&mut self, subject: &Subject, after: &str) -> Parsed<Expr> {
        let start = self.at;
        if self.peek().is_none_or(ends_term) {
            return Err(self.value_missing(after));
        }
        let Subject::Field(field) = subject else {
            return self.text_term();
        };
        if *field == Field::Severity {
            return self.severity(Comparison::Equal, after);
        }
        let test = if let Some(regex) = self.regex()? {
            FieldTest::Regex(regex)
        } else {
            self.plain_value()?
        };
        let is_output = |value: &str| {
            [Output::Stdout, Output::Stderr]
                .iter()
                .any(|output| output.name() == value)
        };
        match &test {
            FieldTest::Equals(value) if *field == Field::Output && !is_output(value) => {
                let hint = "for an attribute of this name write attr.stream or attr.output";
                Err(self.error_at(start, "stdout or stderr", Some(hint)))
            }
            _ => Ok(Expr::Field(field.clone(), test)),
        }
    }

    /// A bare value, or parts in quotes between wild signs: `api-*`, `"a b"`, `"a b"*`.
    fn plain_value(&mut self) -> Parsed<FieldTest> {
        let is_wild = |c| matches!(c, '*' | '?');
        if !self.rest().trim_start_matches(is_wild).starts_with('"') {
            let value = self.bare()?;
            return Ok(if value.chars().all(|c| c == '*') {
                FieldTest::Exists
            } else if value.contains(is_wild) {
                FieldTest::Glob(Glob::new(value))
            } else {
                FieldTest::Equals(fold(value).into_owned())
            });
        }
        let mut value = String::new();
        let (mut has_wild, mut has_quoted_wild) = (false, None);
        loop {
            let start = self.at;
            if self.peek() == Some('"') {
                let literal = self.quoted()?;
                if literal.contains(is_wild) {
                    has_quoted_wild.get_or_insert(start);
                }
                value.push_str(&literal);
            } else if let Some(wild) = self.peek().filter(|c| is_wild(*c)) {
                self.at += wild.len_utf8();
                value.push(wild);
                has_wild = true;
            } else {
                break;
            }
        }
        self.expect_end_of_term()?;
        match has_quoted_wild {
            _ if !has_wild => Ok(FieldTest::Equals(fold(&value).into_owned())),
            None => Ok(FieldTest::Glob(Glob::new(&value))),
            Some(start) => {
                let hint = "nothing is wild inside quotes; for both kinds use a /regex/";
                Err(self.error_at(start, "no * or ? inside the quotes", Some(hint)))
            }
        }
    }

    fn value_missing(&self, after: &str) -> ParseError {
        let hint = "a field is written name:value without spaces; to find it as text, quote it";
        self.error(&format!("a value{after}"), Some(hint))
    }

    fn comparison(
        &mut self,
        subject: Subject,
        comparison: Comparison,
        after: &str,
    ) -> Parsed<Expr> {
        let start = self.at;
        match subject {
            Subject::Field(Field::Severity) => self.severity(comparison, after),
            Subject::Field(field @ (Field::Restart | Field::Label(_) | Field::Attribute(_))) => {
                let hint = "to find it as text, put it in quotes";
                let missing = || self.error_at(start, &format!("a number{after}"), Some(hint));
                let end = self
                    .rest()
                    .find(ends_term)
                    .unwrap_or_else(|| self.rest().len());
                let value = self
                    .rest()
                    .get(..end)
                    .and_then(number)
                    .ok_or_else(missing)?;
                self.at += end;
                Ok(Expr::Field(field, FieldTest::Number(comparison, value)))
            }
            Subject::Field(field) => {
                let expected = format!("{field}:value or {field}!=value");
                let hint = "this field is text and has no order";
                Err(self.error_at(start, &expected, Some(hint)))
            }
            Subject::Message => {
                let hint = "the message is text and has no order";
                Err(self.error_at(start, "message:word", Some(hint)))
            }
        }
    }

    fn severity(&mut self, comparison: Comparison, after: &str) -> Parsed<Expr> {
        let start = self.at;
        if self.peek().is_none_or(ends_term) {
            return Err(self.value_missing(after));
        }
        let value = if self.peek() == Some('"') {
            self.quoted()?
        } else {
            self.bare()?.to_owned()
        };
        let test = match Severity::from_text(&value) {
            Some(severity) => FieldTest::Severity(comparison, severity),
            // Every entry has a severity, so "there is one" can only mean that the line told it.
            None if value == "*" && comparison == Comparison::Equal => {
                FieldTest::Severity(Comparison::NotEqual, Severity::Unknown)
            }
            None => {
                let names = Severity::ALL.map(Severity::name).join(", ");
                return Err(self.error_at(start, &format!("a level: {names}"), None));
            }
        };
        self.expect_end_of_term()?;
        Ok(Expr::Field(Field::Severity, test))
    }

    /// A word, phrase, prefix, suffix, substring or regex.
    fn text_term(&mut self) -> Parsed<Expr> {
        let start = self.at;
        if let Some(regex) = self.regex()? {
            return Ok(Expr::Message(TextTest::Regex(regex)));
        }
        let (open_start, text, open_end) = if self.rest().starts_with('"')
            || self.rest().starts_with("*\"")
        {
            let open_start = self.eat("*");
            let text = self.quoted()?;
            let open_end = self.eat("*");
            self.expect_end_of_term()?;
            (open_start, text, open_end)
        } else {
            let bare = self.bare()?;
            if bare == "*" {
                return Ok(Expr::All);
            }
            if let Some(wanted) = bare.strip_prefix('!').filter(|text| has_word(text)) {
                let hint = format!("to leave it out write -{wanted}; to find the sign, quote it");
                return Err(self.error_at(start, "a word", Some(&hint)));
            }
            let front = bare.strip_prefix('*');
            let text = front.unwrap_or(bare);
            let inner = text.strip_suffix('*');
            let (open_start, open_end) = (front.is_some(), inner.is_some());
            let text = inner.unwrap_or(text);
            if text.contains('*') && has_word(text) {
                let pattern: Vec<_> = text.split('*').map(regex::escape).collect();
                let hint = format!("write it as a regex: /{}/", pattern.join(r"\w*"));
                return Err(self.error_at(start, "* only at the ends of a word", Some(&hint)));
            }
            if text.contains('*') || text.is_empty() {
                return Err(self.no_word(start));
            }
            (open_start, text.to_owned(), open_end)
        };
        text_test(&text, open_start, open_end)
            .map(Expr::Message)
            .ok_or_else(|| self.no_word(start))
    }

    fn no_word(&self, start: usize) -> ParseError {
        let text = self.since(start);
        let sign = text.trim_matches(['"', '*']);
        let regex = |sign| format!("/{}/", regex::escape(sign).replace('/', r"\/"));
        let hint = match (text, sign) {
            ("&&" | "&", _) => Some("for both, write AND or nothing between them".to_owned()),
            ("||" | "|", _) => Some("for either, write OR between them".to_owned()),
            (text, "") if text.contains('"') => None,
            (text, "") => Some(format!("to find the sign itself use {}", regex(text))),
            (_, sign) => Some(format!(
                "to find the sign itself use *{}* or {}",
                quoted(sign),
                regex(sign)
            )),
        };
        self.error_at(
            start,
            "a word, made of letters, digits or _",
            hint.as_deref(),
        )
    }
}

fn has_word(text: &str) -> bool {
    text.contains(is_word_char)
}

/// The test for a text of which the ends may be open; `None` when it holds nothing to look for.
///
/// An open end at a sign, as in `/api/*`, is no more than the words before it.
fn text_test(text: &str, open_start: bool, open_end: bool) -> Option<TextTest> {
    if open_start && open_end {
        return (!text.is_empty()).then(|| TextTest::Substring(fold(text).into_owned()));
    }
    let words: Vec<String> = tokens(text).map(|token| fold(token).into_owned()).collect();
    if words.is_empty() {
        return None;
    }
    Some(if open_end && text.ends_with(is_word_char) {
        TextTest::Prefix(words)
    } else if open_start && text.starts_with(is_word_char) {
        TextTest::Suffix(words)
    } else {
        TextTest::Phrase(words)
    })
}

#[cfg(test)]
mod tests;
