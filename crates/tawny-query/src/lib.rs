//! The query language: lex, parse, check, match one entry
