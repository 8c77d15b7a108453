//! The file source over real directories, into a sink in memory.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use tawny_model::{Timestamp, gap::GAP_ATTRIBUTE};
use tempfile::TempDir;

mod simulation;

use super::*;
use crate::{
    DeliverSettings, Deliverer, PodFacts, Selection, SelectionConfig,
    metadata::{Metadata, StringMap},
    selection::OwnPod,
    testing::{Kept, MemorySink, intake, intake_with},
};

/// A root of pod logs, and what a runtime and a kubelet do there.
struct Node {
    root: TempDir,
    clock: i64,
}

const POD: &str = "shop_web-1_u";

impl Node {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            clock: 1_700_000_000_000_000_000,
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    fn container(&self) -> PathBuf {
        let path = self.path(&format!("{POD}/app"));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn log(&self, name: &str) -> PathBuf {
        self.container().join(name)
    }

    /// The next line as a runtime writes it.
    fn line(&mut self, text: &str) -> String {
        self.tagged(text, "stdout F")
    }

    fn tagged(&mut self, text: &str, tag: &str) -> String {
        self.clock += 1_000;
        format!("{} {tag} {text}\n", Timestamp::from_nanos(self.clock))
    }

    fn write(&mut self, name: &str, texts: &[&str]) {
        let lines: String = texts.iter().map(|text| self.line(text)).collect();
        append(&self.log(name), lines.as_bytes());
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.log(from), self.log(to)).unwrap();
    }

    fn compress(&self, name: &str) {
        self.compress_at(&self.log(name));
    }

    /// As the kubelet does: a compressed copy under another name, renamed, then the plain file removed.
    fn compress_at(&self, plain: &Path) {
        let named = |ending: &str| PathBuf::from(format!("{}{ending}", plain.display()));
        let (tmp, gz) = (named(".tmp"), named(".gz"));
        let mut encoder = GzEncoder::new(File::create(&tmp).unwrap(), Compression::fast());
        encoder.write_all(&fs::read(plain).unwrap()).unwrap();
        encoder.finish().unwrap();
        fs::rename(tmp, gz).unwrap();
        fs::remove_file(plain).unwrap();
    }

    fn settings(&self) -> FilesSettings {
        FilesSettings {
            root: self.root.path().to_owned(),
            reconcile: Duration::from_millis(100),
            pace: Duration::from_millis(1),
            poll: Duration::from_millis(20),
            facts_grace: Duration::ZERO,
            settle: Duration::from_millis(5),
            ..FilesSettings::default()
        }
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}

async fn run<F: Future<Output = ()>>(settings: FilesSettings, intake: Intake, work: F) {
    let (stop_source, stop_deliverer) = (CancellationToken::new(), CancellationToken::new());
    let source = Box::new(FileSource::new(settings)).run(intake.clone(), stop_source.clone());
    let deliverer = Deliverer::new(&intake, DeliverSettings::default()).run(stop_deliverer.clone());
    let (source, deliverer, ()) = futures::join!(
        async {
            let result = source.await;
            stop_deliverer.cancel();
            result
        },
        deliverer,
        async {
            work.await;
            stop_source.cancel();
        }
    );
    source.unwrap();
    deliverer.unwrap();
}

fn messages(entries: &[Kept]) -> Vec<&str> {
    entries.iter().map(|kept| kept.message.as_str()).collect()
}

#[tokio::test]
async fn lines_there_before_and_lines_that_follow_are_read() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a", "b"]);
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(2).await;
        node.write("0.log", &["c"]);
        sink.wait_for_messages(3).await;
    })
    .await;
    assert_eq!(sink.messages(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_new_pod_is_read_within_a_second_by_its_events_alone() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let settings = FilesSettings {
        reconcile: Duration::from_secs(3600),
        ..node.settings()
    };
    run(settings, intake(&sink, 1), async {
        for n in 0..5 {
            let directory = node.path(&format!("ns_pod{n}_uid{n}/app"));
            let line = node.line("hello");
            fs::create_dir_all(&directory).unwrap();
            append(&directory.join("0.log"), line.as_bytes());
            let waited = sink.wait_for_messages(n + 1);
            assert!(
                tokio::time::timeout(Duration::from_secs(1), waited)
                    .await
                    .is_ok(),
                "pod {n}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_sink_that_refuses_again_and_again_is_not_asked_without_pause() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    sink.with(|state| state.is_forgetful = true);
    node.write("0.log", &["a"]);
    run(node.settings(), intake(&sink, 1), async {
        sink.wait_until(|state| !state.call_sizes.is_empty()).await;
        let began = Instant::now();
        sink.wait_until(|state| state.call_sizes.len() >= 3).await;
        // The second refusal is followed by a pause of 2 s; without it only turns are paced.
        assert!(began.elapsed() > Duration::from_secs(1));
        sink.with(|state| state.is_forgetful = false);
        assert_eq!(sink.wait_for_messages(1).await, ["a"]);
    })
    .await;
}

#[tokio::test]
async fn rotation_is_followed_to_the_end_of_the_old_file() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a"]);
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(1).await;
        node.rename("0.log", "0.log.20240101-000000");
        node.write("0.log.20240101-000000", &["b"]);
        node.write("0.log", &["c"]);
        node.compress("0.log.20240101-000000");
        sink.wait_for_messages(3).await;
        node.rename("0.log", "0.log.20240101-000010");
        node.write("0.log", &["d"]);
        node.rename("0.log", "0.log.20240101-000020");
        node.write("0.log", &["e"]);
        node.compress("0.log.20240101-000010");
        sink.wait_for_messages(5).await;
    })
    .await;
    assert_eq!(sink.messages(), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn downtime_over_several_rotations_is_caught_up_in_order_even_inside_a_compressed_file() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a", "b"]);
    let settings = node.settings();
    run(settings.clone(), intake(&sink, 1), async {
        sink.wait_for_messages(2).await;
    })
    .await;
    node.write("0.log", &["c"]);
    for n in 1..4 {
        let name = format!("0.log.20240101-00000{n}");
        node.rename("0.log", &name);
        node.write("0.log", &[&format!("after {n}")]);
        node.compress(&name);
    }
    run(settings, intake(&sink, 2), async {
        sink.wait_for_messages(6).await;
    })
    .await;
    assert_eq!(
        sink.messages(),
        ["a", "b", "c", "after 1", "after 2", "after 3"]
    );
}

#[tokio::test]
async fn what_was_rotated_away_while_nobody_read_is_a_gap_record() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a"]);
    let settings = node.settings();
    run(settings.clone(), intake(&sink, 1), async {
        sink.wait_for_messages(1).await;
    })
    .await;
    fs::remove_file(node.log("0.log")).unwrap();
    node.write("0.log", &["z"]);
    for writer in 2..4 {
        run(settings.clone(), intake(&sink, writer), async {
            sink.wait_for_messages(3).await;
        })
        .await;
    }
    let entries = sink.entries();
    assert_eq!(
        messages(&entries),
        [
            "a",
            "gap: lines deleted by rotation before they were read",
            "z"
        ]
    );
    assert_eq!(entries[1].attribute(GAP_ATTRIBUTE), Some("rotated"));
}

#[tokio::test]
async fn a_pod_deleted_while_it_is_read_gives_all_it_wrote() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a"]);
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(1).await;
        let mut held = OpenOptions::new()
            .append(true)
            .open(node.log("0.log"))
            .unwrap();
        node.write("0.log", &["b"]);
        fs::remove_dir_all(node.path(POD)).unwrap();
        let (last, torn) = (node.line("c"), node.line("torn"));
        held.write_all(last.as_bytes()).unwrap();
        held.write_all(torn.trim_end().as_bytes()).unwrap();
        sink.wait_for_messages(4).await;
    })
    .await;
    assert_eq!(sink.messages(), ["a", "b", "c", "torn"]);
}

#[tokio::test]
async fn restarts_are_streams_of_their_own_and_the_last_line_of_a_dead_one_needs_no_newline() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let crash = node.line("crash");
    append(&node.log("0.log"), crash.trim_end().as_bytes());
    let settings = node.settings();
    for writer in 1..3 {
        run(settings.clone(), intake(&sink, writer), async {
            if writer == 1 {
                node.write("1.log", &["again"]);
            }
            sink.wait_for_messages(2).await;
        })
        .await;
    }
    assert_eq!(sink.messages(), ["crash", "again"]);
    let restarts: Vec<_> = sink.with(|state| state.streams.keys().map(|id| id.restart).collect());
    assert_eq!(restarts, [0, 1]);
}

#[tokio::test]
async fn pieces_of_a_line_are_joined_over_rotation_and_restart_per_output() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let pieces = [
        node.tagged("one ", "stdout P"),
        node.tagged("whole", "stderr F"),
        node.tagged("err ", "stderr P"),
    ]
    .concat();
    append(&node.log("0.log"), node.line("first").as_bytes());
    append(&node.log("0.log"), pieces.as_bytes());
    let settings = node.settings();
    run(settings.clone(), intake(&sink, 1), async {
        sink.wait_for_messages(1).await;
    })
    .await;
    assert_eq!(
        sink.messages(),
        ["first"],
        "nothing behind an open line is handed on"
    );
    run(settings.clone(), intake(&sink, 2), async {
        node.rename("0.log", "0.log.20240101-000001");
        let rest = [
            node.tagged("two", "stdout F"),
            node.tagged("or", "stderr F"),
            node.line("last"),
        ]
        .concat();
        append(&node.log("0.log"), rest.as_bytes());
        sink.wait_for_messages(5).await;
    })
    .await;
    assert_eq!(
        sink.messages(),
        ["first", "whole", "one two", "err or", "last"]
    );
}

#[tokio::test]
async fn odd_bytes_are_kept_and_marked() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let path = node.log("0.log");
    node.write("0.log", &["nul \0 byte"]);
    append(&path, b"no log line at all\n\n");
    append(
        &path,
        &[
            b"2023-11-14T22:13:21.1Z stdout F bad ".as_slice(),
            b"\xff\xfe utf8\n",
        ]
        .concat(),
    );
    append(
        &path,
        &[
            b"\0\0\0\0".as_slice(),
            node.line("after a crash").as_bytes(),
        ]
        .concat(),
    );
    append(&path, b"2023-11-14T22:13:22.1Z std\n");
    append(
        &path,
        br#"{"log":"docker\n","stream":"stderr","time":"2023-11-14T22:13:23.1Z","new":1}"#,
    );
    append(&path, b"\n");
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(8).await;
    })
    .await;
    let entries = sink.entries();
    assert_eq!(
        messages(&entries),
        [
            "nul \0 byte",
            "no log line at all",
            "",
            "bad \u{fffd}\u{fffd} utf8",
            "gap: 4 bytes could not be read back",
            "after a crash",
            "2023-11-14T22:13:22.1Z std",
            "docker",
        ]
    );
    let malformed: Vec<_> = entries
        .iter()
        .map(|kept| kept.attribute(crate::assembler::MALFORMED).is_some())
        .collect();
    assert_eq!(
        malformed,
        [false, true, true, false, false, false, true, false]
    );
    assert_eq!(entries[1].timestamp, entries[0].timestamp);
}

#[tokio::test]
async fn a_line_of_a_hundred_mebibytes_keeps_its_head_and_its_length() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let prefix = node.line("").trim_end_matches('\n').to_owned();
    {
        let mut file = std::io::BufWriter::new(File::create(node.log("0.log")).unwrap());
        file.write_all(prefix.as_bytes()).unwrap();
        for _ in 0..100 << 10 {
            file.write_all(&[b'x'; 1 << 10]).unwrap();
        }
        file.write_all(b"\n").unwrap();
    }
    node.write("0.log", &["next"]);
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(2).await;
    })
    .await;
    let entries = sink.entries();
    assert_eq!(entries[0].message.len(), 1 << 20);
    assert_eq!(
        entries[0].attribute("tawny.cut_bytes"),
        Some((99 << 20).to_string().as_str())
    );
    assert_eq!(entries[1].message, "next");
}

#[tokio::test]
async fn what_is_no_pod_log_is_left_alone() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    for directory in ["lost+found/app", "not-a-pod/app", "a_b_c_d/app"] {
        fs::create_dir_all(node.path(directory)).unwrap();
        let line = node.line("foreign");
        append(&node.path(directory).join("0.log"), line.as_bytes());
    }
    append(&node.path("stray_file_x"), b"x\n");
    append(&node.log("app.txt"), b"x\n");
    fs::create_dir_all(node.log("7.log")).unwrap();
    node.write("0.log", &["own"]);
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(1).await;
        node.write("0.log", &["own too"]);
        sink.wait_for_messages(2).await;
    })
    .await;
    assert_eq!(sink.messages(), ["own", "own too"]);
}

#[tokio::test]
async fn a_truncated_file_is_read_from_its_start_with_a_gap_record() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a long first line"]);
    let settings = node.settings();
    run(settings, intake(&sink, 1), async {
        sink.wait_for_messages(1).await;
        File::options()
            .write(true)
            .truncate(true)
            .open(node.log("0.log"))
            .unwrap();
        node.write("0.log", &["b"]);
        sink.wait_for_messages(3).await;
    })
    .await;
    let entries = sink.entries();
    assert_eq!(entries[1].attribute(GAP_ATTRIBUTE), Some("rotated"));
    assert_eq!(entries[2].message, "b");
}

#[tokio::test]
async fn without_watches_files_are_polled() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    node.write("0.log", &["a"]);
    for max_watches in [0, 1, 2] {
        let sink = Arc::clone(&sink);
        let settings = FilesSettings {
            max_watches,
            reconcile: Duration::from_secs(3600),
            ..node.settings()
        };
        let n = sink.messages().len();
        run(settings, intake(&sink, 1), async {
            sink.wait_for_messages(n.max(1)).await;
            node.write("0.log", &["more"]);
            sink.wait_for_messages(n.max(1) + 1).await;
            let name = format!("0.log.20240101-00000{max_watches}");
            node.rename("0.log", &name);
            node.write("0.log", &["rotated"]);
            sink.wait_for_messages(n.max(1) + 2).await;
        })
        .await;
    }
    assert_eq!(
        sink.messages(),
        ["a", "more", "rotated", "more", "rotated", "more", "rotated"]
    );
}

#[tokio::test]
async fn files_beyond_the_budget_are_closed_when_read_and_opened_when_written_to() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let directories: Vec<_> = (0..6)
        .map(|n| node.path(&format!("ns_pod{n}_uid{n}/app")))
        .collect();
    for directory in &directories {
        fs::create_dir_all(directory).unwrap();
    }
    let settings = FilesSettings {
        max_open_files: 2,
        ..node.settings()
    };
    let intake = intake(&sink, 1);
    let metrics = Arc::clone(intake.metrics());
    run(settings, intake, async {
        for round in 0..3 {
            for directory in &directories {
                let line = node.line("x");
                append(&directory.join("0.log"), line.as_bytes());
            }
            sink.wait_for_messages(6 * (round + 1)).await;
        }
    })
    .await;
    assert!(
        metrics.open_files.get() <= 2,
        "{}",
        metrics.open_files.get()
    );
}

/// Facts that tests change.
#[derive(Debug, Default)]
struct TestFacts {
    pods: std::sync::Mutex<std::collections::HashMap<String, Arc<PodFacts>>>,
    version: tokio::sync::watch::Sender<u64>,
}

impl TestFacts {
    fn set(&self, uid: &str, labels: &[(&str, &str)]) {
        let labels: StringMap = labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        let facts = PodFacts {
            namespace: "shop".into(),
            name: "web-1".into(),
            labels,
            ..PodFacts::default()
        };
        self.pods
            .lock()
            .unwrap()
            .insert(uid.to_owned(), Arc::new(facts));
        self.version.send_modify(|version| *version += 1);
    }
}

impl Metadata for TestFacts {
    fn pod(&self, uid: &str) -> Option<Arc<PodFacts>> {
        self.pods.lock().unwrap().get(uid).cloned()
    }

    fn version(&self) -> Receiver<u64> {
        self.version.subscribe()
    }

    fn is_expected(&self) -> bool {
        true
    }
}

fn intake_with_facts(sink: &Arc<MemorySink>, facts: &Arc<TestFacts>) -> Intake {
    let selection = Selection::build(&SelectionConfig::default(), OwnPod::default()).unwrap();
    let metadata: Arc<dyn Metadata> = Arc::<TestFacts>::clone(facts);
    intake_with(
        sink,
        1,
        selection,
        metadata,
        Arc::new(tawny_runtime::SystemClock),
    )
}

#[tokio::test]
async fn late_facts_decide_before_anything_is_read_and_describe_what_follows() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let facts = Arc::new(TestFacts::default());
    node.write("0.log", &["a"]);
    let settings = FilesSettings {
        facts_grace: Duration::from_secs(3600),
        ..node.settings()
    };
    run(settings, intake_with_facts(&sink, &facts), async {
        // Held open while facts are waited for: deleted files are not lost.
        let sentinel = node.path("shop_other_o/app");
        fs::create_dir_all(&sentinel).unwrap();
        let line = node.line("other");
        append(&sentinel.join("0.log"), line.as_bytes());
        facts.set("o", &[]);
        sink.wait_for_messages(1).await;
        fs::remove_dir_all(node.path(POD)).unwrap();
        facts.set("u", &[("app", "web")]);
        sink.wait_for_messages(2).await;
    })
    .await;
    assert_eq!(sink.messages(), ["other", "a"]);
    let labels = sink.with(|state| {
        let stored = state
            .streams
            .iter()
            .find(|(id, _)| &*id.pod_uid == "u")
            .unwrap()
            .1;
        stored.stream.as_ref().unwrap().labels.clone()
    });
    assert_eq!(labels.get("app").map(AsRef::as_ref), Some("web"));
}

#[tokio::test]
async fn a_pod_marked_later_is_no_longer_read_until_it_is_unmarked() {
    let mut node = Node::new();
    let sink = Arc::new(MemorySink::default());
    let facts = Arc::new(TestFacts::default());
    facts.set("u", &[]);
    facts.set("o", &[]);
    node.write("0.log", &["a"]);
    let other = node.path("shop_other_o/app");
    fs::create_dir_all(&other).unwrap();
    let settings = node.settings();
    run(settings, intake_with_facts(&sink, &facts), async {
        sink.wait_for_messages(1).await;
        facts.set("u", &[("tawny.dev/exclude", "true")]);
        // A line of another pod, written after the change and read, shows that the change was taken in.
        facts.set("o", &[("seen", "true")]);
        let line = node.line("other");
        append(&other.join("0.log"), line.as_bytes());
        sink.wait_for_messages(2).await;
        node.write("0.log", &["b"]);
        let line = node.line("other");
        append(&other.join("0.log"), line.as_bytes());
        let entries = sink.wait_for_messages(3).await;
        assert_eq!(entries, ["other", "other", "a"]);
        facts.set("u", &[]);
        sink.wait_for_messages(4).await;
    })
    .await;
    assert_eq!(sink.messages(), ["other", "other", "a", "b"]);
}
