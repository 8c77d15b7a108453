//! CRI lines, and the joining of their pieces: what comes out is what went in, within the bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tawny_wire::{PartialJoiner, cri, kube_log};

const MAX_LINE_BYTES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut joiner = PartialJoiner::new(MAX_LINE_BYTES);
    let mut joined = Vec::new();
    let (mut bytes_in, mut bytes_out) = (0, 0);
    for physical in data.split(|byte| *byte == b'\n') {
        let _is_api_line = kube_log::decode(physical);
        let Ok(raw) = cri::decode(physical) else {
            continue;
        };
        assert!(physical.ends_with(raw.content));
        bytes_in += raw.content.len() as u64;
        if let Some(line) = joiner.push(raw, &mut joined) {
            assert!(line.content.len() <= MAX_LINE_BYTES);
            bytes_out += line.content.len() as u64 + line.cut_bytes;
        }
    }
    while let Some(line) = joiner.flush(&mut joined) {
        bytes_out += line.content.len() as u64 + line.cut_bytes;
    }
    assert_eq!(bytes_in, bytes_out);
});
