//! Calls whose message has not come: there are only so many of them, and none waits long.
//!
//! Owns: the waiting between a call's headers and its message. Anybody who can connect can open a
//! call and never send its message. A good call's message comes right behind its headers, but in a
//! rush the headers of thousands are read before the first message is: so when there are too many,
//! who has waited for a moment goes, the oldest first, and nobody at once until there are far too
//! many. Once many have left without a message, as no honest client's calls do, nobody is spared
//! for a while. Any goes that has waited too long. The other front does almost the same
//! (server/lastunit_server/half_open.py). Must not: know a method. Where next: `framing.rs`.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use crate::crowd::{Crowd, Reason};
use crate::faults;
use crate::framing::Messages;
use crate::limits::Limits;

/// So many calls that end without a message within [`MEMORY`] are no accident.
const LEFT_MAX: u32 = 128;
/// How long it is kept in mind that calls ended without a message.
const MEMORY: Duration = Duration::from_secs(10);

/// Where calls wait for their message.
pub(crate) struct Anteroom {
    half_open_max: usize,
    half_open_rush_max: usize,
    patience: Duration,
    wait: Duration,
    crowd: Arc<Crowd>,
    /// Held for a look-up only, and not at all by a call whose message is there.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// Calls that ended without a message since then.
    left: Option<(Instant, u32)>,
    /// Until when nobody is spared.
    strict_until: Option<Instant>,
    /// In the order in which they came.
    calls: BTreeMap<u64, Waiter>,
}

struct Waiter {
    since: Instant,
    /// Dropped to send it away.
    _sender: oneshot::Sender<()>,
}

impl Anteroom {
    pub(crate) fn new(limits: &Limits, crowd: Arc<Crowd>) -> Self {
        Self {
            half_open_max: limits.half_open_max,
            half_open_rush_max: limits.half_open_rush_max,
            patience: limits.half_open_patience(),
            wait: limits.message_wait(),
            crowd,
            waiting: Mutex::default(),
        }
    }

    /// Awaits the one message of a call.
    ///
    /// # Errors
    /// None came, not in time, or not one that is taken.
    pub(crate) async fn message(&self, messages: &mut Messages) -> Result<Bytes, Status> {
        let is_message = |next: &Result<Option<Bytes>, Status>| matches!(next, Ok(Some(_)));
        let message = self.in_time(messages.next(), is_message).await??;
        message.ok_or_else(|| faults::status_of(&faults::message_missing()))
    }

    /// Awaits something, but not for long and not among too many; `is_good` tells whether it is
    /// what honest callers send.
    async fn in_time<T>(
        &self,
        awaited: impl Future<Output = T>,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, Status> {
        let mut awaited = pin!(awaited);
        if let Some(ready) = at_once(awaited.as_mut()).await {
            return Ok(ready);
        }
        let (mut place, sent_away) = self.enter();
        let late = || {
            self.crowd.count(Reason::MessageLate);
            faults::status_of(&faults::message_late())
        };
        let result = tokio::select! {
            biased;
            came = awaited => {
                place.has_come = is_good(&came);
                Ok(came)
            }
            _ = sent_away => Err(late()),
            () = tokio::time::sleep(self.wait) => Err(late()),
        };
        drop(place);
        result
    }

    fn enter(&self) -> (PlaceInRoom<'_>, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        waiting.next += 1;
        let waiter = Waiter {
            since: now,
            _sender: sender,
        };
        waiting.calls.insert(number, waiter);
        // Two for one that comes make room in the end, and no step of thousands of answers.
        for _ in 0..2 {
            if self.is_too_full(&waiting, now) {
                waiting.calls.pop_first();
            }
        }
        drop(waiting);
        let place = PlaceInRoom {
            room: self,
            number,
            has_come: false,
        };
        (place, receiver)
    }

    /// Whether the oldest must go.
    fn is_too_full(&self, waiting: &Waiting, now: Instant) -> bool {
        let is_strict = waiting.strict_until.is_some_and(|until| now < until);
        let is_old =
            |waiter: &Waiter| is_strict || now.duration_since(waiter.since) >= self.patience;
        waiting.calls.len() > self.half_open_rush_max
            || waiting.calls.len() > self.half_open_max
                && (waiting.calls.first_key_value()).is_some_and(|(_, oldest)| is_old(oldest))
    }
}

/// A place in the room, given back when the call goes on or its caller leaves.
struct PlaceInRoom<'a> {
    room: &'a Anteroom,
    number: u64,
    has_come: bool,
}

impl Drop for PlaceInRoom<'_> {
    fn drop(&mut self) {
        let mut waiting = (self.room.waiting.lock()).unwrap_or_else(PoisonError::into_inner);
        let was_there = waiting.calls.remove(&self.number).is_some();
        if was_there && !self.has_come {
            waiting.note_left(Instant::now());
        }
    }
}

impl Waiting {
    /// Notes that a call ended without a message: its caller left, or it waited too long.
    fn note_left(&mut self, now: Instant) {
        let (since, count) = match self.left {
            Some((since, count)) if now.duration_since(since) < MEMORY => (since, count + 1),
            _ => (now, 1),
        };
        self.left = Some((since, count));
        if count >= LEFT_MAX {
            self.strict_until = Some(now + MEMORY);
        }
    }
}

async fn at_once<F: Future>(mut awaited: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match awaited.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::limits;

    fn room(half_open_max: usize, half_open_rush_max: usize) -> Anteroom {
        let mut limits = limits::of_tests();
        limits.half_open_max = half_open_max;
        limits.half_open_rush_max = half_open_rush_max;
        Anteroom::new(&limits, Crowd::new(&limits))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("one thread is there")
    }

    #[test]
    fn a_rush_is_not_sent_away_and_who_stays_behind_is() {
        let room = room(1, 100);
        let wait = || room.in_time(pending::<()>(), |()| true);
        runtime().block_on(async {
            let (mut first, mut second, mut third) = (pin!(wait()), pin!(wait()), pin!(wait()));
            assert!(at_once(first.as_mut()).await.is_none());
            assert!(at_once(second.as_mut()).await.is_none());
            assert!(at_once(first.as_mut()).await.is_none(), "came a moment ago");
            tokio::time::advance(room.patience).await;
            assert!(at_once(third.as_mut()).await.is_none());

            assert!(first.await.is_err(), "has waited, and there are too many");
            assert!(second.await.is_err(), "the same");
            assert!(at_once(third).await.is_none());
        });
    }

    #[test]
    fn once_many_left_without_a_message_nobody_is_spared_for_a_while() {
        let room = room(1, 100);
        let wait = || Box::pin(room.in_time(pending::<()>(), |()| true));
        runtime().block_on(async {
            for _ in 0..LEFT_MAX {
                assert!(at_once(wait().as_mut()).await.is_none());
            }
            let (mut first, mut second) = (wait(), wait());
            assert!(at_once(first.as_mut()).await.is_none());
            assert!(at_once(second.as_mut()).await.is_none());
            assert!(first.await.is_err(), "would have been spared before");

            tokio::time::advance(MEMORY).await;
            let mut third = wait();
            assert!(at_once(third.as_mut()).await.is_none());
            let mut fourth = wait();
            assert!(at_once(fourth.as_mut()).await.is_none());
            assert!(at_once(third.as_mut()).await.is_none(), "it is forgotten");
        });
    }

    #[test]
    fn the_oldest_goes_at_once_when_there_are_far_too_many() {
        let room = room(2, 2);
        let wait = || room.in_time(pending::<()>(), |()| true);
        runtime().block_on(async {
            let (mut first, mut second, mut third) = (pin!(wait()), pin!(wait()), pin!(wait()));
            assert!(at_once(first.as_mut()).await.is_none());
            assert!(at_once(second.as_mut()).await.is_none());
            assert!(at_once(third.as_mut()).await.is_none());

            let refused = first.await.expect_err("was the oldest");
            assert_eq!(tonic::Code::Unavailable, refused.code());
            assert!(room.crowd.refusals().contains(&("message_late", 1)));
            assert!(at_once(second).await.is_none());
            assert!(at_once(third).await.is_none());
        });
    }

    #[test]
    fn what_is_there_already_takes_no_place() {
        let room = room(0, 0);

        let came = runtime().block_on(room.in_time(async { 7 }, |_| true));

        assert_eq!(7, came.expect("is there"));
        assert_eq!(0, room.waiting.lock().expect("is whole").next);
    }

    #[test]
    fn who_leaves_makes_room() {
        let room = room(1, 1);
        runtime().block_on(async {
            let mut left = Box::pin(room.in_time(pending::<()>(), |()| true));
            assert!(at_once(left.as_mut()).await.is_none());
            drop(left);
        });

        assert!(room.waiting.lock().expect("is whole").calls.is_empty());
    }
}
