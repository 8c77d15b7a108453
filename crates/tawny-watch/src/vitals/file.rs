//! Small files of proc and cgroup trees, read whole and within a bound.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Far above the largest file read: `/proc/stat` has a number per interrupt and takes tens of KiB on large machines.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file's text into `text`, in place of what was there.
///
/// # Errors
/// The file cannot be opened or read, or is no UTF-8; `text` is empty then.
pub(super) fn read(path: &Path, text: &mut String) -> io::Result<()> {
    text.clear();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(text));
    if read.is_err() {
        text.clear();
    }
    read.map(drop)
}

/// The number after a key at the start of a line, as in `memory.stat` and `memory.events`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_in_place_of_the_one_before_and_within_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stat");
        std::fs::write(&path, "x".repeat(3 << 20)).unwrap();
        let mut text = "before".to_owned();
        read(&path, &mut text).unwrap();
        assert_eq!(text.len(), 1 << 20);
        assert!(read(&dir.path().join("none"), &mut text).is_err());
        assert_eq!(text, "");
    }

    #[test]
    fn key_is_a_whole_word_at_the_start_of_a_line() {
        let text = "low 1\noom_kill_disable 0\n  oom_kill  7 \noom_kill 8\nbad x\nbad 9\nempty\n";
        assert_eq!(keyed(text, "oom_kill"), Some(7));
        assert_eq!(keyed(text, "kill"), None);
        assert_eq!(keyed(text, "empty"), None);
        assert_eq!(keyed(text, "bad"), Some(9));
    }
}
