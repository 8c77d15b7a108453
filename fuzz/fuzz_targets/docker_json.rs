//! Docker's lines: no input panics, and a line's text is never longer than the line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tawny_wire::line;

fuzz_target!(|data: &[u8]| {
    let mut scratch = Vec::new();
    for physical in data.split(|byte| *byte == b'\n') {
        if let Ok(raw) = line::decode(physical, &mut scratch) {
            assert!(raw.content.len() < physical.len());
        }
    }
});
