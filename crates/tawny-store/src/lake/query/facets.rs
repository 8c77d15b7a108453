//! Most frequent values of fields: of streams from their totals, of attributes from their rows.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tawny_model::{Severity, Stream, Timestamp};
use tawny_query::Field;

use super::{
    Budget, Snapshot,
    budget::Gathered,
    tally::{Needs, Of, Row, Sink, tally},
};
use crate::{
    Error, Facet, FacetsRequest,
    lake::{
        described::FieldValues,
        run::{AttributeColumns, Columns, SeverityCounts},
    },
    scan::value_of_stream,
};

/// What a value costs in memory beside its text: its place in a map, text and number.
const VALUE_BYTES: usize = 64;

pub(crate) fn facets(
    snapshot: &Snapshot,
    request: &FacetsRequest,
    budget: &Budget<'_>,
) -> Result<Vec<Facet>, Error> {
    let gathered = Gathered::default();
    let new = || Values {
        fields: &request.fields,
        snapshot,
        budget,
        gathered: &gathered,
        severities: SeverityCounts::default(),
        hot: FxHashMap::default(),
        of_runs: FxHashMap::default(),
        of_rows: vec![FxHashMap::default(); request.fields.len()],
    };
    let parts = tally(snapshot, &request.filter, budget, &needs(request), new)?;
    let mut counts = vec![FxHashMap::<String, u64>::default(); request.fields.len()];
    for part in parts {
        part.add_to(&mut counts)?;
    }
    let facets = request.fields.iter().zip(counts).map(|(field, counts)| {
        let values = counts.into_iter().filter(|(_, n)| *n > 0);
        let mut values: Vec<(String, u64)> = values.collect();
        values.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        values.truncate(request.limit);
        Facet {
            field: field.clone(),
            values,
        }
    });
    Ok(facets.collect())
}

fn needs(request: &FacetsRequest) -> Needs {
    let mut rows = Columns::default();
    for field in &request.fields {
        match field {
            Field::Output => rows.output = true,
            Field::Attribute(key) => rows.include(&Columns {
                attributes: AttributeColumns::Some(vec![key.clone()]),
                ..Columns::default()
            }),
            _ => {}
        }
    }
    Needs {
        streams: request.fields.iter().any(Field::is_of_stream),
        severities: request.fields.contains(&Field::Severity),
        bucket_ns: None,
        rows: (rows != Columns::default()).then_some(rows),
    }
}

struct Values<'q> {
    fields: &'q [Field],
    snapshot: &'q Snapshot,
    budget: &'q Budget<'q>,
    gathered: &'q Gathered,
    severities: SeverityCounts,
    /// Rows by the address of what a batch says of their stream; it is asked what is known of it at the end.
    hot: FxHashMap<usize, (Arc<Stream>, u64)>,
    /// By number of run; streams are few values, and a thread looks at few runs.
    of_runs: FxHashMap<u32, Vec<OfRun>>,
    /// By field; only those that rows must be asked for.
    of_rows: Vec<FxHashMap<String, u64>>,
}

/// Rows of a run by the value of a field of their stream.
struct OfRun {
    field_idx: usize,
    values: Arc<FieldValues>,
    counts: Vec<u64>,
}

impl Values<'_> {
    fn of_run(&self, run: u32) -> Result<Vec<OfRun>, Error> {
        let index = self.snapshot.runs[run as usize].index()?;
        let described = self.snapshot.streams.describe_all(&index);
        let fields = self.fields.iter().enumerate();
        let of_streams = fields.filter(|(_, field)| field.is_of_stream());
        let of_field = |(field_idx, field)| {
            let values = described.values(field);
            let counts = vec![0; values.values.len()];
            let n_bytes = values.memory_bytes() + size_of_val(&*counts);
            self.gathered.add(n_bytes, self.budget)?;
            Ok(OfRun {
                field_idx,
                values,
                counts,
            })
        };
        of_streams.map(of_field).collect()
    }

    /// Adds what was counted to the values of each field.
    fn add_to(self, counts: &mut [FxHashMap<String, u64>]) -> Result<(), Error> {
        let mut add = |field_idx: usize, value: &str, n: u64| {
            let values = &mut counts[field_idx];
            add_value(value, n, values, self.gathered, self.budget)
        };
        for of_run in self.of_runs.into_values().flatten() {
            let found = of_run.values.values.iter().zip(of_run.counts);
            for (value, n) in found.filter(|(_, n)| *n > 0) {
                add(of_run.field_idx, value, n)?;
            }
        }
        for (stream, n) in self.hot.into_values() {
            let stream = self.snapshot.streams.describe(&stream);
            for (field_idx, field) in self.fields.iter().enumerate() {
                if let Some(value) = value_of_stream(field, &stream) {
                    add(field_idx, &value, n)?;
                }
            }
        }
        for (field_idx, (field, of_rows)) in self.fields.iter().zip(self.of_rows).enumerate() {
            if *field == Field::Severity {
                for (severity, n) in Severity::ALL.into_iter().zip(self.severities) {
                    if n > 0 {
                        add(field_idx, severity.name(), n)?;
                    }
                }
            }
            for (value, n) in of_rows {
                add(field_idx, &value, n)?;
            }
        }
        Ok(())
    }
}

impl Sink for Values<'_> {
    fn add(&mut self, _time: Timestamp, of: Of<'_>, counts: &SeverityCounts) -> Result<(), Error> {
        for (sum, n) in self.severities.iter_mut().zip(counts) {
            *sum += n;
        }
        let n: u64 = counts.iter().sum();
        match of {
            Of::All => {}
            Of::Hot(stream) => {
                let address = Arc::as_ptr(stream).addr();
                let known = self.hot.entry(address);
                known.or_insert_with(|| (Arc::clone(stream), 0)).1 += n;
            }
            Of::Run { run, stream } => {
                let of_run = match self.of_runs.get_mut(&run) {
                    Some(of_run) => of_run,
                    None => {
                        let of_run = self.of_run(run)?;
                        self.of_runs.entry(run).or_insert(of_run)
                    }
                };
                for of_field in of_run {
                    if let Some(value) = of_field.values.of_stream(stream) {
                        of_field.counts[value] += n;
                    }
                }
            }
        }
        Ok(())
    }

    fn add_row(&mut self, row: &Row<'_>) -> Result<(), Error> {
        for (field, values) in self.fields.iter().zip(&mut self.of_rows) {
            let value = match field {
                Field::Output => Some(row.output().name()),
                Field::Attribute(key) => row.attribute(key),
                _ => None,
            };
            if let Some(value) = value {
                add_value(value, 1, values, self.gathered, self.budget)?;
            }
        }
        Ok(())
    }
}

fn add_value(
    value: &str,
    n: u64,
    values: &mut FxHashMap<String, u64>,
    gathered: &Gathered,
    budget: &Budget<'_>,
) -> Result<(), Error> {
    if let Some(sum) = values.get_mut(value) {
        *sum += n;
    } else {
        gathered.add(value.len() + VALUE_BYTES, budget)?;
        values.insert(value.to_owned(), n);
    }
    Ok(())
}
