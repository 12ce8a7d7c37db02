//! Streams of changes in availability.
//!
//! Owns: which watcher is told what, and how often. Must not: show a state that a crash could take
//! back: a message waits in the line of answers as a reply does. Where next: `query.rs`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lastunit_engine::{Outcome, Sequence, Text};
use lastunit_wire::{Fault, Method, Query, Request};

use crate::answer::{Answer, Completion, Deliveries};
use crate::core::Order;
use crate::faults;
use crate::lane_lock::Urgency;
use crate::permit::Permit;
use crate::query::Availabilities;
use crate::shared::Shared;
use crate::waiters::Waiter;

/// Watches open at once; each costs a look at its skus after every flush that changed something.
pub const WATCH_COUNT_MAX: usize = 1_024;

/// Skus looked up under one lock hold: a watch of a thousand must not keep settlement waiting.
const CHUNK_SKUS: usize = 32;

/// A message of this watch was asked for already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of this watch was asked for already")]
pub struct WatchBusy;

/// What one watch has shown.
struct State {
    sale_id: Text,
    skus: Vec<Text>,
    /// Changes after this are news; below 0 until the first message.
    shown: Sequence,
    /// The first message shows at least this.
    after: Sequence,
    completion: Option<Completion>,
}

/// A watch as the board and its owner share it.
struct Entry {
    /// Held by the watch thread while it looks, by the owner to ask; they rarely meet.
    state: Mutex<State>,
    is_dropped: AtomicBool,
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Board {
    /// Watches that have asked for a message.
    asking: Vec<Arc<Entry>>,
    /// Something became durable, or somebody asked, since the thread looked last.
    has_news: bool,
    is_stopping: bool,
    /// Set when nothing more will be told.
    end: Option<Answer>,
}

/// All watches of a node.
///
/// Its lock is held to add to a list or to take it, never while a watch is looked at.
#[derive(Default)]
pub(crate) struct WatchBoard {
    board: Mutex<Board>,
    wake: Condvar,
    /// Watches that exist. Relaxed: a bound that may be off by a race does no harm.
    count: AtomicUsize,
    /// Watches that ask, so that a flush without any costs one load. SeqCst: an asker counts itself
    /// before it looks at the ledger, so either it sees the flush or the flush sees it.
    asking_count: AtomicUsize,
}

impl WatchBoard {
    /// Says that something became durable.
    pub(crate) fn wake(&self) {
        if self.asking_count.load(Ordering::SeqCst) > 0 {
            self.board().has_news = true;
            self.wake.notify_one();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.board().is_stopping = true;
        self.wake.notify_one();
    }

    /// Answers all that ask, and all that will, with `end`.
    pub(crate) fn end(&self, end: &Answer) {
        let asking = {
            let mut board = self.board();
            board.end = Some(end.clone());
            std::mem::take(&mut board.asking)
        };
        self.asking_count.store(0, Ordering::SeqCst);
        let mut deliveries = Deliveries::default();
        for entry in asking {
            if let Some(completion) = entry.state().completion.take() {
                deliveries.add(completion, end.clone());
            }
        }
        deliveries.send();
    }

    fn ask(&self, entry: Arc<Entry>) -> Option<Answer> {
        let mut board = self.board();
        if let Some(end) = &board.end {
            return Some(end.clone());
        }
        board.asking.push(entry);
        board.has_news = true;
        self.asking_count
            .store(board.asking.len(), Ordering::SeqCst);
        self.wake.notify_one();
        None
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream; dropping it ends it.
pub struct Watch {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

impl Watch {
    /// Starts a stream from a serialized request.
    pub(crate) fn start(shared: &Arc<Shared>, request: &[u8]) -> Result<Self, Answer> {
        let entry = parse(shared, request).map_err(|fault| {
            shared.meters.count_fault(fault.reason);
            Answer::fault(&fault)
        })?;
        shared.watches.count.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            shared: Arc::clone(shared),
            entry: Arc::new(entry),
        })
    }

    /// Asks for the next message: when something changed, and at once the first time.
    ///
    /// # Errors
    /// A message was asked for already and has not come.
    pub fn next(&self, completion: Completion) -> Result<(), WatchBusy> {
        {
            let mut state = self.entry.state();
            if state.completion.is_some() {
                return Err(WatchBusy);
            }
            state.completion = Some(completion);
        }
        if let Some(end) = self.shared.watches.ask(Arc::clone(&self.entry))
            && let Some(completion) = self.entry.state().completion.take()
        {
            Deliveries::send_one(completion, end);
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.entry.is_dropped.store(true, Ordering::Relaxed);
        self.entry.state().completion = None;
        self.shared.watches.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn parse(shared: &Shared, request: &[u8]) -> Result<Entry, Fault> {
    if let Some(fault) = shared.refusal() {
        return Err(fault);
    }
    if shared.watches.len() >= WATCH_COUNT_MAX {
        return Err(faults::watches_full(WATCH_COUNT_MAX));
    }
    let method = Method::WatchAvailability;
    let request = lastunit_wire::decode(method, request, "")?;
    let Request::Query(Query::WatchAvailability {
        sale_id,
        skus,
        after_sequence,
    }) = request
    else {
        return Err(faults::wrong_call(method.name()));
    };
    Ok(Entry {
        state: Mutex::new(State {
            sale_id,
            skus,
            shown: -1,
            after: after_sequence,
            completion: None,
        }),
        is_dropped: AtomicBool::new(false),
    })
}

/// Looks after the watches until stopped.
pub(crate) fn run(shared: &Shared) {
    let interval = Duration::from_millis(shared.settings.watch_interval_ms);
    let watches = &shared.watches;
    loop {
        let asking = {
            let mut board = watches.board();
            while !board.has_news && !board.is_stopping {
                board = watches
                    .wake
                    .wait(board)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if board.is_stopping {
                return;
            }
            board.has_news = false;
            std::mem::take(&mut board.asking)
        };
        let mut left = Vec::with_capacity(asking.len());
        for entry in asking {
            let is_told = shared.guard(|| tell(shared, &entry)).unwrap_or(true);
            if !is_told && !entry.is_dropped.load(Ordering::Relaxed) {
                left.push(entry);
            }
        }
        put_back(shared, left);
        // Changes that come now are told together, an interval later.
        thread::sleep(interval);
    }
}

/// Puts watches without news back; if the node ended meanwhile, they are told so.
fn put_back(shared: &Shared, left: Vec<Arc<Entry>>) {
    let watches = &shared.watches;
    let end = {
        let mut board = watches.board();
        board.asking.extend(left);
        watches
            .asking_count
            .store(board.asking.len(), Ordering::SeqCst);
        board.end.clone()
    };
    if let Some(end) = end {
        watches.end(&end);
    }
}

/// Sends a message if there is news; returns whether the watch has nothing more to ask for now.
fn tell(shared: &Shared, entry: &Entry) -> bool {
    let mut state = entry.state();
    if state.completion.is_none() {
        return true;
    }
    let Ok((found, order, first)) = look(shared, &state) else {
        return false;
    };
    let is_first = state.shown < 0;
    let is_waiting = is_first && first < state.after;
    let has_news = is_first || !found.list.is_empty() || found.outcome != Outcome::Ok;
    if is_waiting || !has_news {
        return false;
    }
    state.shown = first;
    let Some(completion) = state.completion.take() else {
        return true;
    };
    drop(state);
    let waiter = Waiter {
        completion,
        answer: Answer::ok(found.encode(&shared.place(order))),
        permit: Permit::free(),
    };
    if let Some(waiter) = shared.waiters.wait(order.as_of, waiter) {
        waiter.send();
    }
    true
}

/// Looks up what changed. Gives the state that the last look showed, which must become durable, and
/// that of the first look: what changes after it is news for the next message, even if this one
/// happens to show it.
fn look(shared: &Shared, state: &State) -> Result<(Availabilities, Order, Sequence), Fault> {
    let mut found = Availabilities {
        outcome: Outcome::Ok,
        sku: Text::default(),
        list: Vec::new(),
    };
    let mut core = shared.lock(Urgency::Ordinary)?;
    let mut order = core.order();
    let first = order.as_of;
    let Some(changed) = core.ledger.sale_changed_sequence(&state.sale_id) else {
        found.outcome = Outcome::UnknownSale;
        return Ok((found, order, first));
    };
    if changed <= state.shown {
        return Ok((found, order, first));
    }
    let known = core.ledger.skus(&state.sale_id).unwrap_or_default();
    let asked = if state.skus.is_empty() {
        &known
    } else {
        &state.skus
    };
    for (index, sku) in asked.iter().enumerate() {
        if index > 0 && index % CHUNK_SKUS == 0 {
            drop(core);
            core = shared.lock(Urgency::Ordinary)?;
            order = core.order();
        }
        let Some(changed) = core.ledger.changed_sequence(&state.sale_id, sku) else {
            found.outcome = Outcome::UnknownSku;
            found.sku = sku.clone();
            found.list.clear();
            break;
        };
        if changed > state.shown {
            let view = core.ledger.availability(&state.sale_id, sku);
            found.list.extend(view);
        }
    }
    Ok((found, order, first))
}
