//! The query language: lex, parse, check, match one entry.

pub mod ast;

pub use ast::{Comparison, Expr, Field, FieldTest, Glob, Regex, TextTest};

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

    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The text as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }
}
