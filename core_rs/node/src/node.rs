//! The node as its callers see it: open, submit, watch, read, drain, close.
//!
//! Owns: the threads, from the first to the last. Must not: hold logic of a call. Where next:
//! `serve.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lastunit_admission::{GateState, Report, WindowStats};
use lastunit_engine::{Millis, Sequence};
use lastunit_journal::Storage;
use lastunit_wire::Fault;

use crate::answer::{Answer, Completion};
use crate::clock::ClockKind;
use crate::events::{self, ReadError};
use crate::gates::{self, GateError};
use crate::gates_settings;
use crate::lane_lock::Urgency;
use crate::life::Phase;
use crate::open::{self, OpenError};
use crate::permissions::{Permissions, Subject, Verdict};
use crate::permit::Permit;
use crate::policies::PolicyPut;
use crate::recorder::Recorder;
use crate::settings::{DurabilityKind, NodeSettings, SettingsError};
use crate::shared::{Benches, Shared};
use crate::storage::{DiskStorage, MemoryStorage};
use crate::waiters::Waiter;
use crate::waiting;
use crate::watch::{self, Watch};
use crate::{faults, flusher, keeper, metrics, readers, serve, snapshots, timers, workers};

/// How often a drain looks whether all calls are answered.
const DRAIN_LOOK: Duration = Duration::from_millis(1);

/// How long `close` waits for calls that were let in; the last of them waits for one flush.
const CLOSE_DRAIN: Duration = Duration::from_secs(10);

/// Which door a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Reservations and reads; settlement is served too.
    Data,
    /// Settlement and control; a reservation is refused, so that it cannot be in the way.
    Settlement,
}

/// One call, borrowed from the caller.
#[derive(Clone, Copy, Debug)]
pub struct CallInput<'a> {
    /// Full gRPC path; the leading slash may be missing.
    pub method: &'a str,
    /// The serialized request, at most 4 MiB.
    pub request: &'a [u8],
    /// Who calls, 1 to 64 bytes of `[A-Za-z0-9._:-]`.
    pub caller: &'a str,
    /// When the caller gives up; past it the call has no effect.
    pub deadline: Option<Instant>,
    /// Highest sequence that the caller has seen, 0 if none.
    pub seen_sequence: Sequence,
    /// Highest epoch that the caller has seen, 0 if none.
    pub seen_epoch: i64,
    /// Which door it came through.
    pub listener: Listener,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it serves, and if not, why.
    pub phase: Phase,
    /// What made it stop serving; empty while it serves.
    pub cause: String,
    /// This opening's number.
    pub epoch: i64,
    /// The last event appended.
    pub sequence: Sequence,
    /// The last event durable.
    pub durable_sequence: Sequence,
}

/// A node that could not be closed cleanly; what was answered is on disk all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The journal failed before or while it was closed.
    #[error("the journal was not closed cleanly: {cause}; the next start recovers it")]
    Journal {
        /// What failed.
        cause: String,
    },
    /// A bug stopped the node before.
    #[error("the node had stopped at a bug: {cause}; the next start recovers the journal")]
    Poisoned {
        /// What happened.
        cause: String,
    },
}

impl CloseError {
    /// Stable name of the kind of failure.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Journal { .. } => Phase::JournalFailed.reason(),
            Self::Poisoned { .. } => Phase::Poisoned.reason(),
        }
    }
}

/// One open ledger.
///
/// Dropping it without [`Node::close`] stops the threads and leaves the journal as a killed process
/// would, except that a flush in flight ends: the next opening recovers.
pub struct Node {
    shared: Arc<Shared>,
    /// The directory to give back; none in memory.
    disk: Option<Arc<DiskStorage>>,
    threads: Mutex<Threads>,
    is_timer_stopping: Arc<AtomicBool>,
    /// How the close ended. Held through it, so that a second caller waits and hears the same.
    closed: Mutex<Option<Result<(), CloseError>>>,
}

/// Threads of a node, taken out by whoever stops it.
#[derive(Default)]
struct Threads {
    /// Ends last: the others may wait for a flush.
    flusher: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Node {
    /// Opens the journal that the settings name, rebuilds the ledger and starts to serve.
    ///
    /// # Errors
    /// Settings, directory, journal or ledger are not usable; nothing was changed then but what
    /// recovery had to.
    pub fn open(settings: NodeSettings) -> Result<Arc<Self>, OpenError> {
        match settings.durability {
            DurabilityKind::Memory => {
                Self::open_with(settings, Arc::new(MemoryStorage::default()), None)
            }
            DurabilityKind::Written | DurabilityKind::Flushed => {
                let disk = Arc::new(DiskStorage::open(&settings)?);
                Self::open_with(settings, Arc::clone(&disk) as Arc<dyn Storage>, Some(disk))
            }
        }
    }

    /// Like [`Node::open`], on a disk that the caller brings; tests bring one that fails.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub fn open_on(
        settings: NodeSettings,
        storage: Arc<dyn Storage>,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_with(settings, storage, None)
    }

    fn open_with(
        settings: NodeSettings,
        storage: Arc<dyn Storage>,
        disk: Option<Arc<DiskStorage>>,
    ) -> Result<Arc<Self>, OpenError> {
        let opened = open::open(&settings, storage, None)?;
        let arrivals = settings.arrivals.as_ref();
        let recorder = arrivals.map(Recorder::open).transpose()?;
        let (shared, benches) = Shared::new(settings, opened.core, opened.journal, opened.policies);
        if let Some(recorder) = recorder {
            shared.turnstile.record(recorder);
        }
        shared.keeper_signal.note_snapshot(opened.snapshot_sequence);
        shared.meters.note_snapshot_time(opened.snapshot_time);
        shared.readers.take_over(&opened.readers);
        let elapsed = opened.start.elapsed();
        shared.meters.note_recovery(elapsed, opened.replayed_events);
        let node = Self {
            shared,
            disk,
            threads: Mutex::default(),
            is_timer_stopping: Arc::default(),
            closed: Mutex::default(),
        };
        node.start(benches)?;
        Ok(Arc::new(node))
    }

    fn start(&self, benches: Benches) -> Result<(), OpenError> {
        let mut threads = self.threads();
        threads.flusher = Some(self.spawn("flush", flusher::run)?);
        threads.others.push(self.spawn("keep", keeper::run)?);
        threads.others.push(self.spawn("snapshot", snapshots::run)?);
        threads.others.push(self.spawn("watch", watch::run)?);
        threads.others.push(self.spawn("gates", gates::run)?);
        threads.others.push(self.spawn("waiting", waiting::run)?);
        for (name, bench) in ["data", "settle", "slow", "audit"].into_iter().zip(benches) {
            let work = move |shared: &Shared| workers::run(shared, &bench);
            threads.others.push(self.spawn(name, work)?);
        }
        if self.shared.settings.clock == ClockKind::System {
            let is_stopping = Arc::clone(&self.is_timer_stopping);
            let work = move |shared: &Shared| timers::run(shared, &is_stopping);
            threads.others.push(self.spawn("timer", work)?);
        }
        Ok(())
    }

    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<JoinHandle<()>, OpenError> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            shared.guard(|| work(&shared));
        };
        thread::Builder::new()
            .name(format!("lastunit-{name}"))
            .spawn(work)
            .map_err(OpenError::Thread)
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one call. Gives the answer if it may leave at once, else it goes to `completion`,
    /// exactly once. Never waits for the disk.
    pub fn submit(&self, call: &CallInput<'_>, completion: Completion) -> Option<Answer> {
        serve::submit(&self.shared, call, completion)
    }

    /// Serves one call and waits for its answer, until the call's deadline at most.
    #[must_use]
    pub fn call(&self, call: &CallInput<'_>) -> Answer {
        let (sender, receiver) = sync_channel(1);
        // Nobody listens any more once the deadline has passed: then the answer is dropped.
        let completion = Completion::Call(Box::new(move |answer| drop(sender.try_send(answer))));
        if let Some(answer) = self.submit(call, completion) {
            return answer;
        }
        let arrived = match call.deadline {
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => {
                receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        };
        arrived.unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Answer::fault(&faults::answer_too_late()),
            RecvTimeoutError::Disconnected => {
                Answer::fault(&faults::not_serving(Phase::Closed, ""))
            }
        })
    }

    /// Starts a stream of changes in availability from a serialized WatchAvailabilityRequest.
    ///
    /// # Errors
    /// The answer to give instead, if the request is refused.
    pub fn watch(&self, request: &[u8]) -> Result<Watch, Answer> {
        Watch::start(&self.shared, request)
    }

    /// Reads durable events after a sequence, whole commands, as one ReadEventsResponse; with it
    /// comes the sequence to go on after.
    ///
    /// # Errors
    /// A limit out of range, a sequence beyond the journal's end, or a journal that cannot be read.
    pub fn read_events(
        &self,
        after: Sequence,
        limit: i64,
    ) -> Result<(Vec<u8>, Sequence), ReadError> {
        events::read(
            &self.shared.journal.reader(),
            self.shared.journal.epoch(),
            after,
            limit,
        )
    }

    /// Keeps the place of a named reader: events after `after` stay until it comes from a later
    /// one, within the bounds on history.
    ///
    /// # Errors
    /// The answer to give instead: the name is no id, or too many readers are known.
    pub fn note_reader(&self, reader_id: &str, after: Sequence) -> Result<(), Answer> {
        let shared = &self.shared;
        let noted = readers::note(shared, reader_id, after);
        noted.map_err(|fault| serve::refuse(shared, &fault))
    }

    /// Completes with an empty answer once an event after `sequence` is durable, or with a fault
    /// when the node ends first.
    pub fn notify_after(&self, sequence: Sequence, completion: Completion) {
        let waiter = Waiter {
            completion,
            answer: Answer::ok(Vec::new()),
            permit: Permit::free(),
        };
        if let Some(waiter) = self.shared.waiters.wait(sequence.saturating_add(1), waiter) {
            waiter.send();
        }
    }

    /// Puts a policy, or tries what it would change; gives JSON, drawn in the README of this crate.
    /// Blocks until the revision is on the disk.
    ///
    /// # Errors
    /// The answer to give instead; the policy in force stays.
    pub fn put_policy(&self, put: &PolicyPut<'_>) -> Result<String, Answer> {
        self.shown(self.shared.policies.put(&self.shared, put))
    }

    /// Puts the document of an older revision again; that of `put` is not looked at.
    ///
    /// # Errors
    /// As [`Node::put_policy`], and a revision that is not there.
    pub fn roll_back_policy(&self, revision: u64, put: &PolicyPut<'_>) -> Result<String, Answer> {
        let policies = &self.shared.policies;
        self.shown(policies.roll_back(&self.shared, revision, put))
    }

    /// The policy in force with every setting, as JSON.
    #[must_use]
    pub fn policy_json(&self) -> String {
        self.shared.policies.json().to_string()
    }

    /// Revisions before a number, newest first, as JSON; 0 begins with the newest.
    #[must_use]
    pub fn revisions_json(&self, before: u64, limit: usize) -> String {
        self.shared.policies.page(before, limit).to_string()
    }

    /// Puts a policy on trial beside the live one: it counts and changes no answer. None ends the
    /// trial. It does not survive a restart.
    ///
    /// # Errors
    /// The answer to give instead; the trial before it goes on.
    pub fn set_shadow_policy(
        &self,
        document: Option<&str>,
        actor: &str,
        reason: &str,
    ) -> Result<(), Answer> {
        let shared = &self.shared;
        let set = shared.policies.set_shadow(shared, document, actor, reason);
        set.map_err(|fault| serve::refuse(shared, &fault))
    }

    /// Takes what the order service says of how far it is; gives where the credit window stands,
    /// None without one.
    ///
    /// # Errors
    /// The answer to give instead: the report goes back.
    pub fn report_pressure(&self, report: &Report) -> Result<Option<WindowStats>, Answer> {
        let shared = &self.shared;
        let taken = shared.turnstile.report(report).transpose();
        taken.map_err(|error| serve::refuse(shared, &faults::report_refused(error)))
    }

    fn shown(&self, made: Result<serde_json::Value, Fault>) -> Result<String, Answer> {
        made.map(|value| value.to_string())
            .map_err(|fault| serve::refuse(&self.shared, &fault))
    }

    /// Replaces what all gates are judged by while the admission policy says nothing of it: a JSON
    /// object of the form that the README of this crate draws.
    ///
    /// # Errors
    /// A setting that is unknown or out of its range; the old ones stay.
    pub fn set_gate_settings(&self, settings_json: &str) -> Result<(), SettingsError> {
        let settings = gates_settings::from_json(settings_json)?;
        self.shared.gates.set_settings(settings);
        Ok(())
    }

    /// Sets the operator's hand on the gate of a sale, until a ledger time if one is given; none
    /// leaves the gate to the measurements. It is shown when this returns.
    ///
    /// # Errors
    /// There is no such sale, or the node is poisoned.
    pub fn set_gate_hand(
        &self,
        sale_id: &str,
        hand: Option<GateState>,
        until: Option<Millis>,
    ) -> Result<(), GateError> {
        gates::set_hand(&self.shared, sale_id, hand, until)
    }

    /// What all gates show, as one JSON object drawn in the README of this crate; none if nothing
    /// that is shown has changed since `after_version`.
    #[must_use]
    pub fn gates_json(&self, after_version: u64) -> Option<String> {
        self.shared.gates.json(after_version)
    }

    /// Replaces the permission table as a whole; none lets everybody in. A call sees the old table
    /// or the new one.
    pub fn set_permissions(&self, permissions: Option<Permissions>) {
        self.shared.set_permissions(permissions);
    }

    /// The answer to give instead of serving a method that this node is not handed as a call, such
    /// as a watch; none if the caller may. A reservation counts as any sale.
    #[must_use]
    pub fn permission_refusal(
        &self,
        caller: &str,
        method: &str,
        subject: Subject<'_>,
    ) -> Option<Answer> {
        let table = self.shared.permissions()?;
        match table.verdict(caller, method, subject) {
            Verdict::Allowed | Verdict::AskSale => None,
            Verdict::Denied(lack) => {
                let fault = faults::not_permitted(caller, method, subject, lack);
                Some(serve::refuse(&self.shared, &fault))
            }
        }
    }

    /// Where the node is.
    #[must_use]
    pub fn health(&self) -> Health {
        let journal = &self.shared.journal;
        Health {
            phase: self.shared.life.phase(),
            cause: self.shared.life.cause(),
            epoch: journal.epoch(),
            sequence: journal.appended_sequence(),
            durable_sequence: self.shared.waiters.durable(),
        }
    }

    /// Asks for a snapshot of the present state although none is due; it is written beside the
    /// calls that are served, and counted in the metrics when it is done.
    pub fn request_snapshot(&self) {
        self.shared.keeper_signal.request_snapshot();
    }

    /// Counters and gauges as one JSON object, drawn in the README of this crate.
    #[must_use]
    pub fn metrics_json(&self) -> String {
        metrics::json(&self.shared)
    }

    /// Sends away the calls that wait for their lane, and those that would from now on: the first
    /// step of a drain, before the listeners wait for what they have open.
    pub fn end_waiting(&self) {
        self.shared.waiting.end();
    }

    /// Refuses new calls, sends away those that wait for their lane, and waits until those that
    /// were let in are answered, for `timeout` at most. Then streams are ended. Returns whether all
    /// were answered.
    pub fn drain(&self, timeout: Duration) -> bool {
        let shared = &self.shared;
        shared.life.advance(Phase::Draining, "");
        shared.waiting.end();
        let end = Instant::now() + timeout;
        while shared.turnstile.open_count() > 0 && Instant::now() < end {
            thread::sleep(DRAIN_LOOK);
        }
        let is_done = shared.turnstile.open_count() == 0;
        if is_done {
            shared.end_all(&faults::not_serving(Phase::Draining, ""));
        }
        is_done
    }

    /// Drains, flushes what is left, writes a snapshot, seals the journal, stops the threads and
    /// gives the directory back. A second call gives the answer of the first.
    ///
    /// # Errors
    /// The journal had failed or fails now; what was answered is on disk.
    pub fn close(&self) -> Result<(), CloseError> {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.get_or_insert_with(|| self.close_once()).clone()
    }

    fn close_once(&self) -> Result<(), CloseError> {
        let shared = &self.shared;
        self.drain(CLOSE_DRAIN);
        self.stop_threads();
        if let Err(cause) = finish_journal(shared) {
            shared.fail_journal(&cause);
        }
        shared.life.advance(Phase::Closed, "");
        shared.end_all(&faults::not_serving(Phase::Closed, ""));
        if let Some(disk) = &self.disk {
            disk.give_back();
        }
        let cause = shared.life.cause();
        match shared.life.phase() {
            Phase::JournalFailed => Err(CloseError::Journal { cause }),
            Phase::Poisoned => Err(CloseError::Poisoned { cause }),
            _ => Ok(()),
        }
    }

    fn stop_threads(&self) {
        let shared = &self.shared;
        self.is_timer_stopping.store(true, Ordering::Relaxed);
        for worker in [
            &shared.data_worker,
            &shared.settlement_worker,
            &shared.slow_worker,
            &shared.audit_worker,
        ] {
            worker.stop();
        }
        shared.waiting.end();
        shared.watches.stop();
        shared.gates.stop();
        shared.keeper_signal.stop();
        shared.snapshots.stop();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads.others {
            thread.thread().unpark();
            // A thread that panicked has poisoned the node, which is told elsewhere.
            let _ = thread.join();
        }
        if let Some(recorder) = shared.turnstile.recorder() {
            recorder.stop();
        }
        shared.flush_signal.stop();
        if let Some(flusher) = threads.flusher {
            flusher.thread().unpark();
            let _ = flusher.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared
            .life
            .advance(Phase::Closed, "dropped without a close");
        self.stop_threads();
        self.shared.end_all(&faults::not_serving(Phase::Closed, ""));
    }
}

/// The last flush, snapshot and seal, on the caller's thread: the node's own have ended.
pub(crate) fn finish_journal(shared: &Shared) -> Result<(), String> {
    if shared.life.phase() > Phase::Closed {
        return Ok(());
    }
    let text = |error: lastunit_journal::JournalError| error.to_string();
    while let Some(batch) = shared.journal.take_batch() {
        let durable = shared.journal.write_and_sync(batch).map_err(text)?;
        shared.waiters.advance(durable);
    }
    shared.snapshots.finish();
    snapshots::write_snapshot(shared).map_err(text)?;
    let time = match shared.lock(Urgency::Ordinary) {
        Ok(mut core) => core.clock.sign_of_life(),
        Err(_) => return Ok(()),
    };
    shared.journal.seal(time).map_err(text)?;
    Ok(())
}
