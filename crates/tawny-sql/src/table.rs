//! The table `logs` as DataFusion sees it: what it takes over of a statement's filters, and how it is read.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{config::ConfigOptions, tree_node::TreeNodeRecursion},
    datasource::TableType,
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_expr::EquivalenceProperties,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{
            ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
        },
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tawny_model::Timestamp;
use tawny_query::Query;
use tawny_store::{Filter, LogStore, Rows, ScanRequest};
use tokio::sync::OnceCell;

use crate::{columns::Columns, filter::Reach, narrowing::Narrowing};

/// All log entries.
#[derive(Debug)]
pub(crate) struct Logs {
    store: Arc<dyn LogStore>,
    columns: Columns,
    schema: SchemaRef,
    n_parts: usize,
    /// Whether filters are put to the store at all; off only in tests that compare.
    pushes_down: bool,
}

impl Logs {
    /// The table read by `n_parts` readers.
    pub(crate) fn new(
        store: Arc<dyn LogStore>,
        columns: Columns,
        n_parts: usize,
        pushes_down: bool,
    ) -> Self {
        Self {
            schema: columns.schema(),
            store,
            columns,
            n_parts,
            pushes_down,
        }
    }
}

#[async_trait]
impl TableProvider for Logs {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            let reach = Reach::of(filter, &self.columns);
            if !self.pushes_down || reach.is_unbounded() {
                TableProviderFilterPushDown::Unsupported
            } else if reach.is_exact {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let reach = filters
            .iter()
            .map(|filter| Reach::of(filter, &self.columns))
            .fold(Reach::all(), Reach::and);
        let schema = match projection {
            Some(places) => Arc::new(self.schema.project(places)?),
            None => Arc::clone(&self.schema),
        };
        let request = ScanRequest {
            filter: Filter {
                query: Query::from_expr(reach.query),
                from: reach.from,
                to: reach.to,
            },
            columns: self.columns.projected(projection.map(Vec::as_slice)),
            n_parts: self.n_parts,
            interest: None,
        };
        Ok(Arc::new(LogsExec::new(
            Arc::clone(&self.store),
            request,
            schema,
        )))
    }
}

/// Reads the store, once.
struct LogsExec {
    store: Arc<dyn LogStore>,
    request: ScanRequest,
    properties: Arc<PlanProperties>,
    narrowing: Vec<Arc<dyn PhysicalExpr>>,
    parts: Arc<Parts>,
}

/// The readers of a scan, each taken by one partition; opened by the first.
#[derive(Default)]
struct Parts(OnceCell<Mutex<Vec<Option<Rows>>>>);

impl LogsExec {
    fn new(store: Arc<dyn LogStore>, request: ScanRequest, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(request.n_parts),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            store,
            request,
            properties: Arc::new(properties),
            narrowing: Vec::new(),
            parts: Arc::default(),
        }
    }

    /// The same, not begun, with these filters beside those it has.
    fn narrowed_by(&self, filters: &[Arc<dyn PhysicalExpr>]) -> Self {
        let narrowing: Vec<_> = self.narrowing.iter().chain(filters).cloned().collect();
        Self {
            store: Arc::clone(&self.store),
            request: ScanRequest {
                interest: Narrowing::of(&narrowing),
                ..self.request.clone()
            },
            properties: Arc::clone(&self.properties),
            narrowing,
            parts: Arc::default(),
        }
    }
}

impl fmt::Debug for LogsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogsExec")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for LogsExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Filter { query, from, to } = &self.request.filter;
        let schema = self.properties.eq_properties.schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        write!(
            f,
            "LogsExec: columns=[{}], query=[{}]",
            names.join(", "),
            query.text()
        )?;
        if *from != Timestamp::MIN {
            write!(f, ", from={from}")?;
        }
        if *to != Timestamp::MAX {
            write!(f, ", to={to}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for LogsExec {
    fn name(&self) -> &'static str {
        "LogsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for narrowing in &self.narrowing {
            if f(narrowing)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.narrowed_by(&[])))
    }

    /// Filters that get narrower while rows are read tell which times are still of interest. They stay with who made
    /// them: what is read may be more.
    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        found: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters: Vec<_> = found.parent_filters.into_iter().map(|f| f.filter).collect();
        let answers = filters.iter().map(|_| PushedDown::No).collect();
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(answers);
        if filters.is_empty() {
            return Ok(answer);
        }
        Ok(answer.with_updated_node(Arc::new(self.narrowed_by(&filters))))
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (store, request) = (Arc::clone(&self.store), self.request.clone());
        let parts = Arc::clone(&self.parts);
        let schema = self.schema();
        let named = Arc::clone(&schema);
        let rows = stream::once(async move {
            let opened = parts.0.get_or_try_init(async || {
                let parts = store.scan(request).await.map_err(external)?;
                Ok::<_, DataFusionError>(Mutex::new(parts.into_iter().map(Some).collect()))
            });
            let mut parts = opened.await?.lock().unwrap_or_else(PoisonError::into_inner);
            let part = parts.get_mut(partition).and_then(Option::take);
            // Rows are dealt to partitions as they come: a second reading would deal them otherwise.
            let part = part.ok_or_else(|| {
                DataFusionError::NotImplemented(
                    "the statement reads one mention of `logs` twice; write it in another way"
                        .to_owned(),
                )
            })?;
            Ok::<_, DataFusionError>(part.map_err(external).boxed())
        })
        .try_flatten()
        .and_then(move |batch| std::future::ready(renamed(batch, &named)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// A batch of the store with the table's names.
fn renamed(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let (_, arrays, _) = batch.into_parts();
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        arrays,
        &options,
    )?)
}

fn external(error: tawny_store::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
