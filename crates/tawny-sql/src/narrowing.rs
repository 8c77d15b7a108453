//! Filters that get narrower while rows are read, as the one of a sort that keeps the newest: which times they leave.

use std::sync::Arc;

use datafusion::{
    logical_expr::Operator,
    physical_plan::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, IsNullExpr, Literal},
    },
    scalar::ScalarValue,
};
use tawny_model::Timestamp;
use tawny_store::Interest;

/// The filters that may speak of times.
#[derive(Debug)]
pub(crate) struct Narrowing(Vec<Arc<dyn PhysicalExpr>>);

/// Times, both inclusive; none where the first is behind the last.
type Times = (i64, i64);

const ALL: Times = (i64::MIN, i64::MAX);
const NONE: Times = (i64::MAX, i64::MIN);

impl Narrowing {
    /// `None` where there is nothing to ask.
    pub(crate) fn of(filters: &[Arc<dyn PhysicalExpr>]) -> Option<Arc<dyn Interest>> {
        if filters.is_empty() {
            return None;
        }
        Some(Arc::new(Self(filters.to_vec())))
    }
}

impl Interest for Narrowing {
    fn times(&self) -> (Timestamp, Timestamp) {
        let all = self.0.iter().map(times);
        let (first, last) = all.fold(ALL, and);
        (Timestamp::from_nanos(first), Timestamp::from_nanos(last))
    }
}

fn and(a: Times, b: Times) -> Times {
    (a.0.max(b.0), a.1.min(b.1))
}

fn or(a: Times, b: Times) -> Times {
    (a.0.min(b.0), a.1.max(b.1))
}

/// The times of the rows it can be true of, or more.
fn times(expr: &Arc<dyn PhysicalExpr>) -> Times {
    if let Some(dynamic) = expr.downcast_ref::<DynamicFilterPhysicalExpr>() {
        return dynamic.current().map_or(ALL, |expr| times(&expr));
    }
    if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
        // A time is never null.
        return if is_time(is_null.arg()) { NONE } else { ALL };
    }
    let Some(binary) = expr.downcast_ref::<BinaryExpr>() else {
        return ALL;
    };
    match binary.op() {
        Operator::And => and(times(binary.left()), times(binary.right())),
        Operator::Or => or(times(binary.left()), times(binary.right())),
        op if is_time(binary.left()) => match (op, nanoseconds(binary.right())) {
            (Operator::Gt, Some(ns)) => ns.checked_add(1).map_or(NONE, |ns| (ns, i64::MAX)),
            (Operator::GtEq, Some(ns)) => (ns, i64::MAX),
            (Operator::Lt, Some(ns)) => ns.checked_sub(1).map_or(NONE, |ns| (i64::MIN, ns)),
            (Operator::LtEq, Some(ns)) => (i64::MIN, ns),
            (Operator::Eq, Some(ns)) => (ns, ns),
            _ => ALL,
        },
        _ => ALL,
    }
}

fn is_time(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Column>()
        .is_some_and(|column| column.name() == "timestamp")
}

fn nanoseconds(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::TimestampNanosecond(ns, _) => *ns,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;
    use datafusion::physical_plan::expressions::{binary, col, lit};

    use super::*;
    use crate::columns::Columns;

    #[test]
    fn a_filter_leaves_the_times_it_can_be_true_of() {
        let schema: Schema = (*Columns::fixed().schema()).clone();
        let time = || col("timestamp", &schema).unwrap();
        let ns = |ns: i64| {
            lit(ScalarValue::TimestampNanosecond(
                Some(ns),
                Some("UTC".into()),
            ))
        };
        let compared = |op, n| binary(time(), op, ns(n), &schema).unwrap();
        let both = |op, a, b| binary(a, op, b, &schema).unwrap();
        let null = || Arc::new(IsNullExpr::new(time())) as Arc<dyn PhysicalExpr>;
        let other =
            || Arc::new(IsNullExpr::new(col("pod", &schema).unwrap())) as Arc<dyn PhysicalExpr>;
        let dynamic = Arc::new(DynamicFilterPhysicalExpr::new(vec![time()], lit(true)));
        let shared = || Arc::<DynamicFilterPhysicalExpr>::clone(&dynamic) as Arc<dyn PhysicalExpr>;
        assert_eq!(times(&shared()), ALL);
        dynamic.update(compared(Operator::Gt, 5)).unwrap();
        for (expr, expected) in [
            (shared(), (6, i64::MAX)),
            (compared(Operator::LtEq, 9), (i64::MIN, 9)),
            (
                both(Operator::Or, null(), compared(Operator::GtEq, 5)),
                (5, i64::MAX),
            ),
            (
                both(Operator::Or, other(), compared(Operator::GtEq, 5)),
                ALL,
            ),
            (
                both(Operator::And, other(), compared(Operator::Eq, 5)),
                (5, 5),
            ),
            (
                both(Operator::And, shared(), compared(Operator::Lt, 8)),
                (6, 7),
            ),
            (null(), NONE),
        ] {
            assert_eq!(times(&expr), expected, "{expr}");
        }
    }
}
