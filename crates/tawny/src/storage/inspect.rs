//! `tawny storage inspect`: the table, one segment, or what a query makes of it.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use serde_json::{Value, json};
use tawny_model::{ByteSize, Timestamp};
use tawny_store::lake::storage::{
    ColumnBytes, LakeFiles, PlannedSegment, QueryPlan, SegmentContent, SegmentSummary, Summary,
};

use super::{Look, StoreFlags, Which, blocking, lake, lined_up};
use crate::{
    cli::{Context, Exit, Outcome},
    config::Flags,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A segment: its path in the table, or the beginning of its file name.
    #[arg(value_name = "SEGMENT", conflicts_with_all = ["query", "since", "from", "to"])]
    segment: Option<String>,
    #[command(flatten)]
    which: Which,
    /// A table to read, or JSON with exact numbers.
    #[arg(short, long, value_enum, default_value_t)]
    output: Look,
    #[command(flatten)]
    flags: Flags<StoreFlags>,
}

pub(super) async fn run(args: Args, context: &Context) -> Outcome {
    let Args {
        segment,
        which,
        output,
        flags,
    } = args;
    let config = lake(context, flags, "inspect")?;
    let filter = which.is_given().then(|| which.filter()).transpose()?;
    let text = blocking(move |runtime| {
        let files = LakeFiles::open(&config.path, runtime)?;
        Ok(match (segment, filter) {
            (Some(name), _) => look(output, &files.segment(&name)?, of_segment, json_of_content),
            (None, Some(filter)) => look(output, &files.plan(&filter)?, of_plan, json_of_plan),
            (None, None) => look(output, &files.summary()?, of_table, json_of_table),
        })
    })
    .await?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Found)
}

fn look<T>(
    output: Look,
    what: &T,
    table: impl Fn(&T) -> String,
    json: impl Fn(&T) -> Value,
) -> String {
    match output {
        Look::Table => table(what),
        Look::Json => format!("{:#}\n", json(what)),
    }
}

fn bytes(n_bytes: u64) -> String {
    ByteSize(n_bytes).to_string()
}

/// To the second, as more only makes a table wide.
fn second(time: Timestamp) -> String {
    let text = time.to_string();
    let whole = text.split('.').next().unwrap_or(&text);
    format!("{}Z", whole.trim_end_matches('Z'))
}

#[expect(clippy::cast_precision_loss, reason = "for reading, one decimal")]
fn per_line(n_bytes: u64, n_lines: u64) -> String {
    if n_lines == 0 {
        return "-".to_owned();
    }
    format!("{:.1}", n_bytes as f64 / n_lines as f64)
}

fn of_table(summary: &Summary) -> String {
    let segments = &summary.segments;
    let n_lines: u64 = segments.iter().map(|s| u64::from(s.n_rows)).sum();
    let n_bytes: u64 = segments.iter().map(|s| s.n_bytes).sum();
    let log_bytes: u64 = summary.log_files.iter().map(|file| file.n_bytes).sum();
    let n_records: u64 = summary.log_files.iter().map(|file| file.n_records).sum();
    let span = match (
        segments.iter().map(|s| s.first).min(),
        segments.iter().map(|s| s.last).max(),
    ) {
        (Some(first), Some(last)) => format!(", {} to {}", second(first), second(last)),
        _ => String::new(),
    };
    let applied = match summary.applied {
        Some(applied) => format!("log records up to {applied} are in segments"),
        None => "nothing was flushed yet".to_owned(),
    };
    let columns = match summary.attribute_columns.as_slice() {
        [] => "none".to_owned(),
        keys => keys.join(", "),
    };
    let mut text = format!(
        "table     version {}; {applied}\n\
         segments  {}: {n_lines} lines, {}, {} bytes a line{span}\n\
         log       {} files: {n_records} records, {}\n\
         streams   {} known, in a list of {}\n\
         columns of their own for attributes: {columns}\n",
        summary.version,
        segments.len(),
        bytes(n_bytes),
        per_line(n_bytes, n_lines),
        summary.log_files.len(),
        bytes(log_bytes),
        summary.n_streams,
        bytes(summary.streams_bytes),
    );
    for (path, n_bytes) in &summary.foreign {
        // Writing into memory cannot fail.
        let _ok = writeln!(
            text,
            "not Tawny's, and not searched: {path} ({})",
            bytes(*n_bytes)
        );
    }
    if !segments.is_empty() {
        let rows: Vec<Vec<String>> = segments.iter().map(row_of_segment).collect();
        text.push('\n');
        text.push_str(&lined_up(
            &[
                "SEGMENT", "LINES", "BYTES", "B/LINE", "LEVEL", "STREAMS", "FROM", "TO",
            ],
            &rows,
            &[0, 6, 7],
        ));
    }
    if !summary.log_files.is_empty() {
        let rows = summary.log_files.iter().map(|file| {
            let seqs = file.seqs.map_or_else(
                || "-".to_owned(),
                |(first, last)| format!("{first} to {last}"),
            );
            let state = if file.is_open { "open" } else { "sealed" };
            vec![
                file.name.clone(),
                file.n_records.to_string(),
                bytes(file.n_bytes),
                seqs,
                state.to_owned(),
            ]
        });
        text.push('\n');
        text.push_str(&lined_up(
            &["LOG FILE", "RECORDS", "BYTES", "NUMBERS", "STATE"],
            &rows.collect::<Vec<_>>(),
            &[0, 3, 4],
        ));
    }
    text
}

fn row_of_segment(segment: &SegmentSummary) -> Vec<String> {
    vec![
        segment.path.clone(),
        segment.n_rows.to_string(),
        bytes(segment.n_bytes),
        per_line(segment.n_bytes, segment.n_rows.into()),
        segment.level.to_string(),
        segment
            .n_streams
            .map_or_else(|| "damaged".to_owned(), |n| n.to_string()),
        second(segment.first),
        second(segment.last),
    ]
}

/// Streams of a segment shown in a table; JSON has all.
const MAX_STREAMS: usize = 20;

fn of_segment(content: &SegmentContent) -> String {
    let summary = &content.summary;
    let n_lines = u64::from(summary.n_rows);
    let mut text = format!(
        "{}\n{n_lines} lines in {} blocks, {}, {} bytes a line, {} streams, level {}\n{} to {}\n\n",
        summary.path,
        content.n_blocks,
        bytes(summary.n_bytes),
        per_line(summary.n_bytes, n_lines),
        content.streams.len(),
        summary.level,
        summary.first,
        summary.last,
    );
    let part = |kind: &str, part: &ColumnBytes| {
        vec![
            format!("{kind}{}", part.name),
            bytes(part.n_bytes),
            per_line(part.n_bytes, n_lines),
        ]
    };
    let mut rows: Vec<Vec<String>> = content.columns.iter().map(|c| part("", c)).collect();
    rows.extend(content.index.iter().map(|section| part("index: ", section)));
    rows.push(vec![
        "footer".to_owned(),
        bytes(content.footer_bytes),
        per_line(content.footer_bytes, n_lines),
    ]);
    text.push_str(&lined_up(&["COLUMN", "BYTES", "B/LINE"], &rows, &[0]));
    let rows = content.streams.iter().take(MAX_STREAMS).map(|stream| {
        vec![
            format!("{}/{}", stream.namespace, stream.pod),
            stream.container.clone(),
            stream.restart.to_string(),
            stream.n_rows.to_string(),
            second(stream.first),
            second(stream.last),
        ]
    });
    text.push('\n');
    text.push_str(&lined_up(
        &["STREAM", "CONTAINER", "RUN", "LINES", "FROM", "TO"],
        &rows.collect::<Vec<_>>(),
        &[0, 1, 4, 5],
    ));
    if let Some(n_more @ 1..) = content.streams.len().checked_sub(MAX_STREAMS) {
        let _ok = writeln!(text, "… and {n_more} more streams; -o json has them all");
    }
    text
}

fn of_plan(plan: &QueryPlan) -> String {
    let cells = |segment: &PlannedSegment| {
        let spared = segment.spared;
        [
            segment.opened.blocks.len(),
            spared.by_time as usize,
            spared.by_stream as usize,
            spared.by_severity as usize,
            spared.by_filter as usize,
        ]
    };
    let mut sums = [0; 5];
    let mut rows = Vec::new();
    let mut n_spared = 0;
    for segment in &plan.segments {
        let cells = cells(segment);
        for (sum, n) in sums.iter_mut().zip(cells) {
            *sum += n;
        }
        if segment.opened.blocks.is_empty() {
            n_spared += 1;
            continue;
        }
        let mut row = vec![segment.path.clone()];
        row.extend(cells.map(|n| n.to_string()));
        row.push(ranges(&segment.opened.blocks));
        rows.push(row);
    }
    let n_of: u64 = plan.segments.iter().map(|s| u64::from(s.opened.n_of)).sum();
    let mut text = format!(
        "{} of {n_of} blocks may be opened, in {} of {} segments (a page that is full sooner opens fewer)\n\
         spared by time {}, by stream {}, by severity {}, by filter {}\n",
        sums[0],
        plan.segments.len() - n_spared,
        plan.segments.len(),
        sums[1],
        sums[2],
        sums[3],
        sums[4],
    );
    if plan.log_bytes > 0 {
        let _ok = writeln!(
            text,
            "what is in no segment yet ({} of log) is in memory and looked at in any case",
            bytes(plan.log_bytes)
        );
    }
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&lined_up(
            &[
                "SEGMENT", "OPENED", "TIME", "STREAM", "SEVERITY", "FILTER", "BLOCKS",
            ],
            &rows,
            &[0, 6],
        ));
    }
    text
}

/// `0-3,7`.
fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let runs = runs.filter_map(|run| match (run.first()?, run.last()?) {
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    });
    runs.collect::<Vec<_>>().join(",")
}

fn json_of_summary(segment: &SegmentSummary) -> Value {
    json!({
        "path": segment.path,
        "lines": segment.n_rows,
        "bytes": segment.n_bytes,
        "from": segment.first.to_string(),
        "to": segment.last.to_string(),
        "level": segment.level,
        "streams": segment.n_streams,
    })
}

fn json_of_table(summary: &Summary) -> Value {
    let log = summary.log_files.iter().map(|file| {
        json!({
            "name": file.name,
            "bytes": file.n_bytes,
            "records": file.n_records,
            "first": file.seqs.map(|(first, _)| first),
            "last": file.seqs.map(|(_, last)| last),
            "open": file.is_open,
        })
    });
    let foreign = summary.foreign.iter();
    let foreign = foreign.map(|(path, n_bytes)| json!({"path": path, "bytes": n_bytes}));
    json!({
        "version": summary.version,
        "applied": summary.applied,
        "segments": summary.segments.iter().map(json_of_summary).collect::<Vec<_>>(),
        "log": log.collect::<Vec<_>>(),
        "streams": {"known": summary.n_streams, "bytes": summary.streams_bytes},
        "attribute_columns": summary.attribute_columns,
        "foreign": foreign.collect::<Vec<_>>(),
    })
}

fn json_of_content(content: &SegmentContent) -> Value {
    let sizes = |parts: &[ColumnBytes]| -> serde_json::Map<String, Value> {
        let parts = parts.iter();
        parts
            .map(|part| (part.name.clone(), part.n_bytes.into()))
            .collect()
    };
    let streams = content.streams.iter().map(|stream| {
        json!({
            "namespace": stream.namespace,
            "pod": stream.pod,
            "container": stream.container,
            "restart": stream.restart,
            "lines": stream.n_rows,
            "from": stream.first.to_string(),
            "to": stream.last.to_string(),
        })
    });
    json!({
        "segment": json_of_summary(&content.summary),
        "blocks": content.n_blocks,
        "columns": sizes(&content.columns),
        "index": sizes(&content.index),
        "footer": content.footer_bytes,
        "streams": streams.collect::<Vec<_>>(),
    })
}

fn json_of_plan(plan: &QueryPlan) -> Value {
    let segments = plan.segments.iter().map(|segment| {
        let spared = segment.spared;
        json!({
            "path": segment.path,
            "blocks": segment.opened.n_of,
            "opened": segment.opened.blocks,
            "spared": {
                "time": spared.by_time,
                "stream": spared.by_stream,
                "severity": spared.by_severity,
                "filter": spared.by_filter,
            },
        })
    });
    json!({"segments": segments.collect::<Vec<_>>(), "log_bytes": plan.log_bytes})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_told_as_a_range() {
        assert_eq!(ranges(&[0, 1, 2, 7, 9, 10]), "0-2,7,9-10");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn times_are_cut_to_the_second() {
        assert_eq!(
            second(Timestamp::from_nanos(1_500_000_000)),
            "1970-01-01T00:00:01Z"
        );
    }
}
