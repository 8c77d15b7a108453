//! What can go wrong with a statement, and what to do about it.

use std::time::Duration;

use datafusion::{
    common::SchemaError, error::DataFusionError, sql::sqlparser::parser::ParserError,
};
use tawny_model::{ByteSize, Remedy};
use tawny_query::ParseError;

/// A statement that was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `line` and `column` count from 1.
    #[error("SQL does not parse: {reason}{}", place(*.line, *.column))]
    Syntax {
        line: Option<usize>,
        column: Option<usize>,
        reason: String,
    },
    #[error("SQL of {len_bytes} bytes exceeds limit of {limit_bytes} bytes")]
    TooLong {
        len_bytes: usize,
        limit_bytes: usize,
    },
    #[error(
        "SQL is read-only here: {statement} is refused; ask with SELECT, WITH, EXPLAIN, DESCRIBE or SHOW TABLES"
    )]
    ReadOnly { statement: String },
    #[error("{n} statements were sent; send one")]
    Several { n: usize },
    #[error("matches('{text}'): {source}")]
    Query {
        text: String,
        #[source]
        source: ParseError,
    },
    #[error("matches takes a query as text, such as matches('level>=warn timeout'), not {found}")]
    NoQuery { found: String },
    #[error("{reason}")]
    Invalid { reason: String },
    #[error(
        "the statement needs more memory than SQL may take ({limit} for all statements); narrow it down, or group \
         or sort fewer rows"
    )]
    Memory { limit: ByteSize },
    #[error("the statement took longer than {allowed:?}; ask for less time or fewer rows")]
    Time { allowed: Duration },
    #[error("the statement failed: {reason}")]
    Internal { reason: String },
    #[error(transparent)]
    Store(#[from] tawny_store::Error),
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
        _ => String::new(),
    }
}

impl Error {
    /// The caller's next step; exhaustive, so a new variant must choose.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Syntax { .. }
            | Self::TooLong { .. }
            | Self::ReadOnly { .. }
            | Self::Several { .. }
            | Self::Query { .. }
            | Self::NoQuery { .. }
            | Self::Invalid { .. }
            | Self::Memory { .. } => Remedy::Reject,
            Self::Time { .. } | Self::Internal { .. } => Remedy::Retry,
            Self::Store(error) => error.remedy(),
        }
    }

    /// What DataFusion says, in our words.
    pub(crate) fn of(error: DataFusionError, memory: ByteSize) -> Self {
        match error {
            DataFusionError::Context(_, error) | DataFusionError::Diagnostic(_, error) => {
                Self::of(*error, memory)
            }
            DataFusionError::Collection(mut errors) if !errors.is_empty() => {
                Self::of(errors.swap_remove(0), memory)
            }
            DataFusionError::External(error) => match error.downcast::<tawny_store::Error>() {
                Ok(error) => Self::Store(*error),
                Err(error) => Self::Internal {
                    reason: error.to_string(),
                },
            },
            DataFusionError::SQL(error, _) => syntax(*error),
            DataFusionError::ResourcesExhausted(_) => Self::Memory { limit: memory },
            DataFusionError::SchemaError(error, _) => Self::Invalid {
                reason: schema_text(&error),
            },
            DataFusionError::Plan(reason)
            | DataFusionError::NotImplemented(reason)
            | DataFusionError::Configuration(reason)
            | DataFusionError::Execution(reason) => Self::Invalid { reason },
            DataFusionError::ArrowError(error, _) => Self::Invalid {
                reason: error.to_string(),
            },
            DataFusionError::Shared(error) => match std::sync::Arc::try_unwrap(error) {
                Ok(error) => Self::of(error, memory),
                Err(error) => shared(error.find_root(), memory),
            },
            error => Self::Internal {
                reason: error.strip_backtrace(),
            },
        }
    }
}

/// An error that others hold, too.
fn shared(error: &DataFusionError, memory: ByteSize) -> Error {
    match error {
        DataFusionError::ResourcesExhausted(_) => Error::Memory { limit: memory },
        DataFusionError::Execution(reason) | DataFusionError::Plan(reason) => Error::Invalid {
            reason: reason.clone(),
        },
        DataFusionError::ArrowError(error, _) => Error::Invalid {
            reason: error.to_string(),
        },
        DataFusionError::NotImplemented(reason) => Error::Invalid {
            reason: reason.clone(),
        },
        DataFusionError::SchemaError(error, _) => Error::Invalid {
            reason: schema_text(error),
        },
        DataFusionError::External(error) => match error.downcast_ref::<tawny_store::Error>() {
            Some(error) => Error::Store(error.again()),
            None => Error::Internal {
                reason: error.to_string(),
            },
        },
        error => Error::Internal {
            reason: error.strip_backtrace(),
        },
    }
}

fn schema_text(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, .. } => {
            format!("there is no column `{}`", field.flat_name())
        }
        SchemaError::AmbiguousReference { field } => format!(
            "column `{}` is in several tables; write which one is meant",
            field.name()
        ),
        error => error.to_string(),
    }
}

/// The parser ends its message with the place, if it knows it.
fn syntax(error: ParserError) -> Error {
    let (ParserError::TokenizerError(text) | ParserError::ParserError(text)) = error else {
        return Error::Syntax {
            line: None,
            column: None,
            reason: "it nests too deeply".to_owned(),
        };
    };
    let place = text.rsplit_once(" at Line: ").and_then(|(reason, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((
            reason,
            line.trim().parse().ok()?,
            column.trim().parse().ok()?,
        ))
    });
    match place {
        Some((reason, line, column)) => Error::Syntax {
            line: Some(line),
            column: Some(column),
            reason: reason.to_owned(),
        },
        None => Error::Syntax {
            line: None,
            column: None,
            reason: text,
        },
    }
}

impl From<ParserError> for Error {
    fn from(error: ParserError) -> Self {
        syntax(error)
    }
}
