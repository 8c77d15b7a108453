//! From text to a plan: one statement that only reads, its `matches` and attributes bound to columns of `logs`.

use std::{ops::ControlFlow, sync::Arc};

use datafusion::{
    arrow::temporal_conversions::timestamp_ns_to_datetime,
    catalog::{
        CatalogProvider as _, MemoryCatalogProvider, MemoryCatalogProviderList,
        MemorySchemaProvider, SchemaProvider as _,
    },
    common::{Column as Reference, SchemaError},
    error::DataFusionError,
    execution::{
        context::SQLOptions,
        session_state::{SessionState, SessionStateBuilder},
    },
    logical_expr::LogicalPlan,
    sql::{
        parser::{DFParser, Statement},
        sqlparser::{
            ast::{
                self, ExcludeSelectItem, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
                Ident, ObjectName, SelectItem, SetExpr, TableFactor, VisitMut as _, VisitorMut,
            },
            dialect::GenericDialect,
        },
    },
};
use tawny_model::{ByteSize, Timestamp};
use tawny_query::Query;
use tawny_store::LogStore;

use crate::{Error, columns::Columns, table::Logs};

/// The only table.
const LOGS: &str = "logs";

/// The function that takes a query of Tawny's own.
const MATCHES: &str = "matches";

/// Longest statement.
pub(crate) const MAX_SQL_BYTES: usize = 16 << 10;

/// Most attributes one statement may name; each is a column of the table.
const MAX_EXTRA: usize = 200;

/// A statement that may be planned.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    statement: Statement,
    columns: Columns,
    /// Whether rows may be cut off: it is a query and not a question about one.
    pub(crate) is_query: bool,
}

/// Reads one statement.
///
/// # Errors
/// `Reject`: it does not parse, or would write.
pub(crate) fn check(sql: &str) -> Result<Checked, Error> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(Error::TooLong {
            len_bytes: sql.len(),
            limit_bytes: MAX_SQL_BYTES,
        });
    }
    let parsed = DFParser::parse_sql_with_dialect(sql, &GenericDialect {});
    let mut parsed = parsed.map_err(|error| Error::of(error, ByteSize(0)))?;
    let n = parsed.len();
    let (Some(mut statement), 1) = (parsed.pop_front(), n) else {
        return Err(Error::Several { n });
    };
    let is_query = check_reads(&statement)?;
    let mut columns = Columns::fixed();
    bind_matches(&mut statement, &mut columns)?;
    Ok(Checked {
        statement,
        columns,
        is_query,
    })
}

/// Whether it is a query; else it is a question about one.
fn check_reads(statement: &Statement) -> Result<bool, Error> {
    let refused = |statement: &dyn std::fmt::Display| {
        let text = statement.to_string();
        let words = text
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ");
        Err(Error::ReadOnly { statement: words })
    };
    match statement {
        Statement::Statement(inner) => match &**inner {
            ast::Statement::Query(query) if reads(&query.body) => Ok(true),
            ast::Statement::ExplainTable { .. }
            | ast::Statement::ShowTables { .. }
            | ast::Statement::ShowColumns { .. } => Ok(false),
            other => refused(other),
        },
        Statement::Explain(explain) => check_reads(&explain.statement).map(|_| false),
        other => refused(other),
    }
}

fn reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => reads(&query.body),
        SetExpr::SetOperation { left, right, .. } => reads(left) && reads(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        _ => false,
    }
}

/// Calls `visit` on each `SELECT` and each expression.
fn visit_mut(
    statement: &mut Statement,
    visitor: &mut impl VisitorMut<Break = Error>,
) -> Result<(), Error> {
    let flow = match statement {
        Statement::Statement(inner) => inner.visit(visitor),
        Statement::Explain(explain) => return visit_mut(&mut explain.statement, visitor),
        _ => ControlFlow::Continue(()),
    };
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Puts a column of answers in the place of each call of `matches`.
fn bind_matches(statement: &mut Statement, columns: &mut Columns) -> Result<(), Error> {
    struct Binder<'c>(&'c mut Columns);

    impl VisitorMut for Binder<'_> {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            let Expr::Function(function) = &*expr else {
                return ControlFlow::Continue(());
            };
            let [ast::ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
                return ControlFlow::Continue(());
            };
            if !name.value.eq_ignore_ascii_case(MATCHES) {
                return ControlFlow::Continue(());
            }
            match answers(&function.args, self.0) {
                Ok(bound) => {
                    *expr = bound;
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(error),
            }
        }
    }

    visit_mut(statement, &mut Binder(columns))
}

/// The column that answers `matches('…')`, or `matches(alias, '…')` where several tables are read.
fn answers(arguments: &FunctionArguments, columns: &mut Columns) -> Result<Expr, Error> {
    let no_query = || Error::NoQuery {
        found: arguments.to_string(),
    };
    let FunctionArguments::List(list) = arguments else {
        return Err(no_query());
    };
    let exprs: Option<Vec<&Expr>> = list
        .args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        })
        .collect();
    let (table, text) = match exprs.as_deref() {
        Some([text]) => (None, text),
        Some([Expr::Identifier(table), text]) => (Some(table.clone()), text),
        _ => return Err(no_query()),
    };
    let Expr::Value(ast::ValueWithSpan {
        value: ast::Value::SingleQuotedString(text) | ast::Value::EscapedStringLiteral(text),
        ..
    }) = text
    else {
        return Err(no_query());
    };
    let query = Query::parse(text).map_err(|source| Error::Query {
        text: text.clone(),
        source,
    })?;
    let name = format!("{MATCHES}('{}')", text.replace('\'', "''"));
    columns.add_query(&name, &query);
    let column = quoted(&name);
    Ok(match table {
        None => Expr::Identifier(column),
        Some(table) => Expr::CompoundIdentifier(vec![table, column]),
    })
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// Leaves the columns that only some expression names out of every `*` over the table.
fn narrow_wildcards(statement: &mut Statement, extra: &[String]) -> Result<(), Error> {
    struct Narrower<'e>(&'e [String]);

    impl Narrower<'_> {
        fn narrow(&self, options: &mut ast::WildcardAdditionalOptions) {
            let names = self
                .0
                .iter()
                .map(|name| ObjectName::from(vec![quoted(name)]));
            let mut names: Vec<ObjectName> = names.collect();
            match options.opt_exclude.take() {
                Some(ExcludeSelectItem::Single(name)) => names.push(name),
                Some(ExcludeSelectItem::Multiple(more)) => names.extend(more),
                None => {}
            }
            options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
        }
    }

    impl VisitorMut for Narrower<'_> {
        type Break = Error;

        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
            let tables = select.from.iter().flat_map(|from| {
                std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
            });
            // How each mention of the table is called here.
            let called: Vec<String> = tables
                .filter_map(|table| match table {
                    TableFactor::Table { name, alias, .. } if is_logs(name) => Some(
                        alias
                            .as_ref()
                            .map_or_else(|| LOGS.to_owned(), |alias| alias.name.value.clone()),
                    ),
                    _ => None,
                })
                .collect();
            for item in &mut select.projection {
                match item {
                    SelectItem::Wildcard(options) if !called.is_empty() => self.narrow(options),
                    SelectItem::QualifiedWildcard(
                        ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                        options,
                    ) if called.iter().any(|called| name.to_string() == *called) => {
                        self.narrow(options);
                    }
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        }
    }

    if extra.is_empty() {
        return Ok(());
    }
    visit_mut(statement, &mut Narrower(extra))
}

fn is_logs(name: &ObjectName) -> bool {
    matches!(
        name.0.last(),
        Some(ast::ObjectNamePart::Identifier(ident)) if ident.value.eq_ignore_ascii_case(LOGS)
    )
}

/// A statement bound to its table: the session it runs in, and what it does there.
pub(crate) struct Bound {
    pub(crate) state: SessionState,
    pub(crate) plan: LogicalPlan,
}

impl Checked {
    /// Plans the statement. What it names and no table has is a field or attribute of the logs.
    pub(crate) async fn bind(
        mut self,
        base: &SessionState,
        store: &Arc<dyn LogStore>,
        now: Timestamp,
        n_parts: usize,
        pushes_down: bool,
    ) -> Result<Bound, DataFusionError> {
        loop {
            let logs = Logs::new(
                Arc::clone(store),
                self.columns.clone(),
                n_parts,
                pushes_down,
            );
            let state = session(base, logs, now)?;
            let mut statement = self.statement.clone();
            if narrow_wildcards(&mut statement, self.columns.extra()).is_err() {
                return Err(DataFusionError::Internal("no visitor breaks".to_owned()));
            }
            let error = match state.statement_to_plan(statement).await {
                Ok(plan) => {
                    SQLOptions::new()
                        .with_allow_ddl(false)
                        .with_allow_dml(false)
                        .with_allow_statements(false)
                        .verify_plan(&plan)?;
                    return Ok(Bound { state, plan });
                }
                Err(error) => error,
            };
            let is_new = match missing(&error) {
                Some(Reference { name, .. }) if self.columns.extra().len() < MAX_EXTRA => {
                    self.columns.add(name)
                }
                _ => false,
            };
            if !is_new {
                return Err(error);
            }
        }
    }
}

/// The column that was not found.
fn missing(error: &DataFusionError) -> Option<&Reference> {
    match error.find_root() {
        DataFusionError::SchemaError(error, _) => match &**error {
            SchemaError::FieldNotFound { field, .. } => Some(field),
            _ => None,
        },
        DataFusionError::Collection(errors) => errors.iter().find_map(missing),
        DataFusionError::Diagnostic(_, error) | DataFusionError::Context(_, error) => {
            missing(error)
        }
        _ => None,
    }
}

/// A session whose only table is this, and whose time is `now`.
fn session(
    base: &SessionState,
    logs: Logs,
    now: Timestamp,
) -> Result<SessionState, DataFusionError> {
    let options = base.config_options();
    let schema = MemorySchemaProvider::new();
    schema.register_table(LOGS.to_owned(), Arc::new(logs))?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(&options.catalog.default_schema, Arc::new(schema))?;
    let catalogs = MemoryCatalogProviderList::new();
    datafusion::catalog::CatalogProviderList::register_catalog(
        &catalogs,
        options.catalog.default_catalog.clone(),
        Arc::new(catalog),
    );
    let mut state = SessionStateBuilder::new_from_existing(base.clone())
        .with_catalog_list(Arc::new(catalogs))
        .build();
    state.mark_start_execution();
    let now = timestamp_ns_to_datetime(now.as_nanos()).map(|now| now.and_utc());
    state.execution_props_mut().query_execution_start_time = now;
    Ok(state)
}
