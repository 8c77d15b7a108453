//! Coder's RPC: a websocket that carries a yamux session, one stream of which carries one DRPC call.

use std::{future::poll_fn, io, time::Duration};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _, future};
use http::{HeaderName, HeaderValue};
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, Join, join},
    time::timeout,
};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt as _},
    io::{CopyToBytes, SinkWriter, StreamReader},
};
use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};
use yamux::{Connection, Mode};

use super::endpoint::BoxedIo;
use crate::{
    Error,
    lines::Line,
    wire::{
        BatchCreateLogsRequest, BatchCreateLogsResponse,
        drpc::{self, Decoder, Kind},
        logs::BATCH_CREATE_LOGS,
    },
};

/// Longest websocket message read.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Longest wait for a good-bye to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// DRPC's code for a call the server does not have. Source: `drpcerr.Unimplemented` of storj.io/drpc.
const UNIMPLEMENTED: u64 = 12;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The binary messages of a websocket, strung together.
pub(crate) type ByteStream = Compat<Join<Reader, Writer>>;

pub(crate) fn byte_stream<T>(socket: WebSocketStream<T>) -> ByteStream
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sink, stream) = socket.split();
    let bytes = stream.filter_map(|message| {
        future::ready(match message {
            Ok(message) if message.is_binary() => Some(Ok(Bytes::from(message.into_payload()))),
            // The library answers pings, and a close is followed by the stream's end.
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let sink = sink
        .with(|bytes: Bytes| {
            future::ready(Ok::<_, tokio_websockets::Error>(Message::binary(bytes)))
        })
        .sink_map_err(io::Error::other);
    let reader: Reader = Box::new(StreamReader::new(bytes));
    let writer: Writer = Box::new(SinkWriter::new(CopyToBytes::new(sink)));
    join(reader, writer).compat()
}

/// A session. Its owner drives it, which also answers the server's pings.
pub(super) struct RpcLink {
    session: Connection<ByteStream>,
}

impl RpcLink {
    /// Upgrades `io` to a websocket; `uri` has the host, path and query.
    pub(super) async fn open(
        io: BoxedIo,
        uri: &str,
        header: (HeaderName, HeaderValue),
    ) -> Result<Self, Error> {
        let (name, value) = header;
        let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE_BYTES));
        let builder = ClientBuilder::new()
            .uri(uri)
            .map_err(|error| Error::UrlBroken {
                got: uri.to_owned(),
                reason: error.to_string(),
            })?
            .limits(limits)
            .add_header(name, value)
            .map_err(refused)?;
        let (socket, _) = builder.connect_on(io).await.map_err(refused)?;
        let config = yamux::Config::default();
        Ok(Self {
            session: Connection::new(byte_stream(socket), config, Mode::Client),
        })
    }

    /// Hands over one batch.
    ///
    /// # Errors
    /// `LogFull` when the server will keep no more.
    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<(), Error> {
        let stream = poll_fn(|cx| self.session.poll_new_outbound(cx)).await;
        let stream = stream.map_err(broken)?;
        let request = BatchCreateLogsRequest::new(lines).encode_to_vec();
        let call = drpc::unary_call(BATCH_CREATE_LOGS, request.into());
        let answer = tokio::select! {
            biased;
            answer = exchange(stream, &call) => answer?,
            () = self.drive() => {
                let reason = "the session ended before the answer".to_owned();
                return Err(Error::Broken { reason });
            }
        };
        let answer = BatchCreateLogsResponse::decode(answer).map_err(|error| Error::Malformed {
            reason: error.to_string(),
        })?;
        if answer.log_limit_exceeded {
            return Err(Error::LogFull);
        }
        Ok(())
    }

    /// Drives the session until it ends. CANCEL-SAFE.
    pub(super) async fn drive(&mut self) {
        // A stream from the server would be a call to an agent, which this is not: dropping it refuses it.
        while let Some(Ok(_stream)) = poll_fn(|cx| self.session.poll_next_inbound(cx)).await {}
    }

    /// Says good-bye.
    pub(super) async fn close(&mut self) {
        // A server that does not take a good-bye learns of the end from the connection.
        drop(timeout(CLOSE_TIMEOUT, poll_fn(|cx| self.session.poll_close(cx))).await);
    }
}

/// Writes a call and reads the message it is answered with.
async fn exchange(mut stream: yamux::Stream, call: &[u8]) -> Result<Bytes, Error> {
    stream.write_all(call).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut decoder = Decoder::default();
    let mut piece = vec![0; 4 << 10];
    loop {
        while let Some(packet) = decoder.next_packet()? {
            match packet.kind {
                Kind::Message => {
                    // The answer is there; whether the stream's end still gets through makes no difference.
                    drop(stream.close().await);
                    return Ok(packet.data);
                }
                Kind::Error => {
                    let (code, message) = drpc::read_error(&packet.data);
                    return Err(if code == UNIMPLEMENTED {
                        Error::Gone {
                            what: BATCH_CREATE_LOGS,
                            code: 501,
                        }
                    } else {
                        Error::Rpc { code, message }
                    });
                }
                Kind::Cancel | Kind::Close | Kind::CloseSend => {
                    return Err(Error::Broken {
                        reason: "the server ended the call without an answer".to_owned(),
                    });
                }
                Kind::Invoke | Kind::InvokeMetadata => {}
            }
        }
        let n_bytes = stream.read(&mut piece).await.map_err(broken)?;
        if n_bytes == 0 {
            return Err(Error::Broken {
                reason: "the call's stream ended without an answer".to_owned(),
            });
        }
        decoder.push(piece.get(..n_bytes).unwrap_or_default());
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken {
        reason: error.to_string(),
    }
}

fn refused(error: tokio_websockets::Error) -> Error {
    use tokio_websockets::upgrade::Error::DidNotSwitchProtocols;
    match error {
        tokio_websockets::Error::Upgrade(DidNotSwitchProtocols(code)) => {
            Error::from_status(code, "RPC", "it does not say why".to_owned())
        }
        other => broken(other),
    }
}
