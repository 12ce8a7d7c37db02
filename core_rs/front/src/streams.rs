//! How many streams are open, and when they must end.
//!
//! Owns: the bound and the sign to stop. Must not: know what flows. Where next: `exchange.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lastunit_wire::Fault;
use tokio::sync::watch;

use crate::faults;

/// All streams of a listener.
pub(crate) struct Streams {
    limit: usize,
    /// What a caller past the limit is told to do.
    advice: &'static str,
    open: AtomicUsize,
    stop: watch::Sender<bool>,
}

/// One open stream; dropping it makes room.
pub(crate) struct OpenStream {
    streams: Arc<Streams>,
    stop: watch::Receiver<bool>,
}

impl Streams {
    pub(crate) fn new(limit: usize, advice: &'static str) -> Arc<Self> {
        let (stop, _) = watch::channel(false);
        Arc::new(Self {
            limit,
            advice,
            open: AtomicUsize::new(0),
            stop,
        })
    }

    /// Lets one stream in.
    ///
    /// # Errors
    /// As many as allowed are open, or the listener stops.
    pub(crate) fn open(self: &Arc<Self>) -> Result<OpenStream, Fault> {
        let stop = self.stop.subscribe();
        if *stop.borrow() {
            return Err(faults::draining());
        }
        // SeqCst costs nothing beside a stream, and the count must never pass the limit.
        let before = self.open.fetch_add(1, Ordering::SeqCst);
        let stream = OpenStream {
            streams: Arc::clone(self),
            stop,
        };
        if before >= self.limit {
            return Err(faults::too_many_streams(self.limit, self.advice));
        }
        Ok(stream)
    }

    /// Ends every stream after what it was asked already.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl OpenStream {
    /// Returns once the listener stops.
    pub(crate) async fn stopped(&mut self) {
        // The sender lives as long as the streams that this holds.
        let _ = self.stop.wait_for(|is_stopping| *is_stopping).await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Ordering::SeqCst);
    }
}
