//! SQL predicates in the words of the query language: a predicate in, the rows it can be true of out. Pure.
//!
//! A row that SQL keeps is never left out. SQL has three truths, so each predicate is asked when it is true and, under a
//! `NOT`, when it is false; a null answers neither.

use datafusion::{
    logical_expr::{Between, BinaryExpr, Expr, Like, Operator, expr::InList},
    scalar::ScalarValue,
};
use tawny_model::{Output, Severity, Timestamp};
use tawny_query::{Comparison, Expr as Query, Field, FieldTest, Regex, TextTest, fold};
use tawny_store::Column;

use crate::columns::Columns;

/// Texts longer than this, together, are not made into one regular expression.
const MAX_TEXT_BYTES: usize = 16 << 10;

/// Whole numbers up to here are exact as the numbers of the query language.
const MAX_EXACT: i64 = 1 << 53;

/// A set of rows: those that match the query within the times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reach {
    pub(crate) query: Query,
    /// Inclusive.
    pub(crate) from: Timestamp,
    /// Exclusive; [`Timestamp::MAX`] is open.
    pub(crate) to: Timestamp,
    /// Whether it holds just the rows of the predicate; else more.
    pub(crate) is_exact: bool,
}

impl Reach {
    /// The rows this predicate is true of, or more.
    pub(crate) fn of(expr: &Expr, columns: &Columns) -> Self {
        Translator { columns }.reach(expr, true)
    }

    pub(crate) fn all() -> Self {
        Self::exact(Query::All)
    }

    fn exact(query: Query) -> Self {
        Self {
            query,
            from: Timestamp::MIN,
            to: Timestamp::MAX,
            is_exact: true,
        }
    }

    fn nothing() -> Self {
        Self::exact(Query::All.negate())
    }

    /// No more is known than that the rows match this.
    fn within(query: Query) -> Self {
        Self {
            is_exact: false,
            ..Self::exact(query)
        }
    }

    fn unknown() -> Self {
        Self::within(Query::All)
    }

    fn if_(holds: bool) -> Self {
        if holds { Self::all() } else { Self::nothing() }
    }

    /// Whether it says nothing.
    pub(crate) fn is_unbounded(&self) -> bool {
        *self == Self::unknown()
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            query: Query::all_of([self.query, other.query]),
            from: self.from.max(other.from),
            to: self.to.min(other.to),
            is_exact: self.is_exact && other.is_exact,
        }
    }

    fn or(self, other: Self) -> Self {
        if self == Self::nothing() {
            return other;
        }
        if other == Self::nothing() {
            return self;
        }
        let is_one_time = (self.from, self.to) == (other.from, other.to);
        Self {
            query: Query::any_of([self.query, other.query]),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            is_exact: self.is_exact && other.is_exact && is_one_time,
        }
    }
}

struct Translator<'c> {
    columns: &'c Columns,
}

impl Translator<'_> {
    /// The rows of which the predicate is `wanted`, or more.
    fn reach(&self, expr: &Expr, wanted: bool) -> Reach {
        match expr {
            Expr::Alias(alias) => self.reach(&alias.expr, wanted),
            Expr::Literal(ScalarValue::Boolean(Some(value)), _) => Reach::if_(*value == wanted),
            Expr::Literal(value, _) if value.is_null() => Reach::nothing(),
            Expr::Not(inner) => self.reach(inner, !wanted),
            Expr::IsTrue(inner) if wanted => self.reach(inner, true),
            Expr::IsFalse(inner) if wanted => self.reach(inner, false),
            Expr::IsNull(inner) => self.is_null(inner, wanted),
            Expr::IsNotNull(inner) => self.is_null(inner, !wanted),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And | Operator::Or => {
                    let (left, right) = (self.reach(left, wanted), self.reach(right, wanted));
                    if (*op == Operator::And) == wanted {
                        left.and(right)
                    } else {
                        left.or(right)
                    }
                }
                op => self.compared(left, *op, right, wanted),
            },
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) => {
                let is_within = wanted != *negated;
                let low = self.compared(expr, Operator::GtEq, low, is_within);
                let high = self.compared(expr, Operator::LtEq, high, is_within);
                if is_within {
                    low.and(high)
                } else {
                    low.or(high)
                }
            }
            Expr::InList(InList {
                expr,
                list,
                negated,
            }) => self.in_list(expr, list, wanted != *negated),
            Expr::Like(like) => self.like(like, wanted),
            Expr::Column(column) => match self.columns.get(&column.name) {
                Some(Column::Matches(query)) if wanted => Reach::exact((**query).clone()),
                Some(Column::Matches(query)) => Reach::exact((**query).clone().negate()),
                _ => Reach::unknown(),
            },
            _ => Reach::unknown(),
        }
    }

    fn column(&self, expr: &Expr) -> Option<&Column> {
        match expr {
            Expr::Column(column) => self.columns.get(&column.name),
            Expr::Alias(alias) => self.column(&alias.expr),
            _ => None,
        }
    }

    fn is_null(&self, expr: &Expr, wanted: bool) -> Reach {
        match self.column(expr) {
            Some(column) if !column.is_nullable() => Reach::if_(!wanted),
            Some(Column::Field(field)) => {
                let test = if wanted {
                    FieldTest::Absent
                } else {
                    FieldTest::Exists
                };
                Reach::exact(Query::Field(field.clone(), test))
            }
            _ => Reach::unknown(),
        }
    }

    fn compared(&self, left: &Expr, op: Operator, right: &Expr, wanted: bool) -> Reach {
        let (operand, op, value) = match (left, right) {
            (operand, Expr::Literal(value, _)) => (operand, op, value),
            (Expr::Literal(value, _), operand) => match op.swap() {
                Some(op) => (operand, op, value),
                None => return Reach::unknown(),
            },
            _ => return Reach::unknown(),
        };
        let comparison = match op {
            Operator::Eq => Some(Comparison::Equal),
            Operator::NotEq => Some(Comparison::NotEqual),
            Operator::Lt => Some(Comparison::Less),
            Operator::LtEq => Some(Comparison::LessOrEqual),
            Operator::Gt => Some(Comparison::Greater),
            Operator::GtEq => Some(Comparison::GreaterOrEqual),
            Operator::RegexMatch | Operator::RegexNotMatch => None,
            _ => return Reach::unknown(),
        };
        if value.is_null() {
            return Reach::nothing();
        }
        let Some(column) = self.column(operand) else {
            return self.only_where_there(operand);
        };
        // None of these columns is ever null, so that the opposite is the whole negation.
        let always = comparison.map(|c| if wanted { c } else { c.opposite() });
        match (column, always, value) {
            (Column::Timestamp, Some(comparison), value) => {
                nanoseconds(value).map_or_else(Reach::unknown, |ns| times(comparison, ns))
            }
            (Column::SeverityNumber, Some(comparison), ScalarValue::Int64(Some(number))) => {
                severities(|severity| comparison.holds(i64::from(severity.number()), *number))
            }
            (Column::Field(Field::Restart), Some(comparison), ScalarValue::Int64(Some(number)))
                if number.abs() <= MAX_EXACT =>
            {
                #[expect(clippy::cast_precision_loss, reason = "it is small enough to be exact")]
                let test = FieldTest::Number(comparison, *number as f64);
                Reach::exact(Query::Field(Field::Restart, test))
            }
            (column, _, value) => match (text(value), comparison) {
                (Some(text), Some(comparison)) => text_compared(column, comparison, text, wanted),
                (Some(pattern), None) => {
                    let is_match = (op == Operator::RegexMatch) == wanted;
                    matching(column, pattern, Query::All, is_match)
                }
                _ => self.only_where_there(operand),
            },
        }
    }

    /// Comparisons, casts and the like answer nothing of what is null.
    fn only_where_there(&self, operand: &Expr) -> Reach {
        match operand {
            Expr::Cast(cast) => self.only_where_there(&cast.expr),
            Expr::TryCast(cast) => self.only_where_there(&cast.expr),
            Expr::Alias(alias) => self.only_where_there(&alias.expr),
            Expr::Column(_) => match self.column(operand) {
                Some(column) => Reach::within(there(column)),
                None => Reach::unknown(),
            },
            _ => Reach::unknown(),
        }
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], is_in: bool) -> Reach {
        let Some(column) = self.column(expr) else {
            return self.only_where_there(expr);
        };
        let mut texts = Vec::new();
        for item in list {
            match item {
                // Who is not found in a list with a null is unknown.
                Expr::Literal(value, _) if value.is_null() && !is_in => return Reach::nothing(),
                Expr::Literal(value, _) if value.is_null() => {}
                Expr::Literal(value, _) => match text(value) {
                    Some(text) => texts.push(text),
                    None => return self.in_list_one_by_one(expr, list, is_in),
                },
                _ => return Reach::within(there(column)),
            }
        }
        one_of(column, &texts, is_in)
    }

    fn in_list_one_by_one(&self, expr: &Expr, list: &[Expr], is_in: bool) -> Reach {
        let each = list
            .iter()
            .map(|item| self.compared(expr, Operator::Eq, item, is_in));
        if is_in {
            each.fold(Reach::nothing(), Reach::or)
        } else {
            each.fold(Reach::all(), Reach::and)
        }
    }

    fn like(&self, like: &Like, wanted: bool) -> Reach {
        let Like {
            negated,
            expr,
            pattern,
            escape_char,
            case_insensitive,
        } = like;
        let Some(column) = self.column(expr) else {
            return self.only_where_there(expr);
        };
        let pattern = match &**pattern {
            Expr::Literal(value, _) if value.is_null() => return Reach::nothing(),
            Expr::Literal(value, _) => text(value),
            _ => None,
        };
        let is_match = wanted != *negated;
        match pattern {
            Some(pattern)
                if escape_char.is_none()
                    && !pattern.contains('\\')
                    && pattern.len() <= MAX_TEXT_BYTES =>
            {
                let regex = like_regex(pattern);
                if *case_insensitive {
                    // What letters are the same is not the same everywhere: more are here.
                    let more = matching(column, &format!("(?i){regex}"), Query::All, true);
                    return if is_match {
                        Reach::within(more.query)
                    } else {
                        Reach::within(there(column))
                    };
                }
                let literal = pattern
                    .split(['%', '_'])
                    .max_by_key(|part| part.len())
                    .unwrap_or_default();
                matching(column, &regex, part_of(column, literal), is_match)
            }
            _ => Reach::within(there(column)),
        }
    }
}

/// Rows that have a value in the column.
fn there(column: &Column) -> Query {
    match column {
        Column::Field(field) if column.is_nullable() => {
            Query::Field(field.clone(), FieldTest::Exists)
        }
        _ => Query::All,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::Utf8View(Some(text))
        | ScalarValue::LargeUtf8(Some(text)) => Some(text),
        _ => None,
    }
}

fn nanoseconds(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampNanosecond(value, _) => *value,
        _ => None,
    }
}

fn times(comparison: Comparison, ns: i64) -> Reach {
    let at = Timestamp::from_nanos(ns);
    let next = ns.checked_add(1).map(Timestamp::from_nanos);
    let all = Reach::all();
    match comparison {
        Comparison::GreaterOrEqual => Reach { from: at, ..all },
        Comparison::Greater => match next {
            Some(from) => Reach { from, ..all },
            None => Reach::nothing(),
        },
        // The end of time cannot be left out by a range.
        Comparison::Less => Reach {
            to: at,
            is_exact: at != Timestamp::MAX,
            ..all
        },
        Comparison::LessOrEqual => Reach {
            to: next.unwrap_or(Timestamp::MAX),
            ..all
        },
        Comparison::Equal => Reach {
            from: at,
            to: next.unwrap_or(Timestamp::MAX),
            ..all
        },
        Comparison::NotEqual => Reach::unknown(),
    }
}

fn severities(is_wanted: impl Fn(Severity) -> bool) -> Reach {
    let wanted = Severity::ALL
        .into_iter()
        .filter(|severity| is_wanted(*severity));
    let tests = wanted.map(|severity| {
        let test = FieldTest::Severity(Comparison::Equal, severity);
        Query::Field(Field::Severity, test)
    });
    let tests: Vec<Query> = tests.collect();
    if tests.len() == Severity::ALL.len() {
        return Reach::all();
    }
    Reach::exact(Query::any_of(tests))
}

fn outputs(is_wanted: impl Fn(&str) -> bool) -> Reach {
    let names = [Output::Stdout, Output::Stderr].map(Output::name);
    match names.map(is_wanted) {
        [true, true] => Reach::all(),
        [false, false] => Reach::nothing(),
        [is_stdout, _] => {
            let name = if is_stdout { names[0] } else { names[1] };
            Reach::exact(Query::equals(Field::Output, name))
        }
    }
}

fn text_compared(column: &Column, comparison: Comparison, text: &str, wanted: bool) -> Reach {
    let holds = |value: &str| comparison.holds(value, text) == wanted;
    match (column, comparison) {
        (Column::Field(Field::Severity), _) => severities(|severity| holds(severity.name())),
        (Column::Field(Field::Output), _) => outputs(holds),
        (_, Comparison::Equal) => one_of(column, &[text], wanted),
        (_, Comparison::NotEqual) => one_of(column, &[text], !wanted),
        _ => Reach::within(there(column)),
    }
}

/// Rows whose value is one of these texts, or is there and is none of them.
fn one_of(column: &Column, texts: &[&str], is_in: bool) -> Reach {
    let is_wanted = |value: &str| texts.contains(&value) == is_in;
    match column {
        Column::Field(Field::Severity) => return severities(|s| is_wanted(s.name())),
        Column::Field(Field::Output) => return outputs(is_wanted),
        _ => {}
    }
    let n_bytes: usize = texts.iter().map(|text| text.len()).sum();
    let about = Query::any_of(texts.iter().map(|text| match column {
        // The name alone is not the value, and a value always has the sign between kind and name.
        Column::Field(Field::Workload) if !text.contains('/') => Query::All.negate(),
        Column::Field(field) => Query::equals(field.clone(), text),
        column => part_of(column, text),
    }));
    // Nothing but letters has another case.
    let is_caseless = |text: &&str| {
        text.chars()
            .all(|c| c.is_ascii() && !c.is_ascii_alphabetic())
    };
    if matches!(column, Column::Field(_)) && texts.iter().all(is_caseless) {
        return Reach::exact(if is_in {
            about
        } else {
            Query::all_of([there(column), about.negate()])
        });
    }
    if n_bytes > MAX_TEXT_BYTES {
        return Reach::within(if is_in { about } else { there(column) });
    }
    let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
    let pattern = format!(r"\A(?:{})\z", texts.join("|"));
    matching(column, &pattern, about, is_in)
}

/// Rows whose value has a match of the pattern, or is there and has none. `about` holds all that have one.
fn matching(column: &Column, pattern: &str, about: Query, is_match: bool) -> Reach {
    if pattern.len() > 2 * MAX_TEXT_BYTES {
        return Reach::within(there(column));
    }
    let pattern = match column {
        // A test that names no kind would be of the name alone.
        Column::Field(Field::Workload) => format!("(?:{pattern})(?:/{{0}})"),
        _ => pattern.to_owned(),
    };
    let Ok(regex) = Regex::new(&pattern) else {
        return Reach::within(there(column));
    };
    let test = match column {
        Column::Field(Field::Severity) => {
            return severities(|severity| regex.is_match(severity.name()) == is_match);
        }
        Column::Field(Field::Output) => return outputs(|name| regex.is_match(name) == is_match),
        Column::Field(Field::Restart) => return Reach::unknown(),
        Column::Field(field) => Query::Field(field.clone(), FieldTest::Regex(regex)),
        Column::Message => Query::Message(TextTest::Regex(regex)),
        _ => return Reach::unknown(),
    };
    Reach::exact(if is_match {
        Query::all_of([about, test])
    } else {
        Query::all_of([there(column), test.negate()])
    })
}

/// Rows whose value holds this text, or more.
fn part_of(column: &Column, part: &str) -> Query {
    match column {
        Column::Message if !part.is_empty() => {
            Query::Message(TextTest::Substring(fold(part).into_owned()))
        }
        _ => Query::All,
    }
}

/// The pattern of `LIKE` as a regular expression.
fn like_regex(pattern: &str) -> String {
    let mut regex = String::from(r"(?s)\A");
    for c in pattern.chars() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push_str(r"\z");
    regex
}

#[cfg(test)]
mod tests;
