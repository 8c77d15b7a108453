//! Frames byte by byte, and decoders that survive anything.

use proptest::{collection::vec, prelude::*};

use super::*;

fn packet(kind: Kind, message: u64, data: &[u8]) -> Packet {
    Packet {
        kind,
        stream: 1,
        message,
        data: Bytes::copy_from_slice(data),
    }
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, &mut out);
    out
}

/// All packets of `bytes`, pushed in the pieces given, and the error at the end if there is one.
fn decoded(pieces: &[&[u8]]) -> (Vec<Packet>, Option<DrpcError>) {
    let mut decoder = Decoder::default();
    let mut packets = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

#[test]
fn a_unary_call_is_these_bytes() {
    let call = unary_call("/s/M", Bytes::from_static(b"pb"));
    let expected = [
        &[0x03, 1, 1, 4][..],
        b"/s/M",
        &[0x05, 1, 2, 2],
        b"pb",
        &[0x0d, 1, 3, 0],
    ];
    assert_eq!(call, expected.concat());
}

#[test]
fn numbers_over_127_take_more_bytes() {
    let long = Packet {
        stream: 300,
        message: u64::MAX,
        ..packet(Kind::Message, 1, &[7; 200])
    };
    let bytes = encoded(&long);
    let head = [
        0x05, 0xac, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xc8, 0x01,
    ];
    assert_eq!(bytes[..15], head);
    assert_eq!(decoded(&[&bytes]), (vec![long], None));
}

#[test]
fn a_long_packet_travels_in_frames_of_64_kib() {
    let long = packet(Kind::Message, 1, &vec![7; MAX_FRAME_BYTES + 1]);
    let bytes = encoded(&long);
    assert_eq!(bytes[0], 0x04, "not done");
    assert_eq!(bytes[bytes.len() - 5], 0x05, "done");
    assert_eq!(decoded(&[&bytes]), (vec![long], None));
}

#[test]
fn control_frames_of_kinds_to_come_are_passed_over() {
    let answer = packet(Kind::Message, 2, b"x");
    let bytes = [&[0x80 | 40 << 1, 1, 1, 2, 9, 9][..], &encoded(&answer)].concat();
    assert_eq!(decoded(&[&bytes]), (vec![answer], None));
}

#[test]
fn bytes_that_are_no_drpc_are_named() {
    let error = |bytes: &[u8]| decoded(&[bytes]).1;
    assert_eq!(
        error(&[0x01, 1, 1, 0]),
        Some(DrpcError::UnknownKind { kind: 0 })
    );
    assert_eq!(
        error(&[0x11, 1, 1, 0]),
        Some(DrpcError::UnknownKind { kind: 8 })
    );
    assert_eq!(error(&[0x05, 0, 1, 0]), Some(DrpcError::ZeroId));
    assert_eq!(error(&[0x05, 1, 0, 0]), Some(DrpcError::ZeroId));
    let late = DrpcError::BackInOrder {
        stream: 1,
        message: 1,
    };
    assert_eq!(error(&[0x05, 1, 2, 0, 0x05, 1, 1, 0]), Some(late.clone()));
    assert_eq!(error(&[0x05, 1, 1, 0, 0x05, 1, 1, 0]), Some(late));
    assert_eq!(
        error(&[0x04, 1, 1, 0, 0x07, 1, 1, 0]),
        Some(DrpcError::KindChanged)
    );
    assert_eq!(
        error(&[[0x05].as_slice(), &[0xff; 10]].concat()),
        Some(DrpcError::Varint)
    );
    // 4 MiB and one byte.
    assert_eq!(
        error(&[0x05, 1, 1, 0x81, 0x80, 0x80, 0x02]),
        Some(DrpcError::TooLong)
    );
}

#[test]
fn a_packet_may_not_grow_beyond_bounds_frame_by_frame() {
    let mut frame = vec![0x04, 1, 1, 0x80, 0x80, 0x40];
    frame.extend(vec![0; 1 << 20]);
    let pieces: Vec<&[u8]> = (0..5).map(|_| frame.as_slice()).collect();
    assert_eq!(decoded(&pieces), (vec![], Some(DrpcError::TooLong)));
}

#[test]
fn errors_have_a_code_and_a_text() {
    assert_eq!(
        read_error(b"\0\0\0\0\0\0\0\x0cno such rpc"),
        (12, "no such rpc".to_owned())
    );
    assert_eq!(read_error(b"short"), (0, "short".to_owned()));
}

fn any_packets() -> impl Strategy<Value = Vec<Packet>> {
    let kind = proptest::sample::select(KINDS.to_vec());
    vec((kind, 1u64..1 << 40, vec(any::<u8>(), 0..300)), 0..8).prop_map(|packets| {
        let mut message = 0;
        let packets = packets.into_iter().map(|(kind, step, data)| {
            message += step;
            packet(kind, message, &data)
        });
        packets.collect()
    })
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_packets(packets in any_packets(), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
        let bytes: Vec<u8> = packets.iter().flat_map(encoded).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        let mut from = 0;
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut - from);
            pieces.push(piece);
            (rest, from) = (behind, cut);
        }
        pieces.push(rest);
        prop_assert_eq!(decoded(&pieces), (packets, None));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(pieces in vec(vec(any::<u8>(), 0..40), 0..20)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        decoded(&pieces);
        let bytes = pieces.concat();
        read_error(&bytes);
        drop(<crate::wire::BatchCreateLogsRequest as prost::Message>::decode(&*bytes));
        drop(<crate::wire::BatchCreateLogsResponse as prost::Message>::decode(&*bytes));
    }

    #[test]
    fn arbitrary_bytes_give_the_same_packets_however_they_are_split(bytes in vec(any::<u8>(), 0..200)) {
        let singly: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decoded(&singly), decoded(&[&bytes]));
    }
}
