//! Groups the lines of a stack trace into one record: Java, Python, Go, Rust, JavaScript, .NET (KL-67).
//!
//! Optional: a record is known to be complete only when the next line comes, so it delays each line until then.

use std::time::Duration;

use tawny_model::{Output, Timestamp};

use crate::partial::Line;

/// A line that comes later than this behind the one before does not continue it: a trace is written at once.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Joins the lines of one stream into records, stdout and stderr apart.
///
/// While [`Self::is_open`] no batch may end behind the start of the open record. A record that grows past its bound is
/// given out and the rest becomes the next: nothing is cut.
#[derive(Debug)]
pub struct RecordJoiner {
    max_record_bytes: usize,
    stdout: Option<Open>,
    stderr: Option<Open>,
}

#[derive(Debug)]
struct Open {
    timestamp: Timestamp,
    last_timestamp: Timestamp,
    text: Vec<u8>,
    cut_bytes: u64,
    trace: Trace,
}

impl RecordJoiner {
    /// Joins at most `max_record_bytes`, or one line where that is longer.
    pub fn new(max_record_bytes: usize) -> Self {
        Self {
            max_record_bytes,
            stdout: None,
            stderr: None,
        }
    }

    /// Takes the next line and answers the record of its output that it does not continue, which ends before it.
    ///
    /// `joined` holds the record's content; its former content is lost, its memory passes to the caller.
    pub fn push<'a>(&mut self, line: Line<'_>, joined: &'a mut Vec<u8>) -> Option<Line<'a>> {
        let max_record_bytes = self.max_record_bytes;
        let slot = self.slot(line.output);
        if let Some(open) = slot
            && open.text.len() + 1 + line.content.len() <= max_record_bytes
            && line.timestamp.saturating_since(open.last_timestamp) <= MAX_PAUSE
            && let Some(trace) = open.trace.continued_by(line.content)
        {
            open.trace = trace;
            open.last_timestamp = line.timestamp;
            open.text.push(b'\n');
            open.text.extend_from_slice(line.content);
            open.cut_bytes += line.cut_bytes;
            return None;
        }
        let complete = slot.replace(Open {
            timestamp: line.timestamp,
            last_timestamp: line.timestamp,
            text: line.content.to_vec(),
            cut_bytes: line.cut_bytes,
            trace: Trace::opened_by(line.content),
        });
        complete.map(|open| open.into_record(line.output, joined))
    }

    /// True while a record waits for the line that ends it.
    pub fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Gives out what waits, oldest first, as when no line came for a while or at the end of a stream; call until `None`.
    pub fn flush<'a>(&mut self, joined: &'a mut Vec<u8>) -> Option<Line<'a>> {
        let is_stderr_first = match (&self.stdout, &self.stderr) {
            (Some(stdout), Some(stderr)) => stderr.timestamp < stdout.timestamp,
            (stdout, _) => stdout.is_none(),
        };
        let output = if is_stderr_first {
            Output::Stderr
        } else {
            Output::Stdout
        };
        let open = self.slot(output).take()?;
        Some(open.into_record(output, joined))
    }

    fn slot(&mut self, output: Output) -> &mut Option<Open> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Open {
    fn into_record(self, output: Output, joined: &mut Vec<u8>) -> Line<'_> {
        *joined = self.text;
        Line {
            timestamp: self.timestamp,
            output,
            content: joined,
            cut_bytes: self.cut_bytes,
        }
    }
}

/// What a record has been so far, which decides what may follow.
///
/// | state | opened by | goes on with |
/// |---|---|---|
/// | `Plain` | anything else | indented lines, `Caused by: `, `Suppressed: ` |
/// | `Python` | `Traceback (most recent call last):` | indented lines; the exception, which makes it `PythonEnd` |
/// | `PythonEnd` | | a blank line and `During handling of`/`The above exception`, which make it `Python` |
/// | `Go` | `panic: `, `fatal error: `, `goroutine 1 [` | frames, blank lines, further goroutines |
/// | `RustMessage` | `thread '…' panicked at` | its message, whatever that is, which makes it `Rust` |
/// | `Rust` | | `note: `, `stack backtrace:`, indented lines |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    Plain,
    Python,
    PythonEnd,
    Go,
    RustMessage,
    Rust,
}

const TRACEBACK: &[u8] = b"Traceback (most recent call last)";

impl Trace {
    fn opened_by(line: &[u8]) -> Self {
        if has_prefix(line, &[TRACEBACK]) {
            Self::Python
        } else if has_prefix(line, &[b"panic: ", b"fatal error: "]) || is_goroutine(line) {
            Self::Go
        } else if line.starts_with(b"thread '")
            && memchr::memmem::find(line, b" panicked at ").is_some()
        {
            Self::RustMessage
        } else {
            Self::Plain
        }
    }

    /// The state behind `line`, or `None` when it starts a record of its own.
    fn continued_by(self, line: &[u8]) -> Option<Self> {
        let is_blank = line.trim_ascii().is_empty();
        let is_indented = !is_blank && matches!(line[0], b' ' | b'\t');
        match self {
            Self::RustMessage => Some(Self::Rust),
            _ if is_indented => Some(self),
            Self::Plain => has_prefix(line, &[b"Caused by: ", b"Suppressed: "]).then_some(self),
            Self::Python => {
                if is_blank
                    || has_prefix(
                        line,
                        &[TRACEBACK, b"During handling of", b"The above exception"],
                    )
                {
                    Some(Self::Python)
                } else {
                    Some(Self::PythonEnd)
                }
            }
            Self::PythonEnd => {
                if has_prefix(line, &[b"During handling of", b"The above exception"]) {
                    Some(Self::Python)
                } else {
                    is_blank.then_some(self)
                }
            }
            Self::Go => (is_blank || is_goroutine(line) || is_go_frame(line)).then_some(self),
            Self::Rust => has_prefix(line, &[b"note: ", b"stack backtrace:"]).then_some(self),
        }
    }
}

fn has_prefix(line: &[u8], prefixes: &[&[u8]]) -> bool {
    prefixes.iter().any(|prefix| line.starts_with(prefix))
}

fn is_goroutine(line: &[u8]) -> bool {
    line.strip_prefix(b"goroutine ")
        .and_then(|rest| rest.first())
        .is_some_and(u8::is_ascii_digit)
        && line.ends_with(b":")
}

/// `main.(*Cart).Total(0xc000, 0x1)`, or one of the lines the runtime writes between frames.
fn is_go_frame(line: &[u8]) -> bool {
    if has_prefix(
        line,
        &[
            b"created by ",
            b"[signal ",
            b"panic: ",
            b"exit status ",
            b"runtime.",
        ],
    ) {
        return true;
    }
    let name_len = line
        .iter()
        .position(|byte| matches!(byte, b' ' | b'('))
        .unwrap_or(0);
    line.ends_with(b")") && line[name_len] == b'(' && line[..name_len].contains(&b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(output: Output, nanos: i64, content: &[u8]) -> Line<'_> {
        Line {
            timestamp: Timestamp::from_nanos(nanos),
            output,
            content,
            cut_bytes: 0,
        }
    }

    fn records_of(joiner: &mut RecordJoiner, lines: &[&str]) -> Vec<String> {
        let mut joined = Vec::new();
        let mut records = Vec::new();
        let mut keep = |record: Line<'_>| {
            records.push(String::from_utf8(record.content.to_vec()).unwrap());
        };
        for text in lines {
            if let Some(record) = joiner.push(line(Output::Stdout, 0, text.as_bytes()), &mut joined)
            {
                keep(record);
            }
        }
        while let Some(record) = joiner.flush(&mut joined) {
            keep(record);
        }
        records
    }

    #[test]
    fn traces_of_each_language_are_one_record() {
        let traces: [&[&str]; 6] = [
            &[
                "10:00:00 ERROR cannot total",
                "java.lang.IllegalStateException: no cart",
                "\tat com.example.Cart.total(Cart.java:4)",
                "Caused by: java.io.IOException: closed",
                "\tat com.example.Db.read(Db.java:9)",
                "\t... 12 more",
            ],
            &[
                "Traceback (most recent call last):",
                "  File \"/app/a.py\", line 7, in <module>",
                "    f()",
                "KeyError: 'x'",
                "",
                "During handling of the above exception, another exception occurred:",
                "",
                "Traceback (most recent call last):",
                "  File \"/app/b.py\", line 1, in g",
                "ValueError: bad",
            ],
            &[
                "panic: runtime error: index out of range [3] with length 3",
                "",
                "goroutine 1 [running]:",
                "main.(*Cart).Total(0xc000012345, 0x1)",
                "\t/app/main.go:12 +0x1d",
                "main.main()",
                "\t/app/main.go:7 +0x20",
                "exit status 2",
            ],
            &[
                "thread 'main' panicked at src/main.rs:4:5:",
                "called `Option::unwrap()` on a `None` value",
                "stack backtrace:",
                "   0: rust_begin_unwind",
                "note: Some details are omitted",
            ],
            &[
                "TypeError: Cannot read properties of undefined (reading 'id')",
                "    at handler (/app/index.js:4:9)",
            ],
            &[
                "Unhandled exception. System.InvalidOperationException: Sequence contains no elements",
                "   at Shop.Cart.Total() in /app/Cart.cs:line 4",
            ],
        ];
        for trace in traces {
            let before = "INFO before";
            let after = "INFO after (x)";
            let lines = [&[before], trace, &[after]].concat();
            let mut records = records_of(&mut RecordJoiner::new(1 << 20), &lines);
            if trace[0].contains("ERROR") {
                // A log line, then the exception it is about: two records, as nothing ties them.
                assert_eq!(records.remove(1), trace[0]);
                assert_eq!(
                    records,
                    [before.to_owned(), trace[1..].join("\n"), after.to_owned()]
                );
            } else {
                assert_eq!(
                    records,
                    [before.to_owned(), trace.join("\n"), after.to_owned()]
                );
            }
        }
    }

    #[test]
    fn a_record_ends_at_its_bound_and_after_a_pause() {
        let records = records_of(&mut RecordJoiner::new(8), &["abc", " def", " ghi"]);
        assert_eq!(records, ["abc\n def", " ghi"]);
        let mut joiner = RecordJoiner::new(99);
        let mut joined = Vec::new();
        assert_eq!(
            joiner.push(line(Output::Stdout, 5, b"a"), &mut joined),
            None
        );
        let late = line(Output::Stdout, 2_000_000_000, b"\tat b");
        let record = joiner.push(late, &mut joined).unwrap();
        assert_eq!(
            (record.content, record.timestamp.as_nanos()),
            (&b"a"[..], 5)
        );
    }

    #[test]
    fn outputs_are_joined_apart() {
        let mut joiner = RecordJoiner::new(99);
        let mut joined = Vec::new();
        joiner.push(line(Output::Stdout, 2, b"out"), &mut joined);
        joiner.push(line(Output::Stderr, 1, b"err"), &mut joined);
        joiner.push(line(Output::Stdout, 2, b" o"), &mut joined);
        assert_eq!(joiner.flush(&mut joined).unwrap().content, b"err");
        assert_eq!(joiner.flush(&mut joined).unwrap().content, b"out\n o");
        assert!(!joiner.is_open());
    }

    proptest! {
        /// Records are the lines in a row: none lost, none changed, none twice.
        #[test]
        fn records_are_the_lines_in_a_row(
            lines in proptest::collection::vec("( |\t|panic: |Traceback \\(most recent call last\\)|thread 'x' panicked at |goroutine 1:)?[a-z.()]{0,5}", 0..30),
            max in 0usize..60) {
            let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
            let records = records_of(&mut RecordJoiner::new(max), &texts);
            prop_assert_eq!(records.join("\n"), texts.join("\n"));
        }
    }
}
