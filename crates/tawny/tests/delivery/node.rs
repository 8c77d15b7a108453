//! A node whose containers write numbered lines, and its kubelet: pieces of long lines, rotation, compression, deletion.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use flate2::{Compression, write::GzEncoder};
use tawny_model::Timestamp;

/// xorshift64. Source: Marsaglia, "Xorshift RNGs", 2003.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    /// True once in `n` times.
    pub(crate) fn is_one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// One output of one run of a container; its lines are numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Voice {
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) restart: u32,
    pub(crate) output: String,
}

impl Voice {
    /// The text of line `number`: it names its place, so no other line equals it, and ends in a way a cut would show.
    pub(crate) fn line(&self, number: usize) -> String {
        let Self {
            pod,
            container,
            restart,
            output,
        } = self;
        let n_words = match number % 397 {
            // 40 KB, which a runtime cuts into three pieces.
            200 => 8_000,
            _ => number % 23,
        };
        let words = "wörd ".repeat(n_words);
        format!("line {number} of {pod} {container} {restart} {output} {words}end of {number}")
    }
}

const OUTPUTS: [&str; 2] = ["stdout", "stderr"];

/// Most bytes of content in one CRI line.
/// Source: containerd, `defaultMaxContainerLogLineSize`.
const MAX_PIECE_BYTES: usize = 16 << 10;

const ROTATE_AT_BYTES: u64 = 200_000;

/// All containers of one node.
#[derive(Debug)]
pub(crate) struct Node {
    containers: Vec<Container>,
    /// Of each line when its first piece was written, in the order of the numbers.
    pub(crate) written: BTreeMap<Voice, Vec<Timestamp>>,
}

impl Node {
    /// Eight pods of two containers each below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        let containers = (0..8).flat_map(|pod| ["app", "proxy"].map(|name| (pod, name)));
        Self {
            containers: containers
                .map(|(pod, name)| Container::new(root, &format!("pod-{pod}"), name))
                .collect(),
            written: BTreeMap::new(),
        }
    }

    pub(crate) fn n_lines(&self) -> usize {
        self.written.values().map(Vec::len).sum()
    }

    /// Lets every container write a little, up to the middle of a line; rotates what has grown.
    pub(crate) fn tick(&mut self, random: &mut Random) {
        for container in &mut self.containers {
            container.say(random.below(24), random, &mut self.written);
            if container.len_bytes >= ROTATE_AT_BYTES {
                container.rotate(random, &mut self.written);
            } else if random.is_one_in(300) {
                container.restart();
            } else {
                let n_bytes = random.below(container.pending.len() as u64 + 1);
                container.flush(usize::try_from(n_bytes).unwrap());
            }
        }
    }

    /// Ends all lines that are begun, so that every line can be expected.
    pub(crate) fn end_lines(&mut self) {
        for container in &mut self.containers {
            container.end_lines();
        }
    }

    /// Deletes all compressed files; only when all of them is stored.
    pub(crate) fn delete_old_files(&self) {
        for container in &self.containers {
            for entry in fs::read_dir(&container.directory).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|ending| ending == "gz") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

#[derive(Debug)]
struct Container {
    pod: String,
    name: String,
    directory: PathBuf,
    restart: u32,
    file: File,
    len_bytes: u64,
    n_rotations: u32,
    /// Said and not yet in the file.
    pending: Vec<u8>,
    /// Pieces of a begun line that are still to be said, by output.
    pieces: [VecDeque<Vec<u8>>; 2],
    last: Timestamp,
}

impl Container {
    fn new(root: &Path, pod: &str, name: &str) -> Self {
        let directory = root.join(format!("shop_{pod}_uid-of-{pod}")).join(name);
        fs::create_dir_all(&directory).unwrap();
        let file = File::create(directory.join("0.log")).unwrap();
        Self {
            pod: pod.to_owned(),
            name: name.to_owned(),
            directory,
            restart: 0,
            file,
            len_bytes: 0,
            n_rotations: 0,
            pending: Vec::new(),
            pieces: Default::default(),
            last: Timestamp::default(),
        }
    }

    fn current(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.restart))
    }

    fn say(
        &mut self,
        n_pieces: u64,
        random: &mut Random,
        written: &mut BTreeMap<Voice, Vec<Timestamp>>,
    ) {
        for _ in 0..n_pieces {
            let output = usize::from(random.is_one_in(3));
            // Lines of one nanosecond are told apart by their number within it.
            if self.last == Timestamp::default() || !random.is_one_in(8) {
                let nanos = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
                let now = Timestamp::from_nanos(i64::try_from(nanos).unwrap());
                self.last = now.max(Timestamp::from_nanos(self.last.as_nanos() + 1_000));
            }
            if self.pieces[output].is_empty() {
                let voice = Voice {
                    pod: self.pod.clone(),
                    container: self.name.clone(),
                    restart: self.restart,
                    output: OUTPUTS[output].to_owned(),
                };
                let times = written.entry(voice.clone()).or_default();
                let line = voice.line(times.len());
                times.push(self.last);
                let pieces = line.as_bytes().chunks(MAX_PIECE_BYTES);
                self.pieces[output].extend(pieces.map(<[u8]>::to_vec));
            }
            self.say_piece(output);
        }
    }

    fn say_piece(&mut self, output: usize) {
        let Some(piece) = self.pieces[output].pop_front() else {
            return;
        };
        let tag = if self.pieces[output].is_empty() {
            "F"
        } else {
            "P"
        };
        write!(self.pending, "{} {} {tag} ", self.last, OUTPUTS[output]).unwrap();
        self.pending.extend(piece);
        self.pending.push(b'\n');
    }

    fn flush(&mut self, n_bytes: usize) {
        let bytes: Vec<u8> = self.pending.drain(..n_bytes).collect();
        self.file.write_all(&bytes).unwrap();
        self.len_bytes += n_bytes as u64;
    }

    fn end_lines(&mut self) {
        for output in 0..OUTPUTS.len() {
            while !self.pieces[output].is_empty() {
                self.say_piece(output);
            }
        }
        self.flush(self.pending.len());
    }

    /// In the kubelet's order: compress the older, rename, and the runtime writes on until it is told to reopen.
    fn rotate(&mut self, random: &mut Random, written: &mut BTreeMap<Voice, Vec<Timestamp>>) {
        self.flush(self.pending.len());
        if self.n_rotations > 0 {
            let plain = self.rotated();
            if plain.exists() {
                compress(&plain);
            }
        }
        self.n_rotations += 1;
        fs::rename(self.current(), self.rotated()).unwrap();
        self.say(random.below(24), random, written);
        self.flush(self.pending.len());
        self.begin_file();
    }

    fn rotated(&self) -> PathBuf {
        let (restart, n) = (self.restart, self.n_rotations);
        self.directory
            .join(format!("{restart}.log.20240101-{n:06}"))
    }

    fn begin_file(&mut self) {
        self.file = File::create_new(self.current()).unwrap();
        self.len_bytes = 0;
    }

    /// The container dies with all its lines ended, and runs again.
    fn restart(&mut self) {
        self.end_lines();
        self.restart += 1;
        self.begin_file();
    }
}

fn compress(plain: &Path) {
    let named = |ending: &str| PathBuf::from(format!("{}{ending}", plain.display()));
    let target = File::create(named(".tmp")).unwrap();
    let mut encoder = GzEncoder::new(target, Compression::fast());
    io::copy(&mut File::open(plain).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap();
    fs::rename(named(".tmp"), named(".gz")).unwrap();
    fs::remove_file(plain).unwrap();
}
