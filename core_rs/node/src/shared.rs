//! Everything that the node's threads and callers share, and what they do when something breaks.
//!
//! Owns: the parts, each with its own lock or none. Locks are never nested: the node's lock is
//! given back before the line of answers or admission is touched, so no order of locks can be
//! wrong. Must not: hold logic of a call. Where next: `serve.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};

use lastunit_engine::Sequence;
use lastunit_journal::Journal;
use lastunit_wire::{Durability, Fault, Place};

use crate::answer::{Answer, Completion};
use crate::core::{Core, Order};
use crate::faults;
use crate::flusher::FlushSignal;
use crate::gates::GateBoard;
use crate::gone::Gone;
use crate::keeper::KeeperSignal;
use crate::lane_lock::{LaneLock, Urgency};
use crate::life::{Life, Phase};
use crate::meters::Meters;
use crate::permissions::Permissions;
use crate::permit::{Permit, Turnstile};
use crate::policies::Policies;
use crate::readers::Readers;
use crate::settings::{DurabilityKind, NodeSettings};
use crate::snapshots::SnapshotDesk;
use crate::waiters::{Waiter, Waiters};
use crate::waiting::WaitingRoom;
use crate::watch::WatchBoard;
use crate::workers::Worker;

/// The parts of one node.
pub(crate) struct Shared {
    pub(crate) settings: NodeSettings,
    core: LaneLock<Core>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) waiters: Waiters,
    pub(crate) turnstile: Arc<Turnstile>,
    pub(crate) policies: Policies,
    /// Calls whose lane has no room for them now.
    pub(crate) waiting: WaitingRoom,
    /// What is sold out for good, as far as somebody asked.
    pub(crate) gone: Gone,
    /// Who may call what; none lets everybody in. Replaced as a whole, read once a call.
    permissions: RwLock<Option<Arc<Permissions>>>,
    pub(crate) life: Life,
    pub(crate) flush_signal: FlushSignal,
    pub(crate) keeper_signal: KeeperSignal,
    pub(crate) snapshots: SnapshotDesk,
    pub(crate) readers: Readers,
    pub(crate) watches: WatchBoard,
    /// What front ends are told of each sale.
    pub(crate) gates: GateBoard,
    pub(crate) meters: Meters,
    /// Batches of the data listener, in the order in which they came.
    pub(crate) data_worker: Worker,
    /// Batches of the settlement listener: never behind those of the data listener.
    pub(crate) settlement_worker: Worker,
    /// Listings and explanations.
    pub(crate) slow_worker: Worker,
    /// Audits, one at a time: each walks over everything.
    pub(crate) audit_worker: Worker,
}

/// The worker threads' ends, in the order data, settlement, slow, audit.
pub(crate) type Benches = [crate::workers::Bench; 4];

impl Shared {
    pub(crate) fn new(
        settings: NodeSettings,
        core: Core,
        journal: Arc<Journal>,
        policies: Policies,
    ) -> (Arc<Self>, Benches) {
        let durable = journal.durable_sequence();
        let (data_worker, data) = Worker::new();
        let (settlement_worker, settlement) = Worker::new();
        let (slow_worker, slow) = Worker::new();
        let (audit_worker, audit) = Worker::new();
        let shared = Self {
            core: LaneLock::new(core),
            journal,
            waiters: Waiters::new(durable),
            turnstile: Turnstile::new(policies.in_force()),
            waiting: WaitingRoom::new(&policies.in_force()),
            gone: Gone::default(),
            permissions: RwLock::default(),
            life: Life::new(),
            flush_signal: FlushSignal::default(),
            keeper_signal: KeeperSignal::default(),
            snapshots: SnapshotDesk::default(),
            readers: Readers::default(),
            watches: WatchBoard::default(),
            gates: GateBoard::new(&policies.in_force()),
            policies,
            meters: Meters::default(),
            data_worker,
            settlement_worker,
            slow_worker,
            audit_worker,
            settings,
        };
        (Arc::new(shared), [data, settlement, slow, audit])
    }

    /// Takes the node's lock.
    ///
    /// # Errors
    /// A panic while it was held before: the node is poisoned.
    pub(crate) fn lock(&self, urgency: Urgency) -> Result<MutexGuard<'_, Core>, Fault> {
        self.core.lock(urgency).map_err(|_| {
            self.poison("a decision stopped half way");
            faults::not_serving(Phase::Poisoned, &self.life.cause())
        })
    }

    /// The permission table in force; none lets everybody in.
    pub(crate) fn permissions(&self) -> Option<Arc<Permissions>> {
        let held = self.permissions.read();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_permissions(&self, permissions: Option<Permissions>) {
        let held = self.permissions.write();
        *held.unwrap_or_else(PoisonError::into_inner) = permissions.map(Arc::new);
    }

    /// Why no new call is served, or None while they are.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let phase = self.life.phase();
        if phase == Phase::Serving {
            return None;
        }
        Some(faults::not_serving(phase, &self.life.cause()))
    }

    /// Ends all acknowledgement: whoever waits is told that the journal failed.
    pub(crate) fn fail_journal(&self, cause: &str) {
        if self.life.advance(Phase::JournalFailed, cause) {
            self.end_all(&faults::not_serving(Phase::JournalFailed, cause));
        }
    }

    /// Ends the node after a bug: memory may be half changed, so nothing more is decided or told.
    pub(crate) fn poison(&self, cause: &str) {
        if self.life.advance(Phase::Poisoned, cause) {
            self.end_all(&faults::not_serving(Phase::Poisoned, cause));
        }
    }

    pub(crate) fn end_all(&self, fault: &Fault) {
        let end = Answer::fault(fault);
        self.waiters.end(&end);
        self.watches.end(&end);
    }

    /// Runs work; a panic in it poisons the node instead of the thread's other work.
    pub(crate) fn guard<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.poison(&panic_text(panic.as_ref()));
                None
            }
        }
    }

    /// Sleeps until `sequence` is durable.
    ///
    /// # Errors
    /// The answer that ends all waiting, when the journal fails first.
    pub(crate) fn wait_durable(&self, sequence: Sequence) -> Result<(), Answer> {
        let (sender, receiver) = sync_channel(1);
        let waiter = Waiter {
            // The receiver lives as long as this call waits.
            completion: Completion::Call(Box::new(move |answer| drop(sender.send(answer)))),
            answer: Answer::ok(Vec::new()),
            permit: Permit::free(),
        };
        if let Some(waiter) = self.waiters.wait(sequence, waiter) {
            waiter.send();
        }
        match receiver.recv() {
            Ok(answer) if answer.code == 0 => Ok(()),
            Ok(answer) => Err(answer),
            Err(_) => Err(Answer::fault(&faults::not_serving(Phase::Closed, ""))),
        }
    }

    /// Counts timers that were decided, and has their events flushed.
    pub(crate) fn note_timers(&self, count: usize) {
        if count > 0 {
            self.meters.count_timers(count);
            self.flush_signal.wake();
        }
    }

    /// Where a reply stands. What it says is durable is so when it leaves: it waits for that.
    pub(crate) fn place(&self, order: Order) -> Place {
        Place {
            as_of_sequence: order.as_of,
            durable_sequence: self.waiters.durable().max(order.as_of),
            op_number: order.op_number,
            epoch: self.journal.epoch(),
            durability: match self.settings.durability {
                DurabilityKind::Flushed => Durability::Flushed,
                DurabilityKind::Written => Durability::Written,
                DurabilityKind::Memory => Durability::Memory,
            },
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a bug without a message".to_owned())
}
