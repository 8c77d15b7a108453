//! Most frequent values of fields: of streams from their totals, of attributes from their rows.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tawny_model::{Severity, Stream, Timestamp};
use tawny_query::Field;

use super::{
    Budget, Snapshot,
    budget::Gathered,
    tally::{Needs, Row, Sink, tally},
};
use crate::{
    Error, Facet, FacetsRequest,
    lake::run::{AttributeColumns, Columns, SeverityCounts},
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
        budget,
        gathered: &gathered,
        streams: FxHashMap::default(),
        of_rows: vec![FxHashMap::default(); request.fields.len()],
    };
    let parts = tally(snapshot, &request.filter, budget, &needs(request), new)?;
    let mut counts = vec![FxHashMap::<String, u64>::default(); request.fields.len()];
    for part in parts {
        for (_, (stream, by_severity)) in part.streams {
            let stream = snapshot.streams.describe(&stream);
            for (field, counts) in request.fields.iter().zip(&mut counts) {
                add_stream(field, &stream, &by_severity, counts, &gathered, budget)?;
            }
        }
        for (counts, more) in counts.iter_mut().zip(part.of_rows) {
            if counts.is_empty() {
                *counts = more;
            } else {
                for (value, n) in more {
                    *counts.entry(value).or_default() += n;
                }
            }
        }
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
    budget: &'q Budget<'q>,
    gathered: &'q Gathered,
    /// By the address of what a run or batch says of the stream; it is asked what is known of it at the end.
    streams: FxHashMap<usize, (Arc<Stream>, SeverityCounts)>,
    /// By field; only those that rows must be asked for.
    of_rows: Vec<FxHashMap<String, u64>>,
}

impl Sink for Values<'_> {
    fn add(
        &mut self,
        _time: Timestamp,
        stream: Option<&Arc<Stream>>,
        counts: &SeverityCounts,
    ) -> Result<(), Error> {
        let Some(stream) = stream else {
            // Streams make no difference: severity is all there is to count.
            for (field, values) in self.fields.iter().zip(&mut self.of_rows) {
                if *field == Field::Severity {
                    add_severities(counts, values);
                }
            }
            return Ok(());
        };
        let address = Arc::as_ptr(stream).addr();
        let known = self.streams.entry(address);
        let (_, sums) = known.or_insert_with(|| (Arc::clone(stream), SeverityCounts::default()));
        for (sum, n) in sums.iter_mut().zip(counts) {
            *sum += n;
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

fn add_severities(counts: &SeverityCounts, values: &mut FxHashMap<String, u64>) {
    for (severity, n) in Severity::ALL.into_iter().zip(counts) {
        if *n > 0 {
            *values.entry(severity.name().to_owned()).or_default() += n;
        }
    }
}

fn add_stream(
    field: &Field,
    stream: &Stream,
    counts: &SeverityCounts,
    values: &mut FxHashMap<String, u64>,
    gathered: &Gathered,
    budget: &Budget<'_>,
) -> Result<(), Error> {
    if *field == Field::Severity {
        add_severities(counts, values);
        return Ok(());
    }
    match value_of_stream(field, stream) {
        Some(value) => add_value(&value, counts.iter().sum(), values, gathered, budget),
        None => Ok(()),
    }
}
