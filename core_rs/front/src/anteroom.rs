//! Calls whose message has not come: there are only so many of them, and none waits long.
//!
//! Owns: the waiting between a call's headers and its message. Anybody who can connect can open a
//! call and never send its message. The oldest goes when there are too many, and any goes that has
//! waited too long; a good call's message comes right behind its headers. The other front does the
//! same (server/lastunit_server/half_open.py). Must not: know a method. Where next: `framing.rs`.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tonic::Status;

use crate::crowd::{Crowd, Reason};
use crate::faults;
use crate::framing::Messages;
use crate::limits::Limits;

/// Where calls wait for their message.
pub(crate) struct Anteroom {
    half_open_max: usize,
    wait: Duration,
    crowd: Arc<Crowd>,
    /// Held for a look-up only, and not at all by a call whose message is there.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order in which they came.
    calls: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Anteroom {
    pub(crate) fn new(limits: &Limits, crowd: Arc<Crowd>) -> Self {
        Self {
            half_open_max: limits.half_open_max,
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
        let message = self.in_time(messages.next()).await??;
        message.ok_or_else(|| faults::status_of(&faults::message_missing()))
    }

    /// Awaits something, but not for long and not among too many.
    async fn in_time<T>(&self, awaited: impl Future<Output = T>) -> Result<T, Status> {
        let mut awaited = pin!(awaited);
        if let Some(ready) = at_once(awaited.as_mut()).await {
            return Ok(ready);
        }
        let (place, sent_away) = self.enter();
        let late = || {
            self.crowd.count(Reason::MessageLate);
            faults::status_of(&faults::message_late())
        };
        let result = tokio::select! {
            biased;
            came = awaited => Ok(came),
            _ = sent_away => Err(late()),
            () = tokio::time::sleep(self.wait) => Err(late()),
        };
        drop(place);
        result
    }

    fn enter(&self) -> (PlaceInRoom<'_>, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = waiting.next;
        waiting.next += 1;
        waiting.calls.insert(number, sender);
        if waiting.calls.len() > self.half_open_max {
            // Dropping its sender wakes the oldest.
            waiting.calls.pop_first();
        }
        drop(waiting);
        (PlaceInRoom { room: self, number }, receiver)
    }
}

/// A place in the room, given back when the call goes on or its caller leaves.
struct PlaceInRoom<'a> {
    room: &'a Anteroom,
    number: u64,
}

impl Drop for PlaceInRoom<'_> {
    fn drop(&mut self) {
        let mut waiting = (self.room.waiting.lock()).unwrap_or_else(PoisonError::into_inner);
        waiting.calls.remove(&self.number);
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

    fn room(half_open_max: usize) -> Anteroom {
        let mut limits = limits::of_tests();
        limits.half_open_max = half_open_max;
        Anteroom::new(&limits, Crowd::new(&limits))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("one thread is there")
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let room = room(2);
        let wait = || room.in_time(pending::<()>());
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
        let room = room(0);

        let came = runtime().block_on(room.in_time(async { 7 }));

        assert_eq!(7, came.expect("is there"));
        assert_eq!(0, room.waiting.lock().expect("is whole").next);
    }

    #[test]
    fn who_leaves_makes_room() {
        let room = room(1);
        runtime().block_on(async {
            let mut left = Box::pin(room.in_time(pending::<()>()));
            assert!(at_once(left.as_mut()).await.is_none());
            drop(left);
        });

        assert!(room.waiting.lock().expect("is whole").calls.is_empty());
    }
}
