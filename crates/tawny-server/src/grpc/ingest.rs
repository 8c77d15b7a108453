//! `tawny.v1.Ingest`: agents resume streams and push batches; each request is answered, in order, once it is durable.

use std::{pin::Pin, sync::Arc};

use async_trait::async_trait;
use futures::{Stream, stream::try_unfold};
use tawny_model::{StreamId, WriterId};
use tawny_store::Written;
use tawny_wire::{
    proto::tawny::{
        self as pb, ingest_server::Ingest as IngestService, push_response::answer::Result as Told,
    },
    push,
};
use tonic::{Code, Request, Response, Status, Streaming};

use super::answer;
use crate::{
    Error,
    metrics::{LineResult, Protocol},
    shared::Shared,
};

pub(super) struct Ingest(pub(super) Arc<Shared>);

impl Ingest {
    async fn take_over(&self, request: pb::ResumeRequest) -> Result<pb::ResumeResponse, Error> {
        let streams = request
            .streams
            .into_iter()
            .enumerate()
            .map(|(stream_idx, id)| {
                StreamId::try_from(id).map_err(|source| Error::Stream { stream_idx, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let ends = self.0.written(
            self.0
                .store
                .resume(WriterId(request.writer), &streams)
                .await,
        )?;
        let answers = ends
            .into_iter()
            .map(|end| pb::resume_response::Answer {
                end: end.map(pb::StreamEnd::from),
            })
            .collect();
        Ok(pb::ResumeResponse { answers })
    }
}

/// Decodes, commits, answers one request. A malformed batch refuses the whole request: nothing of it is stored.
async fn commit(shared: &Shared, request: pb::PushRequest) -> Result<pb::PushResponse, Error> {
    let writer = WriterId(request.writer);
    let batches = request
        .batches
        .into_iter()
        .enumerate()
        .map(|(batch_idx, batch)| {
            push::decode(batch, writer).map_err(|source| Error::Batch { batch_idx, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let n_lines: Vec<u64> = batches
        .iter()
        .map(|batch| batch.entries.len() as u64)
        .collect();
    let written = shared.written(shared.store.write(batches).await)?;
    let answers = written
        .iter()
        .zip(n_lines)
        .map(|(written, n_lines)| {
            let (told, result, n_result) = match *written {
                Written::New { end, n_new } => (Told::StoredEnd(end.0), LineResult::New, n_new),
                Written::Duplicate { end } => {
                    (Told::StoredEnd(end.0), LineResult::Duplicate, n_lines)
                }
                Written::Gap { committed } => (
                    Told::GapCommitted(committed.0),
                    LineResult::Refused,
                    n_lines,
                ),
                Written::Fenced => (Told::Fenced(true), LineResult::Refused, n_lines),
            };
            shared.metrics.ingest_lines(result, n_result);
            shared
                .metrics
                .ingest_lines(LineResult::Duplicate, n_lines.saturating_sub(n_result));
            pb::push_response::Answer { result: Some(told) }
        })
        .collect();
    Ok(pb::PushResponse { answers })
}

/// A request that is too large only once unpacked is as hopeless as one that is too large packed, and tonic has two
/// codes for them; an agent would take the other for a full disk and try again for ever.
fn unreadable(status: Status) -> Status {
    match status.code() {
        Code::ResourceExhausted => Status::out_of_range(status.message()),
        _ => status,
    }
}

#[async_trait]
impl IngestService for Ingest {
    type PushStream = Pin<Box<dyn Stream<Item = Result<pb::PushResponse, Status>> + Send>>;

    async fn resume(
        &self,
        request: Request<pb::ResumeRequest>,
    ) -> Result<Response<pb::ResumeResponse>, Status> {
        answer(
            &self.0,
            "Resume",
            self.take_over(request.into_inner()).await,
        )
    }

    /// One request is in work at a time; the next is read from the connection when its answer has been taken, so
    /// HTTP/2's own flow control holds a fast sender back.
    async fn push(
        &self,
        request: Request<Streaming<pb::PushRequest>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let state = (request.into_inner(), Arc::clone(&self.0));
        let answers = try_unfold(state, |(mut requests, shared)| async move {
            let request = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return Err(Error::Stopping.into()),
                request = requests.message() => request.map_err(unreadable),
            };
            let answer = match request {
                Ok(Some(request)) => commit(&shared, request).await.map_err(Status::from),
                Ok(None) => return Ok(None),
                Err(status) => Err(status),
            };
            let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
            shared.metrics.ingest_request(Protocol::Tawny, code);
            Ok(Some((answer?, (requests, shared))))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
