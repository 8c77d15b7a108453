//! The query language: lex, parse, check, match one entry.
//!
//! [`parse`] reads what a user wrote, [`Expr`] is what stores plan with, [`Query::matches`] is what it means.

pub mod ast;
mod compat;
mod error;
mod field;
mod finder;
mod matcher;
mod parse;
mod print;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
mod text;

use std::fmt;

pub use ast::{Comparison, Expr, Field, FieldTest, Glob, Regex, TextTest};
pub use compat::parse_fts5;
pub use error::ParseError;
pub use finder::Finder;
pub use matcher::Record;
pub use parse::{MAX_DEPTH, MAX_NODES, MAX_REGEXES, MAX_TEXT_BYTES, parse};
pub use text::{
    eq_folded, fold, fold_char, index_text, is_word_char, number, occurrences, strip_ansi, tokens,
};

/// A parsed and checked query with its source text.
#[derive(Debug, Clone)]
pub struct Query {
    text: String,
    expr: Expr,
}

impl Query {
    /// The query that matches everything.
    pub fn all() -> Self {
        Self {
            text: String::new(),
            expr: Expr::All,
        }
    }

    /// Reads a query; see [`parse`].
    ///
    /// # Errors
    /// The first place that does not parse.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse(text)
    }

    /// A query built by code; its text is the canonical one.
    pub fn from_expr(expr: Expr) -> Self {
        Self {
            text: expr.to_string(),
            expr,
        }
    }

    /// Matches what this query and `other` match: for filters that come beside the text.
    #[must_use]
    pub fn and(self, other: Expr) -> Self {
        if other == Expr::All {
            return self;
        }
        Self::from_expr(Expr::all_of([self.expr, other]))
    }

    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The text as the user wrote it; the canonical text when filters were added.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the entry matches.
    pub fn matches(&self, entry: &impl Record) -> bool {
        self.expr.matches(entry)
    }

    /// The fields it asks about, each once: attributes that no entry has explain an empty answer.
    pub fn fields(&self) -> Vec<&Field> {
        fn collect<'e>(expr: &'e Expr, fields: &mut Vec<&'e Field>) {
            match expr {
                Expr::And(parts) | Expr::Or(parts) => {
                    for part in parts {
                        collect(part, fields);
                    }
                }
                Expr::Not(inner) => collect(inner, fields),
                Expr::Field(field, _) => fields.push(field),
                Expr::All | Expr::Message(_) => {}
            }
        }
        let mut fields = Vec::new();
        collect(&self.expr, &mut fields);
        fields.sort_unstable();
        fields.dedup();
        fields
    }
}

/// The canonical text: parses to the same tree, whatever way the user wrote it.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

#[cfg(test)]
mod tests;
