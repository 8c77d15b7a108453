//! Made-up nodes, by seed: containers write, the kubelet rotates, compresses and deletes, the agent dies at any moment,
//! acknowledgements get lost. In the end every line is stored once, in order.

use std::{collections::BTreeMap, fs, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tawny_model::Remedy;

use super::{Node, append, run};
use crate::{
    files::FilesSettings,
    testing::{MemorySink, intake},
};

/// xorshift64. Source: Marsaglia, "Xorshift RNGs", 2003.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// One container: what it wrote, and the names of its rotated files.
struct Writer {
    directory: String,
    n_rotations: u32,
    n_lines: u32,
    /// Whole lines in the order they were finished.
    expected: Vec<String>,
    /// The start of a line, by output.
    open: [String; 2],
}

impl Writer {
    fn new(name: &str) -> Self {
        Self {
            directory: format!("ns_{name}_{name}/app"),
            n_rotations: 0,
            n_lines: 0,
            expected: Vec::new(),
            open: Default::default(),
        }
    }

    fn path(&self, node: &Node, file: &str) -> std::path::PathBuf {
        node.path(&self.directory).join(file)
    }

    fn write(&mut self, node: &mut Node, random: &mut Random, file: &str) {
        let mut text = String::new();
        for _ in 0..=random.below(40) {
            let output = usize::from(random.below(3) == 0);
            let is_partial = random.below(5) == 0;
            self.n_lines += 1;
            let piece = format!("{}.{} ", self.directory, self.n_lines);
            let tag = format!(
                "{} {}",
                ["stdout", "stderr"][output],
                if is_partial { "P" } else { "F" }
            );
            text.push_str(&node.tagged(&piece, &tag));
            self.open[output].push_str(&piece);
            if !is_partial {
                self.expected.push(std::mem::take(&mut self.open[output]));
            }
        }
        append(&self.path(node, file), text.as_bytes());
    }

    /// Ends lines that are open, so that all that was written can be expected.
    fn end_lines(&mut self, node: &mut Node) {
        for (output, name) in ["stdout", "stderr"].into_iter().enumerate() {
            let text = node.tagged("end", &format!("{name} F"));
            append(&self.path(node, "0.log"), text.as_bytes());
            self.expected
                .push(std::mem::take(&mut self.open[output]) + "end");
        }
    }

    /// As the kubelet and the runtime do: compress, rename, write on for a moment, begin the new file.
    fn rotate(&mut self, node: &mut Node, random: &mut Random) {
        if self.n_rotations > 0 {
            let plain = self.path(node, &rotated(self.n_rotations));
            node.compress_at(&plain);
        }
        self.n_rotations += 1;
        let name = rotated(self.n_rotations);
        fs::rename(self.path(node, "0.log"), self.path(node, &name)).unwrap();
        if random.below(2) == 0 {
            self.write(node, random, &name);
        }
        append(&self.path(node, "0.log"), b"");
        if random.below(2) == 0 {
            self.write(node, random, "0.log");
        }
    }

    /// Deletes the oldest file; only when all of it is known to be stored.
    fn delete_oldest(&self, node: &Node) {
        let mut names: Vec<_> = fs::read_dir(node.path(&self.directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "gz"))
            .collect();
        names.sort();
        if names.len() > 1 {
            fs::remove_file(&names[0]).unwrap();
        }
    }
}

/// Every line must end before it can be waited for: an open one holds back what was written behind it.
fn end_lines(writers: &mut [Writer], node: &mut Node) {
    for writer in writers {
        writer.end_lines(node);
    }
}

fn rotated(n: u32) -> String {
    format!("0.log.20240101-{n:06}")
}

async fn all_stored(sink: &MemorySink, writers: &[Writer]) {
    sink.wait_until(|state| {
        writers.iter().all(|writer| {
            let uid = writer.directory.split(['_', '/']).nth(2).unwrap();
            let stored = state.streams.iter().find(|(id, _)| &*id.pod_uid == uid);
            stored.map_or(0, |(_, stored)| stored.entries.len()) >= writer.expected.len()
        })
    })
    .await;
}

async fn simulate(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let mut writers: Vec<_> = (0..=random.below(3))
        .map(|n| Writer::new(&format!("pod{n}")))
        .collect();
    for writer in &mut writers {
        fs::create_dir_all(node.path(&writer.directory)).unwrap();
        writer.write(&mut node, &mut random, "0.log");
    }
    for life in 1..=3 + random.below(4) {
        let settings = FilesSettings {
            reconcile: Duration::from_millis(20),
            max_watches: if random.below(3) == 0 { 2 } else { usize::MAX },
            max_open_files: if random.below(3) == 0 { 1 } else { 100 },
            batch_bytes: if random.below(2) == 0 { 100 } else { 100_000 },
            ..node.settings()
        };
        sink.lose_acks(usize::try_from(random.below(3)).unwrap());
        if random.below(3) == 0 {
            sink.fail_next(&[Remedy::Retry]);
        }
        let dies = random.below(2) == 0;
        let work = async {
            for _ in 0..random.below(12) {
                let at = usize::try_from(random.below(writers.len() as u64)).unwrap();
                let writer = &mut writers[at];
                match random.below(6) {
                    // Every rotation is found before the next, as with the kubelet's ten seconds between them.
                    0 => {
                        writer.rotate(&mut node, &mut random);
                        end_lines(&mut writers, &mut node);
                        all_stored(&sink, &writers).await;
                    }
                    1 => {
                        end_lines(&mut writers, &mut node);
                        all_stored(&sink, &writers).await;
                        writers[at].delete_oldest(&node);
                    }
                    2 => tokio::task::yield_now().await,
                    _ => writer.write(&mut node, &mut random, "0.log"),
                }
            }
        };
        if dies {
            // The work ends first, and everything under way is dropped.
            tokio::select! {
                biased;
                () = work => {}
                () = run(settings, intake(&sink, life), std::future::pending()) => unreachable!("it is never told to stop"),
            }
        } else {
            run(settings, intake(&sink, life), work).await;
        }
        // While nobody reads.
        for writer in &mut writers {
            if random.below(2) == 0 {
                writer.write(&mut node, &mut random, "0.log");
            }
            for _ in 0..random.below(3) {
                writer.rotate(&mut node, &mut random);
            }
        }
    }
    end_lines(&mut writers, &mut node);
    run(
        node.settings(),
        intake(&sink, 100),
        all_stored(&sink, &writers),
    )
    .await;
    let stored: BTreeMap<String, Vec<String>> = sink.with(|state| {
        let texts = |stored: &crate::testing::Stored| {
            stored
                .entries
                .iter()
                .map(|kept| kept.message.clone())
                .collect()
        };
        state
            .streams
            .iter()
            .map(|(id, stored)| (id.pod_uid.to_string(), texts(stored)))
            .collect()
    });
    for writer in &writers {
        let uid = writer.directory.split(['_', '/']).nth(2).unwrap();
        assert_eq!(stored[uid], writer.expected, "seed {seed}, {uid}");
    }
}

/// Time is paused: waits take no time, and only what blocks on files does.
#[tokio::test(start_paused = true)]
async fn every_line_is_stored_once_whatever_happens() {
    for seed in 1..=60 {
        let result = AssertUnwindSafe(simulate(seed)).catch_unwind().await;
        assert!(result.is_ok(), "seed {seed} fails");
    }
}
