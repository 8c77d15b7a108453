//! Writes container logs the way containerd and the kubelet do: CRI lines, 16 KiB pieces, rotation, compression.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use tawny_model::{Output, Timestamp};

use super::Pod;

/// Most bytes of content in one CRI line; longer lines are cut into pieces tagged `P`.
/// Source: containerd, `defaultMaxContainerLogLineSize`.
const MAX_PIECE_BYTES: usize = 16 << 10;

/// When a log is rotated, and how many files are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    pub(crate) max_bytes: u64,
    /// The open file counts as one.
    pub(crate) max_files: usize,
}

/// The log of one container instance: `<root>/<namespace>_<pod>_<uid>/<container>/<restart>.log`.
#[derive(Debug)]
pub(crate) struct PodLog {
    dir: PathBuf,
    restart: u32,
    rotation: Rotation,
    file: BufWriter<File>,
    n_bytes: u64,
    n_rotations: u32,
}

impl PodLog {
    /// Creates the directory and the file; an existing file is continued.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(
        root: &Path,
        pod: &Pod,
        container: &str,
        restart: u32,
        rotation: Rotation,
    ) -> io::Result<Self> {
        let dir = root
            .join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
            .join(container);
        fs::create_dir_all(&dir)?;
        let (file, n_bytes) = open_log(&dir, restart)?;
        Ok(Self {
            dir,
            restart,
            rotation,
            file,
            n_bytes,
            n_rotations: 0,
        })
    }

    /// Appends a message; each of its lines is a line of the log. Buffered until [`Self::flush`].
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(
        &mut self,
        now: Timestamp,
        output: Output,
        message: &str,
    ) -> io::Result<()> {
        for line in message.split('\n') {
            let mut pieces = line.as_bytes().chunks(MAX_PIECE_BYTES).peekable();
            if pieces.peek().is_none() {
                self.write_piece(now, output, 'F', b"")?;
            }
            while let Some(piece) = pieces.next() {
                self.write_piece(
                    now,
                    output,
                    if pieces.peek().is_some() { 'P' } else { 'F' },
                    piece,
                )?;
            }
        }
        if self.n_bytes >= self.rotation.max_bytes {
            self.rotate(now)?;
        }
        Ok(())
    }

    fn write_piece(
        &mut self,
        now: Timestamp,
        output: Output,
        tag: char,
        piece: &[u8],
    ) -> io::Result<()> {
        let prefix = format!("{now} {output} {tag} ");
        self.file.write_all(prefix.as_bytes())?;
        self.file.write_all(piece)?;
        self.file.write_all(b"\n")?;
        self.n_bytes += (prefix.len() + piece.len() + 1) as u64;
        Ok(())
    }

    /// Hands everything written to the operating system.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// In the kubelet's order: drop the oldest, compress the older, rename, reopen.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.file.flush()?;
        let current = format!("{}.log", self.restart);
        let mut rotated: Vec<PathBuf> = fs::read_dir(&self.dir)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default();
                name.strip_prefix(&current)
                    .is_some_and(|suffix| suffix.starts_with('.'))
            })
            .collect();
        rotated.sort();
        let n_dropped = (rotated.len() + 2).saturating_sub(self.rotation.max_files);
        for path in rotated.drain(..n_dropped.min(rotated.len())) {
            fs::remove_file(path)?;
        }
        for path in rotated
            .iter()
            .filter(|path| path.extension().is_none_or(|extension| extension != "gz"))
        {
            compress(path)?;
        }
        // Several rotations in a second need names of their own, in order.
        self.n_rotations += 1;
        let stamp: String = now
            .to_string()
            .chars()
            .take(19)
            .filter(char::is_ascii_digit)
            .collect();
        let (date, time) = stamp.split_at_checked(8).unwrap_or((&stamp, ""));
        let name = format!("{current}.{date}-{time}{:04}", self.n_rotations);
        fs::rename(self.dir.join(&current), self.dir.join(name))?;
        (self.file, self.n_bytes) = open_log(&self.dir, self.restart)?;
        Ok(())
    }
}

fn open_log(dir: &Path, restart: u32) -> io::Result<(BufWriter<File>, u64)> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(dir.join(format!("{restart}.log")))?;
    let n_bytes = file.metadata()?.len();
    Ok((BufWriter::new(file), n_bytes))
}

fn compress(path: &Path) -> io::Result<()> {
    let mut target = path.as_os_str().to_owned();
    target.push(".gz");
    let mut encoder = GzEncoder::new(BufWriter::new(File::create(&target)?), Compression::fast());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Rng, pods};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn logs_are_rotated_compressed_and_dropped_as_the_kubelet_does() {
        let root = tempfile::tempdir().unwrap();
        let pod = pods(1, 1, &mut Rng::new(3)).remove(0);
        let mut log = PodLog::open(
            root.path(),
            &pod,
            "app",
            0,
            Rotation {
                max_bytes: 100,
                max_files: 3,
            },
        )
        .unwrap();
        for _ in 0..5 {
            log.write(
                Timestamp::from_secs(1_700_000_000),
                Output::Stdout,
                &"x".repeat(100),
            )
            .unwrap();
        }
        let names = names(&log.dir);
        assert_eq!(
            names,
            [
                "0.log",
                "0.log.20231114-2213200004.gz",
                "0.log.20231114-2213200005"
            ],
            "the open file, one compressed, one plain"
        );
    }

    #[test]
    fn a_long_line_is_cut_into_pieces_and_a_trace_into_lines() {
        let root = tempfile::tempdir().unwrap();
        let pod = pods(1, 1, &mut Rng::new(3)).remove(0);
        let mut log = PodLog::open(
            root.path(),
            &pod,
            "app",
            2,
            Rotation {
                max_bytes: 1 << 20,
                max_files: 3,
            },
        )
        .unwrap();
        log.write(
            Timestamp::from_secs(1),
            Output::Stderr,
            &"y".repeat(MAX_PIECE_BYTES + 1),
        )
        .unwrap();
        log.write(Timestamp::from_secs(1), Output::Stdout, "a\nb")
            .unwrap();
        log.flush().unwrap();
        let text = fs::read_to_string(log.dir.join("2.log")).unwrap();
        let tags: Vec<_> = text
            .lines()
            .map(|line| line.get(31..39).unwrap().to_owned())
            .collect();
        assert_eq!(tags, ["stderr P", "stderr F", "stdout F", "stdout F"]);
    }
}
