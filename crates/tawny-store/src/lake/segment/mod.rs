//! A segment: one Parquet file that any reader can read, with an index behind its data pages that Tawny reads.
//!
//! `docs/formats/segment-v1.md` describes every byte.

mod attributes;
mod block;
mod buffer;

mod cache;
mod columns;
mod decode;
mod encode;
mod fuse;
mod index;
mod numbers;
mod reader;
mod rows;
mod thrift;
mod verify;
mod words;
mod writer;

#[cfg(test)]
mod tests;

use arrow_schema::{DataType, Field, Schema, TimeUnit};

pub(super) use {
    cache::BlockCache,
    reader::Segment,
    verify::DamagedPage,
    writer::{SegmentOptions, SegmentRow, SegmentWriter},
};

use super::run::BLOCK_ROWS;

/// Rows of a row group: what a writer holds in memory. A multiple of [`BLOCK_ROWS`].
const GROUP_ROWS: u32 = 32 * BLOCK_ROWS;

/// Prefix of the columns that hold one attribute each.
pub(super) const ATTRIBUTE_PREFIX: &str = "attr_";

// Places of the columns in the schema; those of single attributes follow.
const CLUSTER: usize = 0;
const NAMESPACE: usize = 1;
const POD: usize = 2;
const POD_UID: usize = 3;
const CONTAINER: usize = 4;
const RESTART: usize = 5;
const NODE: usize = 6;
const IMAGE: usize = 7;
const WORKLOAD: usize = 8;
const LABELS: usize = 9;
const TIMESTAMP: usize = 10;
const TIMESTAMP_NS: usize = 11;
const ID_OFFSET: usize = 12;
const SEVERITY: usize = 13;
const OUTPUT: usize = 14;
const MESSAGE: usize = 15;
const ATTRIBUTES: usize = 16;
const ATTRIBUTE_ORDER: usize = 17;
const N_PLAIN: usize = 18;
/// Columns that describe the stream come first.
const N_STREAM: usize = TIMESTAMP;

/// The columns of a segment with these attributes in columns of their own.
pub(super) fn schema(attribute_columns: &[String]) -> Schema {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let plain = [
        ("cluster", DataType::Utf8, false),
        ("namespace", DataType::Utf8, false),
        ("pod", DataType::Utf8, false),
        ("pod_uid", DataType::Utf8, false),
        ("container", DataType::Utf8, false),
        ("restart", DataType::Int32, false),
        ("node", DataType::Utf8, false),
        ("image", DataType::Utf8, false),
        ("workload", DataType::Utf8, true),
        ("labels", DataType::Utf8, false),
        ("timestamp", time, false),
        ("timestamp_ns", DataType::Int16, false),
        ("id_offset", DataType::Int32, false),
        ("severity", DataType::Int8, false),
        ("output", DataType::Int8, false),
        ("message", DataType::Utf8, false),
        ("attributes", DataType::Utf8, true),
        ("attribute_order", DataType::Int32, true),
    ];
    let mut fields: Vec<Field> = plain
        .into_iter()
        .map(|(name, kind, is_nullable)| Field::new(name, kind, is_nullable))
        .collect();
    fields.extend(
        attribute_columns
            .iter()
            .map(|key| Field::new(format!("{ATTRIBUTE_PREFIX}{key}"), DataType::Utf8, true)),
    );
    Schema::new(fields)
}
