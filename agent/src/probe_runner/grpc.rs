//! `grpc.health.v1.Health/Check` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>): a request with one text,
//! an answer with one number, so that both are written and read by hand.

use std::net::SocketAddr;

use bytes::{Buf, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Endpoint,
};

use super::one_line;
use crate::session::connector::chain;

/// The longest answer that is read, in bytes; one is two.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks for the health of a service; empty = the process as a whole. The error is one line for people.
pub(super) async fn check(target: SocketAddr, service: &str) -> Result<String, String> {
    let endpoint = Endpoint::from_shared(format!("http://{target}")).map_err(|error| chain(&error))?;
    let channel = endpoint.user_agent("wherry-probe").map_err(|error| chain(&error))?.connect().await;
    let channel = channel.map_err(|error| one_line(chain(&error).as_bytes()))?;
    let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    client.ready().await.map_err(|error| chain(&error))?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = client.unary(Request::new(question(service)), path, Plain).await.map_err(|status| refusal(&status))?;
    match serving_status(&answer.into_inner()) {
        Some(1) => Ok("SERVING".to_owned()),
        Some(2) => Err("NOT_SERVING".to_owned()),
        Some(3) => Err("SERVICE_UNKNOWN".to_owned()),
        Some(0) => Err("UNKNOWN".to_owned()),
        Some(other) => Err(format!("serving status {other}, which nobody defined")),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// `HealthCheckRequest { string service = 1; }`.
fn question(service: &str) -> Bytes {
    let mut bytes = Vec::new();
    if !service.is_empty() {
        bytes.push(0x0a);
        put_varint(&mut bytes, service.len() as u64);
        bytes.extend_from_slice(service.as_bytes());
    }
    bytes.into()
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; a zero is not written.
fn serving_status(mut bytes: &[u8]) -> Option<u64> {
    let mut status = 0;
    while bytes.has_remaining() {
        match varint(&mut bytes)? {
            0x08 => status = varint(&mut bytes)?,
            // Nothing else was ever defined; of other fields nothing can be concluded.
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn refusal(status: &Status) -> String {
    let code = status.code();
    if code == Code::Unimplemented {
        return "it has no grpc.health.v1.Health".to_owned();
    }
    if code == Code::NotFound {
        return "it does not know that service".to_owned();
    }
    format!("{code:?}: {}", one_line(status.message().as_bytes()))
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
    use hyper::{
        Response,
        body::{Frame, Incoming},
        server::conn::http2,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn messages_are_written_and_read_as_protobuf_says() {
        assert_eq!(question("").as_ref(), b"");
        assert_eq!(question("shop.Web").as_ref(), b"\x0a\x08shop.Web");
        let long = question(&"x".repeat(300));
        assert_eq!((&long[..3], long.len()), (b"\x0a\xac\x02".as_slice(), 303));
        assert_eq!(serving_status(b""), Some(0));
        assert_eq!(serving_status(b"\x08\x01"), Some(1));
        assert_eq!(serving_status(b"\x08\x81\x01"), Some(129));
        assert_eq!(serving_status(b"\x08"), None);
        assert_eq!(serving_status(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "it never ends");
        assert_eq!(serving_status(b"\x12\x00"), None);
    }

    #[tokio::test]
    async fn a_server_says_how_it_is() {
        assert_eq!(ask(b"\0\0\0\0\x02\x08\x01", "0").await, Ok("SERVING".to_owned()));
        assert_eq!(ask(b"\0\0\0\0\x02\x08\x02", "0").await, Err("NOT_SERVING".to_owned()));
        assert_eq!(ask(b"", "12").await, Err("it has no grpc.health.v1.Health".to_owned()));
        assert_eq!(ask(b"", "5").await, Err("it does not know that service".to_owned()));
    }

    #[tokio::test]
    async fn who_speaks_no_grpc_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream)
            }
        });

        assert!(check(target, "").await.is_err());
    }

    /// What the probe makes of an answer with this body and this `grpc-status`.
    async fn ask(body: &'static [u8], status: &'static str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = listener.local_addr().expect("bound");
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a probe");
            let answer = service_fn(move |request: hyper::Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                Ok::<_, Infallible>(response(body, status))
            });
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await.ok();
        });
        let said = check(target, "shop.Web").await;
        served.abort();
        said
    }

    fn response(body: &'static [u8], status: &'static str) -> Response<BoxBody<Bytes, Infallible>> {
        let answer = Response::builder().header("content-type", "application/grpc");
        if body.is_empty() {
            let answer = answer.header("grpc-status", status);
            return answer.body(Full::new(Bytes::new()).boxed()).expect("constants");
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static(status));
        let frames = [Frame::data(Bytes::from_static(body)), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        answer.body(BoxBody::new(StreamBody::new(futures_util::stream::iter(frames)))).expect("constants")
    }
}
