//! The table's columns and properties as Delta names them.

use deltalake_core::kernel::{DataType, StructField, StructType, new_metadata};
use serde_json::Value;

use crate::Error;

/// Property that says the table is ours, and by which rules.
pub(super) const FORMAT_PROPERTY: &str = "tawny.format";

/// Changes when an older Tawny could no longer read the table.
pub(super) const FORMAT: u32 = 1;

/// Column that a segment's directory names.
const PARTITION: &str = "date";

/// Before the key in the name of an attribute's column.
const ATTRIBUTE_PREFIX: &str = "attr_";

/// Longest key with a column of its own.
const MAX_KEY_BYTES: usize = 128;

/// Columns that every table has, in order.
const COLUMNS: [(&str, DataType); 19] = [
    ("cluster", DataType::STRING),
    ("namespace", DataType::STRING),
    ("pod", DataType::STRING),
    ("pod_uid", DataType::STRING),
    ("container", DataType::STRING),
    ("restart", DataType::INTEGER),
    ("node", DataType::STRING),
    ("image", DataType::STRING),
    ("workload", DataType::STRING),
    ("labels", DataType::STRING),
    ("timestamp", DataType::TIMESTAMP),
    ("timestamp_ns", DataType::SHORT),
    ("id_offset", DataType::INTEGER),
    ("severity", DataType::BYTE),
    ("output", DataType::BYTE),
    ("message", DataType::STRING),
    ("attributes", DataType::STRING),
    ("attribute_order", DataType::INTEGER),
    (PARTITION, DataType::DATE),
];

/// The column of an attribute, `None` when its key cannot name one for every reader: it stays in `attributes`.
///
/// Columns are told apart without regard to case, so of `userId` and `userid` only the first gets one; see
/// [`super::State::may_add_attribute`].
pub(crate) fn attribute_column(key: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let fits = !key.is_empty() && key.len() <= MAX_KEY_BYTES && key.bytes().all(plain);
    fits.then(|| format!("{ATTRIBUTE_PREFIX}{key}"))
}

/// The attribute whose column this is.
pub(super) fn attribute_key(column: &str) -> Option<&str> {
    column.strip_prefix(ATTRIBUTE_PREFIX)
}

/// The metadata of a new table, as the log writes it.
pub(super) fn new_table() -> Result<Value, Error> {
    let columns = COLUMNS.map(|(name, data_type)| StructField::nullable(name, data_type));
    let properties = [
        (FORMAT_PROPERTY, FORMAT.to_string()),
        // For other writers; ours counts for itself.
        (
            "delta.checkpointInterval",
            super::CHECKPOINT_COMMITS.to_string(),
        ),
        ("delta.logRetentionDuration", retention()),
        ("delta.deletedFileRetentionDuration", retention()),
        // Else every reader and writer looks for statistics of every column.
        ("delta.dataSkippingStatsColumns", "timestamp".to_owned()),
    ];
    let schema = StructType::try_new(columns).map_err(library)?;
    let metadata = new_metadata(&schema, [PARTITION], properties).map_err(library)?;
    serde_json::to_value(metadata).map_err(library)
}

fn retention() -> String {
    format!(
        "interval {} hours",
        super::clean::LOG_RETENTION.as_secs() / 3_600
    )
}

/// The attributes with columns of their own, or why the table is not one of ours.
pub(super) fn attributes_of(metadata: &Value) -> Result<Vec<String>, String> {
    let fields = fields_of(metadata)?;
    for (name, data_type) in COLUMNS {
        let expected = serde_json::to_value(&data_type).map_err(|error| error.to_string())?;
        let found = fields
            .iter()
            .find(|field| field.get("name").and_then(Value::as_str) == Some(name));
        if found.and_then(|field| field.get("type")) != Some(&expected) {
            return Err(format!("it has no column `{name}` of type {data_type}"));
        }
    }
    if metadata.get("partitionColumns") != Some(&serde_json::json!([PARTITION])) {
        return Err(format!("it is not partitioned by `{PARTITION}`"));
    }
    Ok(fields
        .iter()
        .filter_map(|field| attribute_key(field.get("name")?.as_str()?))
        .map(str::to_owned)
        .collect())
}

/// The same metadata with columns for more attributes.
pub(super) fn with_attributes(metadata: &Value, keys: &[String]) -> Value {
    let mut fields = fields_of(metadata).expect("was read when the table was opened");
    let column = |key| serde_json::json!({"name": format!("{ATTRIBUTE_PREFIX}{key}"), "type": "string", "nullable": true, "metadata": {}});
    fields.extend(keys.iter().map(column));
    let schema = serde_json::json!({"type": "struct", "fields": fields});
    let mut metadata = metadata.clone();
    metadata["schemaString"] = Value::String(schema.to_string());
    metadata
}

fn fields_of(metadata: &Value) -> Result<Vec<Value>, String> {
    let schema = metadata.get("schemaString").and_then(Value::as_str);
    let schema: Value = serde_json::from_str(schema.unwrap_or_default())
        .map_err(|error| format!("its schema cannot be read: {error}"))?;
    match schema.get("fields") {
        Some(Value::Array(fields)) => Ok(fields.clone()),
        _ => Err("its schema has no fields".to_owned()),
    }
}

fn library(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Io {
        path: super::log::DIRECTORY.into(),
        doing: "the table cannot be described",
        source: Box::new(error),
    }
}
