//! The node without threads: the same parts and the same code, one step at a time, for a simulator.
//!
//! Owns: the order of steps that threads otherwise choose, and the simulated clock of the calling
//! thread. Each step is the body of a thread's loop, so what is proved here is what is shipped.
//! Must not: hold logic of its own, or be part of a shipped build (feature `testing`). Where next:
//! `core_rs/sim`, which drives it.

#![expect(
    clippy::must_use_candidate,
    reason = "a step is taken for its effect; what it gives is looked at where it matters"
)]

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lastunit_engine::{Command, Event, Ledger, Millis, Reply, Sequence};
use lastunit_journal::{Batch, Storage};
use lastunit_wire::Fault;

use crate::answer::{Answer, Completion};
use crate::events::{self, ReadError};
use crate::lane_lock::Urgency;
use crate::life::Phase;
use crate::node::{CallInput, Health, finish_journal};
use crate::open::{self, Identity, OpenError};
use crate::settings::NodeSettings;
use crate::shared::{Benches, Shared};
use crate::{flusher, keeper, retention, serve, snapshots, timers, workers};

thread_local! {
    static CLOCK: Cell<Option<(Millis, Duration)>> = const { Cell::new(None) };
}

/// Where the simulated monotonic clock begins; any instant will do.
static START: OnceLock<Instant> = OnceLock::new();

/// Sets both clocks of nodes on this thread: the machine's (it may go back) and the monotonic one.
pub fn set_clock(system: Millis, monotonic: Duration) {
    CLOCK.set(Some((system, monotonic)));
}

pub(crate) fn simulated_now() -> Option<Millis> {
    CLOCK.get().map(|(system, _)| system)
}

pub(crate) fn simulated_instant() -> Option<Instant> {
    CLOCK.get().map(|(_, monotonic)| instant_at(monotonic))
}

/// The instant at which the monotonic clock reads so much; for deadlines.
#[must_use]
pub fn instant_at(monotonic: Duration) -> Instant {
    *START.get_or_init(Instant::now) + monotonic
}

/// Keeps a decision, where somebody simulates and will ask for it.
pub(crate) fn tap(decisions: &mut Vec<Tapped>, make: impl FnOnce() -> Tapped) {
    if simulated_now().is_some() {
        decisions.push(make());
    }
}

/// One decision, as it was made: timers and the node's own commands included.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// What was asked.
    pub command: Command,
    /// Ledger time of the decision.
    pub now: Millis,
    /// What was answered.
    pub reply: Reply,
    /// What was journaled; empty for refusals and repeats.
    pub events: Vec<Event>,
    /// The state that the answer shows.
    pub as_of: Sequence,
    /// Its place among all decisions of this opening.
    pub op_number: i64,
}

/// The lines of calls that threads would serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Batches of the data listener.
    Data = 0,
    /// Batches of the settlement listener.
    Settlement = 1,
    /// Audits, listings and explanations.
    Slow = 2,
}

impl Line {
    /// Every line.
    pub const ALL: [Self; 3] = [Self::Data, Self::Settlement, Self::Slow];
}

/// One open ledger that only moves when told. Dropping it is a killed process.
pub struct SteppedNode {
    shared: Arc<Shared>,
    benches: Benches,
    batch: Option<Batch>,
    copy: Option<snapshots::Copy>,
}

impl SteppedNode {
    /// Opens a node. What is otherwise drawn at random is given: the identity of a new journal, and
    /// how far this opening raises the epoch.
    ///
    /// # Errors
    /// As `Node::open_on`.
    pub fn open(
        settings: NodeSettings,
        storage: Arc<dyn Storage>,
        journal_id: u128,
        epoch_step: u16,
    ) -> Result<Self, OpenError> {
        let identity = Identity {
            journal_id,
            epoch_step,
        };
        let opened = open::open(&settings, storage, Some(identity))?;
        let (shared, benches) = Shared::new(settings, opened.core, opened.journal, opened.policies);
        // Nobody is there to call those who wait: they are refused at once.
        shared.waiting.end();
        shared.keeper_signal.note_snapshot(opened.snapshot_sequence);
        shared.readers.take_over(&opened.readers);
        Ok(Self {
            shared,
            benches,
            batch: None,
            copy: None,
        })
    }

    /// As `Node::submit`.
    pub fn submit(&self, call: &CallInput<'_>, completion: Completion) -> Option<Answer> {
        serve::submit(&self.shared, call, completion)
    }

    /// Serves the next call of a line; false if there is none.
    pub fn work(&self, line: Line) -> bool {
        let run = |bench: usize| workers::run_one(&self.shared, &self.benches[bench]);
        // Audits have a thread of their own beside the other slow calls.
        run(line as usize) || (line == Line::Slow && run(line as usize + 1))
    }

    /// Takes what was appended out of the journal's open batch, unless a flush is under way; the
    /// next appends go to the next batch. Returns whether a flush is under way now.
    pub fn begin_flush(&mut self) -> bool {
        if self.batch.is_none() {
            self.batch = self.shared.journal.take_batch();
        }
        self.batch.is_some()
    }

    /// Writes and syncs what `begin_flush` took, and lets the answers go. False if nothing was
    /// under way, or the journal failed.
    pub fn end_flush(&mut self) -> bool {
        let batch = self.batch.take();
        batch.is_some_and(|batch| flusher::flush(&self.shared, batch))
    }

    /// Flushes until nothing waits, as an idle node would.
    pub fn settle(&mut self) {
        while self.begin_flush() {
            if !self.end_flush() {
                return;
            }
        }
    }

    /// Decisions made by this opening, questions included.
    ///
    /// # Panics
    /// As `look`.
    #[must_use]
    pub fn op_number(&self) -> i64 {
        let core = self.shared.lock(Urgency::Ordinary);
        core.expect("no decision panicked").op_number()
    }

    /// Runs everything that is due by the clock.
    ///
    /// # Errors
    /// The journal refused an append; the rest is still due.
    pub fn run_timers(&self) -> Result<(), Fault> {
        timers::run_due(&self.shared)
    }

    /// Prepares a segment if one is due. Returns whether it went well.
    pub fn prepare(&self) -> bool {
        keeper::prepare(&self.shared)
    }

    /// Copies the state for a snapshot, if one is due or `is_forced`. Returns whether one waits to
    /// be written.
    pub fn begin_snapshot(&mut self, is_forced: bool) -> bool {
        let durable = self.shared.waiters.durable();
        let is_due = is_forced || keeper::is_snapshot_due(&self.shared, durable);
        if is_due && self.copy.is_none() {
            self.copy = snapshots::take_copy(&self.shared);
        }
        self.copy.is_some()
    }

    /// Writes the copy that `begin_snapshot` took, after flushing what it shows. Returns whether
    /// one was written.
    pub fn end_snapshot(&mut self) -> bool {
        let Some(copy) = self.copy.take() else {
            return false;
        };
        while self.begin_flush() {
            if !self.end_flush() {
                return false;
            }
        }
        keeper::note(&self.shared, snapshots::write_copy(&self.shared, copy))
    }

    /// Removes old segments as far as the settings allow. Returns whether it went well.
    pub fn remove_old(&self) -> bool {
        keeper::note(&self.shared, retention::remove_old(&self.shared))
    }

    /// Seals the journal if it is idle.
    pub fn seal(&self) {
        keeper::seal_if_quiet(&self.shared);
    }

    /// As `Node::read_events`.
    ///
    /// # Errors
    /// As `Node::read_events`.
    pub fn read_events(
        &self,
        after: Sequence,
        limit: i64,
    ) -> Result<(Vec<u8>, Sequence), ReadError> {
        let journal = &self.shared.journal;
        events::read(&journal.reader(), journal.epoch(), after, limit)
    }

    /// As `Node::health`.
    #[must_use]
    pub fn health(&self) -> Health {
        let shared = &self.shared;
        Health {
            phase: shared.life.phase(),
            cause: shared.life.cause(),
            epoch: shared.journal.epoch(),
            sequence: shared.journal.appended_sequence(),
            durable_sequence: shared.waiters.durable(),
        }
    }

    /// Bytes of journal left, and whether so few that nothing new is reserved.
    #[must_use]
    pub fn space(&self) -> (u64, bool) {
        let journal = &self.shared.journal;
        (journal.free_bytes(), journal.is_space_low())
    }

    /// Looks at the ledger as it is in memory.
    ///
    /// # Panics
    /// If a decision panicked before: the state is not to be trusted.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        let core = self.shared.lock(Urgency::Ordinary);
        look(&core.expect("no decision panicked").ledger)
    }

    /// Takes the decisions made since the last call.
    ///
    /// # Panics
    /// As `look`.
    #[must_use]
    pub fn take_decided(&self) -> Vec<Tapped> {
        let core = self.shared.lock(Urgency::Ordinary);
        std::mem::take(&mut core.expect("no decision panicked").tap)
    }

    /// Stops cleanly: what is left is flushed, a snapshot written, the journal sealed.
    ///
    /// # Errors
    /// What failed; what was answered is on disk.
    pub fn close(mut self) -> Result<(), String> {
        self.shared.life.advance(Phase::Draining, "");
        for line in Line::ALL {
            while self.work(line) {}
        }
        if self.begin_flush() && !self.end_flush() {
            return Err(self.shared.life.cause());
        }
        finish_journal(&self.shared)?;
        self.shared.life.advance(Phase::Closed, "");
        Ok(())
    }
}
