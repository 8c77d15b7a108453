//! Lines as CRI runtimes (containerd, CRI-O) write them: `<time> <stdout|stderr> <P|F>[:tag…] <content>`.

use memchr::memchr;
use tawny_model::{Output, Timestamp};

use crate::line::{LineError, RawLine};

/// Reads one line, without its newline (VK-8).
///
/// Source: kubernetes `pkg/kubelet/kuberuntime/logs`, "CRI log format"; tags behind the first are reserved and ignored.
///
/// # Errors
/// `Reject`: the line is no CRI line; the error names the first part that is missing.
pub fn decode(line: &[u8]) -> Result<RawLine<'_>, LineError> {
    if line.is_empty() {
        return Err(LineError::Empty);
    }
    let (timestamp, rest) = split_time(line)?;
    let output = match rest.get(..7) {
        Some(b"stdout ") => Output::Stdout,
        Some(b"stderr ") => Output::Stderr,
        _ => return Err(LineError::NoOutput),
    };
    let tags = &rest[7..];
    let is_partial = match tags.first() {
        Some(b'F') => false,
        Some(b'P') => true,
        _ => return Err(LineError::NoTag),
    };
    let content = match tags.get(1) {
        Some(b' ') => &tags[2..],
        // Whatever trims trailing blanks makes an empty line look like this.
        None => &[],
        Some(b':') => memchr(b' ', tags).map_or(&[][..], |space| &tags[space + 1..]),
        Some(_) => return Err(LineError::NoTag),
    };
    Ok(RawLine {
        timestamp,
        output,
        is_partial,
        content,
    })
}

/// Longest time written: nine fraction digits and an offset.
const MAX_TIME_BYTES: usize = 35;

/// Splits `<RFC 3339> <rest>`.
pub(crate) fn split_time(line: &[u8]) -> Result<(Timestamp, &[u8]), LineError> {
    let head = &line[..line.len().min(MAX_TIME_BYTES + 1)];
    let space = memchr(b' ', head).ok_or(LineError::NoTime)?;
    let timestamp = Timestamp::parse_rfc3339(&line[..space]).ok_or(LineError::NoTime)?;
    Ok((timestamp, &line[space + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(output: Output, is_partial: bool, content: &[u8]) -> RawLine<'_> {
        RawLine {
            timestamp: Timestamp::from_nanos(1_475_713_029_669_794_202),
            output,
            is_partial,
            content,
        }
    }

    #[test]
    fn lines_are_read_as_the_kubelet_writes_them() {
        for (text, expected) in [
            (
                "2016-10-06T00:17:09.669794202Z stdout P log content 1",
                line(Output::Stdout, true, b"log content 1"),
            ),
            (
                "2016-10-06T00:17:09.669794202Z stderr F log content 2",
                line(Output::Stderr, false, b"log content 2"),
            ),
            (
                "2016-10-06T02:17:09.669794202+02:00 stdout F:retry:x a  b",
                line(Output::Stdout, false, b"a  b"),
            ),
            (
                "2016-10-06T00:17:09.669794202Z stdout F ",
                line(Output::Stdout, false, b""),
            ),
            (
                "2016-10-06T00:17:09.669794202Z stdout F",
                line(Output::Stdout, false, b""),
            ),
            (
                "2016-10-06T00:17:09.669794202Z stdout F  {\0",
                line(Output::Stdout, false, b" {\0"),
            ),
        ] {
            assert_eq!(decode(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_line_cut_anywhere_says_what_is_missing() {
        for (text, error) in [
            ("", LineError::Empty),
            ("hello world", LineError::NoTime),
            ("2016-10-06T00:17:09.66979", LineError::NoTime),
            ("2016-10-06T00:17:09.669794202Z", LineError::NoTime),
            ("2016-10-06T00:17:09.669794202Z std", LineError::NoOutput),
            ("2016-10-06T00:17:09.669794202Z stdout", LineError::NoOutput),
            (
                "2016-10-06T00:17:09.669794202Z stdlog F x",
                LineError::NoOutput,
            ),
            ("2016-10-06T00:17:09.669794202Z stdout ", LineError::NoTag),
            (
                "2016-10-06T00:17:09.669794202Z stdout X x",
                LineError::NoTag,
            ),
            (
                "2016-10-06T00:17:09.669794202Z stdout Full x",
                LineError::NoTag,
            ),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_lines_read_back(nanos: i64, is_partial: bool, content in proptest::collection::vec(any::<u8>(), 0..60)) {
            let timestamp = Timestamp::from_nanos(nanos);
            let tag = if is_partial { "P" } else { "F" };
            let mut text = format!("{timestamp} stderr {tag} ").into_bytes();
            text.extend_from_slice(&content);
            prop_assert_eq!(decode(&text), Ok(RawLine { timestamp, output: Output::Stderr, is_partial, content: &content }));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _line = decode(&bytes);
        }
    }
}
