//! Which rows of a decoded block match. Works column by column; says what the matcher says of each row.

use std::sync::Arc;

use arrow_array::Array as _;
use tawny_model::Severity;
use tawny_query::{Expr, Field, FieldTest};

use super::{
    residual::{Class, Outcome},
    scan::{Needle, Scan},
};
use crate::lake::{
    rows::HotRows,
    run::{AttributeColumns, Block, Columns},
};

/// What is left of a query, made ready to be put to blocks.
#[derive(Debug)]
pub(super) enum Test {
    All,
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Message(Scan),
    Output(FieldTest),
    Attribute {
        key: String,
        test: FieldTest,
        /// What its value must hold.
        needle: Option<Needle>,
    },
}

impl Test {
    /// Of an expression whose tests of stream and severity were decided.
    pub(super) fn of(expr: &Expr) -> Self {
        match expr {
            Expr::All => Self::All,
            Expr::And(parts) => Self::And(parts.iter().map(Self::of).collect()),
            Expr::Or(parts) => Self::Or(parts.iter().map(Self::of).collect()),
            Expr::Not(inner) => Self::Not(Box::new(Self::of(inner))),
            Expr::Message(test) => Self::Message(Scan::of(test)),
            Expr::Field(Field::Output, test) => Self::Output(test.clone()),
            Expr::Field(Field::Attribute(key), test) => Self::Attribute {
                key: key.clone(),
                needle: Needle::of_value(test),
                test: test.clone(),
            },
            other => unreachable!("`{other}` was decided by stream and severity"),
        }
    }

    /// Columns that deciding needs.
    pub(super) fn columns(&self) -> Columns {
        let mut columns = Columns::default();
        match self {
            Self::All => {}
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    columns.include(&part.columns());
                }
            }
            Self::Not(inner) => columns = inner.columns(),
            Self::Message(_) => columns.message = true,
            Self::Output(_) => columns.output = true,
            Self::Attribute { key, .. } => {
                columns.attributes = AttributeColumns::Some(vec![key.clone()]);
            }
        }
        columns
    }

    /// Whether any row of a batch may match for what it says.
    pub(super) fn may_match(&self, batch: &HotRows) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.may_match(batch)),
            Self::Or(parts) => parts.iter().any(|part| part.may_match(batch)),
            Self::Message(scan) => scan.may_match(batch),
            Self::Attribute { needle, .. } => {
                needle.as_ref().is_none_or(|needle| needle.may_be_in(batch))
            }
            Self::All | Self::Not(_) | Self::Output(_) => true,
        }
    }

    /// The rows that match, of those given.
    fn matching_rows(&self, block: &Block, mut rows: Vec<u32>) -> Vec<u32> {
        if rows.is_empty() {
            return rows;
        }
        match self {
            Self::All => rows,
            Self::And(parts) => {
                for part in parts {
                    rows = part.matching_rows(block, rows);
                }
                rows
            }
            Self::Or(parts) => {
                let mut found = Vec::new();
                for part in parts {
                    let more = part.matching_rows(block, rows.clone());
                    rows = without(&rows, &more);
                    found.extend(more);
                }
                found.sort_unstable();
                found
            }
            Self::Not(inner) => {
                let found = inner.matching_rows(block, rows.clone());
                without(&rows, &found)
            }
            Self::Message(scan) => {
                let messages = block.messages();
                scan.matching_rows(messages, rows)
            }
            Self::Output(test) => {
                let outputs = block.outputs();
                rows.retain(|row| test.matches(Some(outputs[*row as usize].name())));
                rows
            }
            Self::Attribute { key, test, .. } => {
                let attributes = block.attributes();
                match attributes.column(key) {
                    Some(column) => rows.retain(|row| {
                        let row = *row as usize;
                        test.matches(column.is_valid(row).then(|| column.value(row)))
                    }),
                    None => rows.retain(|row| test.matches(attributes.get(*row as usize, key))),
                }
                rows
            }
        }
    }
}

/// The rows, of those given, that match. Rows are counted within the block, ascending; so is the answer.
///
/// The block has the columns of the class.
pub(super) fn matching_rows(class: &Class, block: &Block, rows: Vec<u32>) -> Vec<u32> {
    match class.uniform() {
        Some(outcome) => of_outcome(outcome, block, rows),
        None => {
            let mut by_severity: [Vec<u32>; Severity::ALL.len()] = Default::default();
            let severities = block.severities();
            for row in rows {
                by_severity[usize::from(severities[row as usize].number())].push(row);
            }
            let mut matching = Vec::new();
            // Severities of one outcome are looked at together.
            let mut undone: Vec<(Severity, Vec<u32>)> =
                Severity::ALL.into_iter().zip(by_severity).collect();
            while let Some((severity, mut rows)) = undone.pop() {
                let outcome = class.outcome(severity);
                undone.retain_mut(|(other, more)| {
                    let is_same = match (outcome, class.outcome(*other)) {
                        (Outcome::Rest(a), Outcome::Rest(b)) => Arc::ptr_eq(a, b),
                        _ => false,
                    };
                    if is_same {
                        rows.append(more);
                    }
                    !is_same
                });
                rows.sort_unstable();
                matching.append(&mut of_outcome(outcome, block, rows));
            }
            matching.sort_unstable();
            matching
        }
    }
}

fn of_outcome(outcome: &Outcome, block: &Block, rows: Vec<u32>) -> Vec<u32> {
    match outcome {
        Outcome::Never => Vec::new(),
        Outcome::Always => rows,
        Outcome::Rest(rest) => rest.test.matching_rows(block, rows),
    }
}

/// Rows of `all` that are not in `some`; both ascend.
fn without(all: &[u32], some: &[u32]) -> Vec<u32> {
    let mut some = some.iter().peekable();
    let keep = |row: &&u32| {
        while some.next_if(|other| other < row).is_some() {}
        some.peek() != Some(row)
    };
    all.iter().filter(keep).copied().collect()
}
