use std::io::Write;

use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;

/// One range.
fn read(file: &dyn ReadAt, from: u64, to: u64) -> Result<Bytes, Error> {
    let range = from..to;
    Ok(file.read(std::slice::from_ref(&range))?.remove(0))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Both kinds of storage: what holds for one holds for the other.
fn on_both(check: impl Fn(&Storage)) {
    let (runtime, directory) = (runtime(), tempfile::tempdir().unwrap());
    let handle = runtime.handle().clone();
    check(&Storage::in_directory(directory.path(), handle.clone()).unwrap());
    check(&Storage::in_objects(
        Arc::new(InMemory::new()),
        "memory://",
        handle,
    ));
}

fn in_directory() -> (Runtime, TempDir, Storage) {
    let (runtime, directory) = (runtime(), tempfile::tempdir().unwrap());
    let storage = Storage::in_directory(directory.path(), runtime.handle().clone()).unwrap();
    (runtime, directory, storage)
}

#[test]
fn a_file_is_written_read_listed_and_deleted() {
    on_both(|storage| {
        assert_eq!(storage.get("a/b").unwrap(), None);
        storage.put("a/b", Bytes::from_static(b"first")).unwrap();
        storage.put("a/b", Bytes::from_static(b"second")).unwrap();
        assert!(!storage.put_new("a/b", Bytes::from_static(b"x")).unwrap());
        assert!(
            storage
                .put_new("a/c", Bytes::from_static(b"third"))
                .unwrap()
        );
        assert_eq!(storage.get("a/b").unwrap().unwrap(), "second");
        let all = storage
            .get_all(&["a/c".to_owned(), "none".to_owned()])
            .unwrap();
        assert_eq!(all, [Some(Bytes::from_static(b"third")), None]);
        let listed = storage.list("").unwrap();
        let names: Vec<_> = listed
            .iter()
            .map(|f| (f.path.as_str(), f.len_bytes))
            .collect();
        assert_eq!(names, [("a/b", 6), ("a/c", 5)]);
        assert_eq!(storage.list("a").unwrap(), listed);
        assert_eq!(storage.list("b").unwrap(), []);
        storage.delete("a/b").unwrap();
        storage.delete("a/b").unwrap();
        assert_eq!(storage.get("a/b").unwrap(), None);
    });
}

#[test]
fn an_upload_is_there_when_finished_and_never_before() {
    on_both(|storage| {
        let part = vec![7u8; 5_000_000];
        let mut upload = storage.upload("d/big").unwrap();
        for _ in 0..8 {
            upload.write_all(&part).unwrap();
        }
        assert_eq!(storage.list("").unwrap(), []);
        assert_eq!(upload.finish().unwrap(), 40_000_000);
        assert_eq!(storage.get("d/big").unwrap().unwrap().len(), 40_000_000);

        let mut dropped = storage.upload("d/dropped").unwrap();
        dropped.write_all(&part).unwrap();
        drop(dropped);
        assert_eq!(storage.list("").unwrap().len(), 1);
    });
}

#[test]
fn ranges_are_read_in_the_order_asked() {
    on_both(|storage| {
        let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        storage.put("file", bytes.clone().into()).unwrap();
        let file = storage.reader("file", bytes.len() as u64);
        let ranges = [
            2_999_990..3_000_000,
            0..10,
            5..5,
            8..300,
            1_500_000..1_500_001,
        ];
        let read = file.read(&ranges).unwrap();
        for (range, read) in ranges.iter().zip(read) {
            let expected = bytes
                .get(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
            assert_eq!(Some(&*read), expected, "{range:?}");
        }
    });
}

#[test]
fn a_file_that_is_shorter_or_gone_is_damaged() {
    on_both(|storage| {
        storage
            .put("file", Bytes::from_static(b"0123456789"))
            .unwrap();
        let longer = storage.reader("file", 20);
        for range in [5..15, 12..15, 0..21, 21..30] {
            let error = longer.read(std::slice::from_ref(&range)).unwrap_err();
            assert!(
                matches!(error, Error::Damaged { .. }),
                "{range:?}: {error:?}"
            );
        }
        let gone = read(&*storage.reader("gone", 20), 0, 5).unwrap_err();
        assert!(matches!(gone, Error::Damaged { .. }), "{gone:?}");
    });
}

#[test]
fn near_ranges_of_an_object_are_one_request() {
    let runtime = runtime();
    let storage = Storage::in_objects(
        Arc::new(InMemory::new()),
        "memory://",
        runtime.handle().clone(),
    );
    storage.put("file", vec![0; 4_000_000].into()).unwrap();
    let file = storage.reader("file", 4_000_000);
    file.read(&[0..10, 1_000..2_000, 3_000_000..3_000_010])
        .unwrap();
    assert_eq!(storage.traffic().requests(), 2);
    assert_eq!(storage.traffic().bytes(), 2_010);
}

#[test]
fn more_files_than_handles_can_be_read() {
    let (_runtime, _directory, storage) = in_directory();
    for n in 0..600u32 {
        storage
            .put(&n.to_string(), n.to_le_bytes().to_vec().into())
            .unwrap();
    }
    for n in (0..600u32).chain(0..600) {
        let bytes = read(&*storage.reader(&n.to_string(), 4), 0, 4).unwrap();
        assert_eq!(*bytes, n.to_le_bytes());
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 500, "{open} open files");
}

#[test]
fn a_replaced_file_is_read_anew() {
    let (_runtime, _directory, storage) = in_directory();
    storage.put("file", Bytes::from_static(b"old")).unwrap();
    let file = storage.reader("file", 3);
    assert_eq!(read(&*file, 0, 3).unwrap(), "old");
    storage.put("file", Bytes::from_static(b"new")).unwrap();
    assert_eq!(read(&*file, 0, 3).unwrap(), "new");
}

#[derive(Debug)]
struct Full;

impl FaultPoints for Full {
    fn reach(&self, step: &'static str, _path: &str) -> io::Result<()> {
        match step {
            "delete" | "upload" => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    on_both(|storage| {
        let full = storage.clone().with_faults(Arc::new(Full));
        let is_full = |error: Error| matches!(error, Error::DiskFull { .. });
        assert!(is_full(full.put("file", Bytes::new()).unwrap_err()));
        assert!(is_full(full.put_new("file", Bytes::new()).unwrap_err()));
        let mut upload = full.upload("file").unwrap();
        let error = upload.write_all(b"x").unwrap_err();
        assert!(is_full(library_error("file", "cannot be written", error)));
        assert!(is_full(upload.finish().unwrap_err()));
        assert_eq!(storage.list("").unwrap(), []);
    });
}

#[test]
fn an_unknown_place_is_refused() {
    let runtime = runtime();
    for place in ["nowhere://bucket/x", "file:///host/x", "s3://", "bucket/x"] {
        let error = Storage::in_bucket(place, &[], runtime.handle().clone()).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
}
