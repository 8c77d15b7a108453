//! DRPC frames: how one call travels over a stream of bytes.
//!
//! A frame is a control byte (`control` bit 7, kind bits 1–6, `done` bit 0), then as varints the stream's id, the message's
//! id and the length, then the data. A packet is one message: its frames up to the one that is done. Source: `drpcwire` of
//! storj.io/drpc.

use bytes::{Buf as _, Bytes, BytesMut};

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Names what is called.
    Invoke,
    Message,
    /// 8 bytes of code, big-endian, and a text.
    Error,
    Cancel,
    /// The stream is over for both sides.
    Close,
    /// The sender will send no more.
    CloseSend,
    /// Goes before an invoke.
    InvokeMetadata,
}

const KINDS: [Kind; 7] = [
    Kind::Invoke,
    Kind::Message,
    Kind::Error,
    Kind::Cancel,
    Kind::Close,
    Kind::CloseSend,
    Kind::InvokeMetadata,
];

const DONE: u8 = 0b0000_0001;
const CONTROL: u8 = 0b1000_0000;

/// One message, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub kind: Kind,
    pub stream: u64,
    pub message: u64,
    pub data: Bytes,
}

/// Most data in one frame sent, as drpc's own writer splits.
const MAX_FRAME_BYTES: usize = 64 << 10;

/// Longest packet taken; drpc's own reader has the same limit.
pub const MAX_PACKET_BYTES: usize = 4 << 20;

/// The bytes are no DRPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrpcError {
    #[error("a number of more than 64 bits")]
    Varint,
    #[error("frame of unknown kind {kind}")]
    UnknownKind { kind: u8 },
    #[error("frame without a stream or message id")]
    ZeroId,
    #[error("frame of stream {stream}, message {message}, behind a later one")]
    BackInOrder { stream: u64, message: u64 },
    #[error("kind changes within a packet")]
    KindChanged,
    #[error("packet of over {MAX_PACKET_BYTES} bytes")]
    TooLong,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Invoke => 1,
            Self::Message => 2,
            Self::Error => 3,
            Self::Cancel => 4,
            Self::Close => 5,
            Self::CloseSend => 6,
            Self::InvokeMetadata => 7,
        }
    }
}

/// Appends a packet in as many frames as it takes.
pub fn encode(packet: &Packet, out: &mut Vec<u8>) {
    let mut rest = &packet.data[..];
    loop {
        let (data, behind) = rest.split_at(rest.len().min(MAX_FRAME_BYTES));
        let done = if behind.is_empty() { DONE } else { 0 };
        out.push(packet.kind.number() << 1 | done);
        put_varint(packet.stream, out);
        put_varint(packet.message, out);
        put_varint(data.len() as u64, out);
        out.extend_from_slice(data);
        if behind.is_empty() {
            return;
        }
        rest = behind;
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(0x80 | u8::try_from(number & 0x7f).expect("seven bits fit eight"));
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits fit eight"));
}

/// Reads a varint from the front: it and how long it is; `None` when more bytes are needed.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, DrpcError> {
    let mut number = 0u64;
    for (idx, byte) in bytes.iter().enumerate() {
        // The tenth byte has room for one bit only.
        if idx == 9 && *byte > 1 {
            return Err(DrpcError::Varint);
        }
        number |= u64::from(byte & 0x7f) << (7 * idx);
        if byte & 0x80 == 0 {
            return Ok(Some((number, idx + 1)));
        }
    }
    Ok(None)
}

/// Turns bytes, however they are split, into packets.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
    /// Of the latest packet: stream and message.
    id: (u64, u64),
    /// The part of it that has come, until it is done.
    open: Option<(Kind, BytesMut)>,
}

struct Head {
    kind: u8,
    is_done: bool,
    is_control: bool,
    id: (u64, u64),
    data_len_bytes: usize,
    head_len_bytes: usize,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet; `None` until more bytes are pushed. Control frames of kinds to come are passed over.
    ///
    /// # Errors
    /// When the bytes are no DRPC; the stream cannot be read on.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, DrpcError> {
        while let Some(head) = self.head()? {
            if self.bytes.len() < head.head_len_bytes + head.data_len_bytes {
                return Ok(None);
            }
            self.bytes.advance(head.head_len_bytes);
            let data = self.bytes.split_to(head.data_len_bytes);
            if head.is_control {
                continue;
            }
            if let Some(packet) = self.take(&head, data)? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    fn head(&self) -> Result<Option<Head>, DrpcError> {
        let Some((&control, _)) = self.bytes.split_first() else {
            return Ok(None);
        };
        let mut at = 1;
        let mut numbers = [0u64; 3];
        for number in &mut numbers {
            let Some((value, len_bytes)) = varint(&self.bytes[at..])? else {
                return Ok(None);
            };
            *number = value;
            at += len_bytes;
        }
        let [stream, message, data_len] = numbers;
        let data_len_bytes = usize::try_from(data_len)
            .ok()
            .filter(|len_bytes| *len_bytes <= MAX_PACKET_BYTES)
            .ok_or(DrpcError::TooLong)?;
        Ok(Some(Head {
            kind: (control & !(CONTROL | DONE)) >> 1,
            is_done: control & DONE != 0,
            is_control: control & CONTROL != 0,
            id: (stream, message),
            data_len_bytes,
            head_len_bytes: at,
        }))
    }

    fn take(&mut self, head: &Head, data: BytesMut) -> Result<Option<Packet>, DrpcError> {
        let (stream, message) = head.id;
        let kind = (KINDS.into_iter())
            .find(|kind| kind.number() == head.kind)
            .ok_or(DrpcError::UnknownKind { kind: head.kind })?;
        if stream == 0 || message == 0 {
            return Err(DrpcError::ZeroId);
        }
        if head.id < self.id || (head.id == self.id && self.open.is_none()) {
            return Err(DrpcError::BackInOrder { stream, message });
        }
        if head.id > self.id {
            // What came before is given up where a later message begins.
            self.id = head.id;
            self.open = None;
        }
        let (of_packet, mut whole) = self.open.take().unwrap_or_else(|| (kind, BytesMut::new()));
        if of_packet != kind {
            return Err(DrpcError::KindChanged);
        }
        if whole.len() + data.len() > MAX_PACKET_BYTES {
            return Err(DrpcError::TooLong);
        }
        whole.extend_from_slice(&data);
        if !head.is_done {
            self.open = Some((kind, whole));
            return Ok(None);
        }
        Ok(Some(Packet {
            kind,
            stream,
            message,
            data: whole.freeze(),
        }))
    }
}

/// The packets of a call with one request: who is called, the request, and that no more comes.
pub fn unary_call(method: &str, request: Bytes) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.len() + 128);
    let packets = [
        (Kind::Invoke, Bytes::copy_from_slice(method.as_bytes())),
        (Kind::Message, request),
        (Kind::CloseSend, Bytes::new()),
    ];
    for (message, (kind, data)) in (1..).zip(packets) {
        let packet = Packet {
            kind,
            stream: 1,
            message,
            data,
        };
        encode(&packet, &mut out);
    }
    out
}

/// Reads what a [`Kind::Error`] packet holds: a code and a text.
pub fn read_error(data: &[u8]) -> (u64, String) {
    match data.split_first_chunk::<8>() {
        Some((code, text)) => (
            u64::from_be_bytes(*code),
            String::from_utf8_lossy(text).into_owned(),
        ),
        None => (0, String::from_utf8_lossy(data).into_owned()),
    }
}

#[cfg(test)]
mod tests;
