//! What goes wrong with the machine, and the calm after it.
//!
//! Owns: crashes, betrayals of the disk, steps of the clock, restarts; and the last part of a seed,
//! in which nothing goes wrong any more and everything must settle. Must not: judge a decision.
//! Where next: `recover.rs`.

use lastunit_engine::{Action, AttemptState, Millis, State};
use lastunit_node::Listener;
use lastunit_node::stepped::Line;

use crate::book::Book;
use crate::disk::{CutMode, Failure};
use crate::judge::Violation;
use crate::plan::Betrayal;
use crate::recover::Opening;
use crate::server::{Asked, Call};
use crate::world::{Happening, Purpose, World};

/// Openings that may be refused in a row before that is a failure of its own.
const OPEN_TRIES: u32 = 12;

/// Simulated time in which everything must settle once nothing goes wrong.
const SETTLE_MS: Millis = 400_000;

impl World {
    /// Opens the node, sets the sale up and plans the first of everything that recurs.
    pub(crate) fn begin(&mut self) -> Result<(), Violation> {
        self.set_clock();
        self.restart()?;
        for command in self.setup() {
            let call = Call {
                ticket: self.fresh(),
                asked: Asked::One(command),
                caller: "console",
                seen: (0, 0),
                deadline: None,
                listener: Listener::Data,
            };
            self.server.submit(&call, &mut self.cover)?;
        }
        if let Some(node) = &mut self.server.node {
            node.settle();
        }
        self.server.take_answers()?;
        for _ in 0..self.plan.buyers {
            self.add_buyer(self.plan.duration * 2 / 3);
        }
        for happening in [
            Happening::Timers,
            Happening::Keep,
            Happening::Follow,
            Happening::Operate,
            Happening::Meddle,
            Happening::Disturb,
        ] {
            let delay = self.dice.within(0, 900_000);
            self.plan_in(delay, happening);
        }
        Ok(())
    }

    pub(crate) fn run_timers(&mut self) -> Result<(), Violation> {
        let interval = if self.is_calm {
            500_000
        } else {
            self.dice.within(20_000, 300_000)
        };
        self.plan_in(interval, Happening::Timers);
        let Some(node) = &self.server.node else {
            return Ok(());
        };
        let is_done = node.run_timers().is_ok();
        let decided = node.take_decided();
        self.server.note_decided(&decided, &mut self.cover)?;
        self.server.alive_at = self.server.alive_at.max(self.wall());
        if is_done && !self.server.has_failed() {
            let now = self.wall().max(self.server.book.time);
            if let Some(problem) = self.server.book.overdue_timer(now) {
                return Err(Violation::new(
                    "timers",
                    format!("after all timers, {problem}"),
                ));
            }
        }
        self.plan_flush();
        Ok(())
    }

    /// The keeper's work: room ahead, snapshots, a seal when it is quiet.
    pub(crate) fn keep(&mut self) {
        let interval = if self.is_calm {
            2_000_000
        } else {
            self.dice.within(50_000, 900_000)
        };
        self.plan_in(interval, Happening::Keep);
        let choice = self.dice.below(4);
        self.server.alive_at = self.server.alive_at.max(self.wall());
        let Some(node) = &mut self.server.node else {
            return;
        };
        node.prepare();
        match choice {
            // A snapshot is copied now and written at the next turn, with others' work in between.
            0..=1 => {
                if node.end_snapshot() {
                    self.cover.hit("snapshot written");
                }
                node.begin_snapshot(false);
            }
            2 => {
                node.begin_snapshot(false);
                if node.end_snapshot() {
                    self.cover.hit("snapshot written");
                }
            }
            _ => node.seal(),
        }
        node.remove_old();
    }

    /// Something goes wrong with the machine.
    pub(crate) fn disturb(&mut self) -> Result<(), Violation> {
        if self.is_calm {
            return Ok(());
        }
        let interval = self.plan.fault_interval * 1_000;
        let span = self.dice.within(interval / 4, interval * 2);
        self.plan_in(span, Happening::Disturb);
        if !self.server.is_up() {
            return Ok(());
        }
        if self.server.has_failed() {
            // The supervisor notices that it does not serve and ends it.
            self.cover.hit("crash after a storage error");
            let is_power_lost = self.dice.permille(500);
            self.crash(is_power_lost);
            return Ok(());
        }
        let later = self.dice.below(8);
        match self.dice.below(12) {
            0 => {
                self.cover.hit("crash kill");
                self.crash(false);
            }
            1..=2 => {
                self.cover.hit("crash power cut");
                self.crash(true);
            }
            3..=5 => self.server.disk.arm(later, Failure::PowerLoss),
            6 => self.stop_cleanly()?,
            7 if self.plan.has_disk_errors => self.server.disk.arm(later, Failure::Device),
            8 if self.plan.has_disk_errors => self.server.disk.arm(later, Failure::Short),
            7..=8 if self.plan.has_full_disk => {
                let room = self.dice.below(20_000);
                self.server.disk.set_room(Some(room));
            }
            9 if self.plan.has_full_disk => self.server.disk.set_room(None),
            9 if self.plan.betrayal == Betrayal::Lie => {
                self.server.disk.arm(later, Failure::LyingSync);
            }
            10 | 9 if self.plan.has_clock_steps => self.step_clock(),
            _ => {}
        }
        Ok(())
    }

    fn step_clock(&mut self) {
        let step = self.dice.within(-20_000, 20_000);
        self.skew += step;
        self.cover.hit(if step < 0 {
            "clock step back"
        } else {
            "clock step forward"
        });
        self.set_clock();
    }

    fn stop_cleanly(&mut self) -> Result<(), Violation> {
        for line in Line::ALL {
            while self.server.has_work(line) {
                self.server.work(line, &mut self.cover)?;
            }
        }
        let Some(node) = self.server.node.take() else {
            return Ok(());
        };
        self.cover.hit("crash clean stop");
        self.server.alive_at = self.server.alive_at.max(self.wall());
        let is_closed = node.close().is_ok();
        // What was in line is answered before the process ends.
        let answers = self.server.take_answers();
        if is_closed {
            answers?;
        }
        self.crash(self.server.disk.is_off());
        Ok(())
    }

    /// Ends the process; the disk may lose its power with it.
    pub(crate) fn crash(&mut self, is_power_lost: bool) {
        self.crashes += 1;
        let now = self.now;
        self.trace
            .note(now, || format!("crash, power lost: {is_power_lost}"));
        self.server.kill();
        if is_power_lost || self.server.disk.is_off() {
            if self.server.disk.has_lied() {
                self.server.is_strict = false;
            }
            let modes = [
                CutMode::AllLost,
                CutMode::AllKept,
                CutMode::Mixed,
                CutMode::Mixed,
            ];
            let mode = *self.dice.pick(&modes);
            self.server.disk.cut(mode, &mut self.dice);
        } else {
            self.server.disk.restart();
        }
        self.forget_flush();
        if self.plan.betrayal == Betrayal::Flip && !self.is_calm && self.dice.permille(300) {
            let flipped = self.server.disk.flip(&mut self.dice);
            self.trace
                .note(now, || format!("a bit is flipped: {flipped:?}"));
            self.is_flipped = true;
            self.server.is_strict = false;
        }
        if self.plan.has_clock_steps && !self.is_calm && self.dice.permille(300) {
            self.cover.hit("clock step while down");
            self.skew += self.dice.within(-20_000, 20_000);
        }
        let outage = if self.is_calm {
            1_000
        } else {
            self.dice.within(1_000, 3_000_000)
        };
        self.plan_in(outage, Happening::Restart);
    }

    /// Starts the node, as often as it takes; faults during a recovery are part of it.
    pub(crate) fn restart(&mut self) -> Result<(), Violation> {
        for tries in 0..OPEN_TRIES {
            if self.server.is_up() {
                return Ok(());
            }
            // Bad luck ends; a node that will not open does not.
            if tries < OPEN_TRIES / 2 {
                self.arm_for_opening();
            }
            let wall = self.wall();
            let is_whole = self.server.is_strict && self.server.disk.flip_count() == 0;
            if is_whole && self.dice.permille(250) {
                self.check_snapshots()?;
            }
            let step = u16::try_from(self.dice.within(1, 65_535)).unwrap_or(1);
            let opening = self.server.open(wall, step, &mut self.cover)?;
            let now = self.now;
            self.trace.note(now, || format!("opening: {opening:?}"));
            match opening {
                Opening::Up if self.server.disk.is_off() => self.cut_in_recovery(),
                Opening::Up => return self.opened(),
                Opening::RolledBack(head) => return self.check_noticed(head),
                Opening::Refused(problem) => self.refused(&problem)?,
            }
            if self.is_over {
                return Ok(());
            }
        }
        Err(Violation::new("recovery refused", "again and again"))
    }

    fn arm_for_opening(&mut self) {
        if self.is_calm || self.server.epoch == 0 {
            return;
        }
        if self.dice.permille(200) {
            let later = self.dice.below(10);
            self.server.disk.arm(later, Failure::PowerLoss);
        } else if self.plan.has_read_errors && self.dice.permille(300) {
            self.server.disk.fail_reads(1);
        }
    }

    fn cut_in_recovery(&mut self) {
        if self.server.disk.has_lied() {
            self.server.is_strict = false;
        }
        let now = self.now;
        self.trace.note(now, || "power cut in recovery".to_owned());
        self.cover.hit("crash power cut in recovery");
        self.crashes += 1;
        self.server.kill();
        self.server.disk.cut(CutMode::Mixed, &mut self.dice);
    }

    fn opened(&mut self) -> Result<(), Violation> {
        self.server.disk.disarm();
        self.server.alive_at = self.server.alive_at.max(self.wall());
        if std::mem::take(&mut self.is_flipped) {
            self.cover.hit("disk bit flip harmless");
        }
        // Whatever was flipped did no harm, and what the disk lied about is on it or not needed:
        // all that was ever shown is there.
        self.server.is_strict = !self.server.disk.has_lied();
        self.server.take_answers()?;
        self.plan_flush();
        Ok(())
    }

    /// The node would not open: that must have a reason.
    fn refused(&mut self, problem: &str) -> Result<(), Violation> {
        if self.server.disk.is_off() {
            self.cut_in_recovery();
        } else if problem.contains("simulated") {
            // A fault of the device, not of what is stored.
            self.server.disk.restart();
        } else if self.server.disk.flip_count() > 0 {
            self.cover.hit("disk bit flip refused");
            self.is_flipped = false;
            self.server.disk.unflip();
            self.server.is_strict = !self.server.disk.has_lied();
        } else if self.server.disk.has_lied() {
            self.cover.hit("disk lying sync");
            self.is_over = true;
        } else if problem.contains("no journal space") || problem.contains("full") {
            self.server.disk.set_room(None);
        } else {
            return Err(Violation::new("recovery refused", problem.to_owned()));
        }
        Ok(())
    }

    /// What was shown is gone: every caller that saw it must be refused.
    fn check_noticed(&mut self, head: i64) -> Result<(), Violation> {
        let clients = self.clients.clone();
        for client in clients.iter().filter(|it| it.seen.0 > head) {
            let call = Call {
                ticket: 0,
                asked: Asked::Availability("sale-0".into()),
                caller: client.name,
                seen: client.seen,
                deadline: None,
                listener: Listener::Data,
            };
            let reason = self.server.probe(&call);
            if reason.as_deref() != Some("JOURNAL_ROLLED_BACK") {
                let detail = format!(
                    "the journal ends at {head}, {} has seen {:?} and is answered {reason:?}",
                    client.name, client.seen
                );
                return Err(Violation::new("rollback unnoticed", detail));
            }
        }
        let is_flip = !self.server.disk.has_lied();
        self.cover.hit(if is_flip {
            "disk bit flip noticed by a token"
        } else {
            "disk lying sync"
        });
        self.is_over = true;
        Ok(())
    }

    /// A snapshot under its final name is whole, whatever the crash.
    fn check_snapshots(&self) -> Result<(), Violation> {
        let storage = std::sync::Arc::clone(&self.server.disk);
        let Ok(found) = lastunit_journal::inspect(storage) else {
            return Ok(());
        };
        match found.notes.iter().find(|note| note.contains("passed over")) {
            Some(note) if !note.contains("simulated") => {
                Err(Violation::new("snapshot", note.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Nothing goes wrong any more: everything must come to rest, and the money must add up.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.is_calm = true;
        self.server.disk.set_room(None);
        self.server.disk.disarm();
        // A clock that stands still would keep what waits for it.
        self.skew = self
            .skew
            .max(self.server.alive_at - self.wall() + self.skew)
            + 1;
        self.set_clock();
        if self.server.has_failed() {
            self.crash(false);
        }
        let brake = self.signed(Action::SetExpiryBrake {
            is_on: false,
            until: None,
        });
        self.call(Asked::One(brake), 3, Purpose::Refund("brake".into()));
        let pending: Vec<_> = self.provider.attempts.keys().cloned().collect();
        for attempt in pending {
            self.plan_in(0, Happening::News(attempt.clone()));
            // What is still open is closed at the provider, unless its buyer pays first.
            let cancel = lastunit_engine::PaymentResult::Cancelled;
            self.plan_in(20_000_000, Happening::Decide(attempt, cancel));
        }
        let end = self.now + SETTLE_MS * 1_000;
        let mut look_at = self.now + 5_000_000;
        while self.now < end && !self.is_over {
            self.step()?;
            if self.now >= look_at {
                look_at = self.now + 1_000_000;
                if self.unsettled().is_none() {
                    return self.check_rest();
                }
            }
        }
        match self.unsettled() {
            Some(problem) if !self.is_over => Err(Violation::new("liveness", problem)),
            _ => Ok(()),
        }
    }

    /// What has not come to rest yet.
    fn unsettled(&self) -> Option<String> {
        if !self.server.is_up() {
            return Some("the node is down".to_owned());
        }
        if !self.calls.is_empty() {
            return Some(format!("{} calls are not answered", self.calls.len()));
        }
        let book: &Book = &self.server.book;
        let is_live = |state: State| matches!(state, State::Held | State::Paying | State::Overdue);
        let live = book.reservations.iter().find(|(_, it)| is_live(it.state));
        if let Some((id, it)) = live {
            return Some(format!("reservation {id} is {}", it.state.name()));
        }
        let rests = |state: AttemptState| {
            !matches!(
                state,
                AttemptState::Open | AttemptState::RefundDue | AttemptState::Succeeded
            )
        };
        let is_untold = |money: &crate::provider::Money| !money.is_told && !money.is_orphan;
        if let Some((id, _)) = self.provider.paid().find(|(_, money)| is_untold(money)) {
            return Some(format!("the ledger was not told that {id} is paid"));
        }
        let attempt = book.attempts.iter().find(|(_, it)| !rests(it.state));
        attempt.map(|(id, it)| format!("attempt {id} is {}", it.state.name()))
    }

    /// At rest: paid is confirmed or refunded, each once.
    fn check_rest(&mut self) -> Result<(), Violation> {
        let book = &self.server.book;
        for (id, money) in self.provider.paid().filter(|(_, money)| !money.is_orphan) {
            let state = book.attempts.get(id).map(|it| it.state);
            let holds = match state {
                Some(AttemptState::Applied) => !money.is_refunded,
                Some(AttemptState::Refunded) => money.is_refunded,
                _ => false,
            };
            if !holds {
                let detail = format!(
                    "attempt {id} was paid, refunded {}, and rests as {state:?}",
                    money.is_refunded
                );
                return Err(Violation::new("paid = confirmed + refunded", detail));
            }
        }
        for (id, it) in &book.attempts {
            let is_paid = self.provider.paid().any(|(other, _)| other == id);
            if it.state == AttemptState::Applied && !is_paid {
                let detail = format!("attempt {id} is applied and nobody paid");
                return Err(Violation::new("paid = confirmed + refunded", detail));
            }
        }
        self.server.check_all()?;
        self.server.check_repeats()?;
        self.cover.hit("settled in liveness mode");
        Ok(())
    }
}
