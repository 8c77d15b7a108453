//! What the log stream to Coder counts: requests under the name dashboards know, and what became of the lines.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
};
use tawny_runtime::Registry;

/// Without `_total`, which the exposition adds. The name, labels and values are those of coder-logstream-kube (CL-7).
pub const REQUESTS: &str = "coder_logstream_requests";
pub const LINES: &str = "tawny_coder_lines";
pub const WATCH_RESTARTS: &str = "tawny_coder_watch_restarts";

/// A kind of request to Coder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Method {
    /// Registers where lines come from.
    PostLogSource,
    /// Asks for the version and opens the websocket.
    ConnectRPC,
    /// Hands over one batch, by either way.
    SendLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum Status {
    success,
    failure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabel {
    pub method: Method,
    pub status: Status,
}

/// What became of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum Fate {
    /// Coder has them.
    sent,
    /// The agent's queue was full.
    queue_full,
    /// Longer than Coder takes.
    too_long,
    /// Coder refused the batch.
    refused,
    /// Coder could not be reached for too long.
    retries_exhausted,
    /// The agent's token is no longer good, or its log is full.
    agent_stopped,
    /// The object's token was not found, or Coder does not know it.
    no_token,
    /// Not delivered in the time left after the pod's deletion or at the process's end.
    cut_off,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LineLabel {
    pub result: Fate,
}

/// Handles to all series; clones count together.
#[derive(Debug, Clone)]
pub struct CoderMetrics {
    requests: Family<RequestLabel, Counter>,
    lines: Family<LineLabel, Counter>,
    /// Failures after which a watch began again.
    pub watch_restarts: Counter,
}

impl Default for CoderMetrics {
    /// Every series starts at 0, so that a first failure shows as a rise.
    fn default() -> Self {
        let metrics = Self {
            requests: Family::default(),
            lines: Family::default(),
            watch_restarts: Counter::default(),
        };
        for method in [Method::PostLogSource, Method::ConnectRPC, Method::SendLog] {
            for status in [Status::success, Status::failure] {
                drop(
                    metrics
                        .requests
                        .get_or_create(&RequestLabel { method, status }),
                );
            }
        }
        for result in [
            Fate::sent,
            Fate::queue_full,
            Fate::too_long,
            Fate::refused,
            Fate::retries_exhausted,
            Fate::agent_stopped,
            Fate::no_token,
            Fate::cut_off,
        ] {
            drop(metrics.lines.get_or_create(&LineLabel { result }));
        }
        metrics
    }
}

impl CoderMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            REQUESTS,
            "Total number of requests to the Coder API.",
            self.requests.clone(),
        );
        registry.register(
            LINES,
            "Startup log lines for Coder agents, by what became of them",
            self.lines.clone(),
        );
        registry.register(
            WATCH_RESTARTS,
            "Watches for Coder workspaces that failed and began again",
            self.watch_restarts.clone(),
        );
    }

    pub(crate) fn requested<T, E>(&self, method: Method, answer: &Result<T, E>) {
        let status = match answer {
            Ok(_) => Status::success,
            Err(_) => Status::failure,
        };
        self.requests
            .get_or_create(&RequestLabel { method, status })
            .inc();
    }

    pub(crate) fn lines(&self, result: Fate, n_lines: usize) {
        self.lines
            .get_or_create(&LineLabel { result })
            .inc_by(n_lines as u64);
    }

    /// Requests of a kind so far.
    pub fn n_requests(&self, method: Method, status: Status) -> u64 {
        self.requests
            .get_or_create(&RequestLabel { method, status })
            .get()
    }

    /// Lines of a fate so far.
    pub fn n_lines(&self, result: Fate) -> u64 {
        self.lines.get_or_create(&LineLabel { result }).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_of_cl_7_is_there_from_the_start() {
        let mut registry = Registry::default();
        CoderMetrics::default().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for method in ["PostLogSource", "ConnectRPC", "SendLog"] {
            for status in ["success", "failure"] {
                let series = format!(
                    "coder_logstream_requests_total{{method=\"{method}\",status=\"{status}\"}} 0\n"
                );
                assert!(text.contains(&series), "{series}\n{text}");
            }
        }
        assert!(text.contains("tawny_coder_lines_total{result=\"queue_full\"} 0\n"));
    }
}
