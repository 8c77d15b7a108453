//! What every engine refuses before it does anything: requests over the limits of the trait.

use tawny_model::{Batch, LogEntry, Position};

use crate::{Error, HistogramRequest, MAX_LIMIT, SearchRequest};

/// Longest message an engine takes. Sources cut lines far below it.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Most attributes of one entry. The pipeline lifts at most 20 (KL-64); pushed entries may bring more.
pub const MAX_ENTRY_ATTRIBUTES: usize = 256;

/// Longest attribute key and value together, over all attributes of an entry.
pub const MAX_ATTRIBUTES_BYTES: usize = 1 << 20;

/// Longest text of a stream's description: names, image, labels.
pub const MAX_STREAM_BYTES: usize = 1 << 20;

/// Furthest a stream may reach: engines keep positions as signed numbers.
const MAX_POSITION: Position = Position(i64::MAX.unsigned_abs());

pub(crate) fn check_batches(batches: &[Batch]) -> Result<(), Error> {
    for batch in batches {
        if batch.end < batch.start {
            return Err(invalid(format!(
                "batch of stream {} ends at {} before its start {}",
                batch.stream.id, batch.end, batch.start
            )));
        }
        if batch.end > MAX_POSITION {
            return Err(invalid(format!(
                "batch of stream {} ends at {}, behind the last position {MAX_POSITION}",
                batch.stream.id, batch.end
            )));
        }
        check_stream(&batch.stream)?;
        for entry in batch.entries.iter() {
            check_entry(entry.message(), entry.attributes())?;
        }
    }
    Ok(())
}

pub(crate) fn check_entries(entries: &[LogEntry]) -> Result<(), Error> {
    for entry in entries {
        check_stream(&entry.stream)?;
        let attributes = entry.attributes.iter();
        check_entry(
            &entry.message,
            attributes.map(|(k, v)| (k.as_str(), v.as_str())),
        )?;
    }
    Ok(())
}

fn check_entry<'a>(
    message: &str,
    attributes: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Error> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(invalid(format!(
            "message of {} bytes exceeds the limit of {MAX_MESSAGE_BYTES}",
            message.len()
        )));
    }
    if attributes.len() > MAX_ENTRY_ATTRIBUTES {
        return Err(invalid(format!(
            "entry with {} attributes exceeds the limit of {MAX_ENTRY_ATTRIBUTES}",
            attributes.len()
        )));
    }
    let attributes_bytes: usize = attributes.map(|(key, value)| key.len() + value.len()).sum();
    if attributes_bytes > MAX_ATTRIBUTES_BYTES {
        return Err(invalid(format!(
            "attributes of {attributes_bytes} bytes exceed the limit of {MAX_ATTRIBUTES_BYTES}"
        )));
    }
    Ok(())
}

fn check_stream(stream: &tawny_model::Stream) -> Result<(), Error> {
    let labels = stream
        .labels
        .iter()
        .map(|(key, value)| key.len() + value.len());
    let names = [&stream.id.cluster, &stream.id.pod_uid, &stream.id.container]
        .into_iter()
        .chain([&stream.namespace, &stream.pod, &stream.node, &stream.image]);
    let len_bytes = labels.sum::<usize>() + names.map(|name| name.len()).sum::<usize>();
    if len_bytes > MAX_STREAM_BYTES {
        return Err(invalid(format!(
            "description of a stream of {len_bytes} bytes exceeds the limit of {MAX_STREAM_BYTES}"
        )));
    }
    Ok(())
}

pub(crate) fn check_search(request: &SearchRequest) -> Result<(), Error> {
    if (1..=MAX_LIMIT).contains(&request.limit) {
        Ok(())
    } else {
        Err(invalid(format!(
            "limit {} is not in 1..={MAX_LIMIT}",
            request.limit
        )))
    }
}

pub(crate) fn check_histogram(request: &HistogramRequest) -> Result<(), Error> {
    if request.bucket.is_zero() {
        return Err(invalid("a bucket of no width".to_owned()));
    }
    Ok(())
}

fn invalid(reason: String) -> Error {
    Error::Invalid { reason }
}
