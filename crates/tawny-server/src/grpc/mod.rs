//! The gRPC face: kubelogs' storage service, our own ingest, health and reflection.

mod ingest;
mod storage;

use std::sync::Arc;

use axum::Router;
use tawny_wire::proto::{
    DESCRIPTOR_SET,
    kubelogs::storage_service_server::{SERVICE_NAME as STORAGE, StorageServiceServer},
    tawny::ingest_server::{IngestServer, SERVICE_NAME as INGEST},
};
use tonic::{Code, Response, Status, codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{Error, shared::Shared};

/// Health is told for the server as a whole and for each service; they are one.
const HEALTH_OF: [&str; 3] = ["", STORAGE, INGEST];

/// Every service, and the task that keeps `grpc.health.v1` in step with readiness.
pub(crate) fn router(shared: &Arc<Shared>) -> (Router, impl Future<Output = ()> + Send + use<>) {
    let max_message = usize::try_from(shared.limits.max_message.as_bytes()).unwrap_or(usize::MAX);
    let storage = StorageServiceServer::new(storage::Storage(Arc::clone(shared)))
        .max_decoding_message_size(max_message)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd);
    let ingest = IngestServer::new(ingest::Ingest(Arc::clone(shared)))
        .max_decoding_message_size(max_message)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(storage)
        .add_service(ingest)
        .add_service(health)
        .add_service(reflection().build_v1().expect(GENERATED))
        .add_service(reflection().build_v1alpha().expect(GENERATED))
        .prepare();
    let follow = follow_readiness(Arc::clone(shared), reporter);
    (routes.into_axum_router(), follow)
}

fn code<T>(result: &Result<T, Error>) -> Code {
    result.as_ref().map_or_else(Error::grpc_code, |_| Code::Ok)
}

/// Counts a unary call and gives its result the form tonic wants.
fn answer<T>(
    shared: &Shared,
    method: &'static str,
    result: Result<T, Error>,
) -> Result<Response<T>, Status> {
    shared.metrics.grpc_request(method, code(&result));
    Ok(Response::new(result?))
}

const GENERATED: &str = "descriptors come from the code generator";

async fn follow_readiness(shared: Arc<Shared>, mut reporter: HealthReporter) {
    let mut readiness = shared.readiness.subscribe();
    let mut told = None;
    loop {
        let is_stopping = shared.stop.is_cancelled();
        let status = if readiness.borrow_and_update().is_none() && !is_stopping {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        // Only news: each report wakes every Watch.
        if told.replace(status) != Some(status) {
            for service in HEALTH_OF {
                reporter.set_service_status(service, status).await;
            }
        }
        if is_stopping {
            break;
        }
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => {}
            changed = readiness.changed() => changed.expect("the server holds the sender"),
        }
    }
    // Ends the Watch streams, which would hold their connections open past the stop.
    for service in HEALTH_OF {
        reporter.clear_service_status(service).await;
    }
}
