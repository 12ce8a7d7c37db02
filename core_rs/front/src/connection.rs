//! One connection from its first byte to its end.
//!
//! Owns: the limits of HTTP/2, and when a connection ends: with its caller, at its age, without
//! calls, or when the listener stops. Must not: know a method. Where next: `dispatch.rs`.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::activity::Activity;
use crate::dispatch::Dispatch;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::reply::Answered;

/// What calls get to end when their connection is renewed.
const AGE_GRACE: Duration = Duration::from_secs(30);

/// A dead client behind a silent network path is noticed within 70 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A batch of 4 MiB must not wait for window updates more than a few times.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A caller that does not read keeps no more than this and one message of each of its calls.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Connections that came together are not renewed together.
const AGE_SPREAD_PERCENT: u32 = 10;

/// How connections are served; shared by all of a listener.
#[derive(Clone)]
pub(crate) struct Keeper {
    builder: Builder<TokioExecutor>,
    dispatch: Arc<Dispatch>,
    stopped: watch::Receiver<bool>,
}

impl Keeper {
    pub(crate) fn new(dispatch: Arc<Dispatch>, stopped: watch::Receiver<bool>) -> Self {
        let limits = dispatch.limits();
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(limits.header_bytes_max)
            .max_pending_accept_reset_streams(limits.pending_resets_max)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Self {
            builder,
            dispatch,
            stopped,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.dispatch.limits()
    }

    /// Serves a connection until it ends.
    pub(crate) async fn serve<S>(mut self, stream: S, peer: Peer, activity: &Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (age, idle) = {
            let limits = self.limits();
            (spread(limits.connection_age()), limits.connection_idle())
        };
        let visitor = Visitor {
            dispatch: Arc::clone(&self.dispatch),
            peer: Arc::new(peer),
            activity: Arc::clone(activity),
        };
        let served = self.builder.serve_connection(TokioIo::new(stream), visitor);
        let mut served = pin!(served);
        let end = async {
            tokio::select! {
                // The sender lives until the listener has stopped.
                _ = self.stopped.wait_for(|is_stopping| *is_stopping) => {}
                () = tokio::time::sleep(age) => {}
                () = until_idle(activity, idle) => {}
            }
        };
        tokio::select! {
            biased;
            _ = served.as_mut() => return,
            () = end => served.as_mut().graceful_shutdown(),
        }
        // What is still open then is cut; a stop has a grace of its own, which may be shorter.
        let _ = tokio::time::timeout(AGE_GRACE, served).await;
    }
}

/// Returns once a span has passed without a call.
async fn until_idle(activity: &Activity, span: Duration) {
    loop {
        tokio::time::sleep(span).await;
        if activity.was_idle() {
            return;
        }
    }
}

fn spread(age: Duration) -> Duration {
    // A fresh hasher's seed is as random as a spread needs.
    let draw = RandomState::new().hash_one(0) % u64::from(2 * AGE_SPREAD_PERCENT + 1);
    let percent = 100 - AGE_SPREAD_PERCENT + u32::try_from(draw).unwrap_or(AGE_SPREAD_PERCENT);
    age * percent / 100
}

/// One connection's way to the handlers.
struct Visitor {
    dispatch: Arc<Dispatch>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Answered, Infallible>> + Send>>;

impl Service<http::Request<Incoming>> for Visitor {
    type Response = Answered;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: http::Request<Incoming>) -> Answering {
        let open = self.activity.begin();
        let dispatch = Arc::clone(&self.dispatch);
        let peer = Arc::clone(&self.peer);
        Box::pin(async move { Ok(dispatch.answer(request, peer, open).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_spread_by_a_tenth_either_way() {
        let age = Duration::from_secs(1000);
        let ages: Vec<_> = (0..200).map(|_| spread(age)).collect();

        assert!(ages.iter().all(|it| (900..=1100).contains(&it.as_secs())));
        assert!(ages.iter().any(|it| *it != ages[0]));
    }
}
