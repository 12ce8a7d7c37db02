//! Connections as they come in: bounded in number, and dropped if they say nothing.
//!
//! Owns: what one connection may cost before its first call, encrypted or not. Must not: understand
//! a byte of it. Where next: `connection.rs`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;

use crate::connection::Keeper;
use crate::peer::Peer;
use crate::tls::Encryption;

/// How long to wait when the machine has no more file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// With what a client of HTTP/2 begins.
const PREFACE_BYTES: usize = 24;

/// Accepts until it is stopped.
pub(crate) async fn accept(
    listener: TcpListener,
    encryption: Option<Arc<Encryption>>,
    keeper: Keeper,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(keeper.settings().connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|is_stopping| *is_stopping) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        // Without it a reply of a few hundred bytes may wait for the next acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (keeper, encryption) = (keeper.clone(), encryption.clone());
        tokio::spawn(async move {
            let peer = Peer::at(address);
            match encryption {
                None => {
                    let stream = Heard::new(stream, keeper.settings().handshake);
                    keeper.serve(stream, peer).await;
                }
                Some(encryption) => encrypted(stream, peer, &encryption, keeper).await,
            }
            drop(place);
        });
    }
}

async fn encrypted(stream: TcpStream, mut peer: Peer, encryption: &Encryption, keeper: Keeper) {
    let patience = keeper.settings().handshake;
    let shaking = encryption.acceptor().accept(stream);
    // A stranger that fails it hears so from the protocol.
    let Ok(Ok(stream)) = tokio::time::timeout(patience, shaking).await else {
        return;
    };
    let shown = stream.get_ref().1.peer_certificates();
    if let Some(own) = shown.and_then(|chain| chain.first()) {
        peer.name_by(own);
    }
    keeper.serve(Heard::new(stream, patience), peer).await;
}

/// A connection that must say the protocol's first words in time.
struct Heard<S> {
    stream: S,
    /// Bytes that must come until then.
    lacking: usize,
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Heard<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            lacking: PREFACE_BYTES,
            patience: Some(Box::pin(tokio::time::sleep(patience))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(patience) = &mut self.patience else {
            return read;
        };
        if read.is_pending() && patience.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.lacking = self.lacking.saturating_sub(buffer.filled().len() - before);
        if self.lacking == 0 {
            self.patience = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
