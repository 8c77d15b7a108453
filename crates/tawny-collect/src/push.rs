//! Sends batches to a server's `tawny.v1.Ingest`, and waits until they are durable there.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tawny_model::{Batch, Position, Remedy, StreamEnd, StreamId, WriterId};
use tawny_store::Written;
use tawny_wire::{
    proto::tawny::{
        self as pb, ingest_client::IngestClient, push_response::answer::Result as Told,
    },
    push,
};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

use crate::{Sink, SinkError};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for one answer. Sending again is safe: the server knows what it has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection that died unseen, as behind a NAT, is noticed after both (KL-10).
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, over one connection that is made anew whenever it breaks.
#[derive(Debug, Clone)]
pub struct PushSink {
    client: IngestClient<Channel>,
    address: Arc<str>,
}

/// The address of a server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server address `{address}` {reason}; write host:port, such as tawny-server:50051")]
pub struct AddressError {
    pub address: String,
    pub reason: &'static str,
}

/// The server's answer is no answer to what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unanswered(String);

impl PushSink {
    /// A sink for the server at `host:port`, with or without `http://`. Connects when first used; must be called inside
    /// a runtime.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &str) -> Result<Self, AddressError> {
        let refuse = |reason| AddressError {
            address: address.to_owned(),
            reason,
        };
        let url = match address.split_once("://") {
            Some(("http", _)) => address.to_owned(),
            Some(_) => return Err(refuse("has a scheme other than http")),
            None => format!("http://{address}"),
        };
        let endpoint = Endpoint::from_shared(url).map_err(|_| refuse("does not parse"))?;
        if endpoint.uri().port().is_none() {
            return Err(refuse("names no port"));
        }
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        Ok(Self {
            client: IngestClient::new(channel).send_compressed(CompressionEncoding::Zstd),
            address: address.into(),
        })
    }

    fn error(
        &self,
        remedy: Remedy,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> SinkError {
        SinkError {
            sink: format!("server {}", self.address),
            remedy,
            source: source.into(),
        }
    }

    fn refused(&self, status: Status) -> SinkError {
        self.error(remedy_of(status.code()), status)
    }

    /// Waits for an answer, not for ever.
    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, SinkError> {
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|status| self.refused(status)),
            Err(_) => Err(self.error(
                Remedy::Retry,
                Unanswered(format!("no answer within {ANSWER_TIMEOUT:?}")),
            )),
        }
    }

    fn check_count(&self, answered: usize, asked: usize) -> Result<(), SinkError> {
        if answered == asked {
            return Ok(());
        }
        Err(self.error(
            Remedy::Retry,
            Unanswered(format!("{answered} answers to {asked} questions")),
        ))
    }
}

/// What to do about a refusal.
///
/// Only a batch that is malformed or too large stays so. All else may pass: a full disk, a server being replaced, an
/// address that leads elsewhere for a while. Lines are kept until then.
fn remedy_of(code: Code) -> Remedy {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Remedy::Reject,
        _ => Remedy::Retry,
    }
}

#[async_trait]
impl Sink for PushSink {
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, SinkError> {
        let request = pb::ResumeRequest {
            writer: writer.0,
            streams: streams.iter().map(pb::StreamId::from).collect(),
        };
        let mut client = self.client.clone();
        let response = self.within(client.resume(request)).await?.into_inner();
        self.check_count(response.answers.len(), streams.len())?;
        Ok(response
            .answers
            .into_iter()
            .map(|answer| answer.end.map(StreamEnd::from))
            .collect())
    }

    async fn deliver(&self, batches: &[Batch]) -> Result<Vec<Written>, SinkError> {
        let Some(first) = batches.first() else {
            return Ok(Vec::new());
        };
        let request = pb::PushRequest {
            writer: first.writer.0,
            batches: batches.iter().map(push::encode).collect(),
        };
        let mut client = self.client.clone();
        // A stream of one request: the deliverer has its own calls in flight, and a new HTTP/2 stream costs no round trip.
        let answer = async move {
            let mut answers = client
                .push(futures::stream::iter([request]))
                .await?
                .into_inner();
            answers
                .message()
                .await?
                .ok_or_else(|| Status::unavailable("the server ended without an answer"))
        };
        let response = self.within(answer).await?;
        self.check_count(response.answers.len(), batches.len())?;
        response
            .answers
            .iter()
            .zip(batches)
            .map(|(answer, batch)| match answer.result {
                Some(Told::StoredEnd(end)) => Ok(Written::New {
                    end: Position(end),
                    n_new: batch.entries.len() as u64,
                }),
                Some(Told::GapCommitted(committed)) => Ok(Written::Gap {
                    committed: Position(committed),
                }),
                Some(Told::Fenced(_)) => Ok(Written::Fenced),
                None => Err(self.error(
                    Remedy::Retry,
                    Unanswered("an answer without a result".to_owned()),
                )),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_taken_with_and_without_a_scheme() {
        for address in ["tawny-server:50051", "http://127.0.0.1:1", "[::1]:50051"] {
            assert!(PushSink::new(address).is_ok(), "{address}");
        }
        for address in ["", "server", "https://server:1", "a b:1", "http://server"] {
            let error = PushSink::new(address).map(drop).unwrap_err();
            assert!(error.to_string().contains("write host:port"), "{error}");
        }
    }

    #[tokio::test]
    async fn server_that_is_not_there_is_tried_again() {
        let sink = PushSink::new("127.0.0.1:1").unwrap();
        let error = sink.resume(WriterId(1), &[]).await.unwrap_err();
        assert_eq!(error.remedy, Remedy::Retry);
        assert!(error.to_string().contains("server 127.0.0.1:1"), "{error}");
    }

    #[test]
    fn only_what_stays_wrong_is_given_up() {
        for code in [
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::Unimplemented,
            Code::PermissionDenied,
            Code::Internal,
            Code::Unknown,
        ] {
            assert_eq!(remedy_of(code), Remedy::Retry, "{code:?}");
        }
        assert_eq!(remedy_of(Code::InvalidArgument), Remedy::Reject);
    }
}
