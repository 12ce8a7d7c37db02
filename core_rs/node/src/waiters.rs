//! Answers that are ready but show a state which a crash could still take back.
//!
//! Owns: the line in which they wait for the disk, and the highest durable sequence. Must not:
//! write or decide. Where next: `flusher.rs`, which lets them go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastunit_engine::Sequence;

use crate::answer::{Answer, Completion, Deliveries};
use crate::permit::Permit;

/// One answer in line, with what to give back once it left.
pub(crate) struct Waiter {
    pub(crate) completion: Completion,
    pub(crate) answer: Answer,
    pub(crate) permit: Permit,
}

impl Waiter {
    pub(crate) fn send(self) {
        Deliveries::send_one(self.completion, self.answer);
        drop(self.permit);
    }
}

struct Line {
    durable: Sequence,
    /// By the sequence each waits for, then by arrival.
    waiting: BTreeMap<(Sequence, u64), Waiter>,
    arrival_count: u64,
    /// Set when nothing will become durable any more; answers whatever comes from then on.
    end: Option<Answer>,
}

/// The line of answers.
///
/// Its lock is held to put one answer in or to cut the finished front off, never while an answer is
/// delivered, so that a slow receiver delays nobody. It is taken after the node's lock is given
/// back, never inside it.
pub(crate) struct Waiters {
    line: Mutex<Line>,
    /// What `Line::durable` says, to be read without the lock. Release and acquire: whoever reads a
    /// sequence here also sees the bytes that a reader of the journal may ask for.
    durable: AtomicI64,
}

impl Waiters {
    pub(crate) fn new(durable: Sequence) -> Self {
        Self {
            line: Mutex::new(Line {
                durable,
                waiting: BTreeMap::new(),
                arrival_count: 0,
                end: None,
            }),
            durable: AtomicI64::new(durable),
        }
    }

    /// Puts an answer in line, or gives it back if it may leave now.
    pub(crate) fn wait(&self, as_of: Sequence, mut waiter: Waiter) -> Option<Waiter> {
        let mut line = self.line();
        if line.durable >= as_of {
            return Some(waiter);
        }
        if let Some(end) = &line.end {
            waiter.answer = end.clone();
            return Some(waiter);
        }
        line.arrival_count += 1;
        let place = (as_of, line.arrival_count);
        line.waiting.insert(place, waiter);
        None
    }

    /// Lets everything go that waited for `durable` or less.
    pub(crate) fn advance(&self, durable: Sequence) {
        let ready = {
            let mut line = self.line();
            line.durable = line.durable.max(durable);
            self.durable.store(line.durable, Ordering::Release);
            let rest = line.waiting.split_off(&(durable + 1, 0));
            std::mem::replace(&mut line.waiting, rest)
        };
        send_all(ready);
    }

    /// Answers everything in line, and everything that comes, with `end`.
    pub(crate) fn end(&self, end: &Answer) {
        let mut left = {
            let mut line = self.line();
            line.end = Some(end.clone());
            std::mem::take(&mut line.waiting)
        };
        for waiter in left.values_mut() {
            waiter.answer = end.clone();
        }
        send_all(left);
    }

    pub(crate) fn durable(&self) -> Sequence {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> usize {
        self.line().waiting.len()
    }

    /// A panic cannot leave the line half changed: each change is one call of the map.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send_all(waiters: BTreeMap<(Sequence, u64), Waiter>) {
    let mut deliveries = Deliveries::default();
    let mut permits = Vec::with_capacity(waiters.len());
    for waiter in waiters.into_values() {
        deliveries.add(waiter.completion, waiter.answer);
        permits.push(waiter.permit);
    }
    deliveries.send();
    // Only now: a call is in flight until its answer was handed over.
    drop(permits);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn waiter(order: &Arc<Mutex<Vec<Vec<u8>>>>, name: &[u8]) -> Waiter {
        let order = Arc::clone(order);
        let completion = Completion::Call(Box::new(move |answer| {
            order.lock().expect("no panic").push(answer.body);
        }));
        Waiter {
            completion,
            answer: Answer::ok(name.to_vec()),
            permit: Permit::free(),
        }
    }

    #[test]
    fn answers_leave_in_order_of_sequence_and_not_before_it_is_durable() {
        let order = Arc::default();
        let waiters = Waiters::new(0);
        for (as_of, name) in [(3, b"c"), (1, b"a"), (2, b"b"), (2, b"B")] {
            assert!(waiters.wait(as_of, waiter(&order, name)).is_none());
        }
        waiters.advance(2);
        assert_eq!(
            vec![b"a".to_vec(), b"b".to_vec(), b"B".to_vec()],
            *order.lock().expect("no panic")
        );
        assert_eq!(1, waiters.len());

        waiters.advance(3);
        assert_eq!(4, order.lock().expect("no panic").len());
    }

    #[test]
    fn what_is_durable_already_does_not_wait() {
        let order = Arc::default();
        let waiters = Waiters::new(5);

        assert!(waiters.wait(5, waiter(&order, b"now")).is_some());
        assert!(waiters.wait(6, waiter(&order, b"later")).is_none());
    }

    #[test]
    fn after_the_end_only_what_is_durable_is_answered_as_it_was() {
        let order = Arc::default();
        let waiters = Waiters::new(5);
        assert!(waiters.wait(6, waiter(&order, b"never")).is_none());
        waiters.end(&Answer {
            code: 14,
            body: b"end".to_vec(),
        });
        assert_eq!(vec![b"end".to_vec()], *order.lock().expect("no panic"));

        let durable = waiters
            .wait(5, waiter(&order, b"read"))
            .expect("leaves at once");
        let late = waiters
            .wait(7, waiter(&order, b"late"))
            .expect("leaves at once");
        assert_eq!(0, durable.answer.code);
        assert_eq!(14, late.answer.code);
    }
}
