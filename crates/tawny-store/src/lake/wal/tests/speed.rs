//! Figures, for people: `cargo test --release -p tawny-store wal::tests::speed -- --ignored --nocapture`.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// The fastest of many runs: what it takes when nothing else takes the processor.
fn fastest(mut run: impl FnMut()) -> Duration {
    let times = (0..200).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    times.min().unwrap()
}

#[test]
#[ignore = "measures; run it by hand in release"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn encoding_decoding_and_committing() {
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let message = "GET /api/v1/namespaces/default/pods?limit=500 HTTP/1.1 200 ".repeat(4);
    for n_attributes in [0usize, 6] {
        let rows: Vec<Row> = (0..500i64)
            .map(|ns| Row {
                message: message.get(..200).unwrap().to_owned(),
                attributes: (0..n_attributes)
                    .map(|n| (format!("key{n}"), format!("value{n}")))
                    .collect(),
                ..row(1_700_000_000_000_000_000 + ns * 1_234_567, "")
            })
            .collect();
        let batches: Vec<HotRows> = (0..20)
            .map(|n| hot(&stream(n, &[("app", "a")]), &rows, 0))
            .collect();
        let changes: Vec<Change<'_>> = batches
            .iter()
            .map(|rows| Change::Rows {
                rows,
                end: Some(end(1)),
            })
            .collect();
        let n_lines = 500 * 20;
        let (mut described, mut out) = (Described::default(), Vec::new());
        described.encode(1, &changes, &mut out);
        let body = out.clone();
        let encoding = fastest(|| {
            out.clear();
            described.encode(2, &changes, &mut out);
        });
        let summing = fastest(|| _ = std::hint::black_box(crc32c::crc32c(&body)));
        let decoding = fastest(|| drop(Descriptions::default().decode(&body).unwrap()));
        println!(
            "{n_attributes} attributes: {} bytes per line; encode {:?}, checksum {:?}, decode {:?} per line",
            body.len() / (500 * 20),
            encoding / n_lines,
            summing / n_lines,
            decoding / n_lines,
        );
    }
    let mut wal = reopen(directory.path(), 0).1;
    for n_rows in [1, 100, 5_000] {
        let rows: Vec<Row> = (0..n_rows)
            .map(|ns| row(ns, message.get(..200).unwrap()))
            .collect();
        let rows = hot(&stream(1, &[]), &rows, 0);
        let mut took: Vec<_> = (0..300)
            .map(|_| {
                let start = Instant::now();
                wal.append(&[Change::Rows {
                    rows: &rows,
                    end: None,
                }])
                .unwrap();
                wal.commit().unwrap();
                start.elapsed()
            })
            .collect();
        took.sort();
        println!(
            "commit of {n_rows} lines: median {:?}, p99 {:?}",
            took[150], took[296]
        );
    }
}
