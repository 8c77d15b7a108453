//! Which rows of a decoded block match. Works column by column; says what the matcher says of each row.

use tawny_model::Severity;
use tawny_query::{Expr, Field};

use super::{
    residual::{Class, Outcome, Rest},
    scan,
};
use crate::lake::run::{AttributeColumns, Block, Columns};

/// Columns that deciding needs.
pub(super) fn columns_of(expr: &Expr) -> Columns {
    let mut columns = Columns::default();
    match expr {
        Expr::And(parts) | Expr::Or(parts) => {
            for part in parts {
                columns.include(&columns_of(part));
            }
        }
        Expr::Not(inner) => columns = columns_of(inner),
        Expr::Message(_) => columns.message = true,
        Expr::Field(Field::Output, _) => columns.output = true,
        Expr::Field(Field::Attribute(key), _) => {
            columns.attributes = AttributeColumns::Some(vec![key.clone()]);
        }
        _ => {}
    }
    columns
}

/// The rows, of those given, that match. Rows are counted within the block, ascending; so is the answer.
///
/// The block has the columns of the class.
pub(super) fn matching_rows(class: &Class, block: &Block, rows: Vec<u32>) -> Vec<u32> {
    match class.uniform() {
        Some(outcome) => of_outcome(outcome, block, rows),
        None => {
            let mut by_severity: [Vec<u32>; Severity::ALL.len()] = Default::default();
            let severities = block.severities.as_deref().expect("the class asked for it");
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
                        (Outcome::Rest(a), Outcome::Rest(b)) => std::sync::Arc::ptr_eq(a, b),
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
        Outcome::Rest(rest) => of_rest(rest, block, rows),
    }
}

fn of_rest(rest: &Rest, block: &Block, rows: Vec<u32>) -> Vec<u32> {
    of_expr(&rest.expr, block, rows)
}

fn of_expr(expr: &Expr, block: &Block, mut rows: Vec<u32>) -> Vec<u32> {
    if rows.is_empty() {
        return rows;
    }
    match expr {
        Expr::All => rows,
        Expr::And(parts) => {
            for part in parts {
                rows = of_expr(part, block, rows);
            }
            rows
        }
        Expr::Or(parts) => {
            let mut found = Vec::new();
            for part in parts {
                let more = of_expr(part, block, rows.clone());
                rows = without(&rows, &more);
                found.extend(more);
            }
            found.sort_unstable();
            found
        }
        Expr::Not(inner) => {
            let found = of_expr(inner, block, rows.clone());
            without(&rows, &found)
        }
        Expr::Message(test) => {
            let messages = block.messages.as_ref().expect("the class asked for it");
            scan::matching_rows(test, messages, rows)
        }
        Expr::Field(Field::Output, test) => {
            let outputs = block.outputs.as_deref().expect("the class asked for it");
            rows.retain(|row| test.matches(Some(outputs[*row as usize].name())));
            rows
        }
        Expr::Field(Field::Attribute(key), test) => {
            let attributes = block.attributes.as_deref().expect("the class asked for it");
            rows.retain(|row| test.matches(attributes.get(*row as usize, key)));
            rows
        }
        other => unreachable!("`{other}` was decided by stream and severity"),
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
