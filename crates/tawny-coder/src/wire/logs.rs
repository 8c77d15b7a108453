//! A batch of lines in both forms Coder takes, and who says that it is from Kubernetes.
//!
//! Source of the messages: `agent/proto/agent.proto` of coder/coder, package `coder.agent.v2`.

use bytes::Bytes;
use serde::Serialize;

use crate::lines::Line;

/// Registers the origin of lines; its id is fixed, so that saying it again changes nothing.
pub const LOG_SOURCE: &str = r#"{"id":"cabdacf8-7c90-425c-9815-cae3c75d1169","display_name":"Kubernetes","icon":"/icon/k8s.png"}"#;

/// The id in [`LOG_SOURCE`], as HTTP writes it and as the RPC does.
const LOG_SOURCE_ID: &str = "cabdacf8-7c90-425c-9815-cae3c75d1169";
pub const LOG_SOURCE_BYTES: [u8; 16] = [
    0xca, 0xbd, 0xac, 0xf8, 0x7c, 0x90, 0x42, 0x5c, 0x98, 0x15, 0xca, 0xe3, 0xc7, 0x5d, 0x11, 0x69,
];

/// The name under which DRPC calls [`BatchCreateLogsRequest`].
pub const BATCH_CREATE_LOGS: &str = "/coder.agent.v2.Agent/BatchCreateLogs";

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchCreateLogsRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub log_source_id: Bytes,
    #[prost(message, repeated, tag = "2")]
    pub logs: Vec<Log>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    #[prost(message, optional, tag = "1")]
    pub created_at: Option<prost_types::Timestamp>,
    #[prost(string, tag = "2")]
    pub output: String,
    /// See [`crate::lines::Level::number`]; an enumeration has the bytes of an `int32`.
    #[prost(int32, tag = "3")]
    pub level: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BatchCreateLogsResponse {
    /// The agent's log is full; no more will be kept.
    #[prost(bool, tag = "1")]
    pub log_limit_exceeded: bool,
}

impl BatchCreateLogsRequest {
    pub fn new(lines: &[Line]) -> Self {
        let logs = lines.iter().map(|line| Log {
            created_at: Some(prost_types::Timestamp {
                seconds: line.created_at.as_secs(),
                nanos: i32::try_from(line.created_at.subsec_nanos())
                    .expect("below a second there are fewer than 10^9 ns"),
            }),
            output: line.output.clone(),
            level: line.level.number(),
        });
        Self {
            log_source_id: Bytes::from_static(&LOG_SOURCE_BYTES),
            logs: logs.collect(),
        }
    }
}

#[derive(Serialize)]
struct Patch<'a> {
    log_source_id: &'static str,
    logs: Vec<PatchLog<'a>>,
}

#[derive(Serialize)]
struct PatchLog<'a> {
    created_at: String,
    level: &'static str,
    output: &'a str,
}

/// The body of `PATCH …/logs`.
pub fn patch_body(lines: &[Line]) -> Bytes {
    let patch = Patch {
        log_source_id: LOG_SOURCE_ID,
        logs: lines
            .iter()
            .map(|line| PatchLog {
                created_at: line.created_at.to_string(),
                level: line.level.name(),
                output: &line.output,
            })
            .collect(),
    };
    serde_json::to_vec(&patch)
        .expect("text and numbers always make JSON")
        .into()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::{Value, json};
    use tawny_model::Timestamp;

    use super::*;
    use crate::lines::Level;

    fn lines() -> Vec<Line> {
        let at = Timestamp::from_nanos(1_700_000_000_250_000_000);
        vec![
            Line::new(at, Level::Debug, "🐳 one"),
            Line::new(at, Level::Error, "two"),
        ]
    }

    #[test]
    fn the_body_of_a_patch_is_what_coder_reads() {
        let body: Value = serde_json::from_slice(&patch_body(&lines())).unwrap();
        let log = |level: &str, output: &str| json!({"created_at": "2023-11-14T22:13:20.250000000Z", "level": level, "output": output});
        assert_eq!(
            body,
            json!({
                "log_source_id": "cabdacf8-7c90-425c-9815-cae3c75d1169",
                "logs": [log("debug", "🐳 one"), log("error", "two")],
            })
        );
    }

    #[test]
    fn the_message_has_the_fields_of_the_protocol() {
        let mut request = BatchCreateLogsRequest::new(&lines());
        request.logs.truncate(1);
        let bytes = request.encode_to_vec();
        let mut expected = vec![0x0a, 16];
        expected.extend(LOG_SOURCE_BYTES);
        // logs: created_at {seconds, nanos}, output, level.
        let mut log = vec![0x0a, 11, 0x08, 0x80, 0xe2, 0xcf, 0xaa, 0x06, 0x10];
        log.extend([0x80, 0xe5, 0x9a, 0x77]);
        log.extend([0x12, 8]);
        log.extend("🐳 one".as_bytes());
        log.extend([0x18, 2]);
        expected.extend([0x12, u8::try_from(log.len()).unwrap()]);
        expected.extend(log);
        assert_eq!(bytes, expected);
        assert_eq!(BatchCreateLogsRequest::decode(&*bytes), Ok(request));
    }

    #[test]
    fn both_forms_of_the_source_id_are_one_and_the_same() {
        let hex: String = (LOG_SOURCE_BYTES.iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, LOG_SOURCE_ID.replace('-', ""));
        let source: Value = serde_json::from_str(LOG_SOURCE).unwrap();
        assert_eq!(source["id"], LOG_SOURCE_ID);
    }

    #[test]
    fn an_answer_says_whether_the_log_is_full() {
        let full = |bytes: &[u8]| BatchCreateLogsResponse::decode(bytes).unwrap();
        assert!(full(&[0x08, 1]).log_limit_exceeded);
        assert!(!full(&[]).log_limit_exceeded);
    }
}
