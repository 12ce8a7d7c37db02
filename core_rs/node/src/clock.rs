//! Ledger time: milliseconds since the epoch that never go back.
//!
//! Owns: the only reading of the machine's clock that reaches the ledger. Must not: be read without
//! the node's lock, since the order of times is the order of decisions. Where next: `core.rs`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lastunit_engine::Millis;

/// Where ledger time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// The machine's clock, held back when it goes back.
    System,
    /// Set by `RehearsalService.SetClock`.
    Manual,
}

/// How far the machine's clock may run ahead of the monotonic one, and how long nobody may have
/// looked at it, before that counts as time in which nobody was served. Well over what NTP slews
/// between two anchors (30 ms a minute) and what a loaded machine keeps a thread waiting.
const STEP: Millis = 2_000;

/// How long two clocks are compared from one point: slewing must not add up to a step.
const ANCHOR_LIFE: Millis = 60_000;

/// Ledger time of one node.
///
/// It follows the machine's clock and never goes back. When the machine's clock is set back, ledger
/// time goes on at half its pace until it has been caught up with: a reservation lives longer, at
/// most twice as long, and never ends early. When ledger time leaps forward, because the clock was
/// set or because the process was stopped, the leap is owed to those who hold units: nobody could
/// pay in it.
#[derive(Clone, Debug)]
pub(crate) struct LedgerClock {
    kind: ClockKind,
    last: Millis,
    anchor: Anchor,
    looked_at: Instant,
    /// Where and when ledger time began to go on without the machine's clock.
    alone_since: Option<(Millis, Instant)>,
    pause_limit: Millis,
    owed: Millis,
}

/// All clocks at one moment, from which they are compared.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    system: Millis,
    instant: Instant,
    ledger: Millis,
}

impl LedgerClock {
    /// Starts at `last`, the latest time that the journal knows. Somebody looks at it at least once
    /// an `interval`.
    pub(crate) fn new(kind: ClockKind, last: Millis, interval: Millis) -> Self {
        Self::at(kind, last, interval, (system_now(), instant_now()))
    }

    fn at(
        kind: ClockKind,
        last: Millis,
        interval: Millis,
        (system, instant): (Millis, Instant),
    ) -> Self {
        let anchor = Anchor {
            system,
            instant,
            ledger: last,
        };
        Self {
            kind,
            last,
            anchor,
            looked_at: instant,
            alone_since: None,
            pause_limit: STEP.max(2 * interval),
            owed: 0,
        }
    }

    /// Returns the time of the next decision: never less than the one before.
    pub(crate) fn now(&mut self) -> Millis {
        if self.kind == ClockKind::System {
            self.look(system_now(), instant_now());
        }
        self.last
    }

    /// Time that ledger time has leapt over, to be credited before anything is decided.
    pub(crate) fn owed(&self) -> Millis {
        self.owed
    }

    /// Says that what was owed is credited. That takes long where a great deal is held, and must
    /// not count as a pause itself.
    pub(crate) fn pay(&mut self) {
        self.owed = 0;
        self.looked_at = instant_now();
    }

    /// Up to when everybody was served or has the credit: the last sign of life.
    pub(crate) fn sign_of_life(&mut self) -> Millis {
        self.now() - self.owed
    }

    /// Moves a manual clock; a time before the present one is left out.
    pub(crate) fn advance(&mut self, now: Millis) {
        self.last = self.last.max(now);
    }

    fn look(&mut self, system: Millis, instant: Instant) {
        let now = self.follow(system, instant).max(self.last);
        let pause = between(self.looked_at, instant);
        let compared = between(self.anchor.instant, instant);
        let step = system - self.anchor.system - compared;
        // What ledger time did not leap over is not owed.
        let advance = now - self.anchor.ledger;
        let mut leap = 0;
        if pause > self.pause_limit {
            leap += pause.min(now - self.last);
        }
        if step > STEP {
            leap += step;
        }
        self.owed += leap.min(advance);
        (self.last, self.looked_at) = (now, instant);
        if step.abs() > STEP || compared > ANCHOR_LIFE {
            self.anchor = Anchor {
                system,
                instant,
                ledger: now,
            };
        }
    }

    fn follow(&mut self, system: Millis, instant: Instant) -> Millis {
        if system >= self.last {
            self.alone_since = None;
            return system;
        }
        let (start, since) = *self.alone_since.get_or_insert((self.last, instant));
        start + between(since, instant) / 2
    }
}

fn between(start: Instant, end: Instant) -> Millis {
    let elapsed = end.saturating_duration_since(start);
    Millis::try_from(elapsed.as_millis()).unwrap_or(Millis::MAX)
}

/// Milliseconds since the epoch as the machine has them; a clock before 1970 counts as 1970.
pub(crate) fn system_now() -> Millis {
    #[cfg(feature = "testing")]
    if let Some(simulated) = crate::stepped::simulated_now() {
        return simulated;
    }
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |it| {
        Millis::try_from(it.as_millis()).unwrap_or(Millis::MAX)
    })
}

/// The monotonic clock: deadlines and admission are measured with it, never ledger time.
pub(crate) fn instant_now() -> Instant {
    #[cfg(feature = "testing")]
    if let Some(simulated) = crate::stepped::simulated_instant() {
        return simulated;
    }
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Millis = 1_000_000;

    /// A clock, and its looks as (milliseconds of the machine's clock, of the monotonic one) since
    /// the start.
    struct Rig {
        clock: LedgerClock,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let start = Instant::now();
            let clock = LedgerClock::at(ClockKind::System, START, 50, (START, start));
            Self { clock, start }
        }

        /// Gives ledger time since the start, and what is owed.
        fn look(&mut self, system: Millis, monotonic: u64) -> (Millis, Millis) {
            let instant = self.start + Duration::from_millis(monotonic);
            self.clock.look(START + system, instant);
            (self.clock.last - START, self.clock.owed)
        }
    }

    #[test]
    fn ledger_time_follows_the_machine() {
        let mut rig = Rig::new();
        for millis in 0..200_000 {
            if millis % 50 == 0 {
                let system = Millis::try_from(millis).expect("small");
                assert_eq!((system, 0), rig.look(system, millis));
            }
        }
    }

    #[test]
    fn step_forward_is_owed_and_the_time_that_passed_is_not() {
        let mut rig = Rig::new();
        assert_eq!((50, 0), rig.look(50, 50));

        assert_eq!((3_600_100, 3_600_000), rig.look(3_600_100, 100));
        assert_eq!((3_600_150, 3_600_000), rig.look(3_600_150, 150));
    }

    #[test]
    fn step_back_slows_ledger_time_until_it_is_caught_up_with() {
        let mut rig = Rig::new();
        for tick in 1..=77 {
            // Four seconds back at the first look.
            let system = tick * 100 - 4_000;
            let expected = (tick - 1) * 50;
            assert_eq!((expected, 0), rig.look(system, tick.unsigned_abs() * 100));
        }

        assert_eq!((4_100, 0), rig.look(4_100, 8_100));
    }

    #[test]
    fn step_back_and_forth_owes_no_more_than_ledger_time_leapt() {
        let mut rig = Rig::new();
        assert_eq!((0, 0), rig.look(-3_600_000, 0));

        assert_eq!((100, 100), rig.look(100, 100));
    }

    #[test]
    fn pause_of_the_process_is_owed() {
        let mut rig = Rig::new();
        assert_eq!((2_000, 0), rig.look(2_000, 2_000));

        assert_eq!((62_000, 60_000), rig.look(62_000, 62_000));
    }

    #[test]
    fn clock_that_runs_ten_times_too_fast_is_owed_what_it_runs_ahead() {
        let mut rig = Rig::new();
        let mut last = (0, 0);
        for tick in 1..=400 {
            last = rig.look(tick * 500, tick.unsigned_abs() * 50);
        }
        let (time, owed) = last;

        assert_eq!(200_000, time);
        // 20 seconds passed; all but what is not yet noticed of the other 180 is owed.
        assert!((178_000..=180_000).contains(&owed), "{owed}");
    }

    #[test]
    fn slewing_does_not_add_up_to_a_step() {
        let mut rig = Rig::new();
        // 3 % too fast for ten minutes.
        for tick in 1..=12_000 {
            let (_, owed) = rig.look(tick * 103 / 2, tick.unsigned_abs() * 50);
            assert_eq!(0, owed);
        }
    }

    #[test]
    fn manual_time_moves_only_forward_and_only_when_told() {
        let mut clock = LedgerClock::new(ClockKind::Manual, 500, 50);
        clock.advance(400);
        assert_eq!(500, clock.now());

        clock.advance(900);
        assert_eq!(900, clock.now());
    }
}
