//! What one connection is doing: its open calls, and what waits for its peer.
//!
//! Owns: the counts by which a listener tells a connection that is used from one that only costs,
//! and the word that sends one away. Must not: judge; `crowd.rs` does. Where next: `connection.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What a call costs the transport while its answer waits, beside the answer: measured, rounded up.
const ANSWER_OVERHEAD_BYTES: usize = 16 * 1024;

/// What all connections of a listener share. Relaxed: each is a count by itself.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Calls of ours that a stop waits for.
    pub(crate) open_count: AtomicUsize,
    /// Bytes that wait for peers.
    pub(crate) waiting_bytes: AtomicUsize,
    /// Seconds that the listener has served, 1 or more; coarse, so that no call reads a clock.
    pub(crate) second: AtomicU32,
    /// Somebody should look at what waits.
    pub(crate) is_crowded: Notify,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) address: IpAddr,
    totals: Arc<Totals>,
    /// Above it somebody should look at what waits.
    waiting_bytes_max: usize,
    /// Calls, and what has begun since it was last asked. Relaxed: counts by themselves.
    open: AtomicUsize,
    begun: AtomicUsize,
    /// The second in which a call last ended; 0 before the first.
    used_second: AtomicU32,
    waiting_bytes: AtomicUsize,
    /// Answers that the peer has taken, or parts of one.
    taken: AtomicU64,
    sent_away: Notify,
}

impl Activity {
    pub(crate) fn new(address: IpAddr, totals: Arc<Totals>, waiting_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            address,
            totals,
            waiting_bytes_max,
            open: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            used_second: AtomicU32::new(0),
            waiting_bytes: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            sent_away: Notify::new(),
        })
    }

    /// Counts a call until its response has been sent or dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> OpenCall {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.totals.open_count.fetch_add(1, Ordering::Relaxed);
        OpenCall {
            activity: Arc::clone(self),
            is_ours: true,
        }
    }

    /// Whether no call was open since this was last asked.
    pub(crate) fn was_idle(&self) -> bool {
        let begun = self.begun.swap(0, Ordering::Relaxed);
        begun == 0 && !self.is_busy()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Changes with each call that begins.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn used_second(&self) -> u32 {
        self.used_second.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Ends the connection, whatever is open on it.
    pub(crate) fn send_away(&self) {
        self.sent_away.notify_one();
    }

    /// Returns once the connection has been sent away. For one waiter.
    pub(crate) async fn until_sent_away(&self) {
        self.sent_away.notified().await;
    }

    fn wait_for(&self, bytes: usize) {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = (self.totals.waiting_bytes).fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.waiting_bytes_max {
            self.totals.is_crowded.notify_one();
        }
    }

    fn wait_no_more_for(&self, bytes: usize) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        (self.totals.waiting_bytes).fetch_sub(bytes, Ordering::Relaxed);
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
        (self.activity.totals.open_count).fetch_sub(1, Ordering::Relaxed);
        self
    }

    /// Counts an answer until the peer has taken it.
    pub(crate) fn answer(&self, bytes: usize) -> Waiting {
        let mut waiting = self.message();
        waiting.is_answer = true;
        waiting.hold(ANSWER_OVERHEAD_BYTES + bytes);
        waiting
    }

    /// Counts what has come of a message that is not whole; nothing at first.
    pub(crate) fn message(&self) -> Waiting {
        Waiting {
            activity: Arc::clone(&self.activity),
            bytes: 0,
            is_answer: false,
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let activity = &self.activity;
        let second = activity.totals.second.load(Ordering::Relaxed);
        activity.used_second.store(second, Ordering::Relaxed);
        activity.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_ours {
            activity.totals.open_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Bytes that wait for a peer, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    activity: Arc<Activity>,
    bytes: usize,
    is_answer: bool,
}

impl Waiting {
    /// Counts so many bytes, if it were fewer.
    pub(crate) fn hold(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.activity.wait_for(bytes - self.bytes);
            self.bytes = bytes;
        }
    }

    /// Nothing waits any more, but something may again.
    pub(crate) fn clear(&mut self) {
        if self.bytes > 0 {
            self.activity
                .wait_no_more_for(std::mem::take(&mut self.bytes));
        }
    }

    /// The peer has taken a part of an answer.
    pub(crate) fn note_taken(&self) {
        self.activity.taken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
        if self.is_answer {
            self.note_taken();
        }
    }
}

#[cfg(test)]
pub(crate) fn of_tests(totals: &Arc<Totals>) -> Arc<Activity> {
    Activity::new([127, 0, 0, 1].into(), Arc::clone(totals), 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_when_nothing_was_open_since_it_was_asked() {
        let activity = of_tests(&Arc::default());
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
        let totals = Arc::new(Totals::default());
        let activity = of_tests(&totals);
        let ours = activity.begin();
        let watch = activity.begin().not_awaited();

        assert_eq!(1, totals.open_count.load(Ordering::Relaxed));
        drop(ours);
        assert_eq!(0, totals.open_count.load(Ordering::Relaxed));
        assert!(!activity.was_idle());
        drop(watch);
        assert_eq!(0, totals.open_count.load(Ordering::Relaxed));
    }

    #[test]
    fn what_waits_is_counted_until_it_was_taken() {
        let totals = Arc::new(Totals::default());
        let activity = of_tests(&totals);
        let call = activity.begin();
        let answer = call.answer(100);
        let mut message = call.message();
        message.hold(50);

        assert_eq!(ANSWER_OVERHEAD_BYTES + 150, activity.waiting_bytes());
        message.clear();
        assert_eq!(0, activity.taken());
        drop(answer);
        drop(message);
        assert_eq!(1, activity.taken());
        assert_eq!(0, activity.waiting_bytes());
        assert_eq!(0, totals.waiting_bytes.load(Ordering::Relaxed));
    }
}
