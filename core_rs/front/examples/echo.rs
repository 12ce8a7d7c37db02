//! The empty peer of the native front: tonic's own server, which answers each message with an empty
//! one and decides nothing.
//!
//! Owns: the floor under every native figure (`bench/fronts.py`). Prints its address as a JSON line
//! and serves until it is killed. Must not: be served to anybody but a measurement.

use std::convert::Infallible;
use std::error::Error;
use std::future::Ready;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};

#[path = "shared/bytes_codec.rs"]
mod bytes_codec;

use bytes_codec::BytesCodec;

/// As many as each listener of the front has by default.
const THREAD_COUNT: usize = 2;

/// Answers with no bytes, which is a valid message of any type.
#[derive(Clone, Copy)]
struct Empty;

impl UnaryService<Bytes> for Empty {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _request: Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(Response::new(Bytes::new())))
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<Bytes> for Empty {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Ready<Result<Response<Replies>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let replies = request
            .into_inner()
            .map(|message| message.map(|_| Bytes::new()));
        std::future::ready(Ok(Response::new(Box::pin(replies))))
    }
}

impl tower_service::Service<http::Request<Body>> for Empty {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(BytesCodec);
            Ok(if request.uri().path().ends_with("/Exchange") {
                grpc.streaming(Self, request).await
            } else {
                grpc.unary(Self, request).await
            })
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREAD_COUNT)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut output = std::io::stdout();
        writeln!(output, r#"{{"event": "ready", "data": "{address}"}}"#)?;
        output.flush()?;
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            stream.inspect(|stream| {
                // As the front does; without it a small reply may wait.
                let _ = stream.set_nodelay(true);
            })
        });
        let server = tonic::transport::Server::builder();
        server.serve_with_incoming(Empty, incoming).await?;
        Ok(())
    })
}
