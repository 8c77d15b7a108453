//! The golden corpus: what the parsers make of `testdata/parse`, compared with `testdata/parse/expected`.

#![expect(
    clippy::unwrap_used,
    reason = "a test of its own crate, which clippy's exception for tests does not see"
)]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use tawny_wire::{
    Line, PartialJoiner, Scratch, kube_log, line, parse_message, strip_ansi, to_text,
};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/parse")
}

fn lines(file: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(corpus().join(file)).unwrap();
    let text = bytes
        .strip_suffix(b"\n")
        .expect("the file ends in a newline");
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

fn describe_message(out: &mut String, content: &str) {
    let mut scratch = Scratch::default();
    let parsed = parse_message(content, &mut scratch);
    if parsed.message == content {
        writeln!(out, "  {} (whole line)", parsed.severity).unwrap();
    } else {
        writeln!(out, "  {} {:?}", parsed.severity, parsed.message).unwrap();
    }
    for (key, value) in parsed.attributes() {
        writeln!(out, "    {key} = {value:?}").unwrap();
    }
}

fn describe_line(out: &mut String, line: Line<'_>) {
    let mut text = String::new();
    let content = to_text(line.content, &mut text);
    writeln!(out, "  {} {} {content:?}", line.timestamp, line.output).unwrap();
    describe_message(out, content);
}

#[track_caller]
fn check(file: &str, described: &str) {
    insta::with_settings!({
        snapshot_path => corpus().join("expected"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(file, described);
    });
}

#[test]
fn messages_of_every_format_say_what_they_said_before() {
    for file in [
        "json.txt",
        "logfmt.txt",
        "klog.txt",
        "access.txt",
        "text.txt",
        "ansi.txt",
    ] {
        let mut out = String::new();
        for line in lines(file) {
            let line = String::from_utf8(line).unwrap();
            writeln!(out, "{}", strip_ansi(&line)).unwrap();
            describe_message(&mut out, &line);
        }
        check(file, &out);
    }
}

#[test]
fn lines_of_every_runtime_say_what_they_said_before() {
    for file in ["cri.txt", "docker.jsonl"] {
        let mut out = String::new();
        let mut joiner = PartialJoiner::new(1 << 20);
        for physical in lines(file) {
            writeln!(out, "{}", physical.escape_ascii()).unwrap();
            let (mut unescaped, mut joined) = (Vec::new(), Vec::new());
            match line::decode(&physical, &mut unescaped) {
                Ok(raw) => match joiner.push(raw, &mut joined) {
                    Some(line) => describe_line(&mut out, line),
                    None => writeln!(out, "  (partial)").unwrap(),
                },
                Err(error) => writeln!(out, "  error: {error}").unwrap(),
            }
        }
        assert!(!joiner.is_open());
        check(file, &out);
    }
}

/// KL-60: the API's lines are the same contents behind the same times.
#[test]
fn api_lines_give_the_time_and_content_of_their_cri_lines() {
    let mut n_lines = 0;
    for physical in lines("cri.txt") {
        let mut unescaped = Vec::new();
        let Ok(raw) = line::decode(&physical, &mut unescaped) else {
            continue;
        };
        let api_line = [raw.timestamp.to_string().as_bytes(), b" ", raw.content].concat();
        assert_eq!(
            kube_log::decode(&api_line),
            Ok((raw.timestamp, raw.content))
        );
        n_lines += 1;
    }
    assert!(n_lines > 10);
}
