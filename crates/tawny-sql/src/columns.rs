//! The columns of `logs`: the fixed ones, and any other name as the query language reads it.

use std::sync::Arc;

use arrow_schema::{Field as ArrowField, Fields, Schema, SchemaRef};
use tawny_query::{Field, Query};
use tawny_store::Column;

/// What `SELECT *` gives, in order.
const FIXED: &[&str] = &[
    "timestamp",
    "severity",
    "namespace",
    "pod",
    "container",
    "message",
    "attributes",
    "output",
    "node",
    "workload",
    "cluster",
    "pod_uid",
    "restart",
    "image",
    "labels",
    "severity_number",
    "id",
];

/// The columns that one statement sees.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    names: Vec<String>,
    columns: Vec<Column>,
}

impl Columns {
    /// The fixed columns.
    pub(crate) fn fixed() -> Self {
        Self {
            names: FIXED.iter().map(|name| (*name).to_owned()).collect(),
            columns: FIXED.iter().map(|name| named(name)).collect(),
        }
    }

    /// Adds the column a name means; false when it is there already.
    pub(crate) fn add(&mut self, name: &str) -> bool {
        self.put(name, || named(name))
    }

    /// Adds the answers to a query as a column.
    pub(crate) fn add_query(&mut self, name: &str, query: &Query) {
        self.put(name, || Column::Matches(Arc::new(query.expr().clone())));
    }

    fn put(&mut self, name: &str, column: impl FnOnce() -> Column) -> bool {
        let is_new = !self.names.iter().any(|known| known == name);
        if is_new {
            self.names.push(name.to_owned());
            self.columns.push(column());
        }
        is_new
    }

    /// Names beyond the fixed ones.
    pub(crate) fn extra(&self) -> &[String] {
        self.names.get(FIXED.len()..).unwrap_or_default()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Column> {
        let at = self.names.iter().position(|known| known == name)?;
        self.columns.get(at)
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        let fields = self.names.iter().zip(&self.columns);
        let fields = fields
            .map(|(name, column)| ArrowField::new(name, column.data_type(), column.is_nullable()));
        Arc::new(Schema::new(fields.collect::<Fields>()))
    }

    /// The columns at these places, all for `None`.
    pub(crate) fn projected(&self, places: Option<&[usize]>) -> Vec<Column> {
        match places {
            None => self.columns.clone(),
            Some(places) => places.iter().map(|at| self.columns[*at].clone()).collect(),
        }
    }
}

fn named(name: &str) -> Column {
    match name {
        "timestamp" => Column::Timestamp,
        "id" => Column::Id,
        "severity_number" => Column::SeverityNumber,
        "message" => Column::Message,
        "labels" => Column::Labels,
        "attributes" => Column::Attributes,
        name => Column::Field(Field::named(name)),
    }
}
