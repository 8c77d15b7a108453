//! Lines of the Kubernetes API's `pods/log` with `timestamps=true`: `<time> <content>`.

use tawny_model::Timestamp;

use crate::{cri::split_time, line::LineError};

/// Reads one line, without its newline (KL-60). The API joins partial lines and does not tell stdout from stderr.
///
/// # Errors
/// `Reject`: the line does not start with a time, as lines the kubelet itself puts in ("unable to retrieve …") do not.
pub fn decode(line: &[u8]) -> Result<(Timestamp, &[u8]), LineError> {
    match split_time(line) {
        Ok(split) => Ok(split),
        Err(_) if line.is_empty() => Err(LineError::Empty),
        // An empty line, where something on the way trimmed the blank.
        Err(error) => Timestamp::parse_rfc3339(line)
            .map(|timestamp| (timestamp, &line[line.len()..]))
            .ok_or(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_is_split_from_the_text() {
        let time = Timestamp::from_nanos(1_475_713_029_669_794_202);
        for (text, content) in [
            ("2016-10-06T00:17:09.669794202Z hello world", "hello world"),
            ("2016-10-06T00:17:09.669794202Z  indented", " indented"),
            ("2016-10-06T00:17:09.669794202Z ", ""),
            ("2016-10-06T00:17:09.669794202Z", ""),
        ] {
            assert_eq!(
                decode(text.as_bytes()),
                Ok((time, content.as_bytes())),
                "{text}"
            );
        }
        let kubelet = b"unable to retrieve container logs for containerd://abc";
        assert_eq!(decode(kubelet), Err(LineError::NoTime));
        assert_eq!(decode(b""), Err(LineError::Empty));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _line = decode(&bytes);
        }
    }
}
