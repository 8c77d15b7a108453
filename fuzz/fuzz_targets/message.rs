//! Messages: no text panics, attributes stay within their bound, and a used scratch does not show.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tawny_model::entry::MAX_ATTRIBUTES;
use tawny_wire::{Scratch, parse_message, strip_ansi, to_text};

fuzz_target!(|data: &[u8]| {
    let mut text = String::new();
    let text = to_text(data, &mut text);
    assert!(!strip_ansi(text).contains('\x1b'));
    let mut used = Scratch::default();
    for line in text.split('\n') {
        let mut fresh = Scratch::default();
        let parsed = parse_message(line, &mut used);
        let again = parse_message(line, &mut fresh);
        assert!(parsed.attributes().len() <= MAX_ATTRIBUTES);
        assert_eq!(
            (parsed.severity, parsed.message),
            (again.severity, again.message)
        );
        assert!(parsed.attributes().eq(again.attributes()));
    }
});
