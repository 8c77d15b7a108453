//! A full disk, by way of the file's own limit: SQLite reports both alike.

use tawny_model::{ByteSize, Remedy, Timestamp, WriterId};
use tawny_store::{
    Error, LogStore as _, Written,
    conformance::{Feed, Line, T0, filter, search_all},
};

use super::{Directory, open};

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_refuses_writes_keeps_answering_and_recovers() {
    let directory = Directory::new();
    let mut config = directory.config();
    config.max_file_bytes = Some(ByteSize::mib(1));
    let store = open(config).await.unwrap();
    let mut feed = Feed::new("api");
    let lines = |round: i64| {
        (0..200).map(move |n| {
            let noise = (round * 1_000 + n).wrapping_mul(0x1e37_79b9_7f4a_7c15);
            Line::at(
                round * 1_000_000 + n * 1_000,
                format!("common {noise:x} round {round}"),
            )
        })
    };
    // Of every round, either all lines are in or none.
    let mut n_rounds = 0;
    let (error, refused) = loop {
        let batch = feed.batch(lines(n_rounds));
        match store.write(vec![batch.clone()]).await {
            Ok(written) => {
                assert_eq!(
                    written,
                    [Written::New {
                        end: batch.end,
                        n_new: 200
                    }]
                );
                n_rounds += 1;
            }
            Err(error) => break (error, batch),
        }
        assert!(n_rounds < 1_000, "the limit holds");
    };
    assert!(n_rounds > 5, "{n_rounds}");
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert_eq!(error.remedy(), Remedy::Retry);

    // Refused again and again, and all the while what was acknowledged is there and nothing else.
    let n_lines = n_rounds.cast_unsigned() * 200;
    let newcomer = Feed::new("newcomer").batch(lines(n_rounds));
    for batch in [&refused, &newcomer, &refused] {
        let error = store.write(vec![batch.clone()]).await.unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
        assert_eq!(store.count(&filter("")).await.unwrap(), n_lines);
        assert_eq!(store.count(&filter("common")).await.unwrap(), n_lines);
        assert_eq!(
            store
                .count(&filter(&format!("\"round {n_rounds}\"")))
                .await
                .unwrap(),
            0
        );
        assert_eq!(search_all(&store, "").await.len() as u64, n_lines);
        assert_eq!(store.stats().await.unwrap().n_streams, 1);
    }
    let ends = store
        .resume(WriterId(1), std::slice::from_ref(&feed.stream.id))
        .await
        .unwrap();
    assert_eq!(ends[0].map(|end| end.end), Some(refused.start));

    // Deleting makes room, even though the file is at its limit; the same batch is taken then.
    let n_deleted = store
        .delete_older_than(Timestamp::from_nanos(T0 + n_rounds / 2 * 1_000_000))
        .await
        .unwrap();
    assert_eq!(n_deleted, (n_rounds / 2).cast_unsigned() * 200);
    let written = store.write(vec![refused.clone()]).await.unwrap();
    assert_eq!(
        written,
        [Written::New {
            end: refused.end,
            n_new: 200
        }]
    );
    assert_eq!(
        store
            .count(&filter(&format!("\"round {n_rounds}\"")))
            .await
            .unwrap(),
        200
    );
    assert_eq!(
        store.count(&filter("common")).await.unwrap(),
        n_lines - n_deleted + 200
    );
}
