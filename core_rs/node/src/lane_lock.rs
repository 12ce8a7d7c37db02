//! The node's one lock around engine and journal, with a right of way for settlement.
//!
//! Owns: who gets the lock next. Must not: know what it protects. Where next: `core.rs`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How often an ordinary taker steps back for urgent ones: it gives way, but is never starved.
const YIELD_COUNT_MAX: u32 = 64;

/// How often timers wait for callers before a step, and how long each time: a storm of expiries
/// gives way after each step, and still gets on when there is always somebody in line.
const PAUSE_COUNT_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_micros(50);

/// How soon a taker wants the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Settlement and control.
    Urgent,
    /// Reservations, reads, snapshots.
    Ordinary,
    /// Timers: many steps in a row, each of them after whoever is in line.
    Background,
}

/// A panic while it was held: what it protects may be half changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Poisoned;

/// A mutex that an ordinary taker leaves to urgent ones.
///
/// The system's mutex is not fair: a thread that gives it back and takes it again, as a large batch
/// of reservations does between its chunks, beats a settlement call that is asleep in line. So
/// ordinary takers look whether an urgent one waits, and step back a bounded number of times.
pub(crate) struct LaneLock<T> {
    value: Mutex<T>,
    /// Urgent takers in line. Relaxed everywhere: it is a hint about whom to let pass; what the
    /// lock protects is ordered by the mutex.
    urgent_count: AtomicU32,
    /// Ordinary takers in line. Relaxed for the same reason.
    ordinary_count: AtomicU32,
}

impl<T> LaneLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            urgent_count: AtomicU32::new(0),
            ordinary_count: AtomicU32::new(0),
        }
    }

    pub(crate) fn lock(&self, urgency: Urgency) -> Result<MutexGuard<'_, T>, Poisoned> {
        match urgency {
            Urgency::Urgent => {
                self.urgent_count.fetch_add(1, Ordering::Relaxed);
                let guard = self.value.lock();
                self.urgent_count.fetch_sub(1, Ordering::Relaxed);
                guard.map_err(|_| Poisoned)
            }
            Urgency::Ordinary => {
                for _ in 0..YIELD_COUNT_MAX {
                    if self.urgent_count.load(Ordering::Relaxed) == 0 {
                        break;
                    }
                    thread::yield_now();
                }
                self.ordinary_count.fetch_add(1, Ordering::Relaxed);
                let guard = self.value.lock();
                self.ordinary_count.fetch_sub(1, Ordering::Relaxed);
                guard.map_err(|_| Poisoned)
            }
            Urgency::Background => {
                for _ in 0..PAUSE_COUNT_MAX {
                    if !self.has_line() {
                        break;
                    }
                    thread::sleep(PAUSE);
                }
                self.value.lock().map_err(|_| Poisoned)
            }
        }
    }

    fn has_line(&self) -> bool {
        let urgent = self.urgent_count.load(Ordering::Relaxed);
        urgent + self.ordinary_count.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn urgent_takers_get_through_a_loop_of_ordinary_ones() {
        let lock = Arc::new(LaneLock::new(0_u64));
        let is_over = Arc::new(AtomicBool::new(false));
        let loops = [(); 2].map(|()| {
            let (lock, is_over) = (Arc::clone(&lock), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    *lock.lock(Urgency::Ordinary).expect("no panic") += 1;
                }
            })
        });
        for _ in 0..200 {
            *lock.lock(Urgency::Urgent).expect("no panic") += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        for thread in loops {
            thread.join().expect("no panic");
        }

        assert_eq!(0, lock.urgent_count.load(Ordering::Relaxed));
        assert!(*lock.lock(Urgency::Ordinary).expect("no panic") >= 200);
    }

    #[test]
    fn a_panic_inside_is_told_to_all_who_come_later() {
        let lock = Arc::new(LaneLock::new(()));
        let inner = Arc::clone(&lock);
        let thread = thread::spawn(move || {
            let _guard = inner.lock(Urgency::Ordinary);
            panic!("on purpose");
        });
        thread.join().expect_err("it panicked");

        assert_eq!(Some(Poisoned), lock.lock(Urgency::Urgent).err());
    }
}
