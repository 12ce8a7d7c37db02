//! How many calls are open: on one connection, and on the listener.
//!
//! Owns: what tells a connection without calls from one that is used, and a stop when the last call
//! has ended. Must not: know a call. Where next: `connection.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Open calls of one connection, and of its listener.
#[derive(Debug)]
pub(crate) struct Activity {
    /// Calls and what has begun since it was last asked. Relaxed: a count by itself.
    open: AtomicUsize,
    begun: AtomicUsize,
    listener: Arc<AtomicUsize>,
}

impl Activity {
    pub(crate) fn new(listener: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            listener,
        })
    }

    /// Counts a call until its response has been sent or dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> OpenCall {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.listener.fetch_add(1, Ordering::Relaxed);
        OpenCall {
            activity: Arc::clone(self),
            is_ours: true,
        }
    }

    /// Whether no call was open since this was last asked.
    pub(crate) fn was_idle(&self) -> bool {
        let begun = self.begun.swap(0, Ordering::Relaxed);
        begun == 0 && self.open.load(Ordering::Relaxed) == 0
    }
}

/// One open call.
#[derive(Debug)]
pub(crate) struct OpenCall {
    activity: Arc<Activity>,
    is_ours: bool,
}

impl OpenCall {
    /// A stop does not wait for it: who watches health would stay for ever.
    pub(crate) fn not_awaited(mut self) -> Self {
        self.is_ours = false;
        self.activity.listener.fetch_sub(1, Ordering::Relaxed);
        self
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_ours {
            self.activity.listener.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_when_nothing_was_open_since_it_was_asked() {
        let activity = Activity::new(Arc::default());
        assert!(activity.was_idle());
        let call = activity.begin();
        assert!(!activity.was_idle());
        assert!(!activity.was_idle());
        drop(call);
        assert!(activity.was_idle());
        drop(activity.begin());

        assert!(!activity.was_idle());
        assert!(activity.was_idle());
    }

    #[test]
    fn a_stop_waits_for_our_calls_only() {
        let listener = Arc::new(AtomicUsize::new(0));
        let activity = Activity::new(Arc::clone(&listener));
        let ours = activity.begin();
        let watch = activity.begin().not_awaited();

        assert_eq!(1, listener.load(Ordering::Relaxed));
        drop(ours);
        assert_eq!(0, listener.load(Ordering::Relaxed));
        assert!(!activity.was_idle());
        drop(watch);
        assert_eq!(0, listener.load(Ordering::Relaxed));
    }
}
