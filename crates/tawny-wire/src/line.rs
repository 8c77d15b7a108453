//! One line of a log file, whichever container runtime wrote it.
//!
//! The format is told per line, so a directory may mix them and nobody has to say which it is.

use tawny_model::{Output, Remedy, Timestamp};

use crate::{cri, docker_json};

/// A physical line: a whole line of the program's output, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawLine<'a> {
    pub timestamp: Timestamp,
    pub output: Output,
    /// The program's line goes on in the next physical line of the same output.
    pub is_partial: bool,
    /// What the program wrote, without its newline.
    pub content: &'a [u8],
}

/// The line is not of its format. It is still somebody's log: keep it raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    #[error("the line is empty")]
    Empty,
    #[error("the line does not start with an RFC 3339 time and a space")]
    NoTime,
    #[error("neither stdout nor stderr follows the time")]
    NoOutput,
    #[error("neither P nor F follows the output")]
    NoTag,
    #[error("the JSON of the line is broken at byte {at_byte}")]
    BrokenJson { at_byte: usize },
    #[error("the line has no string `{key}`")]
    NoKey { key: &'static str },
    #[error("`time` is no RFC 3339 time")]
    BadTime,
}

impl LineError {
    /// Always `Reject`: reading the line again gives the same.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Empty
            | Self::NoTime
            | Self::NoOutput
            | Self::NoTag
            | Self::BrokenJson { .. }
            | Self::NoKey { .. }
            | Self::BadTime => Remedy::Reject,
        }
    }
}

/// Reads one line, without its newline: docker json-file when it starts with `{`, else CRI (VK-8).
///
/// `scratch` holds the content where docker wrote it with escapes; its former content is lost.
///
/// # Errors
/// `Reject`: the line is of neither format; the error says where it departs.
pub fn decode<'a>(line: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<RawLine<'a>, LineError> {
    match line.first() {
        Some(b'{') => docker_json::decode(line, scratch),
        Some(_) => cri::decode(line),
        None => Err(LineError::Empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_told_by_the_first_byte() {
        let mut scratch = Vec::new();
        let docker = br#"{"log":"{hi\n","stream":"stderr","time":"2026-11-02T10:00:00.5Z"}"#;
        let cri = b"2026-11-02T10:00:00.5Z stderr F {hi";
        assert_eq!(decode(docker, &mut scratch), decode(cri, &mut Vec::new()));
        assert_eq!(decode(b"", &mut scratch), Err(LineError::Empty));
    }
}
