//! Bytes to text.

/// The bytes as text; each invalid sequence becomes U+FFFD, for which alone `scratch` is used.
pub fn to_text<'a>(bytes: &'a [u8], scratch: &'a mut String) -> &'a str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => {
            scratch.clear();
            for chunk in bytes.utf8_chunks() {
                scratch.push_str(chunk.valid());
                if !chunk.invalid().is_empty() {
                    scratch.push(char::REPLACEMENT_CHARACTER);
                }
            }
            scratch
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_bytes_become_replacement_characters() {
        let mut scratch = String::from("old");
        assert_eq!(to_text("grüße\0".as_bytes(), &mut scratch), "grüße\0");
        assert_eq!(
            to_text(b"a\xff\xfeb\xe2\x82", &mut scratch),
            "a\u{fffd}\u{fffd}b\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn text_agrees_with_the_standard_library(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut scratch = String::new();
            prop_assert_eq!(to_text(&bytes, &mut scratch), String::from_utf8_lossy(&bytes));
        }
    }
}
