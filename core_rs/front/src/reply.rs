//! What goes back: one message, a stream of them, or a body of a service that is not ours.
//!
//! Owns: frames and trailers. No box and no copy but that of a message behind its prefix. Must not:
//! know what flows. Where next: `framing.rs`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use crate::activity::{OpenCall, Waiting};
use crate::framing::framed;

const STATUS_KEY: &str = "grpc-status";
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// A stream's messages, until a status ends it.
pub(crate) type Responses = mpsc::Receiver<Result<Bytes, Status>>;

/// A response.
pub(crate) type Answered = Response<Reply>;

/// The body of a response; while it lives its call is open.
pub(crate) struct Reply {
    kind: Kind,
    open: OpenCall,
}

/// Bytes of an answer that count as waiting until the transport has sent them.
pub(crate) struct Chunk {
    bytes: Bytes,
    waiting: Waiting,
}

impl Chunk {
    fn new(bytes: Bytes, open: &OpenCall) -> Self {
        let waiting = open.answer(bytes.len());
        Self { bytes, waiting }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.waiting.note_taken();
        self.bytes.advance(count);
    }
}

enum Kind {
    /// Headers say it all.
    Empty,
    One(Option<Chunk>),
    Many(Responses),
    /// Only the trailers are left.
    End,
    /// It gives its place back with its last frame.
    Other(
        tonic::body::Body,
        #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit,
    ),
}

/// One message and a good end.
pub(crate) fn one(message: &[u8], open: OpenCall) -> Answered {
    let chunk = Chunk::new(framed(message), &open);
    answered(Kind::One(Some(chunk)), open)
}

/// What comes from a task of ours.
pub(crate) fn many(responses: Responses, open: OpenCall) -> Answered {
    answered(Kind::Many(responses), open)
}

/// A refusal in the headers.
pub(crate) fn refused(status: Status, open: OpenCall) -> Answered {
    let response: Response<()> = status.into_http();
    response.map(|()| Reply {
        kind: Kind::Empty,
        open,
    })
}

/// A response of a service that is not ours.
pub(crate) fn other(
    response: Response<tonic::body::Body>,
    open: OpenCall,
    place: OwnedSemaphorePermit,
) -> Answered {
    response.map(|body| Reply {
        kind: Kind::Other(body, place),
        open,
    })
}

/// What is no gRPC call at all.
pub(crate) fn no_call(open: OpenCall) -> Answered {
    let mut response = Response::new(Reply {
        kind: Kind::Empty,
        open,
    });
    *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn answered(kind: Kind, open: OpenCall) -> Answered {
    let mut response = Response::new(Reply { kind, open });
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

fn trailers(status: Option<Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    match status {
        None => {
            trailers.insert(STATUS_KEY, HeaderValue::from_static("0"));
        }
        Some(status) => {
            if status.add_header(&mut trailers).is_err() {
                trailers.insert(STATUS_KEY, HeaderValue::from_static("13"));
            }
        }
    }
    trailers
}

type Polled = Poll<Option<Result<Frame<Chunk>, Infallible>>>;

impl Body for Reply {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let Self { kind, open } = &mut *self;
        let frame = match kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::One(chunk) => {
                let chunk = chunk.take();
                *kind = Kind::End;
                match chunk {
                    Some(chunk) => Frame::data(chunk),
                    None => return Poll::Ready(None),
                }
            }
            Kind::Many(responses) => match std::task::ready!(responses.poll_recv(context)) {
                Some(Ok(message)) => Frame::data(Chunk::new(framed(&message), open)),
                end => {
                    *kind = Kind::Empty;
                    Frame::trailers(trailers(end.and_then(Result::err)))
                }
            },
            Kind::End => {
                *kind = Kind::Empty;
                Frame::trailers(trailers(None))
            }
            Kind::Other(body, _) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(context));
                match frame {
                    Some(Ok(frame)) => frame.map_data(|bytes| Chunk::new(bytes, open)),
                    Some(Err(status)) => {
                        *kind = Kind::Empty;
                        Frame::trailers(trailers(Some(status)))
                    }
                    None => return Poll::Ready(None),
                }
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Other(body, _) => body.is_end_stream(),
            _ => false,
        }
    }
}
