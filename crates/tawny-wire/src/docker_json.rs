//! Lines of docker's json-file driver: `{"log":"…","stream":"stdout","time":"…"}`, keys in any order, unknown ones ignored.

use tawny_model::{Output, Timestamp};

use crate::{
    json::{Cursor, LogText, RawString},
    line::{LineError, RawLine},
};

/// Reads one line, without its newline (VK-8).
///
/// Docker writes the program's newline into `log`; a piece without one is partial. A line without `stream` is stdout.
/// `scratch` is used only where `log` has escapes besides that newline.
///
/// # Errors
/// `Reject`: the line is no JSON object, or lacks `log` or `time`.
pub fn decode<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<RawLine<'a>, LineError> {
    if line.is_empty() {
        return Err(LineError::Empty);
    }
    let mut cursor = Cursor::new(line, 0);
    let members =
        Members::scan(&mut cursor, scratch).ok_or(LineError::BrokenJson { at_byte: cursor.at })?;
    let log = members.log.ok_or(LineError::NoKey { key: "log" })?;
    let time = members.time.ok_or(LineError::NoKey { key: "time" })?;
    let timestamp =
        Timestamp::parse_rfc3339(&line[time.start..time.end]).ok_or(LineError::BadTime)?;
    let output = match members.stream.map(|stream| &line[stream.start..stream.end]) {
        Some(b"stderr") => Output::Stderr,
        Some(b"stdout") | None => Output::Stdout,
        Some(_) => return Err(LineError::NoOutput),
    };
    let (content, is_partial) = match log {
        LogText::AsWritten {
            start,
            end,
            has_newline,
        } => (&line[start..end], !has_newline),
        LogText::Unescaped => match scratch.strip_suffix(b"\n") {
            Some(whole) => (whole, false),
            None => (&scratch[..], true),
        },
    };
    Ok(RawLine {
        timestamp,
        output,
        is_partial,
        content,
    })
}

#[derive(Default)]
struct Members {
    log: Option<LogText>,
    stream: Option<RawString>,
    time: Option<RawString>,
}

impl Members {
    fn scan(cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Option<Self> {
        let mut members = Self::default();
        cursor.take(b'{')?;
        if cursor.take(b'}').is_some() {
            return Some(members);
        }
        loop {
            cursor.skip_space();
            let key = cursor.string()?;
            cursor.take(b':')?;
            cursor.skip_space();
            let is_string = cursor.peek() == Some(b'"');
            match &cursor.bytes[key.start..key.end] {
                b"log" if is_string => members.log = Some(cursor.text(scratch)?),
                b"stream" if is_string => members.stream = Some(cursor.string()?),
                b"time" if is_string => members.time = Some(cursor.string()?),
                _ => cursor.value()?,
            }
            if !cursor.comma_or_brace()? {
                break;
            }
        }
        cursor.skip_space();
        (cursor.at == cursor.bytes.len()).then_some(members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2016-10-06T00:17:09.669794202Z";

    fn decode_text(line: &str) -> Result<(Output, bool, String), LineError> {
        let mut scratch = b"rest of an earlier line".to_vec();
        decode(line.as_bytes(), &mut scratch).map(|line| {
            assert_eq!(line.timestamp.to_string(), TIME);
            let content = String::from_utf8(line.content.to_vec()).unwrap();
            (line.output, line.is_partial, content)
        })
    }

    #[test]
    fn members_come_in_any_order_among_unknown_ones() {
        for (line, output, is_partial, content) in [
            (
                r#"{"log":"hello\n","stream":"stdout","time":"T"}"#,
                Output::Stdout,
                false,
                "hello",
            ),
            (
                r#"{"time":"T","stream":"stderr","log":"no newline"}"#,
                Output::Stderr,
                true,
                "no newline",
            ),
            (
                r#"{"attrs":{"tag":"a}\"b","n":[1,{}]},"log":"x\n","stream":"stdout","time":"T","new":null,"v":-1.5e3,"b":true}"#,
                Output::Stdout,
                false,
                "x",
            ),
            (
                r#" { "log" : "{\"a\":\"b\\n\"}\r\n" , "stream" : "stdout" , "time" : "T" } "#,
                Output::Stdout,
                false,
                "{\"a\":\"b\\n\"}\r",
            ),
            (
                r#"{"log":"\u001b[31m\ud83d\ude00\u0000\n","time":"T"}"#,
                Output::Stdout,
                false,
                "\u{1b}[31m😀\0",
            ),
            (
                r#"{"log":"","stream":"stdout","time":"T"}"#,
                Output::Stdout,
                true,
                "",
            ),
        ] {
            let line = line.replace("\"T\"", &format!("\"{TIME}\""));
            assert_eq!(
                decode_text(&line),
                Ok((output, is_partial, content.to_owned())),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, error) in [
            ("", LineError::Empty),
            (r#"{"log":"half a li"#, LineError::BrokenJson { at_byte: 7 }),
            (r#"{"log":"a\n""#, LineError::BrokenJson { at_byte: 12 }),
            (r#"{"log":"a\n"}x"#, LineError::BrokenJson { at_byte: 13 }),
            ("{}", LineError::NoKey { key: "log" }),
            (r#"{"log":1,"time":"T"}"#, LineError::NoKey { key: "log" }),
            (r#"{"log":"a\n"}"#, LineError::NoKey { key: "time" }),
            (r#"{"log":"a\n","time":"noon"}"#, LineError::BadTime),
            (
                r#"{"log":"a\n","stream":"tty","time":"2016-10-06T00:17:09Z"}"#,
                LineError::NoOutput,
            ),
        ] {
            assert_eq!(decode_text(line), Err(error), "{line}");
        }
    }

    #[test]
    fn text_without_escapes_is_not_copied() {
        for log in ["plain", r"plain\n"] {
            let line = format!(r#"{{"log":"{log}","stream":"stdout","time":"{TIME}"}}"#);
            let mut scratch = Vec::new();
            assert_eq!(
                decode(line.as_bytes(), &mut scratch).unwrap().content,
                b"plain"
            );
            assert_eq!(scratch.capacity(), 0);
        }
    }

    proptest! {
        #[test]
        fn lines_written_by_a_json_library_read_back(text in any::<String>(), tag in any::<String>()) {
            let line = serde_json::json!({"log": format!("{text}\n"), "attrs": {"tag": tag}, "stream": "stderr", "time": TIME});
            prop_assert_eq!(decode_text(&line.to_string()), Ok((Output::Stderr, false, text)));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut: prop::sample::Index) {
            let mut scratch = Vec::new();
            let _line = decode(&[b"{", &bytes[..]].concat(), &mut scratch);
            let whole = format!(r#"{{"log":"a\n\u12","stream":"stdout","time":"{TIME}","k":[{{}}]}}"#);
            let mut whole = whole.into_bytes();
            whole.truncate(cut.index(whole.len()));
            prop_assert!(decode(&whole, &mut scratch).is_err());
        }
    }
}
