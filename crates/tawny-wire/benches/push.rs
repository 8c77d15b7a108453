//! What a row costs on its way from an agent to a server: columns and protobuf, both ways.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use tawny_model::{
    Batch, Entries, Output, Position, ResumeMark, Severity, Stream, StreamId, Timestamp, WriterId,
};
use tawny_wire::{proto::tawny as pb, push};

const N_ROWS: u64 = 1_000;

fn batch() -> Batch {
    let mut entries = Entries::default();
    for row in 1..=N_ROWS {
        let duration = row.to_string();
        entries
            .push(
                Timestamp::from_nanos(
                    1_793_610_000_000_000_000 + i64::try_from(row).expect("small"),
                ),
                Severity::Info,
                Output::Stdout,
                "request served in time, as nearly all of them are, to a client far away",
                [
                    ("method", "GET"),
                    ("status", "200"),
                    ("duration_ms", &duration),
                ],
                Position(row * 120),
            )
            .expect("far from 4 GiB");
    }
    let id = StreamId {
        cluster: "".into(),
        pod_uid: "6f1f4a0e-8d6f-4a0e-9d4c-3c1c1a7a1d11".into(),
        container: "app".into(),
        restart: 0,
    };
    Batch {
        stream: Arc::new(Stream::new(id, "shop", "web-7d4b9c6f5-x2x4z")),
        writer: WriterId(1),
        start: Position::ZERO,
        end: Position(N_ROWS * 120),
        end_mark: ResumeMark::default(),
        entries,
    }
}

fn rows(criterion: &mut Criterion) {
    let batch = batch();
    let bytes = bytes::Bytes::from(push::encode(&batch).encode_to_vec());
    let mut group = criterion.benchmark_group("push");
    group.throughput(Throughput::Elements(N_ROWS));
    group.bench_function("encode", |bench| {
        bench.iter(|| push::encode(black_box(&batch)).encode_to_vec());
    });
    group.bench_function("decode", |bench| {
        bench.iter(|| {
            let columns = pb::Batch::decode(black_box(bytes.clone())).expect("encoded above");
            push::decode(columns, batch.writer).expect("encoded above")
        });
    });
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
