//! Replay of the columnar store's log: whatever is in a file, what comes out is numbers that were written, in order, and
//! what does not come out is accounted for.

#![no_main]

use std::{env, fs, path::PathBuf, process, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tawny_store::wal_fuzzing::{log_file, replay_file};

/// Each process has its own directory, best on a file system in memory (`TMPDIR=/dev/shm`).
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = env::temp_dir().join(format!("tawny-fuzz-wal-{}", process::id()));
    fs::create_dir_all(&directory).expect("a directory to work in");
    directory
});

// The input is bytes to change (three each: where, and how), then bodies of records, split at 0xff. Text has no 0xff.
fuzz_target!(|input: (Vec<(u16, u8)>, Vec<u8>)| {
    let (changes, bodies) = input;
    let bodies: Vec<&[u8]> = bodies.split(|byte| *byte == 0xff).collect();
    let mut bytes = log_file(&bodies);
    let len = bytes.len();
    for (at, mask) in changes {
        bytes[usize::from(at) % len] ^= mask;
    }
    let Ok((seqs, n_places)) = replay_file(&DIRECTORY, &bytes) else {
        return;
    };
    assert!(
        seqs.is_sorted()
            && seqs
                .iter()
                .all(|seq| (1..=bodies.len() as u64).contains(seq))
    );
    assert!(seqs.len() == bodies.len() || n_places > 0);
});
